"""The layers of ``params.yaml``: the file, overlays and ``--set``, read and laid over each other; nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from holdfast.errors import ParamsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Tree = dict[Any, Any]

_SECRET_NAME = re.compile(r"pass(words?|wds?)?$|secret|token|api_?key|credential", re.IGNORECASE)
_SECRET_ITSELF = re.compile(r"(pass(word|wd)?|secret|token|api_?key|credentials?)$", re.IGNORECASE)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s:?#]*:[^@\s]+@", re.IGNORECASE)
_PASSWORD_GIVEN = re.compile(
    r"(^|[?&;\s])[a-z_]*(pass(word|wd)?|pwd|secret|token|api_?key|access_?key)\s*=\s*[^&\s]", re.IGNORECASE
)
"""A password in a URL's query, or in a list of settings such as ``host=db password=...``."""
_LINE = 40
"""Characters of a value that a message shows."""


@dataclass(frozen=True)
class Layer:
    """What one file, or one ``--set``, set."""

    name: str
    """As a message names it; a secret's value is left out."""
    roots: frozenset[str]
    """Places that it set whole: whatever is wrong there or below is its doing."""


@dataclass(frozen=True)
class Layers:
    """The whole tree, and who set what."""

    tree: Tree
    layers: tuple[Layer, ...] = field(default_factory=tuple)

    def blame(self, place: str) -> tuple[str, ...]:
        """Name the layers that made a place what it is: the last that set it, or all that set something below it.

        What nobody set is the first layer's to set.
        """
        for layer in reversed(self.layers):
            if any(place == root or place.startswith(f"{root}.") for root in layer.roots):
                return (layer.name,)
        below = [each.name for each in self.layers if any(root.startswith(f"{place}.") for root in each.roots)]
        return tuple(below or [each.name for each in self.layers[:1]])

    def refuse(self, problems: list[str]) -> ParamsError:
        """Give the one error that lists every mistake, ``place: what is wrong``, with the layers that made it."""
        blamed = {problem: self.blame(problem.partition(": ")[0]) for problem in dict.fromkeys(problems)}
        guilty = {name for names in blamed.values() for name in names}
        apart = len(set(blamed.values())) > 1
        lines = [f"{problem} [{' + '.join(names)}]" if apart else problem for problem, names in blamed.items()]
        return mistakes(" + ".join(layer.name for layer in self.layers if layer.name in guilty), lines)


def mistakes(where: str, lines: list[str]) -> ParamsError:
    """List mistakes, a line each."""
    listing = "".join(f"\n  {line}" for line in lines)
    return ParamsError(
        where, found=f"{len(lines)} mistake{'s' if len(lines) != 1 else ''}:{listing}\n",
        expected="what each line says", remedy="Nothing was started.",
    )  # fmt: skip


def read(path: Path, overlays: tuple[Path, ...] = (), assignments: tuple[str, ...] = ()) -> Layers:
    """Read ``params.yaml`` and lay overlays and ``a.b=c`` assignments over it.

    Raises:
        ParamsError: a file cannot be read, or an assignment has not that form: what the whole would be is unknown.
    """
    tree: Tree = {}
    layers, unread = [], []
    for file in (path, *overlays):
        try:
            over = _read(file)
        except ParamsError as error:
            unread.append(error)
            continue
        layers.append(Layer(str(file) if file in overlays else file.name, frozenset(_roots(over))))
        tree = _merge(tree, over) if tree else over
    for assignment in assignments:
        try:
            layers.append(_assign(tree, assignment))
        except ParamsError as error:
            unread.append(error)
    if len(unread) == 1:
        raise unread[0]
    if unread:
        raise mistakes(" + ".join(error.where for error in unread), [str(error) for error in unread])
    return Layers(tree, tuple(layers))


def find_secrets(node: object, place: str = "", name: str = "") -> list[str]:
    """Find passwords in URLs, and values under names of secrets: they never belong in the file.

    Args:
        node: a raw tree, or any part of it.
        place: where it lies, for the message.
        name: the key that it lies under; items of a list lie under the list's.
    """
    if isinstance(node, dict):
        return [
            problem
            for key, value in node.items()
            for problem in find_secrets(value, f"{place}.{key}" if place else str(key), str(key))
        ]
    if isinstance(node, list | tuple | set):
        return [problem for i, item in enumerate(node) for problem in find_secrets(item, f"{place}.{i}", name)]
    if _holds_secret(name, node):
        return [f"{place}: looks like a secret with a value; write env:NAME or block:NAME (value not shown)"]
    if isinstance(node, str) and (_URL_WITH_PASSWORD.search(node) or _PASSWORD_GIVEN.search(node)):
        return [
            f"{place}: a URL with a password; put it in an environment variable and write env:NAME (value not shown)"
        ]
    return []


