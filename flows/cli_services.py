"""Commands that run things by themselves: services brought up and down, deployments made on a server."""

from __future__ import annotations

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
