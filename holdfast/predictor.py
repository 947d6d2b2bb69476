"""The predictor, the only way rows meet the champion: verify, validate, predict or abstain, log."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from holdfast.data.images import canonical_images
from holdfast.data.rows import digest_rows
from holdfast.data.table import encode
from holdfast.errors import DataError
from holdfast.model import load_model
from holdfast.prediction_log import Answer
from holdfast.space import Table
from holdfast.squeezing import unsteadiness

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Literal

    from torch import Tensor

    from holdfast.model import Target
    from holdfast.prediction_log import PredictionLog
    from holdfast.results import ModelVersion
    from holdfast.space import Box

Array = np.ndarray[Any, np.dtype[Any]]
UNSURE, NOT_FINITE, OUTSIDE = "confidence below the threshold", "no finite output", "outside the range of"
UNSEEN = "category not seen in training"
_ROUNDING = 0.01
"""How far apart probabilities of one row may lie under the same bytes: other hardware adds in another order, and
factors of a GPU's convolutions have ten bits (TF32). Damage that moves no answer by more harms nobody."""


@dataclass(frozen=True)
class Predictions:
    """Answers in the order of the rows."""

    version: ModelVersion
    names: tuple[str, ...]
    """Name of each class, in the order of the probabilities."""
    answers: tuple[Answer, ...]
    inputs: Tensor
    """What the model saw (n, *shape)."""
    probabilities: Array
    """Probability of each class (n, classes) float64; NaN where there is no finite output."""

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def classes(self) -> tuple[str | None, ...]:
        """Class names; None where the model abstained."""
        return tuple(answer.output for answer in self.answers)

    @property
    def confidence(self) -> Array:
        """Probability of the likeliest class (n,) float64; NaN where there is no finite output."""
        return np.array([answer.confidence for answer in self.answers], dtype=np.float64)

    @property
    def abstained(self) -> Array:
        """Rows (n,) bool without an answer."""
        return np.array([answer.abstained for answer in self.answers], dtype=bool)

    def against(self, served: Mapping[str, Answer]) -> tuple[int, tuple[str, ...]]:
        """Hold what was served for these rows against these answers, given by the same bytes: they must be the same.

        Classes are compared where one was given: where a client's threshold is another, abstaining is no other answer.

        Args:
            served: what was answered, by the digest of the row.

        Returns:
            How many rows were served, and what was served otherwise, a line for each row.
        """
        there = [answer.input in served for answer in self.answers]
        rows = list(compress(zip(self.answers, self.probabilities, strict=True), there))
        told = (_unlike(served[own.input], own, probabilities, self.names) for own, probabilities in rows)
        return len(rows), tuple(filter(None, told))

    def frame(self) -> pd.DataFrame:
        """Lay the answers out as a table: prediction, confidence, abstained, reason."""
        return pd.DataFrame(
            {
                "prediction": pd.Series(self.classes, dtype=object),
                "confidence": self.confidence,
                "abstained": self.abstained,
                "reason": pd.Series([answer.reason for answer in self.answers], dtype=object),
            }
        )


