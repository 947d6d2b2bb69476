"""Commands about what runs by itself: services up and down, deployments on a server, what waits for a person."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.environment import named_api, webhook
from flows.options import AsJson, Assignments, Overlay
from flows.session import say, session
from holdfast.errors import StoreError


def up(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Run by itself what `schedule` says: start Prefect server and worker on this machine, with its automations."""
    with session(overlays, assignments, as_json=as_json, server=False, lock=False) as now:
        from flows.services import up as bring_up  # noqa: PLC0415  beside its one use

        asked = [str(path) for path in overlays or ()], list(assignments or ())
        done = bring_up(now.params, now.stores, *asked, webhook(now.params))
    lines = [f"up: {done.url} (server pid {done.server}, worker pid {done.worker})", *done.deployments,
             f"logs {', '.join(done.logs)}", "`holdfast down` ends them"]  # fmt: skip
    say(done.model_dump(mode="json"), "\n  ".join(lines), as_json=as_json)


def down(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """End what `holdfast up` started, and nothing else; what was under way goes on at the next `up`."""
    with session(overlays, assignments, as_json=as_json, server=False, lock=False) as now:
        from flows.services import down as take_down  # noqa: PLC0415  as above

        ended = take_down(now.stores)
    say({"ended": list(ended)}, f"down: {len(ended)} processes ended" if ended else "nothing was up", as_json=as_json)


def deploy(overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Make deployments and automations on the Prefect server that PREFECT_API_URL names, for a worker there."""
    with session(overlays, assignments, as_json=as_json, server=False, lock=False) as now:
        url = named_api()
        if url is None:
            raise StoreError(
                "PREFECT_API_URL", found="not set", expected="the API of the server that is to run things",
                remedy="Set it; on one machine `holdfast up` brings a server of its own.",
            )  # fmt: skip
        from flows import deployments  # noqa: PLC0415  Prefect reads its settings at import

        asked = [str(path) for path in overlays or ()], list(assignments or ())
        deployments.deploy(now.params, now.stores.project, *asked, webhook(now.params))
        made = [each.told(now.params.name) for each in deployments.deployments(now.params)]
    say({"deployments": made}, "\n".join(made), as_json=as_json)


Place = Annotated[int, typer.Argument(help="Place of the window, as `holdfast monitor` tells it.")]
Why = Annotated[str, typer.Option(help="Your reason, for the record.")]


def approve(
    position: Place, why: Why, overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False
) -> None:
    """Let a decision that waits be carried out, in your name: the next watch does it."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks import approval  # noqa: PLC0415  Prefect reads its settings at import

        done = approval.approve(now.params, now.stores, position, why)
    say(done.model_dump(mode="json"), f"window {position}: {done.action} approved; the next watch does it",
        as_json=as_json)  # fmt: skip


def refuse(
    position: Place, why: Why, overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False
) -> None:
    """End a decision that waits undone, in your name: the watch goes on behind it."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks import approval  # noqa: PLC0415  as above

        done = approval.refuse(now.params, now.stores, position, why)
    say(done.model_dump(mode="json"), f"window {position}: {done.action} refused", as_json=as_json)


def unfreeze(why: Why, overlays: Overlay = None, assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Clear the breaker, in your name: rollbacks up to now freeze the loop no more."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks import approval  # noqa: PLC0415  as above

        place = approval.unfreeze(now.params, now.stores, why)
    say({"cleared": place}, f"rollbacks up to window {place} freeze the loop no more", as_json=as_json)


def condemn(
    version: Annotated[int, typer.Argument(help="Version that is registered, and does not serve.")],
    why: Why,
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Judge a version bad, in your name: no rollback goes to it, and no gate makes it champion."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks import approval  # noqa: PLC0415  as above

        approval.condemn(now.params, now.stores, version, why)
    text = f"version {version} is judged bad: nobody goes back to it, until `holdfast clear {version} --why ...`"
    say({"condemned_version": version}, text, as_json=as_json)


def clear(
    version: Annotated[int, typer.Argument(help="Version that was judged bad, or rolled back from.")],
    why: Why,
    overlays: Overlay = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Take back a judgement on a version, in your name: the gate may make it champion again."""
    with session(overlays, assignments, as_json=as_json, server=False) as now:
        from tasks import approval  # noqa: PLC0415  as above

        approval.clear(now.params, now.stores, version, why)
    say({"cleared_version": version}, f"version {version} may become champion again, by its gate", as_json=as_json)
