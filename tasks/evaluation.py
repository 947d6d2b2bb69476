"""Evaluation: one scenario against one version, kept by the question it answers, and logged once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from holdfast.data.source import name_without
from holdfast.digests import digest_json
from holdfast.errors import ModelError, ScenarioError
from holdfast.factory import factory_digest, factory_packages
from holdfast.model import ModelSpec, Target, load_model, pick_device
from holdfast.params import Params
from holdfast.results import DataSnapshot, Finding, ModelVersion, Provenance, Role, Value, question
from holdfast.scenarios.attacks.base import Attack
from holdfast.scenarios.base import Context, OnModel, OnRecipe, Scenario
from holdfast.scenarios.cross_checks import with_family_checks
from holdfast.scenarios.probes.regression_corpus import RegressionCorpus
from holdfast.stores import Stores
from holdfast.training.workshop import Workshop
from tasks import tracking
from tasks.corpus import earlier, keeper
from tasks.heldout import LeftOut, left_out_ids
from tasks.lineage import registered
from tasks.progress import tell
from tasks.storage import load_data

if TYPE_CHECKING:
    from holdfast.data.source import Loaded
    from holdfast.space import Box, Table


def context(params: Params, snapshot: DataSnapshot, spec: ModelSpec | None) -> Context:
    """Say what a finding's origin needs and a scenario cannot know.

    The code is the subject's own: its user's module, and the versions of the packages that this imports.
    """
    code = "" if spec is None else spec.code
    if spec is not None and (packages := factory_packages(spec.factory)):
        code = digest_json([code, packages])
    return Context(
        seed=params.seed, code=code, revision=snapshot.revision,
        metric=params.metric, costs=params.costs,
    )  # fmt: skip


class Answer(Value):
    """What a scenario found, and whether it was found before this run."""

    finding: Finding
    reused: bool = False


@task(task_run_name="{path} on {role}", cache_policy=NO_CACHE)
def run_scenario(
    path: str,
    scenario: Scenario,
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    version: ModelVersion,
    role: Role,
    left_out: LeftOut | None = None,
) -> Answer:
    """Put one version, or its recipe, through one scenario, unless this very question was answered before."""
    torch.set_num_threads(1)  # one for each worker thread: two scenarios at once fill two cores
    device = pick_device(params.device)
    workshop = _workshop(params, load_data(stores, params, snapshot)) if isinstance(scenario, OnRecipe) else None
    subject: Workshop | Target = workshop or load_model(tracking.fetch_model(stores, version), version.digest, device)
    without = left_out_ids(stores, left_out) if workshop is None else ()  # a recipe trains: it has no gate rows
    origin = context(params, snapshot, subject.spec)
    if scenario.trains and isinstance(subject, Target):
        data = load_data(stores, params, snapshot)
        origin = replace(origin, workshop=_workshop(params, data, subject.space.under(data.space)))
    provenance = scenario.origin(origin, subject.digest, name_without(snapshot.content, without), role, device.type)
    if workshop is not None and (made_by := _another_recipe(stores, version, workshop)) is not None:
        tell("evaluation", f"{path}  unscored: {made_by.text}")
        origin_of_version = provenance.model_copy(update={"subject": made_by.digest})
        return Answer(finding=_unscored(path, scenario, origin_of_version, made_by.text))
    if isinstance(scenario, RegressionCorpus) and isinstance(subject, Target):
        return _replay(path, scenario, params, stores, snapshot, version, subject, provenance)
    key = question(path, scenario.settings, provenance)
    if (known := stores.results.get(key, Finding)) is not None:
        tell("evaluation", f"{path}  {brief(known)}{_whose(version, role)}  reused")
        return Answer(finding=known, reused=True)
    try:
        if isinstance(scenario, OnModel) and isinstance(subject, Target):
            data = load_data(stores, params, snapshot)
            _check_classes(subject, data.classes, version)
            if isinstance(scenario, Attack):
                origin = replace(origin, under_way=stores.shards / key)
                if role == "test":
                    origin = replace(origin, successes=keeper(params, stores, data, subject, path))
            finding = ask(scenario, subject, data, role, origin, path, without)
        elif isinstance(scenario, OnRecipe) and workshop is not None:
            finding = scenario.run(workshop, origin, path)
    except _BROKEN as error:
        tell("evaluation", f"{path}  broke: {error}")
        broke = f"the scenario broke: {type(error).__name__}: {str(error)[:300]}"
        return Answer(finding=_unscored(path, scenario, provenance, broke))  # not kept: the next run asks again
    stores.results.put(finding.key, finding)
    shutil.rmtree(stores.shards / key, ignore_errors=True)
    tell("evaluation", f"{path}  {brief(finding)}{_whose(version, role)}  {finding.cost.seconds:.1f} s")
    return Answer(finding=finding)


def _whose(version: ModelVersion, role: Role) -> str:
    """Name the version where candidate and champion answer the same questions, one after the other."""
    return f", version {version.version}" if role == "gate" else ""


def _replay(
    path: str,
    scenario: RegressionCorpus,
    params: Params,
    stores: Stores,
    snapshot: DataSnapshot,
    version: ModelVersion,
    target: Target,
    provenance: Provenance,
) -> Answer:
    """Put earlier attacks' successes to a version, in its own codes, unless these very rows were put to it before."""
    data = load_data(stores, params, snapshot)
    _check_classes(target, data.classes, version)
    target.space = target.space.under(data.space)
    found = earlier(params, stores, data, target, version)
    if isinstance(found, str):
        tell("evaluation", f"{path}  unscored: {found}")
        return Answer(finding=_unscored(path, scenario, provenance, found))
    origin = context(params, snapshot, target.spec)
    key = question(path, scenario.settings, provenance.model_copy(update={"data": found.samples.snapshot}))
    if (known := stores.results.get(key, Finding)) is not None:
        tell("evaluation", f"{path}  {brief(known)}  reused")
        return Answer(finding=known, reused=True)
    finding = scenario.run(target, found.samples, origin, path).model_copy(update={"details": found.told})
    stores.results.put(finding.key, finding)
    tell("evaluation", f"{path}  {brief(finding)}  {finding.cost.seconds:.1f} s")
    return Answer(finding=finding)