class Predictor:
    """A verified model behind its schema, its output policy and its log.

    What a row gets depends on that row alone: not on the rows beside it, not on the order, not on chance.
    """

    def __init__(
        self,
        target: Target,
        version: ModelVersion,
        log: PredictionLog,
        *,
        abstain_below: float = 0.0,
        unseen_categories: Literal["abstain", "answer"] = "abstain",
        extra: Literal["ignore", "refuse"] = "ignore",
    ) -> None:
        self.version, self._target, self._log = version, target, log
        self._abstain_below, self._extra = abstain_below, extra
        self._unseen = unseen_categories

    @classmethod
    def open(
        cls,
        folder: Path,
        version: ModelVersion,
        log: PredictionLog,
        *,
        abstain_below: float = 0.0,
        unseen_categories: Literal["abstain", "answer"] = "abstain",
        extra: Literal["ignore", "refuse"] = "ignore",
        device: torch.device | str = "cpu",
    ) -> Predictor:
        """Verify a version's bytes against the ledger's digest and put it behind its schema.

        Args:
            folder: the version's artefact.
            version: the champion as the ledger names it; its digest is what the bytes must have.
            log: where every answer goes before it is given.
            abstain_below: confidence in [0, 1] below which there is no answer.
            unseen_categories: whether a row with a category that no training row had gets an answer; a missing value
                is none.
            extra: what to do with columns that are no features.
            device: where to compute.

        Raises:
            ArtefactError: the bytes are missing or changed.
            ModelError: they are malformed, or the user's module is not the one trained with.
        """
        target = load_model(folder, version.digest, device)
        return cls(target, version, log, abstain_below=abstain_below, unseen_categories=unseen_categories, extra=extra)

    @property
    def space(self) -> Table | Box:
        """What the columns of the model's inputs are."""
        return self._target.space

    def embed(self, inputs: Tensor) -> Tensor:
        """Give what the model's last layer reads (n, width) for inputs that `predict` gave back.

        Raises:
            ModelError: the model has no such layer.
        """
        return self._target.embed(inputs).cpu().float()

    def squeeze(self, inputs: Tensor, past: Tensor) -> Array:
        """Give how far answers move (n, ways) when inputs that `predict` gave back lose their detail; none is logged.

        Args:
            inputs: (n, *shape).
            past: inputs (m, *shape) that tell which values are usual.
        """
        return unsteadiness(self._answer, inputs, past, self.space)

    def predict(self, rows: pd.DataFrame | Array, client: str, *, place: str = "rows") -> Predictions:
        """Answer for each row, or abstain; nothing is answered that is not logged.

        Args:
            rows: a table with the model's columns, or images (n, h, w) or (n, h, w, c), uint8 or floats in [0, 1].
            client: who asks.
            place: where the rows lie, for a message.

        Raises:
            DataError: the rows do not fit the model's schema; the message lists every fault, and nothing was computed.
            StoreError: the log cannot be written.
        """
        if not client:
            raise DataError("client", found="no name", expected="who asks", remedy="Name the client for the log.")
        told = self.examine(rows, place=place)
        self._log.append(self.version, told.answers, client)
        return told

    def examine(self, rows: pd.DataFrame | Array, *, place: str = "rows") -> Predictions:
        """Answer as `predict` does, for who gives the answers to nobody: the log is what was served.

        Raises:
            DataError: as of `predict`.
        """
        x, inputs, refusals = self._read(rows, place)
        probabilities = self._answer(x)
        answers = self._decide(probabilities, inputs, refusals)
        return Predictions(self.version, self._target.classes, answers, x, probabilities)

    def _read(self, rows: pd.DataFrame | Array, place: str) -> tuple[Tensor, list[str], list[str]]:
        """Validate rows; give inputs (n, *shape), the digest of each row, and why a row must not be answered."""
        space = self._target.space
        if isinstance(space, Table):
            if not isinstance(rows, pd.DataFrame):
                raise _wrong(place, type(rows).__name__, f"a table with the columns {', '.join(space.names)}")
            rows = rows.reset_index(drop=True)
            x = encode(rows, space, place=place, extra=self._extra)
            return x, _digests(x), refusals(x, space, self._unseen)
        if not isinstance(rows, np.ndarray):
            raise _wrong(place, type(rows).__name__, f"an array of images {space.shape}")
        if len(rows) == 0:
            return torch.zeros((0, *space.shape)), [], []
        pixels = canonical_images(rows, "images")
        if pixels.shape[1:] != space.shape:
            raise _wrong(place, f"images of (channels, height, width) {pixels.shape[1:]}", f"{space.shape}")
        x = torch.from_numpy(pixels).to(torch.float32)
        x = x / 255.0 if pixels.dtype == np.uint8 else x
        return x, _digests(x), [""] * len(x)

    def _answer(self, x: Tensor) -> Array:
        with torch.no_grad():
            logits = self._target.logits(x.to(self._target.device)).cpu().to(torch.float64)
        finite = logits.isfinite().all(1, keepdim=True)
        return np.asarray(torch.where(finite, torch.softmax(logits, dim=1), torch.nan).numpy())

    def _decide(self, probabilities: Array, inputs: list[str], refusals: list[str]) -> tuple[Answer, ...]:
        finite = np.asarray(np.isfinite(probabilities).all(axis=1))
        index = np.where(finite, np.nan_to_num(probabilities).argmax(1), 0)
        confidence = np.take_along_axis(probabilities, index[:, None], 1)[:, 0]
        answers = []
        for i, digest in enumerate(inputs):
            sure = float(confidence[i]) if finite[i] else None
            reason = refusals[i]
            if sure is None:
                reason = NOT_FINITE
            elif not reason and sure < self._abstain_below:
                reason = UNSURE
            output = None if reason else self._target.classes[int(index[i])]
            answers.append(Answer(input=digest, output=output, confidence=sure, reason=reason))
        return tuple(answers)


