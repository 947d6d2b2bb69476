"""Claim: on stationary windows the panel of params.yaml alarms in at most twice its budget, at the upper 95 % limit.

Each of several references gets thresholds as the product finds them, by replaying its own rows; then windows that are
drawn from other rows of the same epoch are held against them, in streams as calibrated and in one long stream. The
statistics are kept by digest: a run that was stopped goes on, and the same command with more windows adds to it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from loans_world import REPOSITORY, World, build

from holdfast.digests import digest_json, library_digest
from holdfast.monitoring.panels import STREAM, Calibration, Panel
from holdfast.seeding import Noise
from holdfast.statistics import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.data.stream import Window
    from holdfast.results import Json

LIMIT = 2.0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the loans; windows are drawn from all of their rows")
    parser.add_argument("--windows", type=int, default=10_000, help="drawn in streams as calibrated")
    parser.add_argument("--long", type=int, default=1_000, help="windows of the long stream of each reference")
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--reference-rows", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=250, help="rows of a window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".holdfast" / "benchmarks")
    return parser.parse_args()


def kept(cache: Path, name: list[object], work: Callable[[], Json]) -> Json:
    """Give what was found under this name before, or find it and keep it."""
    path = cache / f"{digest_json([library_digest(), *name])}.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(work()))
        part.rename(path)
    return dict(json.loads(path.read_text()))


def read_stream(panel: Panel, names: list[str], world: World, past: Window, rows: int, noise: Noise, n: int) -> Json:
    """Read the statistics (n,) of some detectors on one stream of windows."""
    told: dict[str, list[float]] = {name: [] for name in names}
    memories: dict[str, Json] = {}
    for place in range(n):
        window = world.pool.resample(rows, noise.derive(place), place)
        for name in names:
            reading = panel.detectors[name].replay(window, past, memories.get(name, {}))
            memories[name] = reading.memory
            told[name].append(reading.statistic)
    return told


def streams(asked: argparse.Namespace, world: World, panel: Panel) -> list[tuple[Calibration, Json, Json]]:
    """Give each reference's thresholds, statistics in short streams, and statistics of detectors with memory in one."""
    found = []
    sequential = [name for name, detector in panel.detectors.items() if detector.sequential]
    short = asked.windows // asked.references // STREAM
    settings = [str(asked.data), asked.seed, asked.rows, asked.references, asked.reference_rows, panel.digest()]
    for place, past in enumerate(world.references):
        start, base = time.perf_counter(), Noise(asked.seed, ("false alarms", str(place)))

        def calibrate(past: Window = past, base: Noise = base) -> Json:
            replays = world.params.monitoring.replays
            return dict(panel.calibrate(past, asked.rows, replays, base.derive("panel")).model_dump(mode="json"))

        calibration = Calibration.model_validate(kept(asked.cache, ["thresholds", place, *settings], calibrate))
        parts = [
            kept(
                asked.cache, ["short", place, stream, *settings],
                lambda stream=stream, past=past, base=base: read_stream(
                    panel, list(panel.detectors), world, past, asked.rows, base.derive("short", stream), STREAM
                ),
            )
            for stream in range(short)
        ]  # fmt: skip
        long = kept(
            asked.cache, ["long", place, asked.long, *settings],
            lambda past=past, base=base: read_stream(
                panel, sequential, world, past, asked.rows, base.derive("long"), asked.long
            ),
        )  # fmt: skip
        whole = {name: [value for part in parts for value in part[name]] for name in panel.detectors}
        found.append((calibration, whole, long))
        print(f"reference {place}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return found


def alarms(calibration: Calibration, told: Json) -> dict[str, np.ndarray]:
    """Hold statistics (n,) against thresholds."""
    return {name: np.array(values) > calibration.thresholds[name].value for name, values in told.items()}


def line(name: str, flags: np.ndarray, more: str = "") -> str:
    """Lay out a share with its exact interval."""
    count, n = int(flags.sum()), flags.size
    low, high = clopper_pearson(count, n)
    return f"| {name} | {count} | {n} | {count / n:.5f} | [{low:.5f}, {high:.5f}] | {more} |"


def show_short(panel: Panel, found: list[tuple[Calibration, Json, Json]]) -> float:
    """Print the rates in streams as calibrated; give the upper limit of the panel's."""
    flags = [alarms(calibration, whole) for calibration, whole, _ in found]
    print("| detector | alarms | windows | rate | 95 % (Clopper-Pearson) | threshold from |\n|---|---|---|---|---|---|")
    for name in panel.detectors:
        source = found[0][0].thresholds[name].source
        print(line(name, np.concatenate([each[name] for each in flags]), source))
    whole = [np.any(list(each.values()), axis=0) for each in flags]
    print(line("**panel**", np.concatenate(whole), f"by reference: {', '.join(str(int(f.sum())) for f in whole)}"))
    return float(clopper_pearson(int(np.concatenate(whole).sum()), sum(f.size for f in whole))[1])


def show_long(found: list[tuple[Calibration, Json, Json]]) -> None:
    """Print rates and run lengths of detectors with memory in one long stream of each reference."""
    flags = [alarms(calibration, long) for calibration, _, long in found]
    print("\n| detector | windows in alarm | windows | rate | 95 % (Clopper-Pearson) | alarms that begin; run length |")
    print("|---|---|---|---|---|---|")
    for name in flags[0]:
        each = [flag[name] for flag in flags]
        begun = sum(int((flag & ~np.concatenate([[False], flag[:-1]])).sum()) for flag in each)
        first = [int(flag.argmax()) + 1 if flag.any() else flag.size for flag in each]
        ended = sum(bool(flag.any()) for flag in each)
        length = f"{sum(first) / ended:.0f}" if ended else f"over {sum(first)}"
        print(line(name, np.concatenate(each), f"{begun}; {length} windows to the first"))
    whole = [np.any(list(flag.values()), axis=0) for flag in flags]
    print(line("all of them", np.concatenate(whole)))


def main() -> int:
    """Measure both, and fail when the panel's upper limit is over twice its budget."""
    asked = arguments()
    torch.set_num_threads(1)
    world = build(asked.data, asked.references, asked.reference_rows, asked.seed)
    panel = world.params.panel()
    print(
        f"{len(world.pool)} rows for windows of {asked.rows}, {asked.references} references of {asked.reference_rows},"
        f" champion's accuracy {world.accuracy:.3f}, seed {asked.seed}, budget {panel.budget},"
        f" load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    found = streams(asked, world, panel)
    high = show_short(panel, found)
    show_long(found)
    ratio = high / panel.budget
    print(f"\npanel: upper limit {high:.5f}, budget {panel.budget}; claim: at most {LIMIT} times; {ratio:.2f}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
