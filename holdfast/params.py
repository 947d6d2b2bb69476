"""``params.yaml``, validated whole: every mistake at once, with its place and the nearest valid name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from holdfast.data.params import DataParams
from holdfast.data.streams.base import Stream
from holdfast.digests import digest_json
from holdfast.errors import ParamsError
from holdfast.integrity.base import IntegrityCheck
from holdfast.monitoring.base import Detector
from holdfast.params_checks import check_names, check_panel, check_recorded, check_registered, explain
from holdfast.params_files import Layers, find_secrets, read
from holdfast.recovery.gate import Gates
from holdfast.recovery.policy import Policy
from holdfast.recovery.screening import Screening
from holdfast.registry import find
from holdfast.results import Value
from holdfast.scenarios.base import Scenario
from holdfast.training.base import Recipe
from holdfast.training.continual import ContinualRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.drills.incident import Incident
    from holdfast.monitoring.panels import Panel
    from holdfast.scenarios.attacks.base import Attack

FAMILIES = ("attacks", "corruptions", "anomalies", "faults", "poisoning", "privacy", "drift", "certificates", "probes")


class ModelParams(Value):
    """The user's network: a factory and its settings."""

    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    settings: dict[str, Any] = {}


_WRONG = 0.01
"""Chance at most that any floor of a sequential pack is not decided as all points would decide it."""


class PackParams(Value):
    """A named list of scenarios with a stated budget."""

    budget_seconds: Annotated[float, Field(gt=0)]
    scenarios: Annotated[tuple[str, ...], Field(min_length=1)]
    points: Annotated[int, Field(gt=0)] | None = None
    """Points at most for every scenario of the pack; None leaves each its own."""
    sequential: bool = False
    """Stop an attack that has a floor once the points drawn so far decide that floor for all of them."""


class UsesParams(Value):
    """Which pack each occasion runs."""

    run: str = "standard"
    gate: str = "gate"
    nightly: str = "standard"


class EvaluationParams(Value):
    """Scenarios with their settings, and the packs made of them."""

    scenarios: dict[str, dict[str, dict[str, Any]]] = {}
    """Family to name to settings; a name may carry a ``-variant``."""
    packs: dict[str, PackParams]
    uses: UsesParams = UsesParams()


class TrainingParams(Value):
    """The recipe by name, and its settings."""

    recipe: str = "standard"
    settings: dict[str, Any] = {}


class StreamParams(Value):
    """Where windows of production rows come from: a file of ``holdfast/data/streams`` by name, and its settings."""

    source: str
    settings: dict[str, Any] = {}
    recorded: tuple[str, ...] = ()
    """Columns with the probability of each class that a model of yours gave, in the order of the classes: they are
    watched in place of a champion's answers, and nothing is ever retrained. Empty where a champion answers."""


class MonitoringParams(Value):
    """What is watched, by whom, and how many false alarms all detectors together may give."""

    stream: StreamParams | None = None
    detectors: dict[str, dict[str, Any] | None] = {}
    """Detector to settings; an overlay switches a detector off with null."""
    budget: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Clean windows in which any detector may alarm, as a share."""
    replays: Annotated[int, Field(ge=200)] = 1000
    """Clean windows that are replayed to set thresholds, and as many others to read the achieved rate."""


class RecipeParams(Value):
    """A recipe by name, and its settings."""

    name: str
    settings: dict[str, Any] = {}


class RetrainingParams(Value):
    """What a retraining learns from, where it begins and how it goes on."""

    recent: Annotated[int, Field(gt=0)] = 8
    """Last admitted windows whose held-out rows are what the retrained champion's windows are compared with."""
    windows: Annotated[int, Field(gt=0)] | None = None
    """Last admitted windows that train; None for all of them (expanding)."""
    base_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the pinned training rows that are replayed beside them."""
    importance: bool = False
    """Leave out earlier training rows that the ``recent`` windows contradict, by importance resampling."""
    warm_start: bool = False
    """Begin from the champion's weights and its own encoding of rows; recipes that go on from a champion do anyway."""
    recipe: RecipeParams | None = None
    """How a retraining trains: ``replay``, ``ewc``, ``lwf``, or a recipe that begins afresh; None: as ``training``."""


class RecoveryParams(Value):
    """What a version must show before it may serve, and what the loop may do by itself."""

    gates: Gates = Gates()
    policy: Policy = Policy()
    screening: Screening = Screening()
    retraining: RetrainingParams = RetrainingParams()


