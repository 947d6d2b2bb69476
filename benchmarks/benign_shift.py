"""Claim: where rows move and no harm follows, nothing is decided but none and alert.

The employment register of one state over four years, with the predictions of a model beside the features: the panel of
params.yaml, triage and policy read windows year by year, labels mature later. Its years are the negative
control; in the second stream a benign shift is planted halfway: only people up to an age from then on, whom the model
knows no worse. No orchestrator takes part: these are the functions that the flows call. A challenger takes part: before
each window it learns rows of the first year and the last windows, as the classifier that screens labels does.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from loans_world import ahead, allowing

from holdfast.data.params import DataParams
from holdfast.data.source import quick_features
from holdfast.data.stream import Window
from holdfast.data.table import encode, fit_table
from holdfast.integrity.classifiers import classify
from holdfast.monitoring.challenger import allowed
from holdfast.params import Params, load
from holdfast.recovery.policy import History, respond
from holdfast.recovery.screening import Screening
from holdfast.recovery.triage import Evidence, triage
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from holdfast.monitoring.panels import Calibration, Panel
    from holdfast.results import Decision, Json, Signal

REPOSITORY = Path(__file__).parents[1]
LABEL, TOLD, TIME, REFERENCE = "employed", "predicted_probability", "year", "reference"
QUIET = {"none", "alert"}
MOST_LEARNED = 20_000


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the employment register with its predictions")
    parser.add_argument("--rows", type=int, default=1_000, help="rows of a window")
    parser.add_argument("--reference-rows", type=int, default=4_000)
    parser.add_argument("--delay", type=int, default=2, help="windows after which labels mature")
    parser.add_argument("--up-to", type=int, default=40, help="age of the planted benign shift")
    parser.add_argument("--seeds", type=int, default=3, help="references, each drawn anew from the first year")
    return parser.parse_args()


def answered(frame: pd.DataFrame) -> Window:
    """Lay the register out as one window: what the recorded model said stands for a champion's answers."""
    names = [name for name in frame if name not in {"id", LABEL, TOLD, TIME, "prediction", "part"}]
    params = DataParams(kind="table", path="employment", label=LABEL)
    text = frame[names].astype({name: str for name in names if frame[name].dtype != np.float64})
    x = encode(text, fit_table(text, names, params), place="employment")
    p = frame[TOLD].to_numpy(np.float64)
    return Window(
        position=-1, ids=np.arange(len(frame)), x=x, probabilities=np.stack([1.0 - p, p], 1),
        space=fit_table(text, names, params), labels=frame[LABEL].to_numpy(np.int64),
    )  # fmt: skip


def challenged(stream: list[Window], first: Window) -> list[Window]:
    """Give windows with the leads of a challenger that learned the first year's rows and the windows before."""
    features = [quick_features(window.x, window.space) for window in (first, *stream)]
    labels = [window.matured for window in (first, *stream)]
    found = []
    for place, window in enumerate(stream, start=1):
        known = [0, *range(max(1, place - Screening().past), place)]
        told = classify(
            "table", np.concatenate([features[i] for i in known]), np.concatenate([labels[i] for i in known]),
            features[place], 2, 0,
        )  # fmt: skip
        found.append(replace(window, lead=ahead(window, told)))
    return found


def remembered(taken: list[Decision], signals: list[Signal], admissible: int) -> History:
    """Build what the policy may know, as the product does from its databases; there is one champion throughout."""
    return History(
        former=taken[-1].cause if taken else None,
        episode=taken[-1].episode if taken else None,
        excess=tuple(signal.effect for signal in signals if signal.detector == "harm"),
        harmed=tuple(d.position or 0 for d in taken if d.cause == "harmful_drift"),
        admissible=admissible,
    )


