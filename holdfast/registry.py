"""The path is the registry: ``attacks/pgd`` is the params key, the file and, in capitals, the class."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar

from holdfast.digests import digest_json
from holdfast.sources import digest_below, sources

Registered = TypeVar("Registered")
_NOT_ENTRIES = {"__init__", "base"}
_NOT_THEIRS = {"holdfast", "pydantic", *sys.stdlib_module_names}
"""The library digest covers the first; the others' versions say enough."""


def class_name(stem: str) -> str:
    """Give the class that a file must hold: ``apgd_ce`` holds ``ApgdCe``."""
    return "".join(part.capitalize() for part in stem.split("_"))


@cache
def available(package: str) -> tuple[str, ...]:
    """List the names in one family: the files that hold their own class, and what third parties registered.

    Args:
        package: for example ``holdfast.scenarios.attacks``; also the entry point group of third parties.
    """
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    files = {
        path.stem
        for path in folder.glob("*.py")
        if path.stem not in _NOT_ENTRIES
        and not path.stem.startswith("_")
        and f"class {class_name(path.stem)}(" in path.read_text()
    }
    return tuple(sorted(files | set(_outside(package))))


@cache
def _outside(package: str) -> dict[str, EntryPoint]:
    """Find what third parties registered; reading the metadata of every installed package is slow, so once."""
    return {entry.name: entry for entry in entry_points(group=package)}


def find(package: str, name: str, base: type[Registered]) -> type[Registered]:
    """Import the one file that a name stands for and give its class.

    Raises:
        LookupError: no such name; the message lists what there is.
        TypeError: the file does not hold the class it should.
    """
    if name not in available(package):
        family = package.rsplit(".", 1)[-1]
        msg = f"no such name; {family}/ holds: {', '.join(available(package))}"
        raise LookupError(msg)
    outside = _outside(package).get(name)
    found = outside.load() if outside else None
    if found is None:
        found = getattr(importlib.import_module(f"{package}.{name}"), class_name(name), None)
    if not (isinstance(found, type) and issubclass(found, base)):
        msg = f"{package}.{name} must hold a class {class_name(name)} derived from {base.__name__}"
        raise TypeError(msg)
    return found


@cache
def code_of(kind: type) -> str:
    """Name the source of a registered class that is not Holdfast's own, and of the classes that it derives from.

    Returns:
        A digest over the package that each class lies in, whole, or over its module where it lies in none, with what
        they import beside them unless they are installed, as this process first read them; empty for Holdfast's own
        classes, which the library digest covers.

    Raises:
        TypeError: a class has no source file, so nothing would tell when it changes.
    """
    modules = {each.__module__ for each in kind.__mro__ if each.__module__.split(".")[0] not in _NOT_THEIRS}
    return digest_json({name: _digest(name) for name in sorted(modules)}) if modules else ""


def _digest(module: str) -> str:
    """Name a module's source by its top package, or by its own file where it is in none."""
    top = getattr(sys.modules.get(module.split(".", maxsplit=1)[0]), "__file__", None)
    if top is not None and Path(top).name == "__init__.py":
        start, root = Path(top), Path(top).parent.parent
    else:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None:
            msg = f"{module} has no source file; put the class into a module or package of files"
            raise TypeError(msg)
        start, above = Path(file), module.count(".")
        # A package inside folders without __init__.py: imports start above the first of them.
        root = start.parents[above + 1 if start.name == "__init__.py" else above]
    return digest_below(root, sources(start, root))
