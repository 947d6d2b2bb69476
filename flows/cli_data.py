"""``holdfast data ...``: what data.dvc pins, what was set aside, and what people let out again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import AsJson, Assignments, Overlay
from flows.session import say, session
from holdfast.errors import DataError

data_app = typer.Typer(help="Data: materialise and verify what data.dvc pins; add, release, pull and push.")


def require_here(path: Path) -> None:
    """Refuse a path that is not there before seconds of imports.

    Raises:
        DataError: nothing is there.
    """
    if not path.exists():
        raise DataError(
            str(path), found="no such file or folder", expected="one that is there", remedy="Name another."
        )  # fmt: skip


@data_app.callback()
def data(
    ctx: typer.Context, overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False
) -> None:
    """Materialise data/ and verify it against data.dvc."""
    if ctx.invoked_subcommand is not None:
        return
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks.integrity import describe  # noqa: PLC0415

        snapshot = describe(now.params, now.stores)
    roles = ", ".join(f"{role} {summary.rows}" for role, summary in snapshot.roles.items())
    say(
        snapshot.model_dump(mode="json"),
        f"{snapshot.name}: {snapshot.rows} rows, md5 {snapshot.md5}, revision {snapshot.revision}\n{roles}",
        as_json=as_json,
    )


@data_app.command("add")
def data_add(path: Path, as_json: AsJson = False) -> None:
    """Copy a file or folder into data/, version it with DVC, and say what to commit."""
    with session(None, None, as_json=as_json, server=False, early=lambda: require_here(path)) as now:
        from tasks.datasets import add  # noqa: PLC0415

        done = add(now.stores.project, path)
    say({"commit": list(done)}, "commit these:\n  " + "\n  ".join(done), as_json=as_json)


@data_app.command("quarantine")
def data_quarantine(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """List the rows that were ever quarantined here, with their reasons, and which of them are held now."""
    with session(overlays, assignments, as_json=as_json, server=False, lock=False) as now:
        from tasks.integrity import quarantined  # noqa: PLC0415

        rows, held, data = quarantined(now.params, now.stores)
    lines = [f"{row['row']}: {row['check']}: {row['reason']}{_standing(row, held, data)}" for row in rows]
    document = {"rows": rows, "held": None if held is None else sorted(held)}
    say(document, "\n".join(lines) or "none", as_json=as_json)


def _standing(row: dict[str, Any], held: set[int] | None, data: str) -> str:
    """Say of a row that was set aside whether it is used now."""
    if row["released"]:
        return "  (released)"
    if data and row["snapshot"] != data:
        return "  (of other data than params name now)"
    return "" if held is None or row["row"] in held else "  (used: the checks of params hold it no more)"


# What looks like an option may be an id: ids are negative as often as not.
@data_app.command("release", context_settings={"ignore_unknown_options": True})
def data_release(
    ids: Annotated[list[int], typer.Argument(help="Row ids, as `holdfast data quarantine` lists them.")],
    why: Annotated[str, typer.Option(help="Your reason, for the record.")],
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Release quarantined rows, in your name."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks.integrity import release  # noqa: PLC0415

        count = release(now.params, now.stores, tuple(ids), why)
    say({"released": count}, f"{count} rows released", as_json=as_json)


@data_app.command("release-window")
def data_release_window(
    position: Annotated[int, typer.Argument(help="Place of the window, as `holdfast monitor` tells it.")],
    why: Annotated[str, typer.Option(help="Your reason, for the record.")],
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Let a window out of quarantine, in your name: a retraining may learn from it when its labels are there."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks.responses import release_window  # noqa: PLC0415

        release_window(now.params, now.stores, position, why)
    say({"released": position}, f"window {position} released", as_json=as_json)


@data_app.command("pin")
def data_pin(
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    version: Annotated[int | None, typer.Option(help="Whose data; the champion's when left out.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write data/ and data.dvc; without it nothing is.")] = False,
) -> None:
    """Propose the data that a version learned from, windows and all, as what data.dvc pins; git is yours."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks.pinning import pin  # noqa: PLC0415

        found = pin(now.params, now.stores, version, apply=apply)
    say(found.model_dump(mode="json"), "\n".join(found.lines()), as_json=as_json)


@data_app.command("docs")
def data_docs(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Write Great Expectations' Data Docs of the pinned data: browsable, and slow, so never part of a run."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks.integrity import data_docs as write  # noqa: PLC0415

        path = write(now.params, now.stores)
    say({"docs": str(path)}, str(path), as_json=as_json)


@data_app.command("read")
def data_read(
    revision: Annotated[str, typer.Argument(help="Git revision.")],
    path: Annotated[str, typer.Argument(help="File or folder below data/, as it was then.")],
    out: Annotated[Path, typer.Option(help="Where to copy it; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Copy data of a past git revision; the working copy stays as it is."""
    with session(None, None, as_json=as_json, server=False, lock=False) as now:
        from tasks.datasets import read_revision  # noqa: PLC0415

        read_revision(now.stores.project, revision, path, out)
    say({"out": str(out)}, str(out), as_json=as_json)


@data_app.command("pull")
def data_pull(as_json: AsJson = False) -> None:
    """Fetch what data.dvc pins from the configured remote, and verify it."""
    _remote("pull", as_json=as_json)


@data_app.command("push")
def data_push(as_json: AsJson = False) -> None:
    """Send the pinned data to the configured remote."""
    _remote("push", as_json=as_json)


def _remote(verb: str, *, as_json: bool) -> None:
    with session(None, None, as_json=as_json, server=False) as now:
        from tasks import datasets  # noqa: PLC0415

        count = getattr(datasets, verb)(now.stores.project)
    say({verb: count}, f"{verb}: {count} files", as_json=as_json)
