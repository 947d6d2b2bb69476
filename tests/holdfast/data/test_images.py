"""Images: archives and folders, whole or refused."""

import os

import numpy as np
import pytest
from PIL import Image

from holdfast.data.images import read_images
from holdfast.errors import DataError


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def grey(n=4):
    return np.arange(n * 6, dtype=np.uint8).reshape(n, 2, 3)


def test_both_layouts_of_archives_are_read(tmp_path):
    """Train and test arrays are joined with the test rows marked; x and y have none; colours come first."""
    path = tmp_path / "i.npz"
    np.savez(path, x_train=grey(), y_train=[0, 1, 0, 1], x_test=grey(2), y_test=[1, 0], class_names=["no", "yes"])
    images = read_images(path)
    assert images.pixels.shape == (6, 1, 2, 3)
    assert images.tested.tolist() == [False] * 4 + [True] * 2
    assert images.classes == ("no", "yes")
    np.savez(path, x=np.stack([grey()] * 3, axis=-1), y=[0, 1, 0, 1])
    images = read_images(path)
    assert images.pixels.shape == (4, 3, 2, 3)
    assert not images.tested.any()
    assert (images.pixels[:, 2] == grey()).all()


def test_objects_are_never_unpickled(tmp_path):
    """An archive with a pickled object is refused, and what it would have run did not run."""
    path = tmp_path / "i.npz"
    np.savez(path, x=np.array([Bomb(tmp_path / "ran")], dtype=object), y=[0])
    with pytest.raises(DataError, match="never unpickled"):
        read_images(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": grey(), "y": [0, 1]}, r"shape \(2,\)"),
        ({"x": grey().astype(np.int64), "y": [0] * 4}, "int64"),
        ({"x": grey().astype(float), "y": [0] * 4}, "outside"),
        ({"x": grey()[0], "y": [0, 1]}, r"shape \(2, 3\)"),
        ({"x": grey(), "y": [0.5] * 4}, "float64"),
        ({"pictures": grey()}, "arrays none"),
        ({"x_train": grey(), "y_train": [0] * 4, "x_test": grey()[:, :1], "y_test": [0] * 4}, "one shape"),
    ],
)
def test_archives_of_something_else_are_refused(tmp_path, arrays, said):
    """Wrong lengths, types, ranges, shapes and names: a clear error each."""
    np.savez(tmp_path / "i.npz", **arrays)
    with pytest.raises(DataError, match=said):
        read_images(tmp_path / "i.npz")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_truncated_archive_is_refused(tmp_path, kept):
    """An archive cut anywhere is an error."""
    path = tmp_path / "i.npz"
    np.savez_compressed(path, x=grey(200), y=np.arange(200) % 2)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError):
        read_images(path)


def folder(tmp_path, size=(5, 4)):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", size, (i, 2 * i, 40)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_class_folders_are_read(tmp_path):
    """Folder names are the labels, pixels are as saved, and other files are left alone."""
    (folder(tmp_path) / "cat" / "notes.txt").write_text("hello")
    images = read_images(tmp_path)
    assert images.pixels.shape == (6, 3, 4, 5)
    assert images.classes == ("cat", "dog")
    assert images.y.tolist() == ["cat"] * 3 + ["dog"] * 3
    assert images.pixels[2, :, 0, 0].tolist() == [2, 4, 40]


def test_odd_and_broken_pictures_are_named(tmp_path):
    """A picture of another size and one that is cut are refused by name."""
    folder(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "dog" / "odd.png")
    with pytest.raises(DataError, match=r"odd\.png"):
        read_images(tmp_path)
    (tmp_path / "dog" / "odd.png").write_bytes((tmp_path / "dog" / "0.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"odd\.png"):
        read_images(tmp_path)
