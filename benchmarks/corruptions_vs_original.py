"""Claim: the nineteen corruptions do to images what the published generator does, at five times its pace or more.

For each family and severity the same images go through both, and three things of each image are compared: mean,
standard deviation and power at four bands of frequencies. Three networks of unlike robustness are then asked about
images of both sides, and must come out in the same order. Times are CPU seconds of the process, one thread each; the
pace is that of all families together, since the published noise is one call of NumPy already and gains nothing.

Give a checkout of https://github.com/hendrycks/robustness with ``--original``; ``published_corruptions`` says what it
needs. What was computed is kept by digest, so a run that was stopped goes on where it was. ``--record`` writes what the
published side makes of a few synthetic images, which the tests hold ours against.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from fashion_data import load, spec
from PIL import Image
from published_corruptions import SIZES, Images, Published, synthetic
from sklearn.datasets import load_sample_images

from holdfast import registry
from holdfast.data import Samples
from holdfast.digests import digest_json, digest_sources
from holdfast.model import SPEC, load_model, save_model
from holdfast.scenarios.corruptions.base import Corruption
from holdfast.seeding import Noise
from holdfast.space import Box
from holdfast.training.adversarial import Adversarial
from holdfast.training.loop import fit
from holdfast.training.standard import Standard

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model import Target
    from holdfast.training.base import Recipe

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Table = dict[str, list[list[float]]]

SEED = 0
SEVERITIES = (1, 2, 3, 4, 5)
PACKAGE = "holdfast.scenarios.corruptions"
MODELS = ("standard", "noise", "adversarial")
PACE = 5.0
PIXEL, DECIBEL = 0.01, 1.0
"""By how much means and deviations (shares of the pixel range) and power may differ, beside three standard errors."""
TEXTURE = 3
"""How many times as much they may for frost, whose photographs ours replaces by a texture."""
POINTS = 0.02
"""Difference of accuracy from which two networks count as told apart."""
_FLOOR = 1e-4
"""Power added before the logarithm: that of one level of 256, about which the two sides round differently."""


def main() -> None:
    """Compare, rank and time; fail where the claim does."""
    args = arguments()
    torch.set_num_threads(1)
    args.kept.mkdir(parents=True, exist_ok=True)
    if args.record:
        record(args)
        return
    sound = [compare(args, scale) for scale in SIZES]
    sys.exit(0 if all([*sound, rank(args)]) else 1)


def families() -> list[str]:
    """List the corruptions that have a published counterpart; a composition of them has none of its own."""
    return [name for name in registry.available(PACKAGE) if name != "composition"]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, required=True, help="checkout of the published generator")
    parser.add_argument(
        "--cifar", type=Path, help="Parquet file of CIFAR-10's test images; Fashion-MNIST when left out"
    )
    parser.add_argument("--images", type=int, default=400, help="of 32 pixels; of 224 a twenty-fifth of it")
    parser.add_argument("--points", type=int, default=300, help="test images that the networks are asked about")
    parser.add_argument("--families", nargs="*", default=families())
    parser.add_argument("--kept", type=Path, default=Path(".holdfast/benchmarks/corruptions"))
    parser.add_argument("--record", type=Path, help="write the tests' record to this file, and do nothing else")
    found = parser.parse_args()
    if not (found.original / "ImageNet-C" / "create_c").is_dir():
        parser.error(f"--original {found.original} holds no ImageNet-C/create_c: name the checkout's top folder")
    return found


def compare(args: argparse.Namespace, scale: str) -> bool:
    """Print by how much the two sides differ, and tell whether all lies within the tolerance."""
    images = photographs(args, scale)
    print(f"\n{len(images)} images of {SIZES[scale]} pixels, parameters of {scale}; worst differences in 1/1000 and dB")
    print(f"{'family':18s} {'mean':>14s} {'deviation':>14s} {'power':>14s} {'ms ours':>9s} {'theirs':>9s} {'pace':>6s}")
    sound = True
    times: dict[str, Floats] = {}
    for family in args.families:
        worst, spent, within = differences(args, images, scale, family)
        print(
            f"{family:18s} "
            + " ".join(f"{1e3 * d:+7.1f} ±{1e3 * e:5.1f}" for d, e in worst[:2])
            + f" {worst[2][0]:+7.2f} ±{worst[2][1]:5.2f}"
            + " ".join(f" {1e3 * s / len(SEVERITIES) / len(images):8.2f}" for s in spent)
            + f" {spent[1] / spent[0]:6.1f}"
            + ("" if within else "  OUTSIDE"),
            flush=True,
        )
        sound, times[family] = sound and within, spent
    pace = overall(times)
    print(f"all families: pace {pace:.1f} (claim: at least {PACE:g}), differences {'within' if sound else 'OUTSIDE'}")
    print(unequal(times))
    return bool(sound and pace >= PACE)


def overall(times: dict[str, Floats]) -> float:
    """Divide the published side's seconds by ours, over all families."""
    ours_took, theirs = np.sum(list(times.values()), axis=0)
    return float(theirs / ours_took)


