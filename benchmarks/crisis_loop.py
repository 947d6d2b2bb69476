"""Claim: over 2005 to 2009 the loop gains 90 % of what retraining at every window gains, and no less than a calendar.

The loans of 2000 to 2012, each year as six windows in an order that a seed draws, are watched by `holdfast monitor`
in a project of its own for each seed and label delay. Beside it, on the same windows, by the same admission and recipe:
never retraining, retraining at every window under the same delay (no gate), and calendars with as many retrainings as
the loop had, at all offsets. Accuracy is that of whoever serves when a window comes, on all its rows. How soon harm is
found is read of all who served and fell, and of a champion that nothing replaces, watched in a project of its own: in
a loop that answers in time nobody falls. ``--moved`` moves the onset within the stream: with ``watch`` the watch begins
in a later year that a seed draws, with ``champion`` the champion is trained to another year. What is done is kept in
``--folder`` by the digest of the code: a run that was stopped goes on where it was, and ``summary.md`` there has the
table of all cases that were ever finished.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import admitting
import numpy as np
import pandas as pd
import projects
import torch
from scipy import optimize, stats

from holdfast import registry
from holdfast.data.admission import Labelled, Manifest, admit
from holdfast.data.source import Loaded, inputs_of, load
from holdfast.data.streams.base import Arrival, Site
from holdfast.digests import digest_json, digest_sources, library_versions
from holdfast.integrity.quarantine import Quarantine
from holdfast.model import ModelSpec, load_model
from holdfast.monitoring.watch import Watch
from holdfast.params import Params
from holdfast.params import load as load_params
from holdfast.recovery.ledger import Ledger
from holdfast.stores import WallClock, write_atomically
from holdfast.training.loop import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.results import Signal

Array = np.ndarray[Any, np.dtype[Any]]
PROFILE = "profiles/crisis.yaml"
A_YEAR, FIRST, LAST = 6, 2005, 2009
STANDARD = 1999
"""Year that a champion is trained to."""
CALM = 2003
"""Last year in which nothing but the harm test may have a retraining begun."""
FELL = 0.05
SURELY = 3
"""Windows that must have been served after a fall, for it to be one."""
SHARE = {0: 0.9, 2: 0.9, 6: 0.8}
"""Least share of the gain of retraining at every window, by delay."""
MOST = 6
LATEST = 2
"""Matured windows after the fall within which harm must be found."""
WATCH = (2001, 2002, 2003)
"""Years in which a watch begins where the onset is moved: the standard champion falls in 2003 or 2004."""
CHAMPION = (1997, 1998, 2000, 2001, 2002, 2003)
"""Years that a champion is trained to where it is moved so."""
MOVED = {"": "", "watch": ", onset moved", "champion": ", another champion"}
"""What is drawn for a seed, and how its table says so."""


@dataclass(frozen=True)
class Case:
    """One stream: who is trained to when, with which seed, and when labels mature."""

    seed: int
    delay: int
    trained: int = STANDARD
    since: int = STANDARD + 1
    """First year that is watched."""
    moved: str = ""
    answered: bool = True
    """Whether retraining is allowed."""

    @classmethod
    def of(cls, seed: int, delay: int, *, moved: str = "") -> Case:
        """Draw the year for a seed where the onset is moved."""
        draw = np.random.default_rng(seed).choice
        trained = int(draw(CHAMPION)) if moved == "champion" else STANDARD
        return cls(seed, delay, trained, int(draw(WATCH)) if moved == "watch" else trained + 1, moved)

    @property
    def knobs(self) -> tuple[str, ...]:
        """What differs from the profile."""
        stream = f"windows_per_period: {A_YEAR}, label_delay: {self.delay}, since: {self.since}, until: 2012"
        return (
            f"seed={self.seed}", f"data.train_until={self.trained}",
            f"monitoring.stream.settings={{{stream}, seed: {self.seed}}}",
            f"recovery.policy.budget={{runs: {MOST if self.answered else 0}, windows: 100}}",  # in the whole stream
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.trained}-{self.since}-seed{self.seed}-" + (
            f"delay{self.delay}" if self.answered else "untouched"
        )

    def places(self, first: int, last: int) -> range:
        """Give the windows of some years."""
        return range(A_YEAR * max(0, first - self.since), A_YEAR * max(0, last + 1 - self.since))


@dataclass(frozen=True)
class Loop:
    """What the loop did."""

    accuracy: Array
    """Of who served, on each window (n,)."""
    retrained: tuple[int, ...]
    promoted: int
    harmed: tuple[int, ...]
    """Windows at which harm was diagnosed."""
    served: tuple[int, ...]
    """Version that served, on each window."""
    asked: tuple[int, ...] = ()
    """Retrainings that an alarm of harm by matured labels had asked for."""


def code() -> str:
    """Name the code that a result depends on."""
    top = Path(registry.__file__).parents[1]
    product = [digest_sources(top / part) for part in ("holdfast", "tasks", "flows", "params.yaml", PROFILE)]
    own = [digest_sources(Path(part)) for part in (__file__, admitting.__file__, projects.__file__)]
    return digest_json([*product, *own, library_versions()])


def main() -> int:
    """Play what is not played yet, print a line for each case, and fail where a claim does not hold."""
    asked, held = arguments(), True
    torch.set_num_threads(1)
    folder = asked.folder / code()[:16]
    for delay in asked.delays:
        cases = []
        print("\n".join(heading(delay, folder.name, moved=asked.moved)))
        for seed in asked.seeds:
            cases.append(outcome(Case.of(seed, delay, moved=asked.moved), folder))
            print(cases[-1]["line"], flush=True)
            write_atomically(folder / "summary.md", summary(folder))
        claims = judged(delay, cases)
        print("\n".join(claims))
        held &= all(claims.values())
    return 0 if held else 1


def heading(delay: int, name: str, *, moved: str) -> list[str]:
    """Head the table of one delay."""
    heads = (
        "trained to, watched from, seed",
        "never",
        "loop",
        "every window",
        "of its gain",
        "calendar",
        "retrainings",
        "harm found",
    )
    where = f"{FIRST} to {LAST}{MOVED[moved]}"
    return [f"label delay {delay}: accuracy {where}; code {name}", "", f"| {' | '.join(heads)} |", "|---" * 8 + "|"]


def outcome(case: Case, folder: Path) -> dict[str, Any]:
    """Play one case and set it beside the others, once: what it came to is kept as it was."""
    kept = folder / f"{case}.json"
    if not kept.exists():
        found = compared(case, played(case, folder), untouched(case, folder), reference(case, folder))
        write_atomically(kept, json.dumps(found))
    return dict(json.loads(kept.read_text()))


def summary(folder: Path) -> str:
    """Write the tables of all finished cases, by whichever run, and what they say of the claims."""
    cases = sorted(map(json.loads, map(Path.read_text, folder.glob("*-delay*.json"))), key=lambda case: case["seed"])
    lines: list[str] = []
    for moved, delay in sorted({(case["moved"], case["delay"]) for case in cases}):
        some = [case for case in cases if (case["moved"], case["delay"]) == (moved, delay)]
        lines += [*heading(delay, folder.name, moved=moved), *(case["line"] for case in some), ""]
        lines += [f"- {line}" for line in judged(delay, some)] + [""]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of projects and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--delays", type=int, nargs="+", default=list(SHARE), choices=list(SHARE))
    parser.add_argument("--moved", default="", choices=[*MOVED][1:], help="move the onset within the stream")
    return parser.parse_args()


def untouched(case: Case, folder: Path) -> Loop:
    """Watch a champion that nothing replaces: the delay of labels has no part in how many matured windows it takes."""
    return played(replace(case, delay=0, answered=False), folder)


@cache
def played(case: Case, results: Path) -> Loop:
    """Train a champion, and have the whole stream watched; what was watched before is not watched again."""
    folder = results / str(case)
    projects.make(folder)
    began = time.perf_counter()
    knobs = [part for knob in case.knobs for part in ("--set", knob)]
    with (folder / "words.log").open("a") as log:
        for command in ("run", "monitor"):
            line = [str(Path(sys.executable).with_name("holdfast")), command, "--params", PROFILE, *knobs]
            done = subprocess.run(line, cwd=folder, check=False, stdout=log, stderr=log)
            if done.returncode != 0:
                sys.exit(f"{case}: {command} ended with {done.returncode}, see {log.name}")
    print(f"{case}: watched in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    url = f"sqlite:///{folder / '.holdfast' / 'ledger.db'}"
    with Ledger(url, WallClock()).reading() as view:
        told = [entry.body for entry in view.entries(kinds=("decision",)) if entry.body.get("position") is not None]
        digests = {int(e.version or 0): str(e.body["digest"]) for e in view.entries(kinds=("registered",))}
        answers = [e.body for e in view.entries(kinds=("run",)) if e.body.get("about") == "response"]
    retrained = [body for body in answers if body["action"] == "retrain"]
    name = load_params(folder / "params.yaml", (folder / PROFILE,), case.knobs).name
    signals = Watch(url, name, WallClock()).signals()
    return Loop(
        accuracy=served(case, folder, [digests[int(body["champion"]["version"])] for body in told]),
        retrained=tuple(int(body["position"]) for body in retrained),
        promoted=sum(str(body["outcome"]).endswith("promote") for body in retrained),
        harmed=tuple(int(body["position"]) for body in told if body["cause"] == "harmful_drift"),
        served=tuple(int(body["champion"]["version"]) for body in told),
        asked=asked_for([body for body in told if body["action"] == "retrain"], signals),
    )


def asked_for(decisions: Iterable[dict[str, Any]], signals: Iterable[Signal]) -> tuple[int, ...]:
    """Find the retrainings that a test of harm asked for, by what is on record and not by the cause that was named.

    An alarm that labels got worse answered must have come in the episode that the retraining answers, at or before it.
    """
    alarms = {
        signal.turn for signal in signals
        if signal.alarm and signal.about == "harm" and signal.needs == "labels" and signal.effect > 0
    }  # fmt: skip
    return tuple(
        int(body["position"]) for body in decisions
        if body["episode"] is not None
        and any(turn is not None and body["episode"] <= turn <= body["position"] for turn in alarms)
    )  # fmt: skip


def served(case: Case, folder: Path, digests: list[str]) -> Array:
    """Give the accuracy (n,) of the model that served when each window came."""
    rows, labels = windows(*opened(case, folder))
    targets = {digest: load_model(folder / ".holdfast" / "models" / digest, digest) for digest in {*digests}}
    right = [
        targets[digest].predict(inputs_of(each, targets[digest].space, f"window {place}")).numpy() == labels[place]
        for place, (digest, each) in enumerate(zip(digests, rows, strict=True))
    ]
    return np.array([part.mean() for part in right])


def opened(case: Case, folder: Path) -> tuple[Params, Loaded]:
    """Read params and data as the project does."""
    params = load_params(folder / "params.yaml", (folder / PROFILE,), case.knobs)
    return params, load(folder / "data", params.data, Quarantine(folder / ".holdfast" / "quarantine").excluded())


def windows(params: Params, data: Loaded) -> tuple[list[pd.DataFrame], list[Array]]:
    """Give the rows of every window of the stream, and their class indices."""
    stream, site = params.stream(), Site(data=data, project=Path())
    rows: list[pd.DataFrame] = []
    labels: list[Array] = []
    while (arrival := stream.arrival(len(rows), site)) is not None:
        names = stream.labels(arrival.position, arrival.position + 10**6, site)
        rows.append(arrival.rows)
        labels.append(np.array([data.classes.index(name) for name in names]))
    return rows, labels


def reference(case: Case, folder: Path) -> Array:
    """Retrain after every window in turn; give the accuracy (1 + n, n) of each model, the first one of no window.

    Who learned so much that it served in no year that is judged is not trained: nan. Label delay has no part in it: a
    model that learned up to one window serves later or sooner. It is read of the first case of a seed that was played.
    """
    kept = folder / f"reference-{case.trained}-{case.since}-seed{case.seed}.npy"
    if kept.exists():
        return np.asarray(np.load(kept))
    params, data = opened(case, folder / str(case))
    rows, labels = windows(params, data)
    came = [
        Labelled(Arrival(place, each), pd.Series([data.classes[i] for i in label], dtype=object))
        for place, (each, label) in enumerate(zip(rows, labels, strict=True))
    ]
    manifest = admitting.manifest_of(params, data, [window.arrival for window in came])
    found = np.full((1 + len(rows), len(rows)), np.nan)
    began, retrainings = time.perf_counter(), case.places(FIRST, LAST).stop
    for count in range(retrainings):
        known = manifest.model_copy(update={"windows": manifest.windows[:count]})
        found[count, count:] = after(params, data, came[:count], known, rows[count:], labels[count:])
        if count % 10 == 0:
            told = f"{case}: {count} of {retrainings} retrainings, {time.perf_counter() - began:.0f} s"
            print(told, file=sys.stderr, flush=True)
    part = kept.with_suffix(".part.npy")
    np.save(part, found)
    part.replace(kept)
    return found


def after(
    params: Params, data: Loaded, came: list[Labelled], manifest: Manifest, rows: list[pd.DataFrame],
    labels: list[Array],
) -> list[float]:  # fmt: skip
    """Train on the pinned rows and these windows, and give the accuracy on each of the others."""
    grown = admit(data, came, manifest) if came else data
    spec = ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=grown.space, classes=grown.classes
    )
    target = fit(
        params.recipe(), spec, grown.samples("train"), grown.samples("validation"), seed=params.seed,
        device=torch.device("cpu"),
    ).target  # fmt: skip
    if not rows:
        return []
    x = inputs_of(pd.concat(rows, ignore_index=True), spec.space, "windows")
    right = target.predict(x).numpy() == np.concatenate(labels)
    return [float(part.mean()) for part in np.split(right, np.cumsum([len(label) for label in labels])[:-1])]


def compared(case: Case, loop: Loop, alone: Loop, table: Array) -> dict[str, Any]:
    """Set the loop beside never, every window, and calendars."""
    years = list(case.places(FIRST, LAST))
    never = table[0, years].mean()
    every = np.mean([table[max(0, place - case.delay), place] for place in years])
    loop_mean = float(loop.accuracy[years].mean())
    calendar = calendars(table, case.delay, len(loop.retrained), years)
    falls = [*fallen(replace(case, delay=0), alone), *fallen(case, loop)]
    lags = [lag for _, lag in falls]
    share = (loop_mean - never) / (every - never)
    calm = [place for place in loop.retrained if place in case.places(case.since, CALM)]
    line = (
        f"| {case.trained}, {case.since}, {case.seed} | {never:.3f} | {loop_mean:.3f} | {every:.3f} | {share:.0%} |"
        f" {calendar:.3f} |"
        f" {len(loop.retrained)} at {', '.join(map(str, loop.retrained))}, {loop.promoted} promoted |"
        f" {', '.join(f'fell at {fell}, found in {lag}' for fell, lag in falls)} |"
    )
    unasked = [place for place in calm if place not in loop.asked]
    return {"line": line, "never": float(never), "loop": loop_mean, "every": float(every), "calendar": calendar,
            "lags": lags, "retrained": len(loop.retrained), "calm": len(calm), "unasked": len(unasked),
            "delay": case.delay, "seed": case.seed, "moved": case.moved}  # fmt: skip


def fallen(case: Case, loop: Loop) -> list[tuple[int, int | None]]:
    """Give each fall of who served, and the matured windows till it was found: None where it never was.

    Its level is that of its first year. It has fallen with the first window that is 5 points below, if so is the year
    after it, or what of that was served. One window of 250 rows scatters by two points, so it is read off an isotonic
    regression: a low window is pooled with higher ones that follow, and a crash later on dates no fall. The window has
    no part in the year after it: chosen for being low, it would confirm itself (regression to the mean). 0 is told of
    before; who was replaced before it fell, did not fall.
    """
    found: list[tuple[int, int | None]] = []
    for version in dict.fromkeys(loop.served):
        places = np.flatnonzero(np.array(loop.served) == version)
        accuracy = loop.accuracy[places]
        later, floor = range(A_YEAR, len(places) - SURELY), accuracy[:A_YEAR].mean() - FELL
        fell = optimize.isotonic_regression(accuracy[A_YEAR:], increasing=False).x if later else []
        fit = [*accuracy[:A_YEAR], *fell]
        low = (i for i in later if max(fit[i], accuracy[i + 1 : i + 1 + A_YEAR].mean()) <= floor)
        if (first := next(low, None)) is not None:
            fall, last = int(places[first]), int(places[-1]) + case.delay
            told = next((place for place in loop.harmed if fall <= place <= last), None)
            found.append((fall, None if told is None else max(0, told - case.delay - fall + 1)))
    return found


def calendars(table: Array, delay: int, count: int, years: list[int]) -> float:
    """Give the mean accuracy of calendars with this many retrainings, over all offsets."""
    n = table.shape[1]
    if count == 0:
        return float(table[0, years].mean())
    step = n // count
    means = []
    for offset in range(step):
        taken = [offset + step * i for i in range(count)]
        learned = [max((1 + each - delay for each in taken if each < place), default=0) for place in years]
        means.append(np.mean([table[max(0, k), place] for k, place in zip(learned, years, strict=True)]))
    return float(np.mean(means))


def judged(delay: int, cases: list[dict[str, Any]]) -> dict[str, bool]:
    """Say what is claimed of the seeds, and whether it holds."""
    gained = np.array([case["loop"] - case["never"] for case in cases])
    most = np.array([case["every"] - case["never"] for case in cases])
    apart = np.array([case["loop"] - case["calendar"] for case in cases])
    late = [lag for case in cases for lag in case["lags"]]
    share, beyond = gained.sum() / most.sum(), _interval(gained - SHARE[delay] * most)
    calm, unasked = (sum(case[name] for case in cases) for name in ("calm", "unasked"))
    claims = {
        f"{share:.1%} of the gain, at least {SHARE[delay]:.0%}: {beyond} above it": bool(share >= SHARE[delay]),
        f"{_interval(apart)} over calendars, at least 0": bool(apart.mean() >= 0),
        f"harm found by matured window {late or '(nobody fell: unscored)'}, the {LATEST}nd at the latest": bool(late)
        and all(each is not None and each <= LATEST for each in late),
        f"retrainings {[case['retrained'] for case in cases]}, at most {MOST}": all(
            case["retrained"] <= MOST for case in cases
        ),
        f"retrainings to {CALM} that no test of harm asked for: {unasked} of {calm}, none": not unasked,
    }
    return {f"{'holds' if holds else 'FAILS'}: {claim}": holds for claim, holds in claims.items()}


def _interval(values: Array) -> str:
    """Write a mean over seeds with its Student 95 % interval."""
    n = len(values)
    if n == 1:
        return f"{values[0]:+.3f} (one seed has no interval)"
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}] (n={n} seeds)"


if __name__ == "__main__":
    sys.exit(main())
