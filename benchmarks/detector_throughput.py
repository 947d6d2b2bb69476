"""Claim: every detector reads a window faster than Evidently's own report, in memory that no history makes larger.

A million rows of 20 features in windows, made one after the other and held against one past. Each detector reads every
window with its p-values, as `holdfast monitor` lets it, and carries its memory on; Evidently alone renders its data
drift preset, methods pinned, for some of the same windows, since for all it would take half an hour.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

from holdfast import registry
from holdfast.data.stream import Window
from holdfast.monitoring.base import Detector
from holdfast.monitoring.evidently import Evidently
from holdfast.space import Feature, Table

NUMBERS, CATEGORIES, VALUES, EMBEDDED = 14, 6, 8, 64
EVIDENTLY = "Evidently alone"
EARLY = 10
GROWTH = 1.05
SPACE = Table(
    features=(
        *(Feature(name=f"number{i}", kind="number", iqr=1.35) for i in range(NUMBERS)),
        *(
            Feature(name=f"category{i}", kind="category", categories=tuple(map(str, range(VALUES))))
            for i in range(CATEGORIES)
        ),
    )
)


def draw(rows: int, seed: int, position: int) -> Window:
    """Draw answered and labelled rows: the first number tells the class, and the champion knows how well."""
    noise = np.random.default_rng((seed, position + 1))
    labels = (noise.random(rows) < 0.3).astype(np.int64)
    x = np.concatenate([noise.normal(size=(rows, NUMBERS)), noise.integers(0, VALUES, (rows, CATEGORIES))], axis=1)
    x[:, 0] += 2.0 * labels
    p = 1.0 / (1.0 + np.exp(2.0 - 2.0 * x[:, 0] + np.log(7.0 / 3.0)))
    ids = np.arange(rows) + rows * (position + 1)
    embeddings = torch.from_numpy(noise.normal(size=(rows, EMBEDDED)).astype(np.float32))
    errors = noise.choice([-1.0, 0.0, 1.0], rows, p=[0.05, 0.9, 0.05])
    lead = np.stack([0.5 * errors, errors], axis=1)
    return Window(
        position, ids, torch.tensor(x, dtype=torch.float32), np.stack([1 - p, p], 1), SPACE, labels, embeddings, lead
    )


def resident() -> float:
    """Give the memory of this process in MiB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=1_000, help="rows of a window")
    parser.add_argument("--past", type=int, default=2_000, help="rows that windows are compared with")
    parser.add_argument("--evidently-every", type=int, default=20, help="windows of which Evidently alone reports one")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def at_once(asked: argparse.Namespace, past: Window, report: Evidently) -> None:
    """Print what Evidently alone takes for one report about all rows together, which tells no window from another."""
    parts = [draw(asked.rows, asked.seed, position) for position in range(asked.windows)]
    whole = Window(
        0, np.concatenate([part.ids for part in parts]), torch.cat([part.x for part in parts]),
        np.concatenate([part.probabilities for part in parts]), SPACE,
    )  # fmt: skip
    start = time.process_time()
    report.report(whole, past)
    taken = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\nEvidently alone, one report about all {len(whole)} rows: {len(whole) / taken:,.0f} rows/s,"
        f" peak {peak:.0f} MiB"
    )


def main() -> int:
    """Time every detector on every window, and fail when one is slower than Evidently or memory grows."""
    asked = arguments()
    torch.set_num_threads(1)
    names = registry.available("holdfast.monitoring")
    detectors = {name: registry.find("holdfast.monitoring", name, Detector)() for name in names}
    past, report = draw(asked.past, asked.seed, -1), Evidently()
    for detector in detectors.values():  # imports, and what is read off the past once
        detector.read(draw(asked.rows, asked.seed, asked.windows), past, {})
    report.report(draw(asked.rows, asked.seed, asked.windows), past)
    seconds, rows = dict.fromkeys([*names, EVIDENTLY], 0.0), dict.fromkeys([*names, EVIDENTLY], 0)
    memories: dict[str, dict[str, object]] = {}
    kept: dict[int, tuple[float, float, int]] = {}
    for position in range(asked.windows):
        window = draw(asked.rows, asked.seed, position)
        for name, detector in detectors.items():
            start = time.process_time()
            reading = detector.read(window, past, memories.get(name, {}))
            seconds[name] += time.process_time() - start
            rows[name] += len(window)
            memories[name] = json.loads(json.dumps(reading.memory))
        if position % asked.evidently_every == 0:
            start = time.process_time()
            report.report(window, past)
            seconds[EVIDENTLY] += time.process_time() - start
            rows[EVIDENTLY] += len(window)
        if position + 1 in {EARLY, 100, asked.windows}:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            kept[position + 1] = (resident(), peak, len(json.dumps(memories)))
    rate = {name: rows[name] / seconds[name] for name in rows}
    print(
        f"{asked.windows * asked.rows} rows x {NUMBERS + CATEGORIES} features in windows of {asked.rows}, past of"
        f" {asked.past}, seed {asked.seed}, one thread, processor time, load {os.getloadavg()[0]:.1f} on"
        f" {os.cpu_count()} cores\n"
    )
    print("| detector | rows | rows/s | times Evidently alone |\n|---|---|---|---|")
    for name in sorted(rate, key=lambda each: -rate[each]):
        print(f"| {name} | {rows[name]} | {rate[name]:,.0f} | {rate[name] / rate[EVIDENTLY]:.1f} |")
    whole = 1.0 / sum(1.0 / rate[name] for name in names)
    print(f"| **all detectors together** | {rows[names[0]]} | {whole:,.0f} | {whole / rate[EVIDENTLY]:.1f} |")
    print("\n| after windows | resident MiB | peak MiB | carried bytes |\n|---|---|---|---|")
    for count, (now, peak, carried) in kept.items():
        print(f"| {count} | {now:.0f} | {peak:.0f} | {carried} |")
    at_once(asked, past, report)
    growth = kept[asked.windows][1] / kept[min(kept)][1]
    slowest = min(names, key=lambda name: rate[name])
    print(
        f"\nslowest: {slowest}, {rate[slowest] / rate[EVIDENTLY]:.1f} times Evidently alone; claim: at least 1; peak"
        f" memory {growth:.3f} times that after {min(kept)} windows; claim: at most {GROWTH}"
    )
    return 0 if rate[slowest] >= rate[EVIDENTLY] and growth <= GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
