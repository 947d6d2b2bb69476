"""Measures what each trace of suspicion finds of an evasion wave, and what it takes drift for.

Champions of four worlds: loans by params.yaml, with and without the crisis profile, and a small network on
Fashion-MNIST, trained plainly and adversarially. Each trace has the threshold that it would have as the only trace of
the detector in the panel of params.yaml. Windows of 1,000 rows: clean ones of the champion's own time, clean ones of a
world that moved, and ones in which a tenth or three tenths of the rows are the attacker's. Squeezers were chosen with
other seeds. A wave that the attack finds too few rows for is told and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import torch
from fashion_data import spec
from loans_world import CHOSEN, REPOSITORY, TRAINED

from holdfast.data import Samples
from holdfast.data.columns import read_labels
from holdfast.data.stream import Window
from holdfast.data.table import encode, feature_names, fit_table, read_table
from holdfast.model import ModelSpec, Target
from holdfast.monitoring.base import Detector, Needs, Reading
from holdfast.monitoring.panels import Panel, tail_quantile
from holdfast.monitoring.suspicion import Suspicion, Trace
from holdfast.params import load
from holdfast.perturbation import Threat
from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.pgd import Pgd
from holdfast.scenarios.corruptions.brightness import Brightness
from holdfast.scenarios.corruptions.gaussian_noise import GaussianNoise
from holdfast.scenarios.drift.rotation import Rotation
from holdfast.seeding import Noise
from holdfast.space import Table
from holdfast.squeezing import unsteadiness
from holdfast.statistics import clopper_pearson
from holdfast.training.adversarial import Adversarial
from holdfast.training.loop import fit
from holdfast.training.standard import Standard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from holdfast.results import About, Json
    from holdfast.training.base import Recipe

Array = np.ndarray[Any, np.dtype[Any]]
TRACES: tuple[Trace, ...] = get_args(Trace)
ROWS, PAST, SHARES = 1_000, 4_000, (0.1, 0.3)
SEARCHED = 120
STRETCH, QUERIES = 50, 200
"""Rows of one search that a window sees, and queries of a whole search at least."""
STEPS = {"bisection": 8, "directions": 20, "strides": 4}


@dataclass(frozen=True)
class World:
    """A champion, what its windows are held against, and rows that windows are drawn from; none are shared."""

    name: str
    target: Target
    past: Window
    pool: Window
    victims: Samples
    moved: dict[str, tuple[Window, ...]]
    """Clean windows of a world that moved."""
    replays: int
    """Clean windows that find the thresholds: as many as its params ask for."""
    epsilon: float
    categories: int


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loans", type=Path, help="the full register")
    parser.add_argument("--fashion", type=Path, help="all of Fashion-MNIST, npz")
    parser.add_argument("--clean", type=int, default=300, help="windows of the champion's own time, for each seed")
    parser.add_argument("--moved", type=int, default=30, help="windows of each later year or other camera, at most")
    parser.add_argument("--attacked", type=int, default=20, help="windows of each wave and share, for each seed")
    parser.add_argument("--seeds", type=int, default=2, help="champions, pasts and attacks of loans; of images one")
    parser.add_argument("--first", type=int, default=11, help="the first seed")
    return parser.parse_args()


def probabilities(target: Target, x: Tensor) -> Array:
    """Answer rows (n, *shape)."""
    with torch.no_grad():
        return np.asarray(torch.softmax(target.logits(x).double(), 1).numpy())


def answered(target: Target, x: Tensor, past: Tensor) -> Window:
    """Build a window of answers, to squeezed rows too, as the product does."""
    moved = unsteadiness(partial(probabilities, target), x, past, target.space)
    return Window(0, np.arange(len(x)), x, probabilities(target, x), target.space, squeezed=moved)


def loans(asked: argparse.Namespace, seed: int, name: str, *profiles: Path) -> World:
    """Train the champion of params on loans to 1999; the years to 2010 are its drift."""
    params = load(REPOSITORY / "params.yaml", profiles)
    frame = read_table(asked.loans).drop_duplicates()
    frame = frame.sample(frac=1.0, random_state=seed, ignore_index=True)
    years = frame[params.data.time].to_numpy()
    early = frame[years <= params.data.train_until][: TRAINED + CHOSEN + PAST + 120 * ROWS]
    space = fit_table(early[:TRAINED], feature_names(frame, params.data), params.data)
    labels, classes = read_labels(early[params.data.label], params.data.classes, "loans")
    x = encode(early, space, place="loans")
    whole = Samples(
        x=x, y=torch.from_numpy(labels), ids=torch.arange(len(x)), role="train", snapshot="loans"
    )  # fmt: skip
    described = ModelSpec(factory=params.model.factory, settings=params.model.settings, space=space, classes=classes)
    target, rest = champion(params.recipe(), described, whole, seed)
    past = rest.x[:PAST]
    later = {
        str(year): encode(frame[years == year][: asked.moved * ROWS], space, place=str(year))
        for year in range(2000, 2011)
    }
    moved = {year: tuple(answered(target, part, past) for part in rows.split(ROWS)) for year, rows in later.items()}
    return world(name, target, rest, moved, 20 * ROWS, replays=params.monitoring.replays, epsilon=0.1, categories=1)


def fashion(asked: argparse.Namespace, seed: int, name: str, recipe: Recipe) -> World:
    """Train a small network on a part of Fashion-MNIST; other light, other grain and tilted cameras are its drift."""
    with np.load(asked.fashion, allow_pickle=False) as arrays:
        x, y = (np.concatenate([arrays[f"{part}_{role}"] for role in ("train", "test")]) for part in ("x", "y"))
    order = np.random.default_rng(seed).permutation(len(y))
    whole = Samples(
        x=torch.tensor(x[order], dtype=torch.float32)[:, None] / 255.0, y=torch.tensor(y[order], dtype=torch.int64),
        ids=torch.arange(len(y)), role="train", snapshot="fashion",
    )  # fmt: skip
    described = spec(whole.take(torch.arange(TRAINED)), width=8, hidden=64)
    target, rest = champion(recipe, described, whole, seed)
    past, noise = rest.x[:PAST], Noise(seed, ("moved",))
    cut = len(rest) - min(asked.moved, 15) * ROWS
    fresh = rest.take(torch.arange(cut, len(rest)))
    moved = {
        told: tuple(
            answered(target, part, past)
            for part in shift.disturb(fresh.x, fresh.ids, 1, noise.derive(told), target.space).split(ROWS)
        )
        for told, shift in (("brighter", Brightness()), ("grainy", GaussianNoise()), ("tilted", Rotation()))
    }
    return world(name, target, rest.take(torch.arange(cut)), moved, 4 * ROWS, replays=1_000, epsilon=0.05, categories=0)


def champion(recipe: Recipe, described: ModelSpec, whole: Samples, seed: int) -> tuple[Target, Samples]:
    """Train on the first rows, choose by the next, and give the rows that neither saw."""
    trained = fit(
        recipe, described, whole.take(torch.arange(TRAINED)),
        replace(whole.take(torch.arange(TRAINED, TRAINED + CHOSEN)), role="validation"), seed=seed,
        device=torch.device("cpu"),
    )  # fmt: skip
    return trained.target, whole.take(torch.arange(TRAINED + CHOSEN, len(whole)))


def world(
    name: str,
    target: Target,
    rest: Samples,
    moved: dict[str, tuple[Window, ...]],
    attacked: int,
    **threat: Any,  # noqa: ANN401  World's own
) -> World:
    """Part the rest into past, victims and the rows of windows."""
    parts = [rest.x[:PAST], rest.x[PAST + attacked :]]
    past, pool = (answered(target, part, parts[0]) for part in parts)
    victims = rest.take(torch.arange(PAST, PAST + attacked))
    told = f"accuracy {right(target, victims).float().mean():.3f} on {len(victims)} victims"
    print(f"{name}: {told}, {len(pool)} rows for windows", file=sys.stderr)
    return World(name=name, target=target, past=past, pool=pool, victims=victims, moved=moved, **threat)


def right(target: Target, samples: Samples) -> Tensor:
    """Tell which rows (n,) the champion gets right."""
    return target.predict(samples.x) == samples.y


def waves(of: World, noise: Noise) -> Iterator[tuple[str, Tensor, int]]:
    """Give rows that attacks end with, and those of whole searches, with how many belong together."""
    attacked = right(of.target, of.victims)
    for name, attack in (("PGD", Pgd), ("APGD", ApgdCe)):
        made = attack(epsilon=of.epsilon, categories=of.categories, steps=50)
        strike = made.strike(of.target, of.victims, attacked, noise.derive(name))
        yield name, strike.adversarial[attacked & ~strike.robust], 1
    surest = carried_on(of)
    yield "PGD carried on", surest[attacked & (of.target.predict(surest) != of.victims.y)], 1
    some = torch.nonzero(attacked).flatten()[: 2 * SEARCHED]
    trails = search(of, of.victims.take(some), noise.derive("search"))
    yield "search", trails.flatten(0, 1), STRETCH


def carried_on(of: World, steps: int = 40) -> Tensor:
    """Climb the loss to the end, and not only until the answer is wrong: then it is sure."""
    threat, x, y = Threat(epsilon=of.epsilon), of.victims.x, of.victims.y
    moved = x.clone()
    for _ in range(steps):
        _, _, slope = of.target.value_and_gradient(
            moved, lambda logits, rows: torch.nn.functional.cross_entropy(logits, y[rows], reduction="none")
        )
        moved = threat.project(
            threat.ascend(moved, slope, 2.5 * of.epsilon / steps, of.target.space), x, of.target.space
        )
    return moved


def search(of: World, victims: Samples, noise: Noise) -> Tensor:
    """Search by decisions alone, from another row towards each victim; give some queries of each in a row (v, s, ...).

    Bisect to the boundary, ask in random directions which side is wrong, stride that way, and again.

    Source: Chen, Jordan and Wainwright 2020, arXiv:1904.02144, algorithm 2.
    """
    target, space = of.target, of.target.space
    scale, held = space.scale(victims.x.device), space.columns("category") if isinstance(space, Table) else []
    sent: list[Tensor] = []

    def ask(rows: Tensor) -> Tensor:
        sent.append(rows)
        return target.predict(rows) != victims.y

    starts = of.pool.x[noise.integers(victims.ids, len(of.pool), (2 * STEPS["directions"],))]
    at, found = victims.x.clone(), torch.zeros(len(victims), dtype=torch.bool)
    for other in starts.unbind(1):
        tried = space.project(other, victims.x)
        wrong = ask(tried) & ~found
        at, found = torch.where(_wide(wrong, at), tried, at), found | wrong
    begun = len(sent)
    while len(sent) - begun < QUERIES:
        low = victims.x.clone()
        low[:, held] = at[:, held]
        for _ in range(STEPS["bisection"]):
            middle = space.project((low + at) / 2, victims.x)
            wrong = _wide(ask(middle), at)
            low, at = torch.where(wrong, low, middle), torch.where(wrong, middle, at)
        apart = torch.where(scale > 0, (at - victims.x).nan_to_num(0.0) / scale.clamp(min=1e-12), 0.0)
        length, size = apart.flatten(1).norm(dim=1), int((scale > 0).expand_as(apart[0]).sum())
        side = torch.zeros_like(at)
        for _ in range(STEPS["directions"]):
            ahead = noise.derive(len(sent)).normal(victims.ids, tuple(at.shape[1:])) * (scale > 0)
            ahead = ahead / _wide(ahead.flatten(1).norm(dim=1), at)
            wrong = ask(space.project(at + _wide(length / size, at) * ahead * scale, victims.x))
            side += _wide(wrong.float() * 2 - 1, at) * ahead
        side = side / _wide(side.flatten(1).norm(dim=1).clamp(min=1e-12), at)
        reach, went = length, torch.zeros_like(found)
        for _ in range(STEPS["strides"]):
            tried = space.project(at + _wide(reach, at) * side * scale, victims.x)
            wrong = ask(tried) & ~went
            at, went, reach = torch.where(_wide(wrong, at), tried, at), went | wrong, reach / 2
    trails = torch.stack(sent[begun:], 1)[found][:SEARCHED]
    begin = noise.derive("begin").integers(torch.arange(len(trails)), trails.shape[1] - STRETCH)
    return torch.stack([trail[at : at + STRETCH] for trail, at in zip(trails, begin.tolist(), strict=True)])


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 1))


@lru_cache(maxsize=1)
def shown(window: Window, past: Window) -> dict[Trace, float]:
    """Read the excess of every trace."""
    return dict(Suspicion(traces=TRACES).read(window, past, {}).details["z"])


class Alone(Detector):
    """One trace, as `Suspicion` reads it where params name no other."""

    needs: ClassVar[Needs] = "outputs"
    about: ClassVar[About] = "attack"
    reference: ClassVar[str] = Suspicion.reference
    trace: Trace

    def read(self, window: Window, past: Window, memory: Json) -> Reading:
        """Read its excess; all traces are read at once."""
        del memory
        return Reading(statistic=shown(window, past)[self.trace], effect=0.0, effect_unit="none")


def thresholds(of: World, noise: Noise) -> dict[Trace, float]:
    """Find each trace's threshold as if it were the only one that params name."""
    level = load(REPOSITORY / "params.yaml").panel().levels()["suspicion"]
    told = Panel(detectors={trace: Alone(trace=trace) for trace in TRACES}).replay(
        of.past, ROWS, of.replays, noise, TRACES
    )
    return {trace: max(tail_quantile(told[trace], level), Suspicion().least(level)) for trace in TRACES}