def ask(
    scenario: OnModel,
    target: Target,
    data: Loaded,
    role: Role,
    origin: Context,
    path: str,
    without: tuple[int, ...] = (),
) -> Finding:
    """Put a model through a scenario under the threat of these data, whatever the threat was when it was trained.

    Its encoding stays its own: a champion of another snapshot has its own codes for categories. What an attacker
    may move, how far and in which units is the data's, so that versions of other snapshots face one attacker.

    Raises:
        ModelError: the threat does not fit the model.
        ScenarioError: the scenario broke its own contract.
    """
    target.space = target.space.under(data.space)
    finding = scenario.run(target, data.samples(role, scenario.period, target.space, without), origin, path)
    if scenario.family in _UNDER_THREAT:
        return finding.model_copy(update={"details": {**finding.details, "threat": target.space.bounds()}})
    return finding


_UNDER_THREAT = frozenset({"evasion", "certificates"})
"""Families whose score depends on what an attacker may move, and how far."""

# What a scenario of ours or of a third party can break with. Stores and data that do not answer are not among them.
_BROKEN = (ScenarioError, RuntimeError, ValueError, TypeError, ArithmeticError, LookupError)


def _unscored(path: str, scenario: Scenario, provenance: Provenance, reason: str) -> Finding:
    return Finding(
        path=path, dimension=scenario.dimension, family=scenario.family, settings=scenario.settings,
        provenance=provenance, unscored=reason,
    )  # fmt: skip


class _Maker(NamedTuple):
    """The recipe that made a version, where it is not the one at hand."""

    digest: str
    text: str


def _another_recipe(stores: Stores, version: ModelVersion, workshop: Workshop) -> _Maker | None:
    """Tell when params and data give another recipe than made the version: what one scores is not the other's."""
    made = registered(stores, version)
    made_by = str(made.get("recipe_digest", "not recorded"))
    if made_by == workshop.digest:
        return None
    if start := made.get("started_from"):
        text = (
            f"{version.name} version {version.version} went on from the weights of version {start['version']}:"
            " what a recipe that begins afresh scores is not its own"
        )
        return _Maker(made_by, text)
    text = (
        f"{version.name} version {version.version} was made by recipe {made_by[:16]}, and params and data now give"
        f" recipe {workshop.digest[:16]}: ask with the params and data of that version, or train a version with these"
    )
    return _Maker(made_by, text)


def _check_classes(target: Target, classes: tuple[str, ...], version: ModelVersion) -> None:
    """Refuse to count labels of one order against outputs of another.

    Raises:
        ModelError: model and data name other classes, or in another order.
    """
    if target.classes != classes:
        raise ModelError(
            f"{version.name} version {version.version}", found=f"classes {', '.join(target.classes)}",
            expected=f"{', '.join(classes)}, as the data has them",
            remedy="Name data.classes in params.yaml as the version was trained with, or retrain.",
        )  # fmt: skip


def _workshop(params: Params, data: Loaded, space: Table | Box | None = None) -> Workshop:
    """Lay out what the recipe trains with; in a version's own space, rows carry that version's codes."""
    spec = ModelSpec(
        factory=params.model.factory, settings=params.model.settings, space=space or data.space, classes=data.classes,
        code=factory_digest(params.model.factory),
    )  # fmt: skip
    roles: tuple[Role, ...] = ("train", "validation", "test")
    train, validation, test = (data.samples(role, None, space) for role in roles)
    return Workshop(
        recipe=params.recipe(), spec=spec, train=train, validation=validation, test=test,
        device=pick_device(params.device),
    )  # fmt: skip


def brief(finding: Finding) -> str:
    """Say a finding in a line: its bound, interval and n, and what is to be known beside them."""
    if finding.score is None:
        return f"unscored: {finding.unscored}"
    score, mark = finding.score, {"upper_bound": "<=", "lower_bound": ">=", "measured": "  "}
    note = "" if finding.valid else "  INVALID"
    if metric := finding.details.get("metric"):
        note += f"  {metric}"
    if finding.provenance.role != "test":
        note += f"  on {finding.provenance.role} rows"
    return f"{mark[score.kind]} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] n={score.n}{note}"


@task(cache_policy=NO_CACHE)
def cross_check(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Hold findings of one threat model against each other: what one attack alone cannot show."""
    return with_family_checks(findings)


@task(retries=2, retry_delay_seconds=1, cache_policy=NO_CACHE)
def record(findings: tuple[Finding, ...], version: ModelVersion, stores: Stores, run_id: str, side: str = "") -> None:
    """Log every finding once, keyed by its digest, however often the task is tried."""
    for finding in findings:
        tracking.log_finding(stores, run_id, version, finding, side)
