"""Writes the reference of the JSON documents from the values that the commands print."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from flows.services import Up
from holdfast.integrity.quarantine import Held
from holdfast.results import DataSnapshot, Decision, ModelVersion, StageReport, Value
from tasks.audit import Audit
from tasks.doctor import Checkup
from tasks.history import History
from tasks.pinning import Pin
from tasks.prediction import PredictionSummary
from tasks.pruning import Pruning
from tasks.publishing import LifecycleReport
from tasks.responses import MonitoringReport

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS: dict[str, type[Value]] = {
    "run": LifecycleReport, "data": DataSnapshot, "train": ModelVersion, "evaluate": StageReport, "evaluate --all-versions": History, "promote": Decision,
    "monitor": MonitoringReport, "drill": StageReport, "rollback": Decision, "audit": Audit, "predict": PredictionSummary, "doctor": Checkup,
    "prune": Pruning, "data pin": Pin,
    "up": Up, "approve": Decision, "refuse": Decision,
}  # fmt: skip
PLAIN: dict[str, dict[str, str]] = {
    "clear": {"cleared_version": "version that its gate may make champion again"},
    "condemn": {"condemned_version": "version that no rollback goes to, and no gate makes champion"},
    "down": {"ended": "ids of the processes that were ended"},
    "unfreeze": {"cleared": "last window whose rollbacks freeze the loop no more"},
    "deploy": {"deployments": "what runs by itself, and when; a line each"},
    "report": {"report": "path of the page"},
    "data add": {"commit": "commands that commit the data, in order"},
    "data quarantine": {
        "rows": f"list of `{Held.__name__}`: every row that was ever set aside",
        "held": "ids of those that the checks hold now; null where no run has examined the data with these params",
    },
    "data release": {"released": "rows that are excluded no more"},
    "data release-window": {"released": "place of the window that may train again"},
    "data docs": {"docs": "path of the first page of Great Expectations' Data Docs"},
    "data read": {"out": "where the data of that revision is"},
    "data pull": {"pull": "files fetched"},
    "data push": {"push": "files sent"},
}
ERROR = {
    "kind": "class of the error", "where": "file, store, parameter or stage", "found": "what was there",
    "expected": "what should have been there", "remedy": "what to do about it",
}  # fmt: skip


def page() -> str:
    """Give the whole page as Markdown."""
    lines = [
        "# JSON documents", "",
        "Every command takes `--json` and then prints one document on stdout; progress stays on stderr.",
        "Written by `python tests/flows/reference.py`; a test holds it to what the commands print.", "",
        "| command | document |", "|---|---|",
        *(f"| `holdfast {command} --json` | [`{kind.__name__}`](#{kind.__name__.lower()}) |" for command, kind in DOCUMENTS.items()),
        *(f"| `holdfast {command} --json` | {_listed(fields)} |" for command, fields in PLAIN.items()),
        f"| any, refused | `error`: {_listed(ERROR)} |", "",
    ]  # fmt: skip
    for kind in _all():
        lines += [f"## {kind.__name__}", "", _first(kind.__doc__ or ""), "", "| field | type | |", "|---|---|---|"]
        said = dict(_said(kind))
        lines += [
            f"| `{name}` | {_type(field.annotation)} | {said.get(name, '')} |"
            for name, field in kind.model_fields.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _listed(fields: dict[str, str]) -> str:
    return "; ".join(f"`{name}`: {text}" for name, text in fields.items())


def _first(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())


def _all() -> list[type[Value]]:
    """List the documents and every value inside them, each once, in the order of first mention."""
    found: dict[type[Value], None] = {}

    def visit(kind: Any) -> None:
        for inner in getattr(kind, "__args__", ()):
            visit(inner)
        if inspect.isclass(kind) and issubclass(kind, Value) and kind not in found:
            found[kind] = None
            for field in kind.model_fields.values():
                visit(field.annotation)

    for kind in (*DOCUMENTS.values(), Held):
        visit(kind)
    return list(found)


def _said(kind: type[Value]) -> Iterator[tuple[str, str]]:
    """Read the sentences below the fields."""
    for base in reversed(kind.__mro__[:-1]):
        if not (issubclass(base, Value) and base.__module__.split(".")[0] in {"holdfast", "tasks"}):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = getattr(tree, "body", [])
        for field, below in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                yield field.target.id, _first(str(below.value.value)).replace("``", "`").replace("|", "\\|")  # type: ignore[union-attr]


def _type(annotation: Any) -> str:
    text = (
        annotation.__name__ if inspect.isclass(annotation) and not hasattr(annotation, "__args__") else str(annotation)
    )
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    text = re.sub(r"Annotated\[(\w+), [^\]]*\]+\)?\]", r"\1", text)
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
