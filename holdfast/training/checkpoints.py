"""Checkpoints of one training: tensors as safetensors and numbers as JSON, verified before use, never pickle."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from holdfast.digests import digest_json
from holdfast.errors import StoreError
from holdfast.stores import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

HEAD = "checkpoint.json"
_FORMAT = 1
_REMEDY = "Free space or mend the permissions, and run again: the work goes on from what was kept."


class CheckpointFolder:
    """One training's progress: ``checkpoint.json`` and the one tensor file that it names by epoch and digest.

    A kill at any instant leaves the former checkpoint or the one being written, whole. Only these two files
    are ever opened.
    """

    def __init__(self, folder: Path, training: str) -> None:
        """Open a folder for the training whose digest is ``training``."""
        self.folder = folder
        self.training = training

    def _tensors(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"

    def write(self, epoch: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Keep the state after an epoch in place of the former.

        Raises:
            StoreError: the folder is full or read-only; the former checkpoint is still there.
        """
        body = save_safetensors({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
        path = self._tensors(epoch)
        write_atomically(path, body, remedy=_REMEDY)
        record = {
            "format": _FORMAT,
            "training": self.training,
            "epoch": epoch,
            "tensors": hashlib.sha256(body).hexdigest(),
            "numbers": numbers,
        }
        head = json.dumps({"digest": digest_json(record), "value": record})
        write_atomically(self.folder / HEAD, head, remedy=_REMEDY)
        # What a kill left behind, and the former epoch.
        for stale in (*self.folder.glob("epoch-*.safetensors"), *self.folder.glob(".part-*")):
            if stale != path:
                stale.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Give tensors and numbers of the last epoch kept, or None when there never was one.

        Raises:
            StoreError: a file is missing, changed, unreadable, or of another training.
        """
        path = self.folder / HEAD
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._refused(path, f"{type(error).__name__}: {error}") from error
        try:
            envelope = json.loads(text)
            record = envelope["value"]
            sound = envelope["digest"] == digest_json(record) and record["format"] == _FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise self._refused(path, "no checkpoint record") from error
        if not sound:
            raise self._refused(path, "a record that is not what was written")
        if record["training"] != self.training:
            raise StoreError(
                str(path),
                found=f"the checkpoint of another training ({str(record['training'])[:16]})",
                expected=f"one of recipe, rows, seed and code {self.training[:16]}",
                remedy="Name another folder, or delete this one if its training is not wanted.",
            )
        return self._read_tensors(self._tensors(record["epoch"]), record["tensors"]), record["numbers"]

    def _read_tensors(self, path: Path, digest: str) -> dict[str, Tensor]:
        try:
            body = path.read_bytes()
        except OSError as error:
            raise self._refused(path, error.strerror or type(error).__name__) from error
        if hashlib.sha256(body).hexdigest() != digest:
            raise self._refused(path, "bytes that are not what was written")
        try:
            return load_safetensors(body)
        except SafetensorError as error:
            raise self._refused(path, str(error)) from error

    def _refused(self, path: Path, found: str) -> StoreError:
        return StoreError(
            str(path),
            found=found,
            expected="an unchanged checkpoint",
            remedy="Delete the folder to begin from the start, and find out who changed it.",
        )