class DrillParams(Value):
    """Incidents that are rehearsed, and on how much."""

    rows: Annotated[int, Field(gt=0)] = 1000
    """Of each window."""
    seeds: Annotated[int, Field(gt=0)] = 5
    incidents: dict[str, dict[str, Any] | None] = {}
    """Incident, or the path of a .yaml file of one, to settings laid over it; an overlay switches one off with null."""


class PredictionParams(Value):
    """The champion's output policy."""

    abstain_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Abstain where the confidence in the predicted class is lower."""
    unseen_categories: Literal["abstain", "answer"] = "abstain"
    """What to do with a row that has a category which no training row had; a missing value is none."""


Cron = Annotated[str, Field(pattern=r"^\S+( \S+){4}$")]


class ScheduleParams(Value):
    """What `holdfast up` runs by itself: cron of five fields, in UTC; None for never."""

    monitoring: Cron | None = "*/15 * * * *"
    evaluation: Cron | None = "0 3 * * *"
    """The champion through the pack ``evaluation.uses.nightly``."""
    drills: Cron | None = "0 4 * * 0"
    """The incidents of ``drills.incidents``, where it lists any."""
    notify: Annotated[str, Field(pattern=r"^(env:\w+|block:[a-z0-9-]+/[a-z0-9-]+)$")] | None = None
    """Who is told of every decision but *none*, and of failed runs: ``env:NAME`` of a webhook's URL, or
    ``block:TYPE/NAME`` of a Prefect notification block."""


class PruneParams(Value):
    """Days after which `holdfast prune` may take what nothing that lives needs."""

    copies: Annotated[int, Field(ge=0)] = 30
    """For what can be had again: copies of models, results, checkpoints, sandboxes of drills."""
    records: Annotated[int, Field(ge=0)] = 365
    """For what cannot: answers, windows, rows set aside, data of retrainings."""


class StoresParams(Value):
    """Where state lives. A URL with a password belongs in an environment variable: write ``env:NAME``."""

    root: str = ".holdfast"
    tracking: str | None = None
    ledger: str | None = None
    stream: str | None = None
    """Database of a stream that reads one."""


class Params(Value):
    """Everything that can be set, validated."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    metric: Literal["accuracy", "balanced_accuracy", "auroc", "average_precision", "expected_cost"] = "accuracy"
    costs: tuple[tuple[float, ...], ...] | None = None
    """Cost of predicting column j where row i is true, for ``expected_cost``."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: DataParams
    integrity: dict[str, dict[str, Any] | None] = {}
    """Check to settings; an overlay switches a check off with null."""
    model: ModelParams
    training: TrainingParams = TrainingParams()
    evaluation: EvaluationParams
    monitoring: MonitoringParams = MonitoringParams()
    recovery: RecoveryParams = RecoveryParams()
    prediction: PredictionParams = PredictionParams()
    drills: DrillParams = DrillParams()
    schedule: ScheduleParams = ScheduleParams()
    prune: PruneParams = PruneParams()
    stores: StoresParams = StoresParams()

    @property
    def recorded(self) -> tuple[str, ...]:
        """Columns of recorded predictions; empty where a champion answers."""
        return () if self.monitoring.stream is None else self.monitoring.stream.recorded

    def scenarios(self, pack: str) -> dict[str, Scenario]:
        """Build one pack's scenarios by path; they were validated with the file.

        Raises:
            ParamsError: there is no such pack.
        """
        if pack not in self.evaluation.packs:
            raise ParamsError(
                "evaluation.packs", found=pack, expected=f"one of {', '.join(self.evaluation.packs)}",
                remedy="Name a pack of params.yaml.",
            )  # fmt: skip
        chosen = self.evaluation.packs[pack]
        built = {path: _build_scenario(path, self._settings(path), chosen.points) for path in chosen.scenarios}
        return {**built, **self._until_decided(built)} if chosen.sequential else built

    def pack_digest(self, pack: str) -> str:
        """Name a pack by what it asks: headlines are comparable only within it.

        Raises:
            ParamsError: there is no such pack.
        """
        return digest_json({path: scenario.settings for path, scenario in self.scenarios(pack).items()})

    def _until_decided(self, built: dict[str, Scenario]) -> dict[str, Scenario]:
        """Tell the attacks that have a floor to stop at its verdict; the error is shared out among them."""
        from holdfast.scenarios.attacks.base import Attack  # noqa: PLC0415  beside its uses

        floors = {path: floor for path, floor in self.recovery.gates.floors.items() if path in built}
        asked = {path: floor for path, floor in floors.items() if isinstance(built[path], Attack)}
        return {
            path: built[path].model_copy(update={"until": floor, "error": _WRONG / len(asked)})
            for path, floor in asked.items()
        }

    def gate_attack(self) -> tuple[str, Attack] | None:
        """Give path and settings of the first attack that the gate asks; None where it asks none."""
        from holdfast.scenarios.attacks.base import Attack  # noqa: PLC0415  beside its uses

        asked = self.scenarios(self.evaluation.uses.gate).items()
        return next(((path, scenario) for path, scenario in asked if isinstance(scenario, Attack)), None)

    def checks(self) -> tuple[IntegrityCheck, ...]:
        """Build the integrity checks, in the order of the file."""
        return tuple(
            find("holdfast.integrity", name, IntegrityCheck).model_validate(settings)
            for name, settings in self.integrity.items()
            if settings is not None
        )

    def recipe(self) -> Recipe:
        """Build the training recipe."""
        return find("holdfast.training", self.training.recipe, Recipe).model_validate(self.training.settings)

    def retrained(self) -> Params:
        """Give the params of a retraining: with the recipe of its own, where it has one."""
        own = self.recovery.retraining.recipe
        if own is None:
            return self
        return self.model_copy(update={"training": TrainingParams(recipe=own.name, settings=own.settings)})

    @property
    def goes_on(self) -> bool:
        """Whether a retraining begins from the champion's weights."""
        return self.recovery.retraining.warm_start or isinstance(self.retrained().recipe(), ContinualRecipe)

    def panel(self) -> Panel:
        """Build the panel of detectors."""
        from holdfast.monitoring.panels import Panel  # noqa: PLC0415  only who watches needs river and SciPy

        return Panel(
            detectors={
                name: find("holdfast.monitoring", name, Detector).model_validate(settings)
                for name, settings in self.monitoring.detectors.items()
                if settings is not None
            },
            budget=self.monitoring.budget,
        )

    def stream(self) -> Stream:
        """Build the stream.

        Raises:
            ParamsError: params name none.
        """
        if self.monitoring.stream is None:
            raise ParamsError(
                "monitoring.stream", found="none", expected="where windows come from",
                remedy="Name a source: replay, parquet_folder or sql_table.",
            )  # fmt: skip
        chosen = self.monitoring.stream
        return find("holdfast.data.streams", chosen.source, Stream).model_validate(chosen.settings)

    def incidents(self) -> dict[str, Incident]:
        """Build the incidents by name, in the order of the file.

        Raises:
            ParamsError: a file is gone or was changed since params were read.
        """
        from holdfast.drills.incident import one_name_each, read_incident  # noqa: PLC0415  only who drills needs them

        asked = {name: given for name, given in self.drills.incidents.items() if given is not None}
        one_name_each(asked)
        built = (read_incident(name, given) for name, given in asked.items())
        return {incident.name: incident for incident in built}

    def section_digest(self, *sections: str) -> str:
        """Name some sections' contents: a cache key depends on what it reads and on nothing else."""
        whole = self.model_dump(mode="json")
        return digest_json({section: whole[section] for section in sections})

    def _settings(self, path: str) -> dict[str, Any]:
        family, name = path.split("/", 1)
        return self.evaluation.scenarios[family][name]


