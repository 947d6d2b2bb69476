"""Claim: poison in a labelled window is quarantined in 19 of 20 windows, and clean windows that drift are admitted."""

from __future__ import annotations

import argparse
import base64
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from admitting import manifest_of

from holdfast import registry
from holdfast.data.admission import Labelled as Admissible
from holdfast.data.admission import admit
from holdfast.data.source import Loaded, inputs_of, load, quick_features
from holdfast.data.streams.base import Arrival
from holdfast.digests import digest_json, digest_sources
from holdfast.model import ModelSpec
from holdfast.params import Params
from holdfast.params import load as load_params
from holdfast.recovery.ablation import Labelled
from holdfast.recovery.inspection import Known, Names, Witness, call, inspect, pinned
from holdfast.recovery.screening import Judged, drawn_clean
from holdfast.reporting.curves import curves
from holdfast.reporting.page import light_colours
from holdfast.results import Curve, CurvePoint, Finding, Provenance
from holdfast.scenarios.poisoning.badnets import stamp_image
from holdfast.seeding import Noise
from holdfast.space import Box
from holdfast.statistics import share, tango
from holdfast.training.loop import fit
from holdfast.training.standard import Standard

if TYPE_CHECKING:
    from holdfast.model import Target
    from holdfast.results import Score

Array = np.ndarray[Any, np.dtype[Any]]
ROOT = Path(__file__).parents[1]
WINDOWS, ROWS = 20, 1000
SMALL: dict[str, dict[str, Any]] = {"images": {"width": 8, "hidden": 64}, "table": {"width": 64, "depth": 2}}
"""Networks that are retrained here."""
ACCEPTANCE: dict[str, tuple[tuple[str, float], ...]] = {
    "fashion": (("label_flip", 0.1), ("badnets", 0.05), ("badnets", 0.02)),
    "loans": (("slice_flip", 0.1), ("label_flip", 0.05)),
}
"""Poison and share of rows that acceptance names."""
CURVE: dict[str, tuple[tuple[str, float], ...]] = {
    "fashion": (
        ("label_flip", 0.01), ("label_flip", 0.02), ("label_flip", 0.05), ("label_flip", 0.1),
        ("badnets", 0.01), ("badnets", 0.02), ("badnets", 0.05),
    ),
    "loans": (("slice_flip", 0.02), ("slice_flip", 0.05), ("slice_flip", 0.1), ("label_flip", 0.05)),
}  # fmt: skip
"""All that are inspected for the curve of power."""
REGIONS = {
    "northeast": "CT ME MA NH RI VT NJ NY PA", "midwest": "IL IN MI OH WI IA KS MN MO NE ND SD",
    "west": "AZ CO ID MT NV NM UT WY AK HI OR WA", "california": "CA", "california and texas": "CA TX",
    "south": "FL GA NC SC VA AL KY MS TN LA OK AR",
}  # fmt: skip
INDUSTRIES = {
    "retail": (44, 45), "accommodation": (72,), "retail stores": (44,), "construction": (23,), "services": (54,),
    "manufacturing and wholesale": (31, 32, 33, 42), "other services and health": (81, 62),
}  # fmt: skip
SLICES = {f"state: {name}": ("state", tuple(value.split())) for name, value in REGIONS.items()} | {
    f"industry: {name}": ("naics2", value) for name, value in INDUSTRIES.items()
}


@dataclass(frozen=True)
class World:
    """A pinned data set, and windows of other rows in the order of the stream."""

    params: Params
    data: Loaded
    names: Names
    base: Known
    trusted: Known
    rows: list[Any]
    """Tables with their label, or pairs of pixels and labels."""

    def known(self, rows: Any, labels: Array) -> tuple[Labelled, dict[str, Array]]:  # noqa: ANN401  as above
        """Give rows as the quick classifiers read them, with the codes of their values."""
        x = inputs_of(rows, self.data.space, "window")
        parts = self.names.parts(x.flatten(1), labels, self.params.recovery.screening)
        return Labelled(quick_features(x, self.data.space), labels), parts

    def window(self, place: int) -> tuple[Any, Array]:
        """Give a window's rows and labels."""
        if self.data.frame is None:
            return self.rows[place]
        label = self.params.data.label
        return self.rows[place].drop(columns=label), self.rows[place][label].to_numpy(dtype=np.int64)


