"""A user's factory: the function that builds a network, and the source files that decide what it does."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import traceback
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.digests import NUMERIC_LIBRARIES
from holdfast.errors import ModelError
from holdfast.sources import digest_below, imported, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def resolve_factory(name: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Raises:
        ModelError: there is no such module or function, or the module fails while it is imported.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise whatever it likes
        raise ModelError(
            f"model.factory {name}",
            found=told(error),
            expected="an importable package.module:function",
            remedy="Mend or install the module, or run from the folder that holds it.",
        ) from error
    function: Any = getattr(module, attribute, None)
    if function is None:
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        near = difflib.get_close_matches(attribute, known, n=1, cutoff=0.5)
        raise ModelError(
            f"model.factory {name}", found=f"no {attribute} in {module_name}",
            expected="a function of that module",
            remedy=f"Did you mean {near[0]}?" if near else "Name one that it has.",
        )  # fmt: skip
    if not callable(function):
        raise ModelError(
            f"model.factory {name}", found=type(function).__name__, expected="a function", remedy="Name a function."
        )
    factory: Callable[..., Any] = function
    return factory


def check_factory(name: str, settings: Mapping[str, Any]) -> None:
    """Hold a factory and its settings against each other without calling it: what can be refused before any work is.

    Raises:
        ModelError: it cannot be imported, or does not take (shape, classes) and these settings.
    """
    signature = inspect.signature(resolve_factory(name))
    try:
        signature.bind((1,), 2, **settings)
    except TypeError as error:
        raise ModelError(
            f"model.factory {name}", found=f"{error}; it is {name.rpartition(':')[2]}{signature}",
            expected=f"a function of (shape, classes) that takes {', '.join(settings) or 'no settings'}",
            remedy="Mend the factory, or model.settings in params.yaml.",
        ) from error  # fmt: skip


def factory_sources(name: str) -> tuple[Path, tuple[Path, ...]] | None:
    """Find the source of a user's factory: its package whole, or its module, with all beside it that they import.

    Returns:
        The folder that imports start from, and the files; None for Holdfast's own, which the library digest covers.

    Raises:
        ModelError: there is no such module or function.
    """
    module_name = name.partition(":")[0]
    top = module_name.split(".")[0]
    if top == "holdfast":
        return None
    resolve_factory(name)
    found = importlib.util.find_spec(top)
    if found is None or found.origin is None:
        raise ModelError(
            f"model.factory {name}", found="a module without source files", expected="a module or package of files",
            remedy="Give the package an __init__.py.",
        )  # fmt: skip
    origin = Path(found.origin)
    root = origin.parent.parent if origin.name == "__init__.py" else origin.parent
    return root, sources(origin, root)


def factory_digest(name: str) -> str:
    """Name the source of a user's factory, wherever it lies; empty for Holdfast's own."""
    found = factory_sources(name)
    if found is None:
        return ""
    root, files = found
    return digest_below(root, files)


def factory_packages(name: str) -> dict[str, str]:
    """Give the versions of the installed distributions that a user's factory and its files import, by name.

    They decide what the network computes as its source does; an edited source is another model, another version of a
    package is the same model under other conditions. Libraries that every key names anyway are left out.

    Raises:
        ModelError: there is no such module or function.
    """
    found = factory_sources(name)
    if found is None:
        return {}
    root, files = found
    tops = {name.partition(".")[0], *(parts[0] for file in files for parts in imported(file, root) if parts)}
    distributions = _distributions()
    names = {each for top in tops for each in distributions.get(top, ())}
    return {each: version(each) for each in sorted(names - {"holdfast", *NUMERIC_LIBRARIES})}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def told(error: Exception) -> str:
    """Say what went wrong in a user's code, and in which of its lines."""
    # An import that fails leaves Python's own frames and ours, which name no place that anyone could mend.
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if frame.filename != __file__ and "importlib" not in frame.filename]
    line, file = (error.lineno, error.filename) if isinstance(error, SyntaxError) else (None, None)
    if line is None and frames:
        line, file = frames[-1].lineno, frames[-1].filename
    words = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {words}" + (f" ({Path(file).name}, line {line})" if line and file else "")
