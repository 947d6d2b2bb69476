"""The JSON documents of the commands, held to their reference and to each other."""

from __future__ import annotations

import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

REPOSITORY = Path(__file__).parents[2]
ROWS = "data/sba_loans_small.parquet"


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The reference and what it is written from."""
    return runpy.run_path(str(Path(__file__).with_name("reference.py")))


@pytest.fixture(scope="module")
def documents(begun: Any) -> dict[str, Any]:
    """The document of every command, from one project; two commands at a time where one of them takes no lock."""
    project, first = begun
    commands = {
        "audit": ["audit", "--version", "1", "--at", "2020-01-01"], "doctor": ["doctor"], "report": ["report"],
        "predict": ["predict", ROWS, "--out", "answers.parquet"], "data": ["data"],
        "evaluate": ["evaluate", "--pack", "smoke"], "evaluate --all-versions": ["evaluate", "--all-versions"], "promote": ["promote", "1"], "prune": ["prune"],
        "data pin": ["data", "pin"],
    }  # fmt: skip

    def ask(names: tuple[str, ...]) -> dict[str, Any]:
        profile = ("--params", "profiles/tiny.yaml", "--json")
        return {name: project.holdfast(*commands[name], *profile).document for name in names}

    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(
            ask,
            [
                ("audit", "doctor", "report", "predict"),
                ("data", "evaluate", "evaluate --all-versions", "promote", "prune", "data pin"),
            ],
        )
        found = {name: document for part in parts for name, document in part.items()}
    project.hold()
    project.restore()
    return {"run": first.document, **found}


def test_the_reference_is_what_the_values_say(reference: dict[str, Any]) -> None:
    """docs/reference-json.md names every field of every document."""
    written = (REPOSITORY / "docs" / "reference-json.md").read_text()
    assert written == reference["page"](), "write it again: python tests/flows/reference.py > docs/reference-json.md"


def test_every_command_is_in_the_reference(reference: dict[str, Any]) -> None:
    """No command prints a document that the reference does not know."""
    from flows.cli import app  # noqa: PLC0415  beside the values it prints
    from flows.cli_data import data_app  # noqa: PLC0415  as above

    alone = {command.name or command.callback.__name__ for command in app.registered_commands}
    below = {f"data {command.name}" for command in data_app.registered_commands}
    documented = {name.split(" --")[0] for name in (*reference["DOCUMENTS"], *reference["PLAIN"])}
    assert alone | below | {"data"} == documented


@pytest.mark.slow
def test_every_document_has_the_fields_of_its_reference(reference: dict[str, Any], documents: dict[str, Any]) -> None:
    """What a command prints has all the documented fields, and no other, at every depth."""
    page = (REPOSITORY / "docs" / "reference-json.md").read_text()
    for command, document in documents.items():
        kind = reference["DOCUMENTS"].get(command)
        if kind is None:
            assert set(document) == set(reference["PLAIN"][command])
            continue
        assert kind.model_validate(document).model_dump(mode="json") == document
        section = page.split(f"## {kind.__name__}\n")[1].split("\n## ")[0]
        assert {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")} == set(document)


@pytest.mark.slow
def test_the_documents_agree_with_each_other(documents: dict[str, Any]) -> None:
    """Run, audit, evaluate, promote, predict, data and report speak of the same version and data."""
    run, audit = documents["run"], documents["audit"]
    digest = run["decision"]["candidate"]["digest"]
    assert audit["chain_valid"]
    assert audit["agrees"]
    assert audit["problems"] == []
    assert (audit["champion"], audit["champion_digest"], audit["alias_version"]) == (1, digest, 1)
    assert [v["status"] for v in audit["versions"]] == ["champion"]
    assert audit["served_at"]["version"] is None
    assert audit["origin"]["lineage"]["data"]["md5"] == run["snapshot"]["md5"] == documents["data"]["md5"]
    assert audit["origin"]["ledger_head"]
    assert [d["action"] for d in audit["origin"]["decisions"]] == ["promote"]
    assert documents["promote"]["action"] == "none"
    assert {f["provenance"]["subject"] for f in documents["evaluate"]["findings"]} == {digest}
    assert [v["version"]["digest"] for v in documents["evaluate --all-versions"]["versions"]] == [digest]
    assert documents["evaluate --all-versions"]["pack_digest"] == run["scorecard"]["pack_digest"]
    assert audit["stale"] == []
    assert documents["predict"]["version"]["digest"] == digest
    assert documents["predict"]["rows"] == documents["data"]["rows"] or documents["predict"]["rows"] > 10_000
    assert Path(documents["report"]["report"]).read_text().startswith("<!")
    assert all(check["passed"] for check in documents["doctor"]["checks"])