def unequal(times: dict[str, Floats]) -> str:
    """Say how unlike the families' paces are, and what is left of the whole without the one that saves most."""
    paces = {family: float(theirs / ours_took) for family, (ours_took, theirs) in times.items()}
    most = max(times, key=lambda family: times[family][1] - times[family][0])
    rest = {family: spent for family, spent in times.items() if family != most}
    return (
        f"of {len(paces)} families {sum(p >= PACE for p in paces.values())} have it alone,"
        f" {sum(p < 1 for p in paces.values())} are slower than published"
        + (f"; without {most} {overall(rest):.1f}" if rest else "")
    )


def differences(
    args: argparse.Namespace, images: Images, scale: str, family: str
) -> tuple[list[tuple[float, float]], Floats, bool]:
    """Find the worst severity by mean, deviation and power, each with its standard error; seconds; whether within."""
    room = np.array([PIXEL, PIXEL, *[DECIBEL] * 4]) * (TEXTURE if family == "frost" else 1)
    rows, errors, spent = [], [], np.zeros(2)
    for severity in SEVERITIES:
        sides = [measured(args, side, images, scale, family, severity) for side in ("ours", "published")]
        ours, theirs = (np.array(side["statistics"]) for side in sides)
        change = (ours - theirs)[:, [0, 1, 3, 4, 5, 6]]
        rows.append(change.mean(0))
        errors.append(change.std(0) / np.sqrt(len(images)))
        spent += [side["seconds"] for side in sides]
    found, error = np.array(rows), np.array(errors)
    within = bool((np.abs(found) <= room + 3 * error).all())
    worst = []
    for columns in ([0], [1], [2, 3, 4, 5]):
        part = np.abs(found[:, columns])
        at = np.unravel_index(int(part.argmax()), part.shape)
        worst.append((float(found[:, columns][at]), float(error[:, columns][at])))
    return worst, spent, within


def measured(
    args: argparse.Namespace, side: str, images: Images, scale: str, family: str, severity: int
) -> dict[str, Any]:
    """Corrupt by one side and take the statistics, once for these images and this code."""

    def work() -> dict[str, Any]:
        began = time.process_time()
        corrupted = corrupt(args, side, images, scale, family, severity)
        return {"seconds": time.process_time() - began, "statistics": statistics(corrupted, images / 255.0).tolist()}

    if side == "published":
        published(args, scale)  # imports its libraries, which is not its pace
    return kept(args, [side, code(args, side), digest_of(images), scale, family, severity], work)


def corrupt(args: argparse.Namespace, side: str, images: Images, scale: str, family: str, severity: int) -> Floats:
    """Give corrupted images (n, s, s, 3) from 0 to 1."""
    if side == "published":
        return published(args, scale).corrupt(images, family, severity, SEED) / 255.0
    x = torch.tensor(images).permute(0, 3, 1, 2) / 255.0
    answer = ours(x, torch.arange(len(x)), scale, family, severity)
    found: Floats = answer.permute(0, 2, 3, 1).double().numpy()
    return found


def ours(x: torch.Tensor, ids: torch.Tensor, scale: str, family: str, severity: int) -> torch.Tensor:
    """Corrupt images (n, c, h, w) in [0, 1] by one of Holdfast's families."""
    channels = x.shape[1]
    space = Box(shape=tuple(x.shape[1:]), mean=(0.5,) * channels, std=(0.25,) * channels)
    scenario = registry.find(PACKAGE, family, Corruption)(scale=scale)
    noise = Noise(SEED, ("benchmark", family)).derive("severity", severity)
    batch = 64 if scale == "cifar" else 8
    pieces = zip(x.split(batch), ids.split(batch), strict=True)
    return torch.cat([scenario.disturb(part, of, severity, noise, space) for part, of in pieces])


