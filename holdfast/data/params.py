"""What ``params.yaml`` says of the data set: where it lies, what its columns mean, which rows play which role."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from holdfast.results import Role, Value


class FeatureParams(Value):
    """What the user says of one column; what is not said is read off the training rows."""

    kind: Literal["number", "category"] | None = None
    low: float | None = None
    high: float | None = None
    step: Annotated[float, Field(gt=0)] | None = None
    mutable: bool = False
    spikes: Annotated[bool, Field(exclude_if=lambda asked: not asked)] = False
    """Whether the shipped encoder tells a value that many rows share from those beside it, as trees do. It costs
    robustness: an attacker who can move the number by one step crosses a border of the model's. Where it is not asked
    for it is in no digest: a champion of a release without it knows its data again."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            msg = f"low {self.low:g} is above high {self.high:g}"
            raise ValueError(msg)
        if self.spikes and self.kind == "category":
            msg = "spikes are of numbers, and kind is category"
            raise ValueError(msg)
        return self


class DataParams(Value):
    """The data set: where it lies below ``data/``, and what its columns mean."""

    kind: Literal["table", "images"]
    path: str
    """File or folder below ``data/``: Parquet or CSV for tables; npz, or a folder of class folders, for images."""
    task: Literal["classification"] = "classification"
    label: str = "label"
    """Label column of a table; images have their labels beside them."""
    time: str | None = None
    train_until: float | None = None
    """Rows later than this are never trained on: some are test rows of the later period, the rest are streams."""
    classes: tuple[str, ...] = ()
    """Names of the label values, in order; read off the data when empty."""
    exclude: tuple[str, ...] = ()
    features: dict[str, FeatureParams] = {}
    relations: tuple[str, ...] = ()
    """Linear relations that every row keeps, such as ``sba_appv <= gr_appv``."""
    missing_values: dict[str, tuple[str | int | float, ...]] = {}
    """Codes that mean *unknown*, by column."""
    roles: dict[Role, Annotated[float, Field(gt=0, lt=1)]] = {
        "train": 0.60, "validation": 0.06, "calibration": 0.06, "gate": 0.14, "test": 0.12, "trusted": 0.02,
    }  # fmt: skip
    """Shares of the roles. A source's own test set is the role ``test``, with no share here; ``drill`` has one
    where drills shall stream rows of the champion's own time: rows after ``train_until`` are drill rows anyway."""
    later_test: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the rows after ``train_until`` that are test rows; the others are role ``drill``."""
    duplicates: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rows at least this similar share a role: 1.0 groups exact duplicates only."""

    @field_validator("task", mode="before")
    @classmethod
    def _refuse_by_name(cls, task: object) -> object:
        if isinstance(task, str) and task in {"regression", "forecasting"}:
            msg = f"{task} is not supported yet: classification is"
            raise ValueError(msg)
        return task

    @field_validator("path")
    @classmethod
    def _stays_below_data(cls, path: str) -> str:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            msg = "must be a path below data/, without '..'"
            raise ValueError(msg)
        return path

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(self.roles.values()) > 1 + 1e-9:
            msg = f"roles: shares sum to {sum(self.roles.values()):g}, more than 1"
            raise ValueError(msg)
        if missing := {"train", "validation", "gate"} - set(self.roles):
            msg = f"roles: no share for {', '.join(sorted(missing))}"
            raise ValueError(msg)
        if (self.train_until is not None) and self.time is None:
            msg = "train_until needs a time column: set data.time"
            raise ValueError(msg)
        return self
