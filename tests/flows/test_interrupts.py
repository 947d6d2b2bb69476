"""Strokes of Ctrl-C: the first is heard at once and unwinds, the second ends the process and what it started."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from flows.interrupts import Terminated, unwound
marker = Path(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with unwound() as strokes:
        strokes.at_once = lambda: marker.write_text("ended")
        try:
            os.kill(os.getpid(), signal.Signals[sys.argv[1].split()[0]])
            time.sleep(60)
        finally:
            for again in sys.argv[1].split()[1:]:
                os.kill(os.getpid(), signal.Signals[again])
                time.sleep(0.1)
except Terminated:
    sys.exit("terminated")
except KeyboardInterrupt:
    sys.exit("unwound")
"""


@pytest.mark.parametrize(
    ("strokes", "code", "said", "left"),
    [
        ("SIGINT", 1, ["stopping", "unwound"], True),
        ("SIGINT SIGINT", 130, ["stopping", "ended at once"], False),
        ("SIGTERM SIGTERM", 1, ["terminated"], True),
        ("SIGINT SIGTERM", 1, ["stopping", "unwound"], True),
        ("SIGTERM SIGINT", 1, ["stopping", "unwound"], True),
    ],
)
def test_strokes(tmp_path: Any, strokes: str, code: int, said: list[str], left: bool) -> None:
    """One unwinds; a second Ctrl-C ends at once, without a traceback, and ends the server it was told of."""
    marker = tmp_path / "marker"
    done = subprocess.run(  # a new session: what the terminal sends elsewhere is no matter here
        [sys.executable, "-c", SCRIPT, strokes, str(marker)], capture_output=True, text=True, check=False,
        start_new_session=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in said)
    assert "Traceback" not in done.stderr
    assert marker.exists() is not left


SWALLOWED = """
import os, signal, sys, time, weakref
from flows.interrupts import Terminated, unwound
signal.signal(signal.SIGINT, signal.default_int_handler)

class Thing:
    pass

def struck(_):
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    time.sleep(0)

thing = Thing()
kept = weakref.ref(thing, struck)
try:
    with unwound():
        del thing
        time.sleep(60)
except Terminated:
    sys.exit("terminated")
except KeyboardInterrupt:
    sys.exit("unwound")
"""


@pytest.mark.parametrize(("stroke", "said"), [("SIGINT", "unwound"), ("SIGTERM", "terminated")])
def test_a_stroke_that_a_callback_swallows_unwinds_nevertheless(stroke: str, said: str) -> None:
    """Python drops what is raised while it collects: the import system's own weak references have such callbacks."""
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, stroke], capture_output=True, text=True, check=False,
        start_new_session=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_stroke_that_is_swallowed_at_the_very_end_kills_nobody_later() -> None:
    """What carries it once more would end a process that has left: by then the default handler is back."""
    late = SWALLOWED.replace("        time.sleep(60)\n", "    time.sleep(0.2)\n")
    done = subprocess.run(
        [sys.executable, "-c", late, "SIGINT"], capture_output=True, text=True, check=False, start_new_session=True,
        timeout=30,
    )  # fmt: skip
    assert late != SWALLOWED
    assert done.returncode >= 0, done.stderr


def test_a_process_that_was_started_deaf_stays_deaf() -> None:
    """A shell hands SIG_IGN to what it starts in the background; that is the caller's wish."""
    from flows.interrupts import unwound  # noqa: PLC0415  beside what it is about

    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with unwound():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
