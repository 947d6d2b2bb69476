"""How MLflow loads a version, in a process that may know nothing else of Holdfast; it imports no MLflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import yaml

from holdfast.data.table import encode
from holdfast.errors import ModelError
from holdfast.model import SPEC, load_model
from holdfast.space import Table

if TYPE_CHECKING:
    from holdfast.model import Target


DESCRIPTION, DIGEST = "MLmodel", "holdfast.digest"
"""MLflow's description of an artefact, and the name under which its metadata holds the digest of the model's bytes."""


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
    """Load from the two files below ``path``, their bytes held against MLflow's description; MLflow's loader hook.

    Raises:
        ModelError: the bytes are not those that were logged, or nothing says which were.
    """
    folder = next((file.parent for file in Path(path).rglob(SPEC)), Path(path))
    return Scorer(load_model(folder, _logged_digest(folder)))


def _logged_digest(folder: Path) -> str:
    """Read the digest that was logged with a model, from the description that lies above its data."""
    description = next((above / DESCRIPTION for above in folder.parents if (above / DESCRIPTION).is_file()), None)
    try:
        digest = yaml.safe_load(description.read_text())["metadata"][DIGEST] if description else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        digest = None
    if not isinstance(digest, str) or re.fullmatch("[0-9a-f]{64}", digest) is None:
        raise ModelError(
            str(description or folder), found=f"no {DIGEST}", expected="the digest that the model was logged with",
            remedy="Fetch the whole artefact of a version that `holdfast` registered.",
        )  # fmt: skip
    return digest
