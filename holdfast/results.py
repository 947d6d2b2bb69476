"""The values that travel: Score to Finding to StageReport is the spine, Decision is the nerve; all frozen, all JSON."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.digests import digest_json

if TYPE_CHECKING:
    from collections.abc import Generator

Dimension = Literal["robustness", "defence", "recovery", "evolution"]
Role = Literal["train", "validation", "calibration", "gate", "test", "drill", "trusted"]
Stage = Literal["integrity", "training", "evaluation", "monitoring", "recovery"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Json = dict[str, Any]


class Value(BaseModel):
    """A frozen value with a JSON form and a fingerprint of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def fingerprint(self) -> str:
        """Name this value by the sha256 of its canonical JSON."""
        return digest_json(self.model_dump(mode="json"))

    def __iter__(self) -> Generator[tuple[str, Any], None, None]:  # noqa: PYI058  as pydantic has it
        """Give nothing to walk through.

        Twice for each task Prefect would look for futures in a thousand settings: a fifth of what it costs a run.
        """
        yield from ()


class Score(Value):
    """A share in [0, 1], larger is safer, with what is needed to believe it."""

    value: Share
    low: Share
    high: Share
    n: Annotated[int, Field(gt=0)]
    method: str
    """Name of the interval, for example ``wilson``; the level is 95 % everywhere."""
    kind: Literal["measured", "upper_bound", "lower_bound"] = "measured"
    """``upper_bound``: an attack, a stronger one may find more. ``lower_bound``: a certificate."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        slack = 1e-9  # the ends are computed by other roundings than the value
        if not self.low - slack <= self.value <= self.high + slack:
            msg = f"a score lies inside its interval: low <= value <= high, got {self.low}, {self.value}, {self.high}"
            raise ValueError(msg)
        return self


class Measure(Value):
    """A quantity that is no share: value, unit, direction, interval. ``censored`` means *never*, and has no value."""

    name: str
    value: float | None
    unit: str
    better: Literal["higher", "lower", "neither"]
    low: float | None = None
    high: float | None = None
    n: int | None = None
    method: str | None = None
    censored: bool = False

    @model_validator(mode="after")
    def _never_has_no_value(self) -> Self:
        if self.censored != (self.value is None):
            msg = "a measure has a value, or is censored, and never both"
            raise ValueError(msg)
        return self


class CurvePoint(Value):
    """One point of a curve: severity, budget, year ... and the score there."""

    at: float
    score: Score


class Curve(Value):
    """How a score moves along one axis."""

    name: str
    axis: str
    points: tuple[CurvePoint, ...]


class Check(Value):
    """One validity check of one finding; it fails only when the excess is significant *and* over its threshold."""

    name: str
    status: Literal["passed", "failed", "not_applicable"]
    reason: str
    statistic: float | None = None
    threshold: float | None = None
    p_value: float | None = None


class PerExample(Value):
    """Flags (and, where the metric ranks, ranking scores) for each point: what paired comparison needs."""

    points: str
    """Digest of the point ids, in order: two findings pair only when these agree."""
    n: int
    flags: str
    """Packed bits in base64: 1 where the point counts as right."""
    labels: str
    """Labels as int16 little-endian in base64."""
    scores: str | None = None
    """Ranking scores as float32 little-endian in base64, for AUROC and average precision."""

    @classmethod
    def pack(cls, ids: Any, flags: Any, labels: Any, scores: Any = None) -> Self:  # noqa: ANN401  array-likes
        """Pack arrays of one length: ids int64, flags bool, labels int, scores float or None."""
        ids64, bits = np.asarray(ids, dtype="<i8"), np.asarray(flags, dtype=bool)
        return cls(
            points=digest_json(ids64.tolist()),
            n=len(bits),
            flags=base64.b64encode(np.packbits(bits).tobytes()).decode(),
            labels=base64.b64encode(np.asarray(labels, dtype="<i2").tobytes()).decode(),
            scores=None if scores is None else base64.b64encode(np.asarray(scores, dtype="<f4").tobytes()).decode(),
        )

    def unpack_flags(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Give the flags as bool (n,)."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.flags), dtype=np.uint8), count=self.n).astype(bool)

    def unpack_labels(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        """Give the labels as int16 (n,)."""
        return np.frombuffer(base64.b64decode(self.labels), dtype="<i2")

    def unpack_scores(self) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        """Give the ranking scores as float32 (n,), or None where the metric does not rank."""
        return None if self.scores is None else np.frombuffer(base64.b64decode(self.scores), dtype="<f4")


class Provenance(Value):
    """What produced a finding; with the settings, enough to produce it again."""

    subject: str
    """Digest of the model, or for recipe scenarios of the recipe."""
    data: str
    """Digest of the data snapshot (md5 and roles)."""
    role: Role
    seed: int
    metric: str = "accuracy"
    library: str
    """Digest of the ``holdfast`` package."""
    code: str = ""
    """Digest of the user's module, where the model is the user's."""
    recipe: str = ""
    """Digest of the recipe that a scenario about a model trained with, where it trained any."""
    revision: str = "none"
    versions: dict[str, str]
    device: str


class Cost(Value):
    """What a finding took. Not part of its identity."""

    seconds: float = 0.0
    forwards: int = 0
    """Examples passed forward, padding not counted."""
    backwards: int = 0


class Finding(Value):
    """What one scenario found about one subject. No score means *unscored*, with the reason; never 0, never 1."""

    path: str
    """For example ``attacks/apgd_ce``, with ``-variant`` where params name one."""
    dimension: Dimension
    family: str
    settings: Json
    provenance: Provenance
    score: Score | None = None
    unscored: str | None = None
    measures: tuple[Measure, ...] = ()
    curves: tuple[Curve, ...] = ()
    slices: dict[str, Score] = {}
    checks: tuple[Check, ...] = ()
    per_example: PerExample | None = None
    details: Json = {}
    """Small family-specific extras for the report, JSON only (confusion matrices, example rows)."""
    cost: Cost = Cost()

    @model_validator(mode="after")
    def _scored_or_not(self) -> Self:
        if (self.score is None) == (self.unscored is None):
            msg = f"{self.path}: a finding has a score, or a reason why not, and never both"
            raise ValueError(msg)
        return self

    @property
    def key(self) -> str:
        """Name the question that this finding answers: equal keys may share one answer."""
        return question(self.path, self.settings, self.provenance)

    @property
    def valid(self) -> bool:
        """Whether every validity check passed or does not apply."""
        return all(check.status != "failed" for check in self.checks)


def question(path: str, settings: Json, provenance: Provenance) -> str:
    """Name a question before it is asked; the git revision is no part of it, the library's digest is."""
    origin = provenance.model_dump(mode="json", exclude={"revision"})
    return digest_json([path, settings, origin])


