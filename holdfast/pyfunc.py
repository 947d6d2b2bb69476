"""How MLflow loads a version, in a process that may know nothing else of Holdfast; it imports no MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from holdfast.data.table import encode
from holdfast.model import load_model
from holdfast.space import Table

if TYPE_CHECKING:
    from holdfast.model import Target


class Scorer:
    """A loaded version as MLflow calls it: rows in, a table of class probabilities out.

    It validates rows as the predictor does, but resolves no champion, abstains from nothing and logs nothing:
    serving goes through ``holdfast predict``.
    """

    def __init__(self, target: Target) -> None:
        self.target = target

    def predict(self, rows: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ANN401, ARG002  MLflow's
        """Give one column for each class, named by it, and the predicted class under ``prediction``.

        Args:
            rows: for tables a DataFrame with the training columns; for images an array (n, c, h, w) in [0, 1].
            params: unused; MLflow passes it.

        Raises:
            DataError: rows do not fit the model's input space.
        """
        space = self.target.space
        if isinstance(space, Table):
            x = encode(pd.DataFrame(rows), space)
        else:
            x = torch.as_tensor(np.asarray(rows, dtype=np.float32)).reshape(-1, *space.shape)
        shares = self.target.logits(x).softmax(1).numpy()
        table = pd.DataFrame(shares, columns=list(self.target.classes))
        table["prediction"] = [self.target.classes[i] for i in shares.argmax(1)]
        return table


def _load_pyfunc(path: str) -> Scorer:
    """Load from the two files below ``path``; MLflow's loader hook."""
    folder = next(file.parent for file in Path(path).rglob("spec.json"))
    return Scorer(load_model(folder, digest=None))