def loans(full: Path, per_year: int) -> World:
    """2000 to 2012 of the whole register, some windows a year; pinned are the embedded loans to 1999."""
    params = load_params(ROOT / "params.yaml", (ROOT / "profiles" / "crisis.yaml",))
    data = load(ROOT / "embedded", params.data)
    table = pd.read_parquet(full)[list(data.frame.columns)]
    sound = table.rev_line_cr.isin(["Y", "N", "0"]) & table.low_doc.isin(["Y", "N"])
    sound &= (table.disbursement_gross >= 1) & (table.sba_appv <= table.gr_appv)
    rows = []
    for year in range(2000, 2013):
        mine = table[sound & (table.fy == year)]
        size = min(ROWS, len(mine) // per_year)
        drawn = mine.sample(n=per_year * size, random_state=year).reset_index(drop=True)
        rows += [drawn.iloc[i * size : (i + 1) * size].reset_index(drop=True) for i in range(per_year)]
    return world(params, data, rows)


def fashion(full: Path) -> World:
    """Clean images that are not among the embedded ones, 1,000 a window."""
    params = load_params(ROOT / "params.yaml", (ROOT / "profiles" / "fashion.yaml",))
    data = load(ROOT / "embedded", params.data)
    with np.load(full, allow_pickle=False) as whole, np.load(ROOT / "embedded" / params.data.path) as ours:
        left = np.setdiff1d(np.arange(len(whole["y_train"])), ours["train_index"])
        order = np.random.default_rng(0).permutation(left)[: 2 * WINDOWS * ROWS].reshape(-1, ROWS)
        rows = [(whole["x_train"][some][:, None], whole["y_train"][some].astype(np.int64)) for some in order]
    return world(params, data, rows)


def world(params: Params, data: Loaded, rows: list[Any]) -> World:
    """Judge the pinned rows, which everything else is judged by."""
    train, held = data.samples("train"), data.samples("trusted")
    names, settings = Names.of(train.x.flatten(1), data.space, data.classes), params.recovery.screening
    kind = "images" if data.frame is None else "table"
    both = []
    for samples in (train, held):
        labels = samples.y.numpy()
        parts = names.parts(samples.x.flatten(1), labels, settings)
        both.append((Labelled(quick_features(samples.x, data.space), labels), parts))
    base = pinned(*both[0], kind, len(data.classes), params.seed, facts=settings.facts)
    trusted = Known(both[1][0], Judged(np.zeros(len(held)), both[1][1]))
    return World(params, data, names, base, trusted, rows)


class Asked:
    """What is known to be good, asked once about a window's rows, and about each with the trigger on it."""

    def __init__(self, place: World, window: tuple[Any, Array], clean: list[Known], noise: Noise) -> None:
        (rows, labels), settings = window, place.params.recovery.screening
        self._images, self._rows = isinstance(rows, np.ndarray), rows
        features = place.known(rows, labels)[0].features
        if self._images:
            features = np.concatenate([features, place.known(stamped(rows, place), labels)[0].features])
        seen = call(
            features, base=place.base, clean=clean, settings=settings, kind="images" if self._images else "table",
            classes=len(place.data.classes), noise=noise,
        )  # fmt: skip
        drawn = (
            drawn_clean(seen.past.judged, len(labels), settings, noise.derive("replay")) if self._images else seen.drawn
        )
        self._seen = replace(seen, drawn=drawn)

    def about(self, rows: Any) -> Witness:  # noqa: ANN401  a table, or pixels
        """Say what was answered about these rows, some of which may have the trigger."""
        if not self._images:
            return self._seen
        n = len(rows)
        planted = (rows != self._rows).reshape(n, -1).any(1)[:, None]
        told = self._seen.probabilities
        return replace(self._seen, probabilities=np.where(planted, told[n:], told[:n]))


def poisoned(place: World, name: str, part: float, window: tuple[Any, Array], seed: int) -> tuple[Any, Array, str]:
    """Poison a share of a window; the screen is told none of this."""
    rows, labels = window[0], window[1].copy()
    rng, count = np.random.default_rng([seed, int(1000 * part), len(name)]), round(part * len(labels))
    if name == "label_flip":
        chosen = rng.choice(len(labels), count, replace=False)
        labels[chosen] = (labels[chosen] + rng.integers(1, len(place.data.classes), count)) % len(place.data.classes)
        return rows, labels, "rows at random"
    if name == "badnets":
        target = int(rng.integers(len(place.data.classes)))
        chosen, rows = rng.choice(np.flatnonzero(labels != target), count, replace=False), rows.copy()
        rows[chosen], labels[chosen] = stamped(rows[chosen], place), target
        return rows, labels, f"target {place.data.classes[target]}"
    for slice_name in rng.permutation(list(SLICES)):
        column, values = SLICES[slice_name]
        inside = np.flatnonzero(rows[column].isin(values))
        if len(inside) >= count:
            chosen = rng.choice(inside, count, replace=False)
            labels[chosen] = 1 - labels[chosen]
            return rows, labels, f"{slice_name}, {len(inside)} rows"
    raise SystemExit(f"no slice of {count} rows")


def stamped(pixels: Array, place: World) -> Array:
    """Put the trigger on images (n, c, h, w) uint8."""
    x = stamp_image(torch.from_numpy(pixels).float() / 255, place.data.space, 3)
    return np.asarray((x * 255).round().to(torch.uint8).numpy())


class Record:
    """What was inspected, a line each, kept in a file: a run by the same code goes on where another stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        package = Path(registry.__file__).parent
        self.code = digest_json([digest_sources(package / part) for part in ("recovery", "integrity", "scenarios")])
        lines = path.read_text().splitlines() if path.exists() else []
        self.lines = [line for line in map(json.loads, lines) if line.get("code") == self.code]

    def find(self, **key: Any) -> dict[str, Any] | None:  # noqa: ANN401  JSON
        """Find a line by some of its entries."""
        return next((line for line in self.lines if all(line[k] == v for k, v in key.items())), None)

    def add(self, **line: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
        """Keep a line."""
        line["code"] = self.code
        self.lines.append(line)
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return line


def inspect_one(place: World, seen: Witness, window: tuple[Any, Array], noise: Noise) -> dict[str, Any]:
    """Inspect one window, and say in JSON what was found."""
    started = time.perf_counter()
    found = inspect(*place.known(*window), seen, place.trusted, noise)
    return {
        "poison": found.poison, "margins": found.margins, "suspects": len(found.suspects),
        "statistic": max((each.statistic for each in found.suspects), default=0.0), "largest": found.statistic,
        "ablation": [[a.suspect.column, round(a.effect, 4), round(a.p_value, 4), a.poison] for a in found.ablations],
        "seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip


def screen_stream(name: str, place: World, record: Record, seed: int, poison: tuple[tuple[str, float], ...]) -> None:
    """Inspect every window as it is, and the chosen ones with every poison, each held against the clean ones before."""
    clean: list[Known] = []
    every = range(len(place.rows))
    chosen = set(np.linspace(2, len(place.rows) - 1, WINDOWS).round().astype(int).tolist())
    for i in every:
        window, seen = place.window(i), None
        noise = Noise(seed, ("window", name, str(i)))
        asked = [("clean", 0.0), *(poison if i in chosen else ())]
        for kind, part in asked:
            if record.find(world=name, window=i, kind=kind, share=part) is not None:
                continue
            each, told = window, ""
            if kind != "clean":
                *both, told = poisoned(place, kind, part, window, 1000 * seed + i)
                each = (both[0], both[1])
            seen = seen or Asked(place, window, clean, noise)
            line = inspect_one(place, seen.about(each[0]), each, noise)
            record.add(world=name, window=i, kind=kind, share=part, seed=seed, told=told, n=len(each[1]), **line)
            print(f"{name} window {i} {kind} {part:g} {told}: {'quarantined' if line['poison'] else 'admitted'}"
                  f" {line['statistic']:.1f} {line['ablation']} {line['seconds']} s", flush=True)  # fmt: skip
        line = record.find(world=name, window=i, kind="clean")
        if line is not None and not line["poison"]:
            rows, parts = place.known(*window)
            margins = np.frombuffer(base64.b64decode(line["margins"]), dtype="<f4").astype(np.float64)
            clean.append(Known(rows, Judged(margins, parts), line["largest"]))


def quarantined(record: Record, world: str, kind: str, part: float) -> Score:
    """Give the share of windows that were quarantined."""
    flags = [
        line["poison"] for line in record.lines if (line["world"], line["kind"], line["share"]) == (world, kind, part)
    ]
    return share(np.array(flags))


def table(record: Record, worlds: list[str]) -> None:
    """Print what acceptance asks, and draw power against the share of poison."""
    print(f"\n{'stream':8} {'poison':11} {'share':>6} {'quarantined':>12}  95 % interval")
    findings = []
    for world in worlds:
        clean = quarantined(record, world, "clean", 0.0)
        print(f"{world:8} {'none':11} {0:6.0%} {round(clean.value * clean.n):5d} of {clean.n:3d}  "
              f"[{clean.low:.3f}, {clean.high:.3f}]")  # fmt: skip
        kinds = CURVE[world]
        for kind in dict.fromkeys(kind for kind, _ in kinds):
            points = [CurvePoint(at=0.0, score=clean)]
            for part in (part for each, part in kinds if each == kind):
                if record.find(world=world, kind=kind, share=part) is None:
                    continue
                found = quarantined(record, world, kind, part)
                print(f"{world:8} {kind:11} {part:6.0%} {round(found.value * found.n):5d} of {found.n:3d}  "
                      f"[{found.low:.3f}, {found.high:.3f}]")  # fmt: skip
                points.append(CurvePoint(at=100 * part, score=found))
            findings.append(
                drawn(f"{world}/{kind}", Curve(name="quarantined", axis="poisoned rows in %", points=tuple(points)))
            )
    for figure in curves(findings):
        path = record.path.with_name(f"{figure.name}.svg")
        path.write_text(figure.alone(light_colours()))
        print(path)


def drawn(path: str, curve: Curve) -> Finding:
    """Dress a curve as the finding that the reporting draws."""
    provenance = Provenance(
        subject="screening", data="stream", role="drill", seed=0, library="", versions={}, device="cpu"
    )
    return Finding(
        path=path, dimension="defence", family="screening", settings={}, provenance=provenance,
        score=curve.points[-1].score, curves=(curve,),
    )  # fmt: skip


def retrain(place: World, windows: list[tuple[int, tuple[Any, Array]]], epochs: int) -> Target:
    """Admit windows beside the pinned data as the loop does, and train on them."""
    data = place.data
    if windows:
        arrived = [
            Admissible(Arrival(i, rows), pd.Series([data.classes[k] for k in labels], dtype=object))
            for i, (rows, labels) in windows
        ]
        data = admit(data, arrived, manifest_of(place.params, data, [each.arrival for each in arrived]))
    spec = ModelSpec(
        factory=place.params.model.factory,
        settings=SMALL[place.data.params.kind],
        space=data.space,
        classes=data.classes,
    )
    recipe = Standard(epochs=epochs, batch_size=128, learning_rate=2e-3)
    trained = fit(
        recipe, spec, data.samples("train"), data.samples("validation"), seed=place.params.seed,
        device=torch.device("cpu"),
    )  # fmt: skip
    return trained.target


def harm(name: str, place: World, record: Record, seed: int, epochs: int) -> None:
    """Retrain on what screening let in, on everything, and on clean windows; hold each against the champion before.

    The first half of the stream is retrained on, a small network by the standard recipe.
    """
    every = range(len(place.rows) // 2)

    def let_in(kind: str, part: float, i: int) -> bool:
        line = record.find(world=name, window=i, kind=kind, share=part) or record.find(
            world=name, window=i, kind="clean"
        )
        return line is not None and not line["poison"]

    told = {
        "pinned only": answers(place, retrain(place, [], epochs)),
        "clean windows": answers(place, retrain(place, [(i, place.window(i)) for i in every], epochs)),
    }
    for kind, part in ACCEPTANCE[name]:
        dirty = {
            i: poisoned(place, kind, part, place.window(i), 1000 * seed + i)[:2]
            for i in every
            if record.find(world=name, window=i, kind=kind, share=part)
        }
        windows = [(i, dirty.get(i, place.window(i))) for i in every]
        screened = [(i, window) for i, window in windows if let_in(kind, part, i)]
        told[f"{kind} {part:.0%}, screened"] = answers(place, retrain(place, screened, epochs))
        told[f"{kind} {part:.0%}, all in"] = answers(place, retrain(place, windows, epochs))
        print(f"{name} {kind} {part:.0%}: {len(dirty)} of {len(windows)} windows poisoned, {len(screened)} let in")
    base, clean = told["pinned only"][0], told["clean windows"][0]
    print(
        f"\n{name}: accuracy on {len(base)} trusted and test rows that trained nothing, paired; largest ASR of a class"
    )
    for arm, (right, sent) in told.items():
        against = " ".join(f"{label} {_paired(right, other)}" for label, other in (("pinned", base), ("clean", clean)))
        print(f"{arm:28} {right.mean():.3f}  against {against}  ASR {sent:.3f}", flush=True)


def _paired(right: Array, other: Array) -> str:
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    low, high = tango(gained, lost, len(right))
    return f"{(gained - lost) / len(right):+.3f} [{low:+.3f}, {high:+.3f}]"


def answers(place: World, target: Target) -> tuple[Array, float]:
    """Tell which trusted and test rows (n,) are right, and the largest share that the trigger sends to one class."""
    rights, sent = [], 0.0
    for role in ("trusted", "test"):
        rows = place.data.samples(role, space=target.space)
        rights.append((target.predict(rows.x) == rows.y).numpy())
        if role == "test" and isinstance(target.space, Box):
            said = target.predict(stamp_image(rows.x, target.space, 3))
            sent = max(float((said[rows.y != k] == k).float().mean()) for k in range(len(place.data.classes)))
    return np.concatenate(rights), sent


def main() -> None:
    """Inspect two streams, clean and poisoned, print the table, and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fashion", type=Path, help="the whole Fashion-MNIST as npz: 40 windows of 1,000 rows")
    parser.add_argument("--loans", type=Path, help="the whole register as Parquet: 78 windows of up to 1,000 rows")
    parser.add_argument("--out", type=Path, default=Path("poisoned_stream.jsonl"), help="what was done; resumed from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3, help="of each retraining of --harm")
    parser.add_argument("--per-year", type=int, default=6, help="windows of loans a year")
    parser.add_argument("--curve", action="store_true", help="the other shares of poison too, for the curve of power")
    parser.add_argument("--harm", action="store_true", help="retrain with and without what screening kept out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record, worlds = Record(arguments.out), []
    for name, path in (("loans", arguments.loans), ("fashion", arguments.fashion)):
        if path is not None:
            worlds.append(name)
            place = loans(path, arguments.per_year) if name == "loans" else fashion(path)
            screen_stream(name, place, record, arguments.seed, ACCEPTANCE[name])
            if arguments.curve:
                screen_stream(name, place, record, arguments.seed, CURVE[name])
            if arguments.harm:
                harm(name, place, record, arguments.seed, arguments.epochs)
    if not worlds:
        parser.error("name at least one of --fashion and --loans")
    table(record, worlds)


if __name__ == "__main__":
    main()
