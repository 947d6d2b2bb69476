"""Digests: one canonical form per value, so that equal things have equal names."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# What can change a result without a line of ours changing.
NUMERIC_LIBRARIES = (
    "torch", "lightning-fabric", "numpy", "scipy", "scikit-learn", "lightgbm", "pandas", "pyarrow", "pillow",
    "great_expectations", "evidently", "river", "safetensors",
)  # fmt: skip


def canonical(value: Any) -> str:  # noqa: ANN401  any JSON value
    """Render a JSON value in one way only: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_json(value: Any) -> str:  # noqa: ANN401  any JSON value
    """Name a JSON value by the sha256 of its canonical form, in 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Name a file by the sha256 of its bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_sources(folder: Path) -> str:
    """Name a folder of Python source, or one file, by paths and bytes; caches and data do not count."""
    files: Iterable[Path] = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(folder.parent)}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


@cache
def library_digest() -> str:
    """Name the ``holdfast`` package as this process imported it: an edited function is another library."""
    return digest_sources(Path(__file__).parent)


@cache
def library_versions() -> dict[str, str]:
    """Versions of the numeric libraries that results depend on."""
    return {name: version(name) for name in NUMERIC_LIBRARIES}


def work_key(stage: str, *parts: str, seed: int) -> str:
    """Name a piece of work by all that its result depends on; what has the same name need not be done again.

    Args:
        stage: the kind of work.
        parts: digests of what it reads: params sections, data, model, the user's module.
        seed: run seed.
    """
    return digest_json([stage, list(parts), seed, library_digest(), library_versions()])
