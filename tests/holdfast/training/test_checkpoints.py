"""Checkpoints: the folder of one training, written whole or not at all."""

import pytest
import torch

from holdfast.errors import StoreError
from holdfast.training.checkpoints import CheckpointFolder


def test_a_folder_that_cannot_be_written_says_that_training_goes_on(tmp_path):
    """A file in the folder's place is an error with the remedy for a training, and is left as it is."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="goes on from what was kept"):
        CheckpointFolder(tmp_path / "file", "t").write(1, {"w": torch.zeros(2)}, {})
    assert (tmp_path / "file").read_text() == "mine"


def test_only_the_last_epoch_is_kept(tmp_path):
    """Two epochs leave the record and one tensor file, which read as they were written."""
    folder = CheckpointFolder(tmp_path, "t")
    for epoch in (1, 2):
        folder.write(epoch, {"w": torch.full((2,), float(epoch))}, {"epoch": epoch})
    tensors, numbers = folder.read()
    assert tensors["w"].tolist() == [2.0, 2.0]
    assert numbers == {"epoch": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "epoch-00002.safetensors"]