def watched(
    params: Params, panel: Panel, calibration: Calibration, past: Window, stream: list[Window], delay: int
) -> list[Decision]:
    """Take windows through panel, triage and policy."""
    memories: dict[str, Json] = {}
    taken: list[Decision] = []
    judged: list[Signal] = []
    moved: int | None = None
    for position, window in enumerate(stream):
        told, memories = panel.watch(window.without_labels(), past, calibration, memories, ("inputs", "outputs"))
        if position >= delay:
            late, memories = panel.watch(stream[position - delay], past, calibration, memories, ("labels",))
            judged += late
            told += late
        shifts = any(signal.alarm and signal.about == "shift" for signal in told)
        moved = (position if moved is None else moved) if shifts else None
        last = position - delay if position >= delay else None
        evidence = Evidence(position=position, rows=len(window), signals=told, moved=moved, judged=last)
        diagnosis = triage(evidence, faulty_share=params.recovery.policy.faulty_share)
        history = remembered(taken, judged, max(0, position - delay + 1))
        taken.append(respond(diagnosis, history, params.recovery.policy, position, None))
    return taken


def shifted(register: Window, rows: np.ndarray, size: int, oldest: int) -> list[Window]:
    """Give windows that hold only people up to an age in the second half."""
    half = len(rows) // 2
    age = register.x[:, register.space.names.index("AGEP")].numpy()
    later = rows[half:][age[rows[half:]] <= oldest]
    return [
        register.take(part[start : start + size], 0)
        for part in (rows[:half], later)
        for start in range(0, len(part) - size + 1, size)
    ]


def main() -> int:
    """Watch both streams, and fail when anything but none or alert was decided."""
    asked = arguments()
    torch.set_num_threads(1)
    params = load(REPOSITORY / "params.yaml")
    panel = params.panel()
    # The register says no more than the year: within a year its rows lie by household and institution, not by time.
    frame = pd.read_parquet(asked.data).sample(frac=1.0, random_state=0).sort_values(TIME, kind="stable")
    frame = frame.reset_index(drop=True)
    register = answered(frame)
    first = np.flatnonzero((frame["part"] == REFERENCE).to_numpy())
    rest = np.flatnonzero((frame["part"] != REFERENCE).to_numpy())
    print(
        f"{len(rest)} rows after the first year in windows of {asked.rows}, references of {asked.reference_rows},"
        f" labels after {asked.delay} windows, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    print("| stream | seed | windows | errors before, after | causes | actions | other than none or alert |")
    print("|---|---|---|---|---|---|---|")
    others = 0
    drawn = [np.random.default_rng(seed).permutation(first)[: asked.reference_rows] for seed in range(asked.seeds)]
    left = np.setdiff1d(first, np.concatenate(drawn))
    learned = np.random.default_rng(0).permutation(left)[:MOST_LEARNED]
    plain = [register.take(rest[i : i + asked.rows], 0) for i in range(0, len(rest) - asked.rows + 1, asked.rows)]
    planted = shifted(register, rest, asked.rows, asked.up_to)
    plain, planted = (challenged(stream, register.take(learned, -1)) for stream in (plain, planted))
    for seed, chosen in enumerate(drawn):
        (alone,) = challenged([register.take(chosen, -1)], register.take(learned, -1))
        some = np.zeros(2) if alone.lead is None else allowed(alone.lead)
        past = allowing(alone, some)
        size = min(asked.rows, len(past) // 4)
        calibration = panel.calibrate(past, size, params.monitoring.replays, Noise(seed, ("benign",)))
        for name, stream in (
            ("years", [allowing(window, some) for window in plain]),
            (f"up to {asked.up_to}", [allowing(window, some) for window in planted]),
        ):
            start = time.perf_counter()
            taken = watched(params, panel, calibration, past, stream, asked.delay)
            causes, actions = Counter(d.cause for d in taken), Counter(d.action for d in taken)
            wrong = sum(count for action, count in actions.items() if action not in QUIET)
            others += wrong
            late = np.mean([window.wrong.mean() for window in stream[len(stream) // 2 :]])
            print(
                f"| {name} | {seed} | {len(taken)} | {past.wrong.mean():.4f}, {late:.4f} | {dict(causes)} |"
                f" {dict(actions)} | {wrong} |", flush=True,
            )  # fmt: skip
            print(f"{name}, seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            for decision in taken:
                if decision.action not in QUIET:
                    print(decision.position, [reason.text for reason in decision.reasons], file=sys.stderr)
    print(f"\ndecisions other than none or alert: {others}; claim: 0")
    return 0 if others == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
