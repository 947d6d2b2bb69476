"""The published generator of corrupted images, from a checkout of https://github.com/hendrycks/robustness.

It is a script of one's own paths and of libraries of 2018. Of its source the part that defines the corruptions is run,
with names that the libraries have changed since put right; nothing that computes is touched. It needs Wand (and
ImageMagick 6), scikit-image and OpenCV, which Holdfast itself does not: for example ``pip install --target PEER Wand
scikit-image opencv-python-headless``, and PEER on PYTHONPATH.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

Images = np.ndarray[Any, np.dtype[Any]]

SCRIPTS = {"cifar": "make_cifar_c.py", "imagenet": "make_imagenet_c.py"}
SIZES = {"cifar": 32, "imagenet": 224}
NAMES = {"jpeg": "jpeg_compression"}
"""Ours to theirs, where they differ."""
_FOLDER = Path("ImageNet-C", "create_c")
_END = "# /////////////// End Distortions"
_RENAMED = {
    "import torchvision.datasets as dset\n": "",
    "import torchvision.transforms as trn\n": "",
    "from scipy.ndimage.interpolation import": "from scipy.ndimage import",
    "multichannel=True": "channel_axis=-1",
    "np.float_)": "np.float64)",
    "np.fromstring": "np.frombuffer",
}


class Published:
    """One of the two scripts: images of 32 pixels (``cifar``) or 224 (``imagenet``)."""

    def __init__(self, checkout: Path, scale: str) -> None:
        folder = (checkout / _FOLDER).resolve()
        source = (folder / SCRIPTS[scale]).read_text().split(_END)[0]
        start = source.index("# /////////////// Distortion Helpers")
        source = (
            source[: source.index("# /////////////// Data Loader")] + source[start:] if scale == "imagenet" else source
        )
        for old, new in (_RENAMED | {"'./frost": f"'{folder}/frost"}).items():
            source = source.replace(old, new)
        os.environ.setdefault("MAGICK_THREAD_LIMIT", "1")
        self._tree, self._names = ast.parse(source), dict[str, Any]()
        exec(compile(self._tree, str(folder / SCRIPTS[scale]), "exec"), self._names)  # noqa: S102  the user's own checkout
        self._names["cv2"].setNumThreads(1)

    def corrupt(self, images: Images, family: str, severity: int, seed: int) -> Images:
        """Corrupt uint8 images (n, s, s, 3) one by one: float64 from 0 to 255."""
        function: Callable[..., Any] = self._names[NAMES.get(family, family)]
        np.random.seed(seed)  # noqa: NPY002  the generator that the script draws from
        return np.stack([np.asarray(function(Image.fromarray(image), severity), dtype=np.float64) for image in images])

    def parameters(self, family: str) -> list[list[float]]:
        """Read what a function takes for each severity: the list that it picks ``c`` from."""
        name = NAMES.get(family, family)
        tree = next(node for node in self._tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        table = next(
            node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and _named(node, "c")
        )
        names = self._names | {"IMSIZE": SIZES["cifar"]}
        found = eval(compile(ast.Expression(table), name, "eval"), names)  # noqa: S307  the user's own checkout
        return [np.atleast_1d(row).astype(float).tolist() for row in found]


def _named(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def synthetic(count: int, size: int) -> Images:
    """Draw images (n, size, size, 3) of bytes: a gradient of colours, four disks and a grating."""
    rng = np.random.default_rng(7)
    down, right = np.mgrid[:size, :size] / size
    images = []
    for _ in range(count):
        first, second = rng.uniform(size=(2, 3))
        image = first + (second - first) * ((down + right) / 2)[..., None]
        for top, left, radius, *colour in rng.uniform(size=(4, 6)):
            image[np.hypot(down - top, right - left) < 0.05 + 0.2 * radius] = colour
        waves = rng.uniform(-8, 8, size=2)
        image = image + 0.1 * np.sin(2 * np.pi * (waves[0] * down + waves[1] * right))[..., None]
        images.append((image.clip(0, 1) * 255).round().astype(np.uint8))
    return np.stack(images)
