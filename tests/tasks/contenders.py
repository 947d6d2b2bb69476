"""Twenty processes that promote and roll back the same model at once: ``python contenders.py GIVEN``, a JSON file.

Each tries until the ledger lets it through; what it did is one line of its own file. One import serves them all: they
are forked before any store is opened.
"""

import json
import os
import random
import sys
import time
import traceback
from pathlib import Path

from holdfast.data.params import DataParams
from holdfast.data.source import load
from holdfast.errors import LedgerError, ModelError, ProjectionError, StoreError
from holdfast.params import load as load_params
from holdfast.recovery.promotion import promote
from holdfast.results import DataSnapshot, Decision, ModelVersion, Reason
from holdfast.stores import Stores
from tasks import recovery, responses, tracking

TOP = Path(__file__).parents[2]
PATIENCE = 240.0


def contend(number, given, params, stores, snapshot):
    """Promote a version of its own, or go back to the last good one, until it is done once."""
    mine = ModelVersion.model_validate(given["versions"][number // 2])
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ledger = recovery.open_ledger(stores)
        head = ledger.head(params.name)
        try:
            if number % 2:
                decision = responses.by_hand(params, stores, f"contender {number}")
                responses.roll_back.fn(params, stores, snapshot, decision)
                return f"rollback {decision.candidate.version}"
            decision = Decision(
                action="promote", candidate=mine, champion=head.reference(),
                reasons=(Reason(about="test", passed=True, text=f"contender {number}"),),
            )  # fmt: skip
            promote(
                ledger, tracking.MlflowProjection(stores), decision, expected=head.promotion, who=f"c{number}",
                why=f"contender {number}",
            )  # fmt: skip
        except (LedgerError, ModelError, ProjectionError, StoreError):  # another came first, or holds the ledger
            time.sleep(random.uniform(0.01, 0.1))
            continue
        else:
            return f"promote {mine.version}"
    return "never"


def main():
    given = json.loads(Path(sys.argv[1]).read_text())
    root = Path(given["root"])
    params = load_params(TOP / "params.yaml", (TOP / "profiles" / "tiny.yaml",))
    data = load(root, DataParams.model_validate(given["data"]))
    responses.load_data = lambda *_: data
    stores = Stores.local(root, Path(given["stores"]), actor="test")
    snapshot = DataSnapshot.model_validate(given["snapshot"])
    children = []
    for number in range(given["count"]):
        if (pid := os.fork()) == 0:
            try:
                said = contend(number, given, params, stores, snapshot)
            except BaseException:  # noqa: BLE001  the parent reads what it was
                said = traceback.format_exc()
            (Path(given["out"]) / f"{number}.txt").write_text(said)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
