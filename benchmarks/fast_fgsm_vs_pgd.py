"""Claim: an epoch of fast FGSM costs at most 0.35 of one of 7-step PGD, neither taking weight gradients to attack."""

from __future__ import annotations

import argparse
import sys

import torch
from fashion_data import load, spec

from holdfast.training.adversarial import Adversarial
from holdfast.training.loop import EpochReport, fit

LIMIT = 0.35


def epochs(method: str, rows: int, count: int, seed: int) -> list[EpochReport]:
    """Train on the first rows and give the epochs' reports."""
    roles = load()
    train = roles["train"].take(torch.arange(rows))
    recipe = Adversarial(method=method, steps=7, epochs=count, batch_size=64, average=0.99)
    device = torch.device("cpu")
    return list(fit(recipe, spec(roles["train"]), train, roles["validation"], seed=seed, device=device).history)


def main() -> int:
    """Time both methods in turns, and compare their fastest epochs: other work on the machine only adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4100)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    reports: dict[str, list[EpochReport]] = {"fgsm": [], "pgd": []}
    for seed in range(arguments.rounds):
        for method in reports:
            reports[method] += epochs(method, arguments.rows, 2, seed)
    whole = {method: min(r.seconds for r in found) for method, found in reports.items()}
    training = {method: min(r.seconds - r.validation_seconds for r in found) for method, found in reports.items()}
    for name, seconds in (("epoch without validation", training), ("epoch with robust validation", whole)):
        ratio = seconds["fgsm"] / seconds["pgd"]
        print(f"{name}: fast FGSM {seconds['fgsm']:.2f} s, PGD-7 {seconds['pgd']:.2f} s, ratio {ratio:.3f}")
    return 0 if training["fgsm"] / training["pgd"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