def statistics(images: Floats, clean: Floats) -> Floats:
    """Take of each image (n, s, s, 3): mean, deviation, root mean square change, and power at four bands in dB."""
    grey = images @ np.array([0.299, 0.587, 0.114])
    size = grey.shape[1]
    spectrum = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2 / size**2
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    edges = (0.0, 1 / 16, 1 / 8, 1 / 4, 1.0)
    bands = [(frequency > low) & (frequency <= high) for low, high in itertools.pairwise(edges)]
    power = [10 * np.log10(spectrum[:, band].mean(1) + _FLOOR) for band in bands]
    change = np.sqrt(((images - clean) ** 2).mean((1, 2, 3)))
    found: Floats = np.stack([images.mean((1, 2, 3)), images.std((1, 2)).mean(1), change, *power], axis=1)
    return found


def rank(args: argparse.Namespace) -> bool:
    """Ask three networks about images of both sides, and tell whether any two that differ change places."""
    samples = padded(load(SEED)["test"]).take(torch.arange(args.points))
    targets = {name: load_model(trained(args, name), None) for name in MODELS}
    grey = (samples.x[:, 0] * 255).round().to(torch.uint8).numpy()
    images = np.repeat(grey[..., None], 3, axis=3)
    sound, totals = True, np.zeros((2, len(MODELS)))
    families = [family for family in args.families if family != "saturate"]  # which one channel does not have
    print(f"\naccuracy of {', '.join(MODELS)} on {len(grey)} images, mean of severities; ours | published")
    for family in families:
        found = np.array([
            [asked(args, side, targets, samples, images, family, severity) for severity in SEVERITIES]
            for side in ("ours", "published")
        ])  # fmt: skip
        accuracy = found.mean(1)
        kept_order = same_order(accuracy)
        line = " | ".join(" ".join(f"{100 * a:5.1f}" for a in side) for side in accuracy)
        print(f"{family:18s} {line}{'' if kept_order else '  ORDER DIFFERS'}", flush=True)
        sound, totals = sound and kept_order, totals + accuracy / len(families)
    line = " | ".join(" ".join(f"{100 * a:5.1f}" for a in side) for side in totals)
    print(f"{'all':18s} {line}")
    return bool(sound and same_order(totals))


def same_order(accuracy: Floats) -> bool:
    """Tell whether no two networks that a side tells apart stand in the other order on the other side (2, models)."""
    gaps = accuracy[:, :, None] - accuracy[:, None, :]
    return not bool(((gaps[0] * gaps[1] < 0) & (np.abs(gaps).max(0) > POINTS)).any())


def asked(
    args: argparse.Namespace, side: str, targets: dict[str, Target], samples: Samples, images: Images, family: str,
    severity: int,
) -> list[float]:  # fmt: skip
    """Give each network's accuracy on grey images of one side; the published ones are made of three equal channels.

    Their noise is drawn for each channel: one of them is what a grey image gets. All else is one picture in colours.
    """
    weights = (1.0, 0.0, 0.0) if family.endswith("_noise") else (0.299, 0.587, 0.114)

    def work() -> dict[str, Any]:
        if side == "ours":
            x = ours(samples.x, samples.ids, "cifar", family, severity)
        else:
            colour = corrupt(args, side, images, "cifar", family, severity)
            x = torch.tensor(colour @ np.array(weights), dtype=torch.float32)[:, None]
        return {name: float((target.predict(x) == samples.y).float().mean()) for name, target in targets.items()}

    models = [target.digest for target in targets.values()]
    question = ["asked", side, code(args, side), models, digest_of(images), family, severity, weights]
    answer = kept(args, question, work)
    return [answer[name] for name in MODELS]


def trained(args: argparse.Namespace, name: str) -> Path:
    """Train a small network plainly, with noisy copies or adversarially, once."""
    folder: Path = args.kept / f"model-{name}-{digest_json([name, SEED])[:16]}"
    if (folder / SPEC).exists():
        return folder
    roles = load(SEED)
    train, validation = padded(roles["train"]), padded(roles["validation"])
    recipe: Recipe = Adversarial(epochs=8, epsilon=0.05) if name == "adversarial" else Standard(epochs=8)
    if name == "noise":
        noisy = train.x + 0.15 * Noise(SEED, ("noisy copies",)).normal(train.ids, tuple(train.x.shape[1:]))
        train = Samples(
            x=torch.cat([train.x, noisy.clamp(0.0, 1.0)]), y=train.y.repeat(2),
            ids=torch.cat([train.ids, train.ids + 100_000]), role="train", snapshot="noisy copies",
        )  # fmt: skip
    description = spec(train, width=16)
    description = description.model_copy(
        update={"space": description.space.model_copy(update={"shape": tuple(train.x.shape[1:])})}
    )
    result = fit(recipe, description, train, validation, seed=SEED, device=torch.device("cpu"))
    save_model(folder, result.module, description)
    return folder


