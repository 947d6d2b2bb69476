"""Runs the command line in this process, and has it killed, interrupted or terminated at the nth call of a named function."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from contextlib import contextmanager

# Ready to be patched only when stores and the Prefect API are set up: its settings are read at import.
import flows.session as command_session
from flows.cli import main as command_line


def arm(target: str, when: str, number: int, stroke: signal.Signals) -> None:
    """Replace ``module:name`` or ``module:Class.method`` by one that ends this process before or after a call."""
    module, _, path = target.partition(":")
    owner: object = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), iter(range(1, 1_000_000))

    @functools.wraps(original, updated=())
    def armed(*arguments: object, **named: object) -> object:
        here = next(calls) == number
        if here and when == "before":
            os.kill(os.getpid(), stroke)
        answer = original(*arguments, **named)
        if here and when == "after":
            os.kill(os.getpid(), stroke)
        return answer

    setattr(owner, name, armed)


def main() -> None:
    """Read ``module:name before|after number KILL|INT|TERM`` and, behind it, the command line."""
    target, when, number, stroke, *arguments = sys.argv[1:]
    original = command_session.prefect_server

    @contextmanager
    def armed_server(stores: object) -> object:
        with original(stores) as url:
            arm(target, when, int(number), signal.Signals[f"SIG{stroke}"])
            yield url

    command_session.prefect_server = armed_server
    sys.argv = ["holdfast", *arguments]
    command_line()


if __name__ == "__main__":
    main()
