"""Claim: twelve incidents get their right response in every one of five seeds, all three arms, within 45 minutes.

A project of its own trains a champion to 1999 and rehearses what ``profiles/crisis.yaml`` lists. What was played is
kept in ``--folder``: an interrupted table goes on where it was. ``--page`` writes the table into a page, between its
marks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import projects

PROFILE = ("--params", "profiles/crisis.yaml")
LIMIT_MINUTES = 45.0
WRONG = 10
"""Exit code of a drill that saw a wrong response."""
HARM = ("tampered_windows_served", "rows_answered_wrongly", "rows_unanswered", "poisoned_rows_admitted")
BEGIN, END = "<!-- table: python benchmarks/incidents.py -->", "<!-- end of table -->"


def holdfast(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a command, its progress shown; give its document."""
    command = [str(Path(sys.executable).with_name("holdfast")), *arguments, *PROFILE, "--json"]
    done = subprocess.run(command, cwd=folder, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in {0, WRONG}:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def row(finding: dict[str, Any]) -> str:
    """Say one incident's outcome as a row of the table."""
    measures = {measure["name"]: measure for measure in finding["measures"]}
    score, checks = finding["score"], {check["name"]: check for check in finding["checks"]}
    right, whole = checks["right response"], checks["every window handled once"]
    forgetting = measures.get("forgetting") or measures.get("forgetting_clean")
    clean = " (clean)" if "forgetting_clean" in measures else ""
    told = "-" if score is None else f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
    cells = [
        f"`{finding['path'].removeprefix('drills/')}`",
        right["reason"] if right["status"] == "passed" else f"**wrong**: {right['reason']}",
        f"{finding['dimension']} {told}" if score else f"{finding['dimension']}: {finding['unscored']}",
        *(_measured(measures.get(name)) for name in ("detection_delay", "time_to_recover")),
        f"{_measured(forgetting)}{clean}",
        *(_measured(measures.get(f"loss_{arm}"), 3) for arm in ("on", "off", "oracle")),
        _between(measures.get("quiet_windows_left_alone")),
        _measured(measures.get("labels_spent"), 0),
        _measured(measures.get("minutes_of_training")),
        *(_measured(measures.get(name), 0) for name in HARM),
        _measured(measures.get("rows_seen_before")),
        "once each" if whole["status"] == "passed" else f"**{whole['reason']}**",
        f"{finding['cost']['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _between(measure: dict[str, Any] | None) -> str:
    """Write a measure with its interval."""
    told = _measured(measure)
    return told if measure is None else f"{told} [{measure['low']:.2f}, {measure['high']:.2f}]"


def _measured(measure: dict[str, Any] | None, places: int = 2) -> str:
    if measure is None:
        return "-"
    return "never" if measure["value"] is None else f"{measure['value']:.{places}f}"


def table(findings: list[dict[str, Any]], origin: str) -> str:
    """Write the table, with what produced it."""
    head = (
        "incident", "response", "score", "windows to detect", "to recover", "forgetting", "loss on", "off", "oracle",
        "quiet windows left alone", "labels spent", "minutes of training", *(name.replace("_", " ") for name in HARM),
        "share of rows seen before", "windows handled", "seconds",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *map(row, findings)]
    return "\n".join([*lines, "", origin])


def placed(page: str, said: str) -> str:
    """Put the table into a page, in place of what stands between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"the page lacks the marks of the table: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{said}\n\n{END}{after}"


def drilled(folder: Path) -> tuple[list[dict[str, Any]], float]:
    """Play what is not played yet; give the findings, and the minutes of all runs on this folder, cut off or not."""
    file, began = folder / "seconds", time.monotonic()
    before = float(file.read_text()) if file.exists() else 0.0
    try:
        findings = holdfast(folder, "drill")["findings"]
    finally:
        spent = before + time.monotonic() - began
        file.write_text(f"{spent:.1f}")
    return findings, spent / 60


def origin(findings: list[dict[str, Any]], minutes: float) -> str:
    """Say what the numbers are of."""
    made, arms = findings[0]["provenance"], len(findings[0]["curves"])
    seeds = findings[0]["curves"][0]["points"][0]["score"]["n"]
    return (
        f"Champion {made['subject'][:16]}, library {made['library'][:16]}; {seeds} seeds, {arms} arms; means over "
        f"seeds, scores with 95 % intervals; seconds are of all arms and seeds, which are played side by side: "
        f"{minutes:.0f} minutes in all on {os.cpu_count()} cores."
    )


def gone_wrong(findings: list[dict[str, Any]]) -> list[str]:
    """Name the incidents of which a check failed; one that does not apply is none."""
    return [f["path"] for f in findings if any(check["status"] == "failed" for check in f["checks"])]


def main() -> int:
    """Play what is not played yet, print the table, and fail where a response was wrong or it took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the project")
    parser.add_argument("--page", type=Path, help="page whose table is written anew")
    asked = parser.parse_args()
    if asked.page:
        placed(asked.page.read_text(), "")  # before an hour is spent on what has no place
    projects.make(asked.folder)
    holdfast(asked.folder, "run")
    findings, minutes = drilled(asked.folder)
    said = table(findings, origin(findings, minutes))
    print(said)
    if asked.page:
        asked.page.write_text(placed(asked.page.read_text(), said))
    wrong = gone_wrong(findings)
    print(f"wrong: {', '.join(wrong) or 'none'}; {minutes:.1f} minutes, claim: at most {LIMIT_MINUTES:.0f}")
    return 0 if not wrong and minutes <= LIMIT_MINUTES else 1


if __name__ == "__main__":
    sys.exit(main())
