"""The front door: ``holdfast ...``, thin over the flows.

Exit codes: 0 done; 1 refused (see the message); 2 wrong params or usage; 3 data; 4 integrity blocked; 5 model;
6 scenario; 7 a store does not answer; 8 the champion alias disagrees with the ledger; 10 done, and the gate did not
promote, or the champion fails it now, or a drill saw a wrong response; 130 interrupted (Ctrl-C) or 143 terminated
(SIGTERM), and the next start goes on from there.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_data import data_app, require_here
from flows.cli_services import approve, clear, condemn, deploy, down, refuse, unfreeze, up
from flows.console import STDERR, decision_lines, drill_lines, report_lines
from flows.options import AsJson, Assignments, Overlay
from flows.session import print_document, say, session
from holdfast.errors import ModelError, ParamsError

if TYPE_CHECKING:
    from datetime import datetime

    from holdfast.results import Decision
    from holdfast.stores import Stores

NOT_PROMOTED = 10

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(data_app, name="data", invoke_without_command=True)

for _command in (up, down, deploy, approve, refuse, unfreeze, condemn, clear):
    app.command()(_command)


def _tell_version(asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if asked:
        typer.echo(f"holdfast {installed('holdfast')}")
        raise typer.Exit


@app.callback()
def _front(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say the version, and end.")
    ] = False,
) -> None:
    pass


@app.command()
def run(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Take data to a gated, scored, traceable champion; go on where a stopped run was."""
    with session(overlays, assignments, as_json=as_json) as now:
        from flows.lifecycle import lifecycle  # noqa: PLC0415  Prefect reads its settings at import

        report = lifecycle(now.params, now.stores)
        promoted = _promoted(now.stores, report.decision)
    if as_json:
        print_document(report.model_dump(mode="json"))
    else:
        STDERR.print()
        for line in report_lines(report, promoted):
            STDERR.print(line, markup=False, soft_wrap=True)
    _end(report.decision)


def _end(decision: Decision) -> None:
    """End with the gate's exit code where it kept the candidate out, or where the champion fails it now."""
    if decision.action not in {"promote", "none"} or not all(reason.passed for reason in decision.reasons):
        raise typer.Exit(NOT_PROMOTED)


def _promoted(stores: Stores, decision: Decision) -> datetime | None:
    """Tell when the champion was promoted, where the decision gives its reasons again."""
    from tasks.publishing import promoted_at  # noqa: PLC0415

    return promoted_at(stores, decision.champion) if decision.action == "none" and decision.champion else None


