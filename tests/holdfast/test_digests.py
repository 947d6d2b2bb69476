"""Digests: what a result's name holds, so that nothing that could change it goes unnamed."""

import ast
from importlib.metadata import packages_distributions
from pathlib import Path
from sys import stdlib_module_names

import holdfast
from holdfast.digests import NUMERIC_LIBRARIES, library_versions
from holdfast.registry import available, find
from holdfast.scenarios.attacks._outside import Outside
from holdfast.scenarios.attacks.base import Attack

NO_NUMBERS = {"pydantic", "PyYAML", "SQLAlchemy", "Jinja2", "matplotlib", "threadpoolctl"}
"""Libraries that read, keep and draw what others computed."""


def test_every_library_that_computes_is_named_with_what_it_computed():
    """One that is imported anywhere in `holdfast` is among those whose versions are in every key, or has no numbers.

    An attack of an outside library names that one's version itself: the others' findings do not hang on it.
    """
    imported = set()
    for file in Path(holdfast.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported |= {name.partition(".")[0] for name in names if name}
    known = packages_distributions()
    used = {known[name][0] for name in imported - stdlib_module_names - {"holdfast"}}
    numeric = {name.lower().replace("_", "-") for name in NUMERIC_LIBRARIES}
    attacks = "holdfast.scenarios.attacks"
    kinds = [find(attacks, name, Attack) for name in available(attacks)]
    named = {kind.package for kind in kinds if issubclass(kind, Outside)}
    assert {name for name in used - NO_NUMBERS - named if name.lower().replace("_", "-") not in numeric} == set()
    assert set(library_versions()) == set(NUMERIC_LIBRARIES)