def _build_scenario(path: str, settings: dict[str, Any], points: int | None = None) -> Scenario:
    family, name = path.split("/", 1)
    kind = find(f"holdfast.scenarios.{family}", name.split("-")[0], Scenario)
    scenario = kind.model_validate(settings)
    if points is not None and getattr(scenario, "points", 0) > points:
        scenario = scenario.model_copy(update={"points": points})
    return scenario


def load(path: Path, overlays: tuple[Path, ...] = (), assignments: tuple[str, ...] = ()) -> Params:
    """Read ``params.yaml``, lay overlays and ``a.b=c`` assignments over it, and validate the whole.

    Raises:
        ParamsError: anything is wrong; the message lists every mistake, a line each.
    """
    return validate(read(path, overlays, assignments))


def validate(layers: Layers) -> Params:
    """Validate the whole that was read.

    Raises:
        ParamsError: anything is wrong; the message lists every mistake, a line each, with the layer that made it.
    """
    tree, problems = layers.tree, find_secrets(layers.tree)
    params: Params | None = None
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        problems += explain(error, Params, "")
    problems += check_registered(tree, FAMILIES) + check_names(tree, UsesParams().model_dump())
    problems += check_recorded(tree) + check_panel(tree)
    if problems or params is None:
        raise layers.refuse(problems)
    return params
