"""Checks of a raw ``params.yaml``: names, settings and references, whatever the tree holds."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from holdfast.data.streams.base import Stream
from holdfast.errors import ParamsError
from holdfast.integrity.base import IntegrityCheck
from holdfast.monitoring.base import Detector
from holdfast.params_files import find_secrets, short
from holdfast.registry import available, find
from holdfast.scenarios.base import OnModel, Scenario
from holdfast.training.base import Recipe
from holdfast.training.continual import ContinualRecipe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    Tree = dict[Any, Any]

_NO_ONE = "no such setting"
_HARM = "harm"
"""Detector by whose effect the policy tells when an episode of harm is over."""


def check_registered(tree: Tree, families: Collection[str]) -> list[str]:
    """Check what names files: scenarios, packs, checks, the recipe and the gates."""
    scenarios = _section(_section(tree, "evaluation"), "scenarios")
    problems = []
    for family in scenarios:
        if family not in families:
            problems.append(f"evaluation.scenarios.{family}: no such family; {_nearest(family, families)}")
            continue
        for name, settings in _section(scenarios, family).items():
            package = f"holdfast.scenarios.{family}"
            problems += _try(
                package, str(name).split("-")[0], settings, Scenario, f"evaluation.scenarios.{family}.{name}"
            )
    for name, settings in _section(tree, "integrity").items():
        problems += _try("holdfast.integrity", str(name), settings, IntegrityCheck, f"integrity.{name}")
    training = tree.get("training")
    if isinstance(training, dict):
        recipe, settings = training.get("recipe", "standard"), training.get("settings")
        problems += _try("holdfast.training", str(recipe), settings, Recipe, "training.settings", "training.recipe")
        problems += _without_champion(str(recipe))
    retrained = _section(_section(_section(tree, "recovery"), "retraining"), "recipe")
    if retrained:
        place = "recovery.retraining.recipe"
        problems += _try("holdfast.training", str(retrained.get("name")), retrained.get("settings"), Recipe,
                         f"{place}.settings", f"{place}.name")  # fmt: skip
    monitoring = _section(tree, "monitoring")
    for name, settings in _section(monitoring, "detectors").items():
        problems += _try("holdfast.monitoring", str(name), settings, Detector, f"monitoring.detectors.{name}")
    if stream := _section(monitoring, "stream"):
        place = "monitoring.stream"
        problems += _try("holdfast.data.streams", str(stream.get("source")), stream.get("settings"), Stream,
                         f"{place}.settings", f"{place}.source")  # fmt: skip
    return problems + _check_incidents(_section(_section(tree, "drills"), "incidents"))


def _without_champion(recipe: str) -> list[str]:
    """Refuse a first training by a recipe that goes on from a champion."""
    if recipe not in available("holdfast.training"):
        return []
    try:
        goes_on = issubclass(find("holdfast.training", recipe, Recipe), ContinualRecipe)
    except (LookupError, TypeError, ImportError, AttributeError):  # reported where its settings are read
        return []
    told = "goes on from a champion, and a first training has none; name it under recovery.retraining.recipe"
    return [f"training.recipe: {recipe} {told}"] if goes_on else []


def _check_incidents(incidents: Tree) -> list[str]:
    """Read every incident that is asked for, with its settings laid over it."""
    if not incidents:
        return []
    from holdfast.drills.incident import one_name_each, read_incident  # noqa: PLC0415  only who drills needs its events

    problems = []
    try:
        one_name_each(str(name) for name, settings in incidents.items() if settings is not None)
    except ParamsError as error:
        problems.append(f"{error.where}: {error.found}; expected {error.expected}")
    for name, settings in incidents.items():
        if settings is None or not isinstance(settings, dict):
            continue
        try:
            read_incident(str(name), settings)
        except ParamsError as error:
            problems.append(f"{error.where}: {error.found}; expected {error.expected}")
    return problems


_KIND = {
    "Scenario": "scenario", "IntegrityCheck": "check", "Recipe": "recipe", "Detector": "detector", "Stream": "stream",
}  # fmt: skip


def _try(package: str, name: str, settings: object, base: type[Any], place: str, name_place: str = "") -> list[str]:
    """Find what a name stands for and validate its settings; give what is wrong."""
    try:
        kind = find(package, name, base)
    except (TypeError, ImportError, AttributeError) as error:  # a third party's entry that is no such thing
        return [f"{name_place or place}: {error}"]
    except LookupError as error:
        text = str(error).replace("no such name", f"no such {_KIND[base.__name__]}")
        return [f"{name_place or place}: {text}; {_nearest(name, available(package))}"]
    try:
        kind.model_validate({} if settings is None else settings)
    except ValidationError as error:
        return explain(error, kind, f"{place}.")
    return []


def check_panel(tree: Tree) -> list[str]:
    """Refuse a panel that tells when harm begins and never when it is over, where a champion is watched."""
    monitoring = _section(tree, "monitoring")
    stream, detectors = _section(monitoring, "stream"), _section(monitoring, "detectors")
    if not stream or stream.get("recorded"):
        return []
    asked = [str(name) for name, settings in detectors.items() if settings is not None and _about_harm(str(name))]
    if not asked or _HARM in asked:
        return []
    told = f"{', '.join(asked)} without {_HARM}, which alone says by how much answers are worse, and when that is over"
    return [f"monitoring.detectors: {told}; add {_HARM}: {{}}"]


def _about_harm(name: str) -> bool:
    try:
        return find("holdfast.monitoring", name, Detector).about == "harm"
    except (LookupError, TypeError, ImportError, AttributeError):  # reported where its settings are read
        return False


def check_recorded(tree: Tree) -> list[str]:
    """Check that recorded predictions are answers and no features, as far as the file can be read."""
    place, data = "monitoring.stream.recorded", _section(tree, "data")
    recorded, excluded = _section(_section(tree, "monitoring"), "stream").get("recorded"), data.get("exclude")
    if not isinstance(recorded, list) or not recorded:
        return []
    if data.get("kind") != "table" or len(recorded) < 2:  # noqa: PLR2004  a choice needs two
        return [f"{place}: needs a table, and a column for each of two classes or more"]
    features = [str(name) for name in recorded if not isinstance(excluded, list) or name not in excluded]
    told = f"{place}: {', '.join(features)} would be a feature too: add it to data.exclude"
    traces = _section(_section(_section(tree, "monitoring"), "detectors"), "suspicion").get("traces")
    asks = isinstance(traces, list) and "inconsistent" in traces
    lacking = "monitoring.detectors.suspicion.traces: inconsistent asks a champion, and recorded predictions have none"
    return [told] * bool(features) + [lacking] * asks


def check_names(tree: Tree, uses: dict[str, str]) -> list[str]:
    """Check references inside the file, as far as it can be read: packs, uses and gates name what is there.

    Args:
        tree: the raw file.
        uses: the occasions, with the packs that they use where the file says nothing.
    """
    evaluation, gates = _section(tree, "evaluation"), _section(_section(tree, "recovery"), "gates")
    scenarios, packs = _section(evaluation, "scenarios"), _section(evaluation, "packs")
    known = [f"{family}/{name}" for family in scenarios for name in _section(scenarios, family)]
    held = {str(pack): _paths(_section(packs, pack).get("scenarios")) for pack in packs}
    said = _section(evaluation, "uses")
    used = {use: str(said.get(use, default)) for use, default in uses.items()}
    problems = [
        f"evaluation.packs.{pack}.scenarios: {path} is not under evaluation.scenarios; {_nearest(path, known)}"
        for pack, paths in held.items()
        for path in paths
        if path not in known
    ]
    problems += [
        f"evaluation.uses.{use}: no pack {pack}; {_nearest(pack, held)}"
        for use, pack in used.items()
        if pack not in held
    ]
    asked = [("floors", "run"), ("non_inferiority", "gate"), ("floors", "nightly")]
    if _section(tree, "monitoring").get("stream"):
        asked.append(("floors", "gate"))  # what the loop retrained has no other scorecard
    for rule, use in asked:
        inside = held.get(used[use], [])
        problems += [
            f"recovery.gates.{rule}.{path}: the pack {used[use]} does not hold it; {_nearest(path, inside)}"
            for path in _section(gates, rule)
            if path not in inside and used[use] in held
        ]
    problems += [
        f"evaluation.packs.{used['gate']}.scenarios: {path} {reason}; name it in another pack"
        for path in held.get(used["gate"], [])
        if path in known and (reason := _no_gate(path))
    ]
    problems += [
        f"evaluation.packs.{pack}.sequential: evaluation.uses.{use} asks this pack, and attacks that stop at other"
        " points cannot be compared, nor held against each other for masking; name another pack there"
        for use, pack in used.items()
        if _section(packs, pack).get("sequential")
    ]
    return problems + _check_costs(tree, _section(gates, "non_inferiority"))


def _paths(found: object) -> list[str]:
    return [str(path) for path in found] if isinstance(found, list | tuple) else []


def _no_gate(path: str) -> str:
    """Say why a scenario that params name cannot compare versions; one that cannot be found is reported elsewhere."""
    family, _, name = path.partition("/")
    try:
        kind = find(f"holdfast.scenarios.{family}", name.split("-")[0], Scenario)
    except (LookupError, TypeError, ImportError, AttributeError):
        return ""
    if kind.trains:
        return "trains models, and the gate retrains nothing"
    if issubclass(kind, OnModel) and kind.period == "later":
        return "asks about rows after data.train_until, and those are test or drill rows, never gate rows"
    return ""


def _check_costs(tree: Tree, compared: Tree) -> list[str]:
    costs = tree.get("costs")
    if tree.get("metric") == "expected_cost" and costs is None:
        return ["costs: expected_cost needs a cost matrix"]
    if isinstance(costs, list) and len(costs) > 2 and "probes/quality" in compared:  # noqa: PLR2004  two classes
        # Flags tell a wrong class from a right one, not one wrong class from another.
        return ["recovery.gates.non_inferiority.probes/quality: expected_cost is compared for two classes only"]
    return []


def _section(tree: Tree, name: object) -> Tree:
    """Give a section of a raw tree; what is no mapping is reported by validation, and holds nothing here."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def explain(error: ValidationError, model: type[Any], prefix: str) -> list[str]:
    """Say each mistake in one line: place, what is wrong, what was found, the nearest valid name."""
    lines = []
    for item in error.errors(include_url=False):
        place = prefix + ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            name = str(item["loc"][-1])
            lines.append(
                f"{place}: {_NO_ONE} (got {_short(item['input'], item['loc'])}); "
                f"{_nearest(name, _fields(model, item['loc'][:-1]))}"
            )
        elif item["type"] == "missing":
            lines.append(f"{place}: must be set")
        else:
            text = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            text = text[:1].lower() + text[1:]
            if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
                text += " in quotes: YAML reads yes, no, on, off and numbers otherwise"
            lines.append(f"{place.rstrip('.')}: {text} (got {_short(item['input'], item['loc'])})")
    return lines


def _fields(model: type[Any], place: tuple[int | str, ...]) -> list[str]:
    """List the settings that are valid at a place, following nested sections."""
    current: Any = model
    for part in place:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            inner = [a for a in getattr(current, "__args__", ()) if hasattr(a, "model_fields")]
            current = inner[0] if inner else None
            continue
        current = field.annotation
    return list(getattr(current, "model_fields", {}))


def _nearest(name: object, valid: Iterable[object]) -> str:
    names = sorted(str(each) for each in valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(names) or 'none'}"


def _short(value: object, place: tuple[int | str, ...]) -> str:
    """Show a value on a line, unless it is a secret or holds one."""
    keys = [str(part) for part in place if isinstance(part, str)]
    if any(find_secrets(value, key, key) for key in keys or [""]):
        return "value not shown"
    return short(value)
