"""The front door: what needs no model is answered before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
HEAVY = {"torch", "pandas", "scipy", "sklearn", "mlflow", "prefect", "great_expectations", "dvc"}
ASKING = """
import sys
import flows.cli
try:
    flows.cli.main()
finally:
    print("imported:", *sorted(set(sys.modules) & set({heavy!r})), file=sys.stderr)
"""


def ask(*arguments: str) -> tuple[int, str, str, set[str]]:
    """Run the command line; give exit code, stdout, stderr, and which heavy packages it imported."""
    code = ASKING.format(heavy=HEAVY)
    done = subprocess.run(
        (sys.executable, "-c", code, *arguments), cwd=PROJECT, env=os.environ | {"COLUMNS": "200"}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    said, _, imported = done.stderr.rpartition("imported:")
    return done.returncode, done.stdout, said, set(imported.split())


def test_the_version_is_told_at_once() -> None:
    """``--version`` prints name and version, and imports nothing heavy."""
    assert ask("--version") == (0, f"holdfast {version('holdfast')}\n", "", set())


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--help",), 0, ""),
        (("run", "--nope"), 2, "No such option"),
        (("evaluate", "--version", "two"), 2, "valid int"),
        (("audit", "--repair"), 2, "--why"),
        (("run", "--params", "profiles/nope.yaml"), 2, "profiles/nope.yaml: found No such file"),
        (("run", "--set", "seed"), 2, "--set seed: found no '='"),
        (("run", "--set", "seed.x=1"), 2, "found seed to be a value"),
        (("predict", "nope.parquet", "--out", "a.csv"), 3, "nope.parquet: found no such file"),
        (("data", "add", "nope.parquet"), 3, "nope.parquet: found no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_simple_mistake_is_answered_before_anything_heavy_is_imported(
    arguments: tuple[str, ...], code: int, word: str
) -> None:
    """Wrong options, paths and assignments have their exit code, and cost no import of tensors, tables or trackers."""
    found, _, said, imported = ask(*arguments)
    assert found == code
    assert word in said
    assert imported == set()


def test_a_wrong_name_in_params_is_answered_without_trackers_and_orchestrators() -> None:
    """Settings are checked by the classes that hold them, which read tensors; MLflow, Prefect and DVC are not needed."""
    code, _, said, imported = ask("run", "--set", "evaluation.scenarios.attacks.pgdd={}")
    assert code == 2
    assert "--set evaluation.scenarios.attacks.pgdd={}: found 1 mistake" in said
    assert not imported & {"mlflow", "prefect", "great_expectations", "dvc"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"row": 1, "snapshot": "now", "released": None}, ""),
        ({"row": 2, "snapshot": "now", "released": None}, "  (used: the checks of params hold it no more)"),
        ({"row": 2, "snapshot": "other", "released": None}, "  (of other data than params name now)"),
        ({"row": 2, "snapshot": "other", "released": {"who": "Ada"}}, "  (released)"),
    ],
)
def test_the_list_of_quarantined_rows_says_of_each_whether_it_is_used(row: dict[str, Any], told: str) -> None:
    """Rows of another model's data, or of data that are no more, are neither held nor used."""
    from flows.cli_data import _standing  # noqa: PLC0415  as a command imports it

    assert _standing(row, {1}, "now") == told
    assert _standing({**row, "snapshot": "now", "released": None}, None, "now") == ""
