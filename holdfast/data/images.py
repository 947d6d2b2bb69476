"""Images from an npz archive or a folder of class folders, as they were stored."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from holdfast.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_CHANNELS = (1, 3, 4)
_GREY, _COLOUR = 3, 4


@dataclass(frozen=True, eq=False)
class Images:
    """Images (n, c, h, w) as uint8, or float32 in [0, 1]; labels (n,); which rows the source keeps for testing."""

    pixels: Array
    y: Array
    tested: Array
    classes: tuple[str, ...] = ()


def read_images(path: Path, label: str = "y") -> Images:
    """Read images from an npz archive or a folder of class folders.

    An archive holds ``x_train`` and ``y_train``, with ``x_test`` and ``y_test`` where the source brings its own test
    rows, or ``x`` and ``y``; images are (n, h, w) or (n, h, w, c), uint8, or floats in [0, 1]. An array
    ``class_names`` names the classes. Anything else in it is left alone.

    Args:
        path: the archive or folder.
        label: what the label arrays are called.

    Raises:
        DataError: it cannot be read, or holds something else; pickled objects are refused unread.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() != ".npz":
        raise _refused(path, f"a {path.suffix or 'nameless'} file", "an .npz archive, or a folder of class folders")
    arrays = _read_arrays(path, label)
    pairs = [("x_train", f"{label}_train"), ("x_test", f"{label}_test")]
    if "x_train" not in arrays:
        pairs = [("x", label)]
    pairs = [pair for pair in pairs if pair[0] in arrays]
    if not pairs or any(y not in arrays for _, y in pairs):
        expected = f"x_train and {label}_train (and x_test, {label}_test), or x and {label}"
        raise _refused(path, f"arrays {', '.join(sorted(arrays)) or 'none'}", expected)
    parts = [_checked(path, x, arrays[x], y, arrays[y]) for x, y in pairs]
    if len({(x.shape[1:], x.dtype) for x, _ in parts}) > 1:
        found = " and ".join(f"{x.shape[1:]} {x.dtype}" for x, _ in parts)
        raise _refused(path, f"train and test images of {found}", "one shape and type")
    tested = np.concatenate([np.full(len(y), name == "x_test") for (name, _), (_, y) in zip(pairs, parts, strict=True)])
    names = arrays.get("class_names", np.array([], dtype=str))
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Images(x, y, tested, tuple(map(str, names)) if names.dtype.kind == "U" and names.ndim == 1 else ())


def read_inputs(path: Path) -> Array:
    """Read images without labels: ``x`` of an npz archive (n, h, w) or (n, h, w, c), as it was stored.

    Raises:
        DataError: it cannot be read, or holds no ``x``.
    """
    arrays = _read_arrays(path, "y")
    if "x" not in arrays:
        raise _refused(path, f"arrays {', '.join(sorted(arrays)) or 'none'}", "an array x")
    return arrays["x"]


def read_targets(path: Path, label: str = "y") -> Array:
    """Read labels alone: a one-dimensional array of an npz archive (n,), whole numbers or names.

    Raises:
        DataError: it cannot be read, or holds no such array.
    """
    arrays = _read_arrays(path, label)
    if label not in arrays:
        raise _refused(path, f"arrays {', '.join(sorted(arrays)) or 'none'}", f"an array {label}")
    y = arrays[label]
    if y.ndim != 1 or y.dtype.kind not in "biuU":
        raise _refused(f"{path.name}, {label}", f"{y.dtype} of shape {y.shape}", "whole numbers or names, one a row")
    return y


def canonical_images(x: Array, place: str) -> Array:
    """Turn (n, h, w) or (n, h, w, c) into (n, c, h, w), uint8 or float32 in [0, 1].

    Raises:
        DataError: another shape or type, or floats outside [0, 1].
    """
    if x.dtype.kind == "O":
        raise _refused(place, "Python objects", "an array of numbers; objects are never unpickled")
    if x.ndim not in {_GREY, _COLOUR} or 0 in x.shape or (x.ndim == _COLOUR and x.shape[3] not in _CHANNELS):
        raise _refused(place, f"shape {x.shape}", "(n, h, w) or (n, h, w, c) with 1, 3 or 4 channels, none empty")
    if x.dtype.kind == "f":
        if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
            raise _refused(place, "floats outside [0, 1] or not finite", "uint8, or floats in [0, 1]")
        x = x.astype(np.float32)
    elif x.dtype != np.uint8:
        raise _refused(place, str(x.dtype), "uint8, or floats in [0, 1]")
    return np.ascontiguousarray(x[:, None] if x.ndim == _GREY else x.transpose(0, 3, 1, 2))


def _read_arrays(path: Path, label: str) -> dict[str, Array]:
    """Read the arrays that mean something here, and only them."""
    wanted = {"x_train", f"{label}_train", "x_test", f"{label}_test", "x", label, "class_names"}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in wanted}
    except ValueError as error:
        found = "Python objects" if "pickle" in str(error) else str(error)
        raise _refused(path, found, "arrays of numbers; objects are never unpickled") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _refused(path, f"an archive that cannot be read ({error})", "a whole .npz archive") from error


def _checked(path: Path, x_name: str, x: Array, y_name: str, y: Array) -> tuple[Array, Array]:
    images = canonical_images(x, f"{path.name}, {x_name}")
    if y.ndim != 1 or len(y) != len(x):
        raise _refused(f"{path.name}, {y_name}", f"shape {y.shape}", f"({len(x)},), a label for each image")
    if y.dtype.kind not in "biuU":
        raise _refused(f"{path.name}, {y_name}", str(y.dtype), "integers, or names of classes")
    return images, y


def _read_folder(path: Path) -> Images:
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = [
        (file, folder.name)
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise _refused(path, "no images", "a folder for each class, with image files in it")
    pictures = [_read_picture(file) for file, _ in files]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        odd = next(file for (file, _), p in zip(files, pictures, strict=True) if p.shape != pictures[0].shape)
        found = f"sizes {sorted(shapes)}, the first odd one in {odd.relative_to(path)}"
        raise _refused(path, found, "images of one size and one number of channels")
    labels = np.array([name for _, name in files])
    return Images(
        canonical_images(np.stack(pictures), str(path)),
        labels,
        np.zeros(len(files), dtype=bool),
        tuple(folder.name for folder in folders if (labels == folder.name).any()),
    )


def _read_picture(file: Path) -> Array:
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise _refused(file, f"pixels of mode {image.mode}", "8 bits a channel")
            mode = "L" if image.mode in {"1", "L"} else "RGB"
            return np.asarray(image.convert(mode), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _refused(file, f"an image that cannot be read ({error})", "a whole image file") from error


def _refused(place: Path | str, found: str, expected: str) -> DataError:
    return DataError(str(place), found=found, expected=expected, remedy="Mend the file, or name another in data.path.")
