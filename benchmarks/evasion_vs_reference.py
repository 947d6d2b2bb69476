"""Claim: each attack leaves no more points standing than the reference implementation of it, random starts apart.

Give a checkout of https://github.com/fra31/auto-attack with ``--peer``; nothing of it is part of Holdfast. Both sides
attack the same points of one model, with the published settings, and times are CPU seconds of the process. ``standard``
is the whole ensemble. Without ``--model`` a small network is trained adversarially first, and kept.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from attacks_vs_reference import SEED, trained
from fashion_data import load

from holdfast import registry
from holdfast.model import load_model
from holdfast.scenarios.attacks.base import Attack
from holdfast.scenarios.base import choose
from holdfast.seeding import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.data import Samples
    from holdfast.model import Target

PEERS = {"apgd_ce": "apgd-ce", "apgd_t": "apgd-t", "fab": "fab", "fab_t": "fab-t", "square": "square",
         "autoattack": "standard"}  # fmt: skip
"""Our attacks, and the reference's names for them."""
NORMS = {"linf": "Linf", "l2": "L2"}
LIMIT = 0.01
"""By how much our robust accuracy may lie above the reference's: random starts differ."""


def main() -> None:
    """Print for each attack what both sides leave standing; fail where the claim does."""
    args = arguments()
    torch.set_num_threads(args.threads)
    args.kept.mkdir(parents=True, exist_ok=True)
    target = load_model(args.model or trained(args.kept, args.epochs, args.width, args.epsilon), None)
    points = choose(load(SEED)["test"], args.points, SEED)
    clean = target.predict(points.x) == points.y
    print(f"points {len(points)}, {args.norm} {args.epsilon:g}, clean {int(clean.sum())}")
    print("| attack | ours | reference | ours alone breaks | reference alone breaks | CPU s, ours / reference |")
    print("|---|---|---|---|---|---|")
    lost = [name for name in args.attacks if not agrees(name, args, target, points, clean)]
    if lost:
        sys.exit(f"more points stand than the reference leaves, by more than {LIMIT:.1%}: {', '.join(lost)}")


def agrees(name: str, args: argparse.Namespace, target: Target, points: Samples, clean: Tensor) -> bool:
    """Run one attack on both sides, and print its line."""
    began = time.process_time()
    mine = ours(name, args, target, points, clean)
    between = time.process_time()
    theirs = reference(name, args, target, points, clean)
    my_time, their_time = between - began, time.process_time() - between
    only, other = int((theirs & ~mine).sum()), int((mine & ~theirs).sum())
    print(
        f"| `{name}` | {int(mine.sum())} | {int(theirs.sum())} | {only} | {other} | {my_time:.0f} / {their_time:.0f} |",
        flush=True,
    )
    return int(mine.sum()) - int(theirs.sum()) <= LIMIT * len(points)


def ours(name: str, args: argparse.Namespace, target: Target, points: Samples, clean: Tensor) -> Tensor:
    """Tell which points (n,) our attack leaves standing."""
    kind = registry.find("holdfast.scenarios.attacks", name, Attack)
    return kind(norm=args.norm, epsilon=args.epsilon).strike(target, points, clean, Noise(SEED, ("benchmark",))).robust


def reference(name: str, args: argparse.Namespace, target: Target, points: Samples, clean: Tensor) -> Tensor:
    """Tell which points (n,) the reference's leaves standing."""
    sys.path.insert(0, str(args.peer))
    module = importlib.import_module("autoattack")
    adversary = module.AutoAttack(
        target.module, norm=NORMS[args.norm], eps=args.epsilon, version="standard", device="cpu", seed=SEED,
        verbose=False,
    )  # fmt: skip
    if name != "autoattack":
        adversary.attacks_to_run = [PEERS[name]]
    found = adversary.run_standard_evaluation(points.x, points.y, bs=len(points))
    return clean & (target.predict(found) == points.y)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="checkout of the reference AutoAttack")
    parser.add_argument("--model", type=Path, help="folder of a saved image model; trained when left out")
    parser.add_argument("--attacks", nargs="+", choices=tuple(PEERS), default=["fab_t", "autoattack"])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--epsilon", type=float, default=0.05)
    parser.add_argument("--norm", choices=tuple(NORMS), default="linf")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(".holdfast/benchmarks/attacks"))
    found = parser.parse_args()
    if not (found.peer / "autoattack" / "autoattack.py").is_file():
        parser.error(f"--peer {found.peer} holds no autoattack/autoattack.py: name the checkout's top folder")
    return found


if __name__ == "__main__":
    main()