def read(windows: Iterator[Window] | tuple[Window, ...], of: World, bars: dict[Trace, float]) -> dict[Trace, Array]:
    """Tell in which windows (n,) each trace alarms."""
    told = [shown(window, of.past) for window in windows]
    return {trace: np.array([each[trace] > bars[trace] for each in told]) for trace in TRACES}


def struck(of: World, rows: Window, share: float, together: int, noise: Noise, n: int) -> Iterator[Window]:
    """Draw windows of which a share are an attacker's rows, those of one search together."""
    count = round(share * ROWS) // together
    if count > len(rows) // together:
        print(f"{of.name}: {len(rows)} rows of {share:.0%} of {ROWS} wanted", file=sys.stderr)
        return
    for place in range(n):
        clean = of.pool.resample(ROWS - count * together, noise.derive("clean", place))
        drawn = noise.derive("rows", place).numpy().permutation(len(rows) // together)[:count]
        theirs = rows.take((drawn[:, None] * together + np.arange(together)).ravel())
        yield Window(
            place, np.arange(ROWS), torch.cat([clean.x, theirs.x]),
            np.concatenate([clean.probabilities, theirs.probabilities]), of.target.space,
            squeezed=np.concatenate([np.asarray(clean.squeezed), np.asarray(theirs.squeezed)]),
        )  # fmt: skip


def measure(of: World, asked: argparse.Namespace, seed: int) -> dict[str, dict[Trace, Array]]:
    """Tell in which windows of each kind each trace alarms."""
    noise, began = Noise(seed, ("evasion traces", of.name)), time.perf_counter()
    bars = thresholds(of, noise.derive("replay"))
    own = (of.pool.resample(ROWS, noise.derive("own", place)) for place in range(asked.clean))
    found = {"clean, its own time": read(own, of, bars)}
    parts = {f"clean, {name}": read(windows, of, bars) for name, windows in of.moved.items()}
    whole = {trace: np.concatenate([part[trace] for part in parts.values()]) for trace in TRACES}
    found |= parts | {"clean, all that moved": whole}
    for wave, rows, together in waves(of, noise.derive("attacks")):
        theirs = answered(of.target, rows, of.past.x)
        for share in SHARES:
            windows = struck(of, theirs, share, together, noise.derive(wave, share), asked.attacked)
            found[f"{wave}, {share:.0%}"] = read(windows, of, bars)
    told = ", ".join(f"{trace} {bar:.1f}" for trace, bar in bars.items())
    print(
        f"{of.name}, seed {seed}: thresholds {told}; {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True
    )
    return found


def show(title: str, parts: list[dict[str, dict[Trace, Array]]]) -> None:
    """Print one world's table, seeds taken together."""
    print(f"\n| {title} | n | {' | '.join(trace.replace('_', ' ') for trace in TRACES)} |")
    print("|---|---|" + "---|" * len(TRACES))
    for name in parts[0]:
        whole = {trace: np.concatenate([part[name][trace] for part in parts]) for trace in TRACES}
        n = len(whole[TRACES[0]])
        if n:
            print(f"| {name} | {n} | {' | '.join(cell(whole[trace]) for trace in TRACES)} |", flush=True)


def cell(flags: Array) -> str:
    """Lay out a count of windows with the exact interval of its share."""
    low, high = clopper_pearson(int(flags.sum()), flags.size)
    return f"{int(flags.sum())} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Measure the worlds whose data are given."""
    asked = arguments()
    torch.set_num_threads(1)
    print(f"seeds from {asked.first}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if asked.loans:
        seeds, crisis = range(asked.first, asked.first + asked.seeds), REPOSITORY / "profiles" / "crisis.yaml"
        for name, profiles in (("loans", ()), ("loans, crisis", (crisis,))):
            show(name, [measure(loans(asked, seed, name, *profiles), asked, seed) for seed in seeds])
    if asked.fashion:
        plain = Standard(epochs=4, batch_size=64, learning_rate=0.002)
        hard = Adversarial(epochs=5, batch_size=64, learning_rate=0.002, epsilon=0.05, method="fgsm")
        for name, recipe in (("images, trained plainly", plain), ("images, trained adversarially", hard)):
            show(name, [measure(fashion(asked, asked.first, name, recipe), asked, asked.first)])


if __name__ == "__main__":
    main()
