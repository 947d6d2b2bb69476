"""The cache: what was computed by other code or other params is computed again, and nothing else is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import holdfast

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work


def test_an_edited_library_function_misses_the_cache(champion: Any, tmp_path: Path) -> None:
    """A change of one function of the library trains and evaluates anew, and registers a second version."""
    package = tmp_path / "library" / "holdfast"
    shutil.copytree(Path(holdfast.__file__).parent, package)
    changed = package / "statistics" / "intervals.py"
    changed.write_text(changed.read_text() + "\n# One more line.\n")
    done = champion.run("--json", expect=None, PYTHONPATH=str(package.parent))
    assert done.code in {0, 10}
    assert "epoch 1/2" in done.words
    assert "checks reused" not in done.words
    (attack,) = [line for line in done.err.splitlines() if "attacks/fgsm" in line]
    assert "reused" not in attack
    assert done.document["decision"]["candidate"]["version"] == 2


@pytest.mark.slow
def test_another_section_of_params_and_another_commit_reuse_the_training(champion: Any) -> None:
    """Another margin of the gate, on another git revision of the same data, trains nothing and registers nothing."""
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(("git", *who, "commit", "-q", "--allow-empty", "-m", "Go on"), cwd=champion.folder, check=True)
    done = champion.run("--json", "--set", "recovery.gates.non_inferiority.probes/quality=0.19")
    assert "epoch" not in done.words
    assert done.document["decision"]["candidate"]["version"] == 1
    champion.hold()