def _unlike(served: Answer, own: Answer, probabilities: Array, names: tuple[str, ...]) -> str:
    """Say how an answer that was served differs from a model's own to the same row; empty where it does not.

    Of two classes that are nearly as likely either may win: what counts is how much likelier the other is.
    """
    if own.confidence is None:
        return ""  # nothing to hold it against
    same = served.confidence is not None and abs(served.confidence - own.confidence) <= _ROUNDING
    if same and served.output is not None:
        given = names.index(served.output) if served.output in names else None
        same = given is not None and float(probabilities[given]) >= own.confidence - _ROUNDING
    if same:
        return ""
    sure = "no number" if served.confidence is None else f"{served.confidence:.3f}"
    likeliest = names[int(probabilities.argmax())]
    return f"served {served.output or 'no class'} at {sure}, its bytes say {likeliest} at {own.confidence:.3f}"


def refusals(x: Tensor, space: Table, unseen_categories: Literal["abstain", "answer"]) -> list[str]:
    """Say why each row (n, features) must not be answered; empty where it may be."""
    reasons = _outside(x, space)
    if unseen_categories == "answer":
        return reasons
    return [first or second for first, second in zip(reasons, _unseen(x, space), strict=True)]


def _outside(x: Tensor, space: Table) -> list[str]:
    """Say which declared range each row leaves; empty where none."""
    reasons = [""] * len(x)
    for column, feature in enumerate(space.features):
        if feature.kind != "number":
            continue
        low = -np.inf if feature.low is None else feature.low
        high = np.inf if feature.high is None else feature.high
        value = x[:, column].double()
        slack = 1e-6 * value.abs()  # float32 holds seven digits
        for row in torch.nonzero((value < low - slack) | (value > high + slack)).flatten().tolist():
            reasons[row] = reasons[row] or f"{OUTSIDE} {feature.name}"
    return reasons


def _unseen(x: Tensor, space: Table) -> list[str]:
    """Name the first category of each row that training never saw; empty where none. Missing values are none."""
    reasons = [""] * len(x)
    for column, feature in enumerate(space.features):
        if feature.kind == "category":
            for row in torch.nonzero(x[:, column] >= len(feature.categories)).flatten().tolist():
                reasons[row] = reasons[row] or f"{UNSEEN}: {feature.name}"
    return reasons


def _digests(x: Tensor) -> list[str]:
    """Digest what the model sees of each row (n, *shape), and nothing else: two inputs never share an answer's name.

    Values as they were written would not do: to one column 1 and True are two categories, to another one number.
    """
    values = np.where(np.isnan(x.numpy()), np.float32(np.nan), x.numpy()) + np.float32(0)  # one NaN, no negative zero
    return [row.tobytes().hex() for row in digest_rows(values, "input")]


def _wrong(place: str, found: str, expected: str) -> DataError:
    return DataError(
        place, found=found, expected=expected, remedy="Give rows of the kind that the model was trained on."
    )