def _holds_secret(name: str, value: object) -> bool:
    if isinstance(value, str):
        return bool(_SECRET_NAME.search(name)) and not value.startswith(("env:", "block:"))
    # A number of tokens is none: only a name that ends as a secret does holds one that is no text.
    return value is not None and bool(_SECRET_ITSELF.search(name))


def _read(path: Path) -> Tree:
    try:
        tree = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(
            str(path), found=error.strerror or "nothing", expected="a YAML file", remedy="Name an existing file."
        ) from error
    except ValueError as error:
        raise ParamsError(
            str(path), found=str(error), expected="YAML in which each name stands once", remedy="Mend the file there."
        ) from error
    if not isinstance(tree, dict):
        raise ParamsError(
            str(path), found=type(tree).__name__, expected="a mapping of sections", remedy="See params.yaml."
        )
    return tree


def parse(text: str) -> object:
    """Read YAML in which each name stands once in its section.

    Raises:
        ValueError: it is none; the message names the place and repeats no value of the file.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        twice = sorted(_twice(node))
        tree = None if node is None else loader.construct_document(node)
        _depth(tree)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"
        msg = f"{place}: {error.problem or error.context or 'no YAML'}"
        raise ValueError(msg) from None
    except (yaml.YAMLError, UnicodeError):
        msg = "characters that YAML does not allow"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "sections inside sections without end"
        raise ValueError(msg) from None
    if twice:
        raise ValueError("; ".join(twice))
    return tree


def _twice(root: yaml.Node | None) -> Iterator[str]:
    """Find keys that stand twice in one section: YAML would take the last and say nothing of the others."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))  # an alias may hold itself
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        waiting += [value for _, value in node.value]
        lines: dict[tuple[str, str], list[int]] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines.setdefault((key.tag, key.value), []).append(key.start_mark.line + 1)
        for (_, name), places in lines.items():
            if len(places) > 1:
                yield f"{short(name)} stands {len(places)} times in one section: lines {', '.join(map(str, places))}"


def _depth(node: object) -> int:
    """Count sections inside sections; an alias that holds itself raises RecursionError."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return 1 + max((_depth(each) for each in inner), default=0)


def _merge(base: Tree, over: Tree) -> Tree:
    """Lay one tree over another: mappings merge, unless one says ``replace: true``; all else replaces."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and value.get("replace") is True:
            merged[key] = _without_mark(value)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _without_mark(value: object) -> object:
    """Give what replaces a section; ``--set`` always does, with the mark or without."""
    if not isinstance(value, dict) or value.get("replace") is not True:
        return value
    return {name: inner for name, inner in value.items() if name != "replace"}


def _roots(over: object, place: str = "") -> Iterator[str]:
    """List the places that an overlay sets whole; a section that merges is set by its parts."""
    if not isinstance(over, dict) or (place and over.get("replace") is True):
        yield place
        return
    for key, value in over.items():
        yield from _roots(value, f"{place}.{key}" if place else str(key))


def _assign(tree: Tree, assignment: str) -> Layer:
    """Set one knob in place, and say what was set.

    Raises:
        ParamsError: it has not the form ``a.b=c``, or leads through a value; a value is not repeated.
    """
    place, equals, text = assignment.partition("=")
    if not equals or not place:
        raise _unset(short(place), "no place" if equals else "no '='", "the form a.b=c")
    try:
        value = parse(text)
    except ValueError:
        raise _unset(place, "a value that is no YAML", "a YAML value") from None
    *parents, last = place.split(".")
    node = tree
    for parent in parents:
        if not isinstance(node.setdefault(parent, {}), dict):
            raise _unset(place, f"{parent} to be a value", "sections up to the last name")
        node = node[parent]
    node[last] = _without_mark(value)
    hidden = find_secrets(value, place, last) or find_secrets(text, place, last)
    return Layer(f"--set {place}" if hidden else f"--set {place}={short(text)}", frozenset({place}))


def _unset(what: str, found: str, expected: str) -> ParamsError:
    return ParamsError(
        f"--set {what}", found=found, expected=expected, remedy="Write it as in --set training.settings.epochs=3."
    )


def short(value: object) -> str:
    """Show a value on a line."""
    text = " ".join(str(value).split())
    return text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."