@app.command()
def train(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Validate the data and train a candidate; register it, and promote nothing."""
    with session(overlays, assignments, as_json=as_json) as now:
        from flows.lifecycle import candidate  # noqa: PLC0415

        version = candidate(now.params, now.stores)
    say(
        version.model_dump(mode="json"),
        f"{version.name} version {version.version}, digest {version.digest[:16]}",
        as_json=as_json,
    )


@app.command()
def evaluate(
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    version: Annotated[int | None, typer.Option(help="Version number; the champion when left out.")] = None,
    pack: Annotated[str | None, typer.Option(help="Pack of scenarios; the one of `run` when left out.")] = None,
    every: Annotated[
        bool, typer.Option("--all-versions", help="Every version, so that history can be compared; exit 5 for gaps.")
    ] = False,
) -> None:
    """Put one version, or all of them, through a pack of scenarios on the test rows."""
    with session(overlays, assignments, as_json=as_json, early=partial(_one_or_all, version, every=every)) as now:
        chosen = now.params.evaluation.uses.run if pack is None else pack
        now.params.scenarios(chosen)  # a wrong name is refused before any work
        from tasks.evaluation import brief  # noqa: PLC0415

        if every:
            from flows.lifecycle import history  # noqa: PLC0415

            found = history(now.params, now.stores, chosen)
            document, lines = found.model_dump(mode="json"), [each.line() for each in found.versions]
        else:
            from flows.lifecycle import scorecard  # noqa: PLC0415

            report = scorecard(now.params, now.stores, version, chosen)
            lines = [f"{finding.path}: {brief(finding).strip()}" for finding in report.findings]
            document = report.model_dump(mode="json")
    say(document, "\n".join(lines), as_json=as_json)
    if every and found.refused:
        raise typer.Exit(ModelError.exit_code)


def _one_or_all(version: int | None, *, every: bool) -> None:
    if every and version is not None:
        raise ParamsError(
            "--version", found="--all-versions beside it", expected="one of the two", remedy="Leave one of them out."
        )


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="Version to put through the gate.")],
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Put a registered version through the gate, and promote it only when every gate passes."""
    with session(overlays, assignments, as_json=as_json) as now:
        from flows.lifecycle import promote_version  # noqa: PLC0415

        decision = promote_version(now.params, now.stores, version)
        promoted = _promoted(now.stores, decision)
    say(decision.model_dump(mode="json"), "\n".join(decision_lines(decision, promoted)), as_json=as_json)
    _end(decision)


@app.command()
def monitor(
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    most: Annotated[
        int | None, typer.Option("--windows", help="Windows at most; all that have come if left out.")
    ] = None,
) -> None:
    """Watch the stream from where the last watch stopped; tell drift from damage, and respond."""
    with session(overlays, assignments, as_json=as_json) as now:
        from flows.monitoring import monitoring  # noqa: PLC0415

        report = monitoring(now.params, now.stores, most)
    lines = [
        f"window {w.position}: {w.cause}, {w.action}{f': {w.outcome}' if w.outcome else ''} (version {w.champion})"
        for w in report.windows
    ]
    say(report.model_dump(mode="json"), "\n".join(lines) or "no new window", as_json=as_json)


@app.command()
def drill(
    incidents: Annotated[
        list[str] | None, typer.Argument(help="Incidents by name; all of params' when left out.")
    ] = None,
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Rehearse incidents on a copy of the champion, and score its recovery and evolution."""
    with session(overlays, assignments, as_json=as_json) as now:
        known = now.params.incidents()
        if not known:
            raise ParamsError(
                "drills.incidents", found="none", expected="what is to be rehearsed",
                remedy="List incidents as profiles/crisis.yaml does; docs/rehearse-incidents.md says what there is.",
            )  # fmt: skip
        if strangers := [name for name in incidents or [] if name not in known]:
            raise ParamsError(
                "drills.incidents", found=f"no {', '.join(strangers)}", expected=f"some of {', '.join(known)}",
                remedy="Name incidents that params list.",
            )  # fmt: skip
        from flows.drill import drill as rehearse  # noqa: PLC0415

        report = rehearse(now.params, now.stores, tuple(incidents or ()))
    say(report.model_dump(mode="json"), "\n".join(drill_lines(report)), as_json=as_json)
    if not all(finding.valid for finding in report.findings):
        raise typer.Exit(NOT_PROMOTED)


@app.command()
def rollback(
    why: Annotated[str, typer.Option(help="Your reason, for the record.")],
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Make the last good version champion again, in your name; the one that served is condemned."""
    with session(overlays, assignments, as_json=as_json) as now:
        from flows.monitoring import rollback as go_back  # noqa: PLC0415

        decision = go_back(now.params, now.stores, why)
    served = decision.candidate.version if decision.candidate else None
    say(decision.model_dump(mode="json"), f"version {served} serves", as_json=as_json)


@app.command()
def audit(
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    at: Annotated[str | None, typer.Option(help="Which version served at this ISO time.")] = None,
    version: Annotated[int | None, typer.Option(help="Where this version comes from.")] = None,
    repair: Annotated[
        bool, typer.Option(help="Project the ledger's champion onto the alias again, and restore spoilt copies of it.")
    ] = False,
    accept_outside: Annotated[
        bool, typer.Option(help="With --repair: take the outside move as your decision.")
    ] = False,
    why: Annotated[str | None, typer.Option(help="With --repair: your reason, for the record.")] = None,
) -> None:
    """Verify the ledger's chain, reconcile it with MLflow, and answer where versions come from."""
    if repair and not why:
        raise typer.BadParameter("--repair needs --why: your reason goes on record")
    with session(overlays, assignments, as_json=as_json, server=False, lock=repair) as now:
        from tasks.audit import answer  # noqa: PLC0415

        document = answer(
            now.params,
            now.stores,
            at=at,
            version=version,
            repair=why if repair else None,
            accept_outside=accept_outside,
        )
    say(document.model_dump(mode="json"), "\n".join(document.lines()), as_json=as_json)
    if document.problems:
        raise typer.Exit(document.exit_code)


@app.command()
def report(
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    version: Annotated[int | None, typer.Option(help="Version number; the champion when left out.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Draw the page of the watched stream instead.")] = False,
) -> None:
    """Say where a version's report page is; fetch it from MLflow when it is not here."""
    with session(overlays, assignments, as_json=as_json, server=False, lock=False) as now:
        from tasks.publishing import locate  # noqa: PLC0415
        from tasks.timeline import draw_stream  # noqa: PLC0415

        path = draw_stream.fn(now.params, now.stores) if stream else locate(now.params, now.stores, version)
    say({"report": str(path)}, str(path), as_json=as_json)


@app.command()
def predict(
    rows: Annotated[Path, typer.Argument(help="Parquet or CSV of rows; npz with x for images.")],
    out: Annotated[Path, typer.Option(help="Where to write the predictions, as Parquet or CSV.")],
    client: Annotated[str, typer.Option(help="Who asks, for the prediction log.")] = "cli",
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Let the champion predict rows: verified, validated, logged; it may abstain."""
    with session(
        overlays, assignments, as_json=as_json, server=False, lock=False, early=lambda: require_here(rows)
    ) as now:
        from tasks.prediction import predict_file  # noqa: PLC0415

        summary = predict_file(now.params, now.stores, rows, out, client)
    text = f"{summary.rows} rows, {summary.abstained} abstained: {out}"
    if summary.ignored:
        text += f"\ncolumns that are no features of version {summary.version.version}: {', '.join(summary.ignored)}"
    say(summary.model_dump(mode="json"), text, as_json=as_json)


@app.command()
def prune(
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete what goes; without it nothing is.")] = False,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Let old windows in quarantine go too: nobody can release them then.")
    ] = False,
) -> None:
    """Say what the stores hold that nothing needs any more, and with --apply delete it, on record."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks.pruning import prune as tidy  # noqa: PLC0415

        found = tidy(now.params, now.stores, apply=apply, quarantined=quarantined)
    say(found.model_dump(mode="json"), "\n".join(found.lines()), as_json=as_json)


@app.command()
def doctor(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Check versions, stores, permissions, disk and the Prefect API; say how to mend each fault, and exit 1 for any."""
    with session(overlays, assignments, as_json=as_json, server=False, lock=False, writing=False) as now:
        from flows.services import check_up  # noqa: PLC0415

        checkup = check_up(now.params, now.stores)
    lines = [f"{'ok  ' if c.passed else 'FAIL'} {c.about}: {c.text}" for c in checkup.checks]
    say(checkup.model_dump(mode="json"), "\n".join(lines), as_json=as_json)
    if not checkup.healthy:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