def padded(samples: Samples) -> Samples:
    """Give images of 28 pixels a black border of two."""
    x = torch.nn.functional.pad(samples.x, (2, 2, 2, 2))
    return Samples(x=x, y=samples.y, ids=samples.ids, role=samples.role, snapshot=samples.snapshot)


def photographs(args: argparse.Namespace, scale: str) -> Images:
    """Take images (n, s, s, 3) of bytes: CIFAR-10 or Fashion-MNIST, and crops of scikit-learn's two photographs."""
    if scale == "cifar" and args.cifar is None:
        grey = (padded(load(SEED)["test"]).x[: args.images, 0] * 255).round().to(torch.uint8).numpy()
        return np.repeat(grey[..., None], 3, axis=3)
    if scale == "cifar":
        cells = pd.read_parquet(args.cifar).iloc[: args.images, 0]
        return np.stack([np.array(Image.open(io.BytesIO(cell)).convert("RGB")) for cell in cells])
    size, rng = SIZES[scale], np.random.default_rng(SEED)
    views = load_sample_images().images
    crops = []
    for i in range(max(args.images // 25, 2)):
        view = views[i % len(views)]
        top, left = (int(rng.integers(0, side - size)) for side in view.shape[:2])
        crops.append(view[top : top + size, left : left + size])
    return np.stack(crops)


SYNTHETIC = {"cifar": (24, 4), "imagenet": (3, 3)}
"""How many images, and how often each is corrupted."""


def summary(draws: Floats) -> list[list[float]]:
    """Give the means of the first three statistics over (draws, n, statistics), and their standard errors by draws."""
    first = draws[:, :, :3]
    error = np.sqrt(first.var(0, ddof=1).mean(0) / (first.shape[0] * first.shape[1]))
    return [[round(float(v), 5) for v in row] for row in (first.mean((0, 1)), error)]


def record(args: argparse.Namespace) -> None:
    """Write what the published generator makes of synthetic images, and its parameters, for the tests."""
    commit = subprocess.run(
        ["git", "-C", str(args.original), "rev-parse", "HEAD"],  # noqa: S607  the user's git
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    found: dict[str, Any] = {"source": "https://github.com/hendrycks/robustness", "commit": commit}
    for scale, (count, times) in SYNTHETIC.items():
        images, script = synthetic(count, SIZES[scale]), published(args, scale)
        rows: Table = {}
        for family in args.families:
            rows[family] = []
            for severity in SEVERITIES:
                draws = [script.corrupt(images, family, severity, seed) / 255.0 for seed in range(times)]
                rows[family].append(summary(np.stack([statistics(draw, images / 255.0) for draw in draws])))
            print(scale, family, flush=True)
        parameters = {family: script.parameters(family) for family in args.families}
        found[scale] = {"parameters": parameters, "statistics": rows}
    args.record.write_text(json.dumps(found, indent=None).replace('], "', '],\n"') + "\n")


_PUBLISHED: dict[str, Published] = {}


def published(args: argparse.Namespace, scale: str) -> Published:
    """Load one of the two scripts, once."""
    if scale not in _PUBLISHED:
        _PUBLISHED[scale] = Published(args.original, scale)
    return _PUBLISHED[scale]


def kept(args: argparse.Namespace, question: list[Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Answer from the folder of kept results, or work and keep."""
    file: Path = args.kept / f"{digest_json(question)}.json"
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(work()))
        partial.rename(file)
    answer: dict[str, Any] = json.loads(file.read_text())
    return answer


def code(args: argparse.Namespace, side: str) -> str:
    """Name the code that one side's answer depends on."""
    return _code(args.original, side)


@cache
def _code(original: Path, side: str) -> str:
    """Read it once: what runs is what was imported then."""
    if side == "published":
        return digest_sources(original / "ImageNet-C" / "create_c")
    package = Path(registry.__file__).parent
    return digest_json([digest_sources(package / part) for part in ("scenarios/corruptions", "seeding.py")])


def digest_of(images: Images) -> str:
    """Name images."""
    return digest_json([list(images.shape), images.tobytes().hex()])


if __name__ == "__main__":
    main()
