"""Claim: the adversarial recipe holds 83 % clean and 70 % under attack on 4,100 images, 25 points over standard."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from fashion_data import load, spec

from holdfast.data import Samples
from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.apgd_t import ApgdT
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.base import Context
from holdfast.training.adversarial import Adversarial
from holdfast.training.loop import fit
from holdfast.training.standard import Standard
from holdfast.training.trades import Trades

if TYPE_CHECKING:
    from holdfast.model import Target
    from holdfast.training.base import Recipe

EPSILON = 0.05
SHARED = {"epochs": 10, "batch_size": 64, "learning_rate": 2e-3, "average": 0.99}
"""Chosen on validation, calibration and gate rows; test rows played no part."""
RECIPES: dict[str, Recipe] = {
    "standard": Standard(**SHARED),
    "adversarial": Adversarial(**SHARED, epsilon=EPSILON),
    "trades": Trades(**SHARED, epsilon=EPSILON, steps=5),
}


def held_back(roles: dict[str, Samples]) -> Samples:
    """Rows that trained nothing and may choose settings, under the one role that attacks read beside test."""
    parts = [roles[role] for role in ("validation", "calibration", "gate")]
    x, y, ids = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "y", "ids"))
    return Samples(x=x, y=y, ids=ids, role="gate", snapshot=parts[0].snapshot)


def survival(target: Target, rows: Samples, points: int, queries: int) -> dict[str, float]:
    """Give clean accuracy and the share of points that survive every attack."""
    attacks = [ApgdCe(points=points, epsilon=EPSILON), ApgdT(points=points, epsilon=EPSILON)]
    if queries:
        attacks.append(Square(points=points, epsilon=EPSILON, queries=queries))
    flags = []
    shares = {"clean": float((target.predict(rows.x) == rows.y).float().mean())}
    for attack in attacks:
        finding = attack.run(target, rows, Context(seed=0))
        if finding.per_example is None:
            raise SystemExit(f"{finding.path}: {finding.unscored}")
        flags.append(finding.per_example.unpack_flags())
        shares[finding.path] = float(flags[-1].mean())
    return shares | {"survive all": float(np.logical_and.reduce(flags).mean())}


def main() -> None:
    """Train the recipes named, and attack them on held-back rows or, once all is chosen, on the test rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=["standard", "adversarial"])
    parser.add_argument("--test", action="store_true", help="read the 1,000 test images: for the number reported")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--queries", type=int, default=0, help="of the square attack; 5000 is its standard budget")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    roles = load()
    rows = roles["test"] if arguments.test else held_back(roles)
    for name in arguments.recipes:
        wall, cpu = time.perf_counter(), time.process_time()
        device = torch.device("cpu")
        trained = fit(
            RECIPES[name], spec(roles["train"]), roles["train"], roles["validation"], seed=arguments.seed, device=device
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        shares = survival(trained.target, rows, arguments.points, arguments.queries)
        told = ", ".join(f"{key} {value:.3f}" for key, value in shares.items())
        print(
            f"{name}: best epoch {trained.best_epoch}, {wall:.0f} s ({cpu:.0f} s CPU); {rows.role}: {told}", flush=True
        )


if __name__ == "__main__":
    main()
