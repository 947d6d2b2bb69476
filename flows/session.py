"""A command's session: params validated, stores opened, the run lock held, Prefect at hand, refusals as exit codes."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flows.console import STDERR, narrated
from flows.environment import end_orphan, one_at_a_time, open_stores, prefect_server, prepare
from flows.imports import no_garbage
from flows.interrupts import INTERRUPTED, TERMINATED, Terminated, unwound
from holdfast.errors import HoldfastError, StoreError
from holdfast.params_files import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.params import Params
    from holdfast.stores import Stores


@dataclass(frozen=True)
class Session:
    """Validated params and their stores."""

    params: Params
    stores: Stores


@contextmanager
def session(
    overlays: list[Path] | None,
    assignments: list[str] | None,
    *,
    as_json: bool,
    server: bool = True,
    lock: bool = True,
    writing: bool = True,
    early: Callable[[], None] | None = None,
) -> Iterator[Session]:
    """Validate params, open stores, hold the run lock, record with Prefect, narrate; turn refusals into exit codes.

    ``early`` checks a command's own arguments, before seconds of imports; ``writing`` asks for a folder of state that
    can be written.
    """
    project = Path.cwd()
    sys.path.insert(0, str(project))  # where the user's model module lives
    try:
        with unwound() as strokes:
            if early is not None:
                early()
            layers = read(project / "params.yaml", tuple(overlays or ()), tuple(assignments or ()))
            with ExitStack() as held:
                with no_garbage():
                    from holdfast.params import validate  # noqa: PLC0415  torch takes seconds, a wrong path should not

                    params = validate(layers)
                    stores = open_stores(params, project, writing=writing)
                    prepare(stores)
                    held.enter_context(narrated())
                    if lock:
                        held.enter_context(one_at_a_time(stores))
                    if server:
                        strokes.at_once = lambda: end_orphan(stores)
                        held.enter_context(prefect_server(stores))
                yield Session(params, stores)
    except HoldfastError as error:
        _refuse(error, as_json=as_json)
    except KeyboardInterrupt as stop:
        said, code = ("terminated", TERMINATED) if isinstance(stop, Terminated) else ("interrupted", INTERRUPTED)
        STDERR.print(f"[yellow]{said}[/]: what is finished is kept; the same command goes on from there")
        raise typer.Exit(code) from None
    except Exception as error:
        # Told by name: importing Prefect here, before its settings are made, would fix the wrong ones.
        if type(error).__module__.split(".")[0] not in {"prefect", "httpx"}:
            if as_json:  # one document on stdout, whatever happens; the traceback follows on stderr
                _print_error(type(error).__name__, _unforeseen(error))
            raise
        _refuse(_unrecorded(error), as_json=as_json)


def _unrecorded(error: Exception) -> StoreError:
    words = (str(error).splitlines() or ["no answer"])[0][:200]
    return StoreError(
        "Prefect API", found=f"{type(error).__name__}: {words}", expected="a server that records the run",
        remedy="Start it again and run: what is finished is kept.",
    )  # fmt: skip


def _unforeseen(error: Exception) -> HoldfastError:
    return HoldfastError(
        "holdfast", found=(str(error).splitlines() or ["no words"])[0][:200], expected="no error of this kind",
        remedy="This is a fault of Holdfast: report it with the traceback; what is finished is kept.",
    )  # fmt: skip


def _print_error(kind: str, error: HoldfastError) -> None:
    parts = {"where": error.where, "found": error.found, "expected": error.expected, "remedy": error.remedy}
    print_document({"error": {"kind": kind, **parts}})


def _refuse(error: HoldfastError, *, as_json: bool) -> None:
    if as_json:
        _print_error(type(error).__name__, error)
    STDERR.print(f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(error.exit_code) from error


def print_document(document: dict[str, Any]) -> None:
    """Write the one JSON document of a command."""
    typer.echo(json.dumps(document, indent=1, sort_keys=True))


def say(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Write what a command found: its document where one is asked for, else the text."""
    if as_json:
        print_document(document)
    else:
        typer.echo(text)
