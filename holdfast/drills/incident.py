"""The incident: a declared timeline of what befalls a stream and a champion, and what the right response is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from holdfast.drills.events.base import ArtefactEvent, RowEvent
from holdfast.errors import ParamsError
from holdfast.params_files import parse
from holdfast.registry import available, code_of, find
from holdfast.results import Action, Cause, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVENTS = "holdfast.drills.events"
FOLDER = Path(__file__).parent / "incidents"
CALM: frozenset[Action] = frozenset({"none", "alert"})
"""What may be done about a window without anything being done."""
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Tilt(Value):
    """Rows are drawn more often the larger one of their numbers is: inputs move, and what they mean does not."""

    feature: str | None = None
    """Numeric column; the first that varies where None."""
    strength: float = 1.0
    """Log-odds for each standard deviation."""


class World(Value):
    """Where a window's rows come from: role ``drill``, of the champion's own time or of the later one."""

    period: Literal["own", "later"] = "own"
    since: float | None = None
    """First time, of the later period."""
    until: float | None = None
    """Last time, of the later period."""
    ordered: bool = False
    """In the order of time; else in none. Rows of the later period come once each; those of the own come again, as
    late and as seldom as may be, where there are too few of them."""
    tilt: Tilt | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.tilt and self.period == "later":
            msg = "rows that come once each cannot be tilted"
            raise ValueError(msg)
        return self


class Event(Value):
    """One event and the windows that it befalls."""

    do: str
    """A file of ``holdfast/drills/events`` by name."""
    at: Annotated[tuple[Count, ...], Field(min_length=1)]
    settings: dict[str, Any] = {}

    def build(self) -> RowEvent | ArtefactEvent:
        """Build what happens.

        Raises:
            LookupError: there is no such event.
            ValidationError: its settings are not its own.
        """
        kind = find(EVENTS, self.do, Value)
        built = kind.model_validate(self.settings)
        if not isinstance(built, RowEvent | ArtefactEvent):
            msg = f"{self.do} is no event"
            raise TypeError(msg)
        return built


class Right(Value):
    """The response that an incident asks for, and what must not happen."""

    action: Literal["none", "retrain", "quarantine", "repair", "rollback", "fall_back"]
    cause: Cause | None = None
    """Cause that must be named; any where None."""
    within: Positive = 4
    """Windows from onset, or from a later window that it is about, by which it must have been taken."""
    windows: tuple[Count, ...] = ()
    """Windows about which it must be taken, each; any one after onset where empty."""
    never: tuple[Action, ...] = ()


def _listed(said: object) -> object:
    """Take one right response for a list of one."""
    return (said,) if isinstance(said, Right | dict) else said


class Incident(Value):
    """One rehearsed incident. All places are windows of the drill's stream, from 0."""

    name: str
    title: str
    about: str
    """What happens, in a sentence or two."""
    measures: Literal["recovery", "evolution"]
    """Incidents of damage score recovery, incidents of change evolution."""
    onset: Positive
    horizon: Positive
    """Windows in all."""
    before: World = World()
    after: World | None = None
    """From onset on; as before where None."""
    events: tuple[Event, ...] = ()
    label_delay: Count = 0
    outage: tuple[Count, Count] | None = None
    """First window at which the registry does not answer, and the first at which it does again."""
    kill: bool = False
    """Kill -9 the worker in the middle of the first retraining."""
    right: Annotated[tuple[Right, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Each of them must be given, and nothing happen that one of them forbids; a file may name one without a list."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.onset >= self.horizon:
            msg = f"onset {self.onset} is not before horizon {self.horizon}"
            raise ValueError(msg)
        late = [place for event in self.events for place in event.at if place >= self.horizon]
        early = [place for event in self.events for place in event.at if place < self.onset]
        if late or early:
            msg = f"events at {late + early}: outside onset {self.onset} to horizon {self.horizon}"
            raise ValueError(msg)
        if self.outage and not self.outage[0] < self.outage[1] <= self.horizon:
            msg = f"outage {self.outage} is no stretch before {self.horizon}"
            raise ValueError(msg)
        if len(self.right) > 1 and any(right.action == "none" for right in self.right):
            msg = "where one right response is none, there is no other"
            raise ValueError(msg)
        return self

    @property
    def quiet(self) -> bool:
        """Tell whether the right response is to do nothing."""
        return self.right[0].action == "none"

    @property
    def drifts(self) -> bool:
        """Tell whether what is right changes: then quality is read against the oracle, not against the past."""
        return self.after is not None and self.after.period == "later"

    def row_events(self, place: int) -> tuple[tuple[int, RowEvent], ...]:
        """Give the events that befall a window's rows, with their numbers."""
        built = ((number, event.build()) for number, event in enumerate(self.events) if place in event.at)
        return tuple((number, event) for number, event in built if isinstance(event, RowEvent))

    def artefact_events(self, place: int) -> tuple[tuple[int, ArtefactEvent], ...]:
        """Give the events that befall the champion's bytes before a window, with their numbers."""
        built = ((number, event.build()) for number, event in enumerate(self.events) if place in event.at)
        return tuple((number, event) for number, event in built if isinstance(event, ArtefactEvent))

    def code(self) -> tuple[str, ...]:
        """Name the source of each event's class; empty for Holdfast's own."""
        return tuple(code_of(type(event.build())) for event in self.events)


def shipped() -> tuple[str, ...]:
    """Name the incidents that come with Holdfast."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_incident(name: str, settings: Mapping[str, Any] | None = None, project: Path = Path()) -> Incident:
    """Read an incident by name, or a user's by the path of its file, and lay settings over it.

    Args:
        name: a file of ``holdfast/drills/incidents`` without its suffix; or a path ending in ``.yaml``.
        settings: of ``drills.incidents`` in params; they win, place by place.
        project: folder below which a path lies.

    Raises:
        ParamsError: there is no such file, it is none, every mistake is listed, or it has the name of another.
    """
    own = name.endswith(".yaml")
    path = project / name if own else FOLDER / f"{name}.yaml"
    if own and path.stem in shipped():
        raise ParamsError(
            f"drills.incidents.{name}", found=f"the name of an incident that is shipped, {path.stem}",
            expected="a name of its own: findings and scores go by it",
            remedy=f"Rename the file; or name {path.stem} itself, and lay settings over it.",
        )  # fmt: skip
    try:
        body = parse(path.read_text())
    except OSError as error:
        raise _refused(name, "no such incident", f"one of {', '.join(shipped())}, or a .yaml file of yours") from error
    except ValueError as error:
        raise _refused(name, str(error), "YAML in which each name stands once") from error
    if not isinstance(body, dict):
        raise _refused(name, "no mapping", "title, about, onset ...")
    try:
        incident = Incident.model_validate({**laid(body, settings or {}), "name": path.stem})
        for event in incident.events:
            event.build()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise _refused(name, "; ".join(lines), "an incident") from error
    except (LookupError, TypeError) as error:
        raise _refused(name, str(error), f"events of {', '.join(available(EVENTS))}") from error
    return incident


def one_name_each(names: Iterable[str]) -> None:
    """Refuse incidents that would go by one name: the last of them would stand for all.

    Raises:
        ParamsError: two do.
    """
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(Path(name).stem, name)) != name:
            raise _refused(name, f"the name of {other} too", "incidents of which each has a name of its own")


def laid(body: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, place by place; lists are taken whole."""
    merged = dict(body)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = laid(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _refused(name: str, found: str, expected: str) -> ParamsError:
    return ParamsError(f"drills.incidents.{name}", found=found, expected=expected, remedy="Correct it, or the file.")
