"""What a user's module is made of: its own files, and the files of the working copy that they import."""

from __future__ import annotations

import ast
import site
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.digests import digest_file, digest_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OURS = "holdfast"
"""The library digest covers it, and nothing else."""


def sources(start: Path, root: Path) -> tuple[Path, ...]:
    """List the files that decide what a module does: its package whole, or it alone, and what they import beside it.

    Every import statement of every file counts, wherever it stands. Modules in site-packages and of the standard
    library stay out, and nothing is followed from there: an installed package is its own files.

    Args:
        start: the module's file, or the ``__init__.py`` of its top package.
        root: the folder that imports start from.
    """
    found: set[Path] = set()
    waiting = _with_package(start)
    follow = not _installed(root)
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        if follow:
            for name in imported(file, root):
                waiting += _beside(name, root)
    return tuple(sorted(found))


def digest_below(root: Path, files: Iterable[Path]) -> str:
    """Name files by their places below the root and their bytes."""
    return digest_json({file.relative_to(root).as_posix(): digest_file(file) for file in files})


def _with_package(file: Path) -> list[Path]:
    return list(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def imported(file: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """Give each dotted name that a file may import, as parts; relative ones from the root."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # what Python cannot read imports nothing
        return
    package = file.relative_to(root).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            yield module
            yield from ((*module, alias.name) for alias in node.names)


def _beside(name: tuple[str, ...], root: Path) -> list[Path]:
    """Find the files below the root that a dotted name stands for: a package counts whole."""
    if not name or name[0] == _OURS:
        return []
    for depth in range(1, len(name) + 1):
        place = root.joinpath(*name[:depth])
        if (place / "__init__.py").is_file():
            return _with_package(place / "__init__.py")
        if (module := place.with_name(f"{place.name}.py")).is_file():
            return [module]
    return []


def _installed(root: Path) -> bool:
    """Tell whether a folder is one that packages are installed to, or the standard library's."""
    held = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    held |= {*site.getsitepackages(), site.getusersitepackages()}
    return root.resolve() in {Path(each).resolve() for each in held}