class IntegrityFinding(Value):
    """What one integrity check says of a snapshot."""

    check: str
    verdict: Literal["pass", "quarantine", "block"]
    reason: str
    examined: int
    rows: tuple[int, ...] = ()
    """Row ids (int64) to quarantine; empty for pass."""
    reasons: dict[str, str] = {}
    """Row id to reason, where rows differ in their reasons."""
    measures: tuple[Measure, ...] = ()


class RoleSummary(Value):
    """How many rows hold a role, and which: the digest is over the sorted row ids."""

    rows: int
    digest: str


class DataSnapshot(Value):
    """A reference to data as it was: never the data."""

    name: str
    path: str
    md5: str
    """DVC's md5 of ``data/`` (``....dir``)."""
    file_md5: str
    revision: str
    """Git revision, or ``none`` outside git."""
    rows: int
    period: tuple[str, str] | None
    roles: dict[Role, RoleSummary] = {}
    quarantined: str = ""
    """Digest of the quarantined row ids; empty when none."""
    content: str = ""
    """Digest of rows, roles and quarantine together: what findings and trainings say they read."""
    manifest: str = ""
    """DVC's md5 of the manifest that lays admitted windows beside ``data/``; empty for pinned data alone."""
    last_window: int | None = None
    """Place of the last window of the stream among the rows; None where there is none."""


class ModelVersion(Value):
    """A reference to one registered version of a model; the digest is of its bytes."""

    name: str
    version: int
    digest: str
    source: str = ""
    run_id: str = ""


About = Literal["shift", "harm", "attack", "confidence"]
"""What an alarm would mean: rows or answers moved; answers got worse; somebody is trying; confidence is off."""
Action = Literal[
    "promote", "keep", "inconclusive", "block", "rollback", "none",
    "alert", "quarantine", "retrain", "repair", "fall_back", "freeze",
]  # fmt: skip
"""What a gate can say, and what the loop can."""
Cause = Literal[
    "none", "quality_fault", "benign_shift", "harmful_drift", "suspected_evasion", "suspected_poisoning",
    "damaged_artefact", "unknown",
]  # fmt: skip


class Signal(Value):
    """What one detector says of one window."""

    detector: str
    about: About
    needs: Literal["inputs", "outputs", "embeddings", "labels"]
    """What it looked at: rows, the champion's answers, what its last layer read, or labels that matured."""
    window: str
    """Digest of the window's row ids."""
    position: int
    """Place of the window in the stream."""
    turn: int | None = None
    """Place of the window with which labels matured and this became news; None of what is told at once, or never."""
    n: int
    statistic: float
    threshold: float
    alarm: bool
    """Whether the statistic exceeds the threshold, and what the detector supposes holds."""
    effect: float
    effect_unit: str
    p_value: float | None = None
    e_value: float | None = None
    details: Json = {}


class Reason(Value):
    """One line of why."""

    about: str
    """Scenario path or rule that speaks."""
    passed: bool
    text: str


class Diagnosis(Value):
    """What is happening, as far as one window and the labels that matured with it can tell."""

    cause: Cause
    reasons: tuple[Reason, ...]
    """What speaks for it; ``passed`` is false where something is wrong."""
    windows: tuple[int, ...] = ()
    """Places of the windows to set aside: where other windows are poisoned, or this one's rows are at fault as well."""
    judged: bool = False
    """Whether labels have spoken of all that alarmed."""
    evidence: tuple[str, ...] = ()
    """Digests of the signals and findings that were read."""


class Decision(Value):
    """What to do, and why. Flows branch on ``action`` and on nothing else."""

    action: Action
    reasons: tuple[Reason, ...]
    cause: Cause | None = None
    """Why anything is to be done at all, for decisions about the stream; None for those of a gate."""
    position: int | None = None
    """Window of the stream at which the decision was taken; None for those of a gate."""
    windows: tuple[int, ...] = ()
    """Windows that it sets aside, where these are others, since labels mature later and poison shows with them; or
    where something else is done besides."""
    episode: int | None = None
    """Window at which harm began that is not over yet."""
    candidate: ModelVersion | None = None
    champion: ModelVersion | None = None
    evidence: tuple[str, ...] = ()
    """Digests of the findings that the decision read."""


class StageReport(Value):
    """What one stage did to one subject."""

    stage: Stage
    subject: str
    findings: tuple[Finding, ...] = ()
    reused: tuple[str, ...] = ()
    """Paths of findings that were found before this run: their cost is what they once took."""
    integrity: tuple[IntegrityFinding, ...] = ()
