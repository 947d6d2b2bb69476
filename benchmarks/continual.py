"""Claim: full retraining is the most accurate; replay is within a point of it in the mean, for 0.6 of its time."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from admitting import manifest_of
from scipy import stats

from holdfast.data.admission import Labelled, admit
from holdfast.data.source import load
from holdfast.data.streams.base import Site
from holdfast.data.streams.replay import Replay as Windows
from holdfast.model import ModelSpec
from holdfast.params import load as load_params
from holdfast.training.ewc import Ewc
from holdfast.training.loop import fit
from holdfast.training.lwf import Lwf
from holdfast.training.replay import Replay
from holdfast.training.standard import Standard
from holdfast.training.warm_start import Former, inherit

if TYPE_CHECKING:
    from holdfast.data import Samples
    from holdfast.data.source import Loaded
    from holdfast.model import Target
    from holdfast.params import Params
    from holdfast.training.base import Recipe

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
FIRST, YEARS, A_YEAR = 2005, 5, 6
SKIPPED = (FIRST - 2000) * A_YEAR
"""Windows of 2000 to 2004: this register hardly drifts then."""


@dataclass(frozen=True)
class Method:
    """A way to retrain."""

    recipe: Recipe
    from_champion: bool = True
    fresh_only: bool = False


def methods(params: Params, epochs: int) -> dict[str, Method]:
    """Give every way to retrain, under one set of settings of the loop."""
    shared = {**params.training.settings, "epochs": epochs}
    plain = Standard.model_validate(shared)
    return {
        "full retraining": Method(plain, from_champion=False),
        "warm start": Method(plain),
        "replay": Method(Replay.model_validate(shared)),
        "ewc": Method(Ewc.model_validate(shared)),
        "lwf": Method(Lwf.model_validate(shared)),
        "fine-tuning": Method(plain, fresh_only=True),
    }


def admitted(params: Params, data: Loaded, stream: Windows, years: int) -> Loaded:
    """Lay the windows of some years beside the pinned rows, as the loop does."""
    places = range(SKIPPED, SKIPPED + years * A_YEAR)
    site = Site(data=data, project=ROOT)
    arrivals = [stream.arrival(place, site) for place in places]
    windows = [
        Labelled(arrival, pd.Series(stream.labels(arrival.position, arrival.position, site), dtype=object))
        for arrival in arrivals
        if arrival is not None
    ]
    return admit(data, windows, manifest_of(params, data, [window.arrival for window in windows]))


def description(params: Params, data: Loaded) -> ModelSpec:
    """Describe the model that would be trained afresh on these rows."""
    return ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=data.space, classes=data.classes
    )


def retrain(params: Params, method: Method, grown: Loaded, before: Loaded, champion: Target, seed: int) -> Target:
    """Retrain on grown data; ``before`` is what the champion learned from."""
    spec, former = description(params, grown), None
    if method.from_champion:
        learned = grown.ids[grown.recognise(before.rows_seen())]
        former = Former(inherit(champion, spec), torch.from_numpy(learned))
        spec = former.target.spec
    train = grown.samples("train", space=spec.space)
    if method.fresh_only and former is not None:
        train = train.take(~former.knows(train.ids))
    validation = grown.samples("validation", space=spec.space)
    return fit(method.recipe, spec, train, validation, seed=seed, device=CPU, former=former).target


def right(target: Target, rows: Samples) -> np.ndarray:
    """Tell which rows (n,) are right."""
    return (target.predict(rows.x) == rows.y).numpy()


def held_out(grown: Loaded, target: Target) -> Samples:
    """Give the rows of the windows that nobody learned from."""
    pinned = grown.ids[grown.window < 0]
    return grown.samples("gate", space=target.space, without=pinned.tolist())


def course(params: Params, data: Loaded, name: str, method: Method, seed: int) -> dict[str, object]:
    """Take a model of 1999 through the years, one retraining at the end of each; say what it knows then."""
    stream = Windows(windows_per_period=A_YEAR, until=FIRST + YEARS - 1, seed=seed)
    spec = description(params, data)
    first = fit(params.recipe(), spec, data.samples("train"), data.samples("validation"), seed=seed, device=CPU).target
    before, target, seconds = data, first, 0.0
    for year in range(1, YEARS + 1):
        grown = admitted(params, data, stream, year)
        started = time.process_time()
        target = retrain(params, method, grown, before, target, seed)
        seconds += time.process_time() - started
        before = grown
    old, new = right(target, data.samples("test", space=target.space)), right(target, held_out(before, target))
    was = right(first, data.samples("test")), right(first, held_out(before, first))
    return {
        "method": name, "seed": seed, "old": float(old.mean()), "new": float(new.mean()), "n_old": len(old),
        "n_new": len(new), "forgetting": float(was[0].mean() - old.mean()),
        "gained": float(new.mean() - was[1].mean()), "seconds": seconds,
    }  # fmt: skip


def interval(values: list[float]) -> str:
    """Write a mean over seeds with its Student 95 % interval."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def main() -> None:
    """Print accuracy on both worlds, forgetting, gain and training seconds of each way to retrain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="two at least")
    parser.add_argument("--epochs", type=int, default=10, help="of each retraining")
    parser.add_argument(
        "--record", type=Path, help="file of what is done, a line each: a run goes on where one stopped"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params(ROOT / "params.yaml", (ROOT / "profiles" / "crisis.yaml",))
    data = load(ROOT / "embedded", params.data)
    lines = [json.loads(line) for line in options.record.read_text().splitlines()] if _there(options.record) else []
    done = {(line["method"], line["seed"]) for line in lines}
    for seed in range(options.seeds):
        for name, method in methods(params, options.epochs).items():
            if (name, seed) in done:
                continue
            lines.append(course(params, data, name, method, seed))
            if options.record:
                with options.record.open("a") as stream:
                    stream.write(json.dumps(lines[-1]) + "\n")
    lines = [line for line in lines if line["seed"] < options.seeds]
    print(f"{YEARS} retrainings, {FIRST} to {FIRST + YEARS - 1}, {options.epochs} epochs each; {options.seeds} seeds;"
          f" n = {lines[0]['n_old']} old rows, {min(line['n_new'] for line in lines)} to"
          f" {max(line['n_new'] for line in lines)} new ones")  # fmt: skip
    print(f"{'':16} {'old world':22} {'new windows':22} {'forgetting':24} {'gain on new':22} CPU seconds")
    for name in methods(params, options.epochs):
        mine = [line for line in lines if line["method"] == name]
        told = {key: interval([line[key] for line in mine]) for key in ("old", "new", "forgetting", "gained")}
        spent = np.mean([line["seconds"] for line in mine])
        print(f"{name:16} {told['old']:22} {told['new']:22} {told['forgetting']:24} {told['gained']:22} {spent:.1f}")
    print("\nless full retraining, paired over seeds")
    whole = _by_seed(lines, "full retraining")
    for name in list(methods(params, options.epochs))[1:]:
        mine = _by_seed(lines, name)
        apart = {key: interval([mine[s][key] - whole[s][key] for s in sorted(mine)]) for key in ("old", "new")}
        print(f"{name:16} {apart['old']:24} {apart['new']:24}")


def _by_seed(lines: list[dict[str, object]], method: str) -> dict[int, dict[str, float]]:
    return {line["seed"]: line for line in lines if line["method"] == method}


def _there(path: Path | None) -> bool:
    return path is not None and path.exists()


if __name__ == "__main__":
    main()
