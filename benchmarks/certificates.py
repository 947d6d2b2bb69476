"""Claim: linear bounds certify provably robust networks as far as was published, and never a point that apgd_ce breaks.

The networks and data are not shipped: ``--weights`` names the folder that holds ``mnist_kw_eps0.1.pth`` and its like,
``--data`` the one with ``mnist_test.npz`` and ``fashion_mnist.npz``. Each network is certified and attacked on the same
test points, in chunks that are kept by digest: a run that was stopped goes on where it was. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from holdfast import registry
from holdfast.data import Samples
from holdfast.digests import digest_file, digest_json, digest_sources
from holdfast.model import ModelSpec, Target
from holdfast.networks import ImageEncoder
from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.certificates.linear_bounds import LinearBounds
from holdfast.seeding import Noise
from holdfast.space import Box
from holdfast.statistics import share

SEED = 0
ROOM = 0.005
"""By how much certified accuracy may lie below the published one."""
PARTS = (
    "scenarios/certificates/linear_bounds.py", "scenarios/certificates/_proof.py", "scenarios/certificates/_network.py",
    "scenarios/certificates/_layers.py", "scenarios/attacks", "model.py", "perturbation.py", "seeding.py", "space.py",
)  # fmt: skip
"""What the answers depend on."""

Result = dict[str, Any]


class Case(NamedTuple):
    """One network with its data and threat, and the certified accuracy that its authors printed."""

    rows: str
    epsilon: float
    published: float | None


CASES = {
    # Wong and Kolter 2018, arXiv:1711.00851, table 1: robust error bound 5.82 % of MNIST at 0.1.
    "mnist_kw_eps0.1": Case("mnist_test.npz", 0.1, 1.0 - 0.0582),
    # Networks that were published with the code alone, or as one of a cascade: nothing to hold them against.
    "fashion_mnist_kw_eps0.1": Case("fashion_mnist.npz", 0.1, None),
    "mnist_kw_eps0.3": Case("mnist_test.npz", 0.3, None),
}


def main() -> None:
    """Certify and attack every network, and print the brackets."""
    args = arguments()
    torch.set_num_threads(1)
    args.kept.mkdir(parents=True, exist_ok=True)
    holds = [bracket(args, name, case) for name, case in CASES.items() if name in args.only]
    sys.exit(0 if all(holds) else 1)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--data", type=Path, help="folder of the test images; the one above the networks if left out")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--points", type=int, default=10_000, help="the first test points")
    parser.add_argument("--chunk", type=int, default=500, help="points at a time, which are kept")
    parser.add_argument("--steps", type=int, default=100, help="of apgd_ce")
    parser.add_argument("--kept", type=Path, default=Path(".holdfast/benchmarks/certificates"))
    found = parser.parse_args()
    found.data = found.data or found.weights.parent
    missing = [str(p) for name in found.only for p in (weights(found, name), rows(found, name)) if not p.is_file()]
    if missing:
        parser.error(f"not there: {', '.join(missing)}")
    return found


def weights(args: argparse.Namespace, name: str) -> Path:
    """Name the file of a network."""
    return Path(args.weights / f"{name}.pth")


def rows(args: argparse.Namespace, name: str) -> Path:
    """Name the file of its test images."""
    return Path(args.data / CASES[name].rows)


def bracket(args: argparse.Namespace, name: str, case: Case) -> bool:
    """Print how many points are proved and how many hold, and tell whether the claim does."""
    target, samples = load(args, name)
    results = [chunk(args, name, target, samples, start) for start in range(0, len(samples), args.chunk)]
    clean, proved, held = (np.concatenate([r[key] for r in results]) for key in ("clean", "proved", "held"))
    decided = {key: sum(r["decided"][key] for r in results) for key in results[0]["decided"]}
    seconds = [sum(r[key] for r in results) for key in ("proof_seconds", "attack_seconds")]
    broken = int((proved & ~held).sum())
    print(f"{name}: {len(samples)} points, linf {case.epsilon:g}, clean {told(clean)}")
    print(f"  certified {told(proved)} ({', '.join(f'{k} {v}' for k, v in decided.items())}), {seconds[0]:.0f} s")
    print(f"  attacked  {told(held)} (apgd_ce, {args.steps} steps), {seconds[1]:.0f} s")
    print(f"  proved and broken: {broken} (claim: 0)")
    enough = True
    if case.published is not None:
        enough = bool(proved.mean() >= case.published - ROOM)
        print(f"  published {case.published:.2%}: {proved.mean() - case.published:+.2%} (claim: at least {-ROOM:+.2%})")
    return broken == 0 and enough


def told(flags: np.ndarray[Any, Any]) -> str:
    """Write a share with its interval."""
    found = share(flags)
    return f"{found.value:.2%} [{found.low:.2%}, {found.high:.2%}]"


def load(args: argparse.Namespace, name: str) -> tuple[Target, Samples]:
    """Load a network of Wong and Kolter's architecture, and its test points."""
    state = torch.load(weights(args, name), weights_only=True, map_location="cpu")
    state = state.get("state_dict", state)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    network.load_state_dict(state[0] if isinstance(state, list) else state)
    space = Box(shape=(1, 28, 28), mean=(0.0,), std=(1.0,))
    module = nn.Sequential(ImageEncoder(torch.zeros(1), torch.ones(1)), network)
    spec = ModelSpec(factory="none:none", space=space, classes=tuple(map(str, range(10))))
    with np.load(rows(args, name), allow_pickle=False) as arrays:
        x, y = (arrays[key + "_test" if key + "_test" in arrays else key][: args.points] for key in ("x", "y"))
    samples = Samples(
        x=torch.tensor(x, dtype=torch.float32)[:, None] / 255.0, y=torch.tensor(y.astype(np.int64)),
        ids=torch.arange(len(y)), role="test", snapshot=digest_file(rows(args, name)),
    )  # fmt: skip
    return Target(module, spec, digest_file(weights(args, name))), samples


def chunk(args: argparse.Namespace, name: str, target: Target, samples: Samples, start: int) -> Result:
    """Certify and attack some points, unless that was kept."""
    part = samples.take(torch.arange(len(samples))[start : start + args.chunk])
    package = Path(registry.__file__).parent
    code = digest_json([digest_sources(package / each) for each in PARTS])
    key = digest_json([code, target.digest, samples.snapshot, part.ids.tolist(), CASES[name].epsilon, args.steps])
    file = Path(args.kept / f"{key}.json")
    if not file.exists():
        result = ask(args, CASES[name], target, part)
        print(f"{name} from {start}: {sum(result['proved'])} of {len(part)} proved", file=sys.stderr, flush=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.rename(file)
    found: Result = json.loads(file.read_text())
    return found


def ask(args: argparse.Namespace, case: Case, target: Target, part: Samples) -> Result:
    """Certify and attack."""
    clean = target.predict(part.x) == part.y
    began = time.process_time()
    proof = LinearBounds(epsilon=case.epsilon).prove(target, part, clean)
    proved = time.process_time()
    held = (
        ApgdCe(epsilon=case.epsilon, steps=args.steps).strike(target, part, clean, Noise(SEED, ("benchmark",))).robust
    )
    return {
        "clean": clean.tolist(), "proved": proof.certified.tolist(), "held": held.tolist(), "decided": proof.decided,
        "proof_seconds": proved - began, "attack_seconds": time.process_time() - proved,
    }  # fmt: skip


if __name__ == "__main__":
    main()
