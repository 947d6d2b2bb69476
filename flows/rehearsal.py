"""A rehearsal: incidents played in a sandbox, in processes of their own with a Prefect server of their own.

``python -m flows.rehearsal FOLDER ASKED`` plays what no earlier rehearsal finished of what the file ASKED names, its
plays side by side on the cores there are, each share of them in a process ``... FOLDER ASKED --part`` that the same
server records; ``... --worker GIVEN`` is the worker that an incident kills.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from flows.console import narrated
from flows.environment import end_orphan, prefect_server, prepare
from flows.imports import no_garbage
from flows.interrupts import INTERRUPTED, unwound
from holdfast.errors import HoldfastError
from holdfast.params import Params
from holdfast.stores import Stores

if TYPE_CHECKING:
    from flows.arms import Asked

PART = "--part"


def _work(given: Path) -> None:
    """Be the worker: go on with what was decided, and die in the first training."""
    from flows.monitoring import monitoring  # noqa: PLC0415  Prefect reads its settings at import
    from tasks.rehearsal import dies_in_training  # noqa: PLC0415  as above

    dies_in_training()

    asked = json.loads(given.read_text())
    where = asked["stores"]
    monitoring(
        Params.model_validate(asked["params"]),
        Stores.local(Path(where["project"]), Path(where["root"]), actor=where["actor"]),
    )


def _side_by_side(folder: Path, asked: Path, parts: tuple[Asked, ...]) -> None:
    """Play shares in processes of their own; whatever ends this one ends them."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, part in enumerate(parts):
            given = asked.with_suffix(f".{number}.json")
            given.write_text(part.model_dump_json())
            command = [sys.executable, "-m", "flows.rehearsal", str(folder), str(given), PART]
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: S603  our own interpreter
        code = next((code for each in running if (code := each.wait())), 0)
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait()
    if code:
        raise SystemExit(code)  # its words are told


def main() -> None:
    """Run as a process of its own."""
    sys.path.insert(0, str(Path.cwd()))  # where the user's model module lies
    if sys.argv[1] == "--worker":
        place = Path(sys.argv[2])
        prepare(Stores.local(place.parent, place.parent / "server"))
        _work(place)
        return
    folder, asked = Path(sys.argv[1]), Path(sys.argv[2])
    server = Stores.local(folder, folder / "server")
    server.root.mkdir(parents=True, exist_ok=True)
    prepare(server)
    try:
        with unwound() as strokes, narrated():
            strokes.at_once = lambda: end_orphan(server)
            with ExitStack() as held:
                with no_garbage():
                    held.enter_context(prefect_server(server))
                    from flows.arms import Asked, read_params, rehearse, shared_out, template  # noqa: PLC0415  as above
                    from flows.heartbeat import one_heartbeat  # noqa: PLC0415  as above

                wanted = Asked.model_validate_json(asked.read_text())
                parts = () if sys.argv[3:] == [PART] else shared_out(folder, wanted, len(os.sched_getaffinity(0)))
                if len(parts) > 1:
                    template(folder, read_params(folder, wanted.rows))  # made before anyone copies it
                    _side_by_side(folder, asked, parts)
                else:
                    with one_heartbeat():  # none at all: nobody looks for the dead in a sandbox
                        rehearse(folder, wanted)
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
