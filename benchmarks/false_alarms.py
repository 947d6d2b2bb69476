"""Claim: on stationary windows the panel of params.yaml alarms in at most twice its budget, at the upper 95 % limit.

Each of several references gets thresholds as the product finds them, by replaying its own rows; then windows that are
drawn from other rows of the same epoch are held against them, in streams as calibrated and in one long stream. The
statistics are kept by digest: a run that was stopped goes on, and the same command with more windows adds to it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from loans_world import REPOSITORY, World, allowing, build

from holdfast.digests import digest_file, digest_json, digest_sources, library_versions
from holdfast.monitoring.panels import STREAM, Calibration, Panel
from holdfast.seeding import Noise
from holdfast.statistics import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.data.stream import Window
    from holdfast.monitoring.base import Detector
    from holdfast.results import Json

LIMIT = 2.0
SHORT = "short"
MONITORING = REPOSITORY / "holdfast" / "monitoring"


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
    path = cache / f"{digest_json(name)}.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(work()))
        part.rename(path)
    return dict(json.loads(path.read_text()))


def named(detector: Detector) -> list[object]:
    """Name all that a statistic depends on but the rows: the detector's code and settings."""
    shared = sorted(MONITORING.glob("_[a-z]*.py"))
    code = [Path(inspect.getfile(type(detector))), *shared, MONITORING.parent / "seeding.py"]
    return [*map(digest_file, code), detector.model_dump(mode="json"), library_versions()]


class Stream:
    """Windows of one stream, drawn when the first detector wants them."""

    def __init__(self, world: World, rows: int, noise: Noise, n: int, reference: int) -> None:
        pool = allowing(world.pool, world.allowed[reference])
        self._draw = lambda: [pool.resample(rows, noise.derive(place), place) for place in range(n)]
        self._windows: list[Window] = []

    def read(self, detector: Detector, past: Window) -> Json:
        """Read a detector's statistics (n,), its memory carried on."""
        self._windows = self._windows or self._draw()
        told, memory = [], dict[str, object]()
        for window in self._windows:
            reading = detector.replay(window, past, memory)
            memory = reading.memory
            told.append(reading.statistic)
        return {"told": told}


def read(asked: argparse.Namespace, world: World, panel: Panel, place: int, name: list[object], n: int) -> Json:
    """Read the statistics (n,) of every detector, or in a long stream of those with memory, on one stream."""
    noise = Noise(asked.seed, ("false alarms", str(place))).derive(*name)
    stream = Stream(world, asked.rows, noise, n, place)
    return {
        each: kept(
            asked.cache, [world.name, asked.rows, place, *name, n, each, *named(detector)],
            lambda detector=detector: stream.read(detector, world.references[place]),
        )["told"]
        for each, detector in panel.detectors.items()
        if detector.sequential or name[0] == SHORT
    }  # fmt: skip


def streams(asked: argparse.Namespace, world: World, panel: Panel) -> list[tuple[Calibration, Json, Json]]:
    """Give each reference's thresholds, statistics in short streams, and statistics of detectors with memory in one."""
    found = []
    short = asked.windows // asked.references // STREAM
    for place, past in enumerate(world.references):
        start = time.perf_counter()
        noise, replays = Noise(asked.seed, ("false alarms", str(place), "panel")), world.params.monitoring.replays

        def calibrate(past: Window = past, noise: Noise = noise, replays: int = replays) -> Json:
            return dict(panel.calibrate(past, asked.rows, replays, noise).model_dump(mode="json"))

        code = [digest_sources(MONITORING), panel.digest(), library_versions()]
        calibration = Calibration.model_validate(
            kept(asked.cache, ["thresholds", world.name, asked.rows, place, replays, *code], calibrate)
        )
        parts = [read(asked, world, panel, place, [SHORT, stream], STREAM) for stream in range(short)]
        long = read(asked, world, panel, place, ["long"], asked.long)
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
