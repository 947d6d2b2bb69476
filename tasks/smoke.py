"""The smoke evaluation: before a version serves again, its answers are held to those that it was judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from holdfast.digests import digest_json
from holdfast.errors import ModelError
from holdfast.recovery.gate import QUALITY
from holdfast.results import Decision, Finding
from holdfast.scenarios.answers import answer
from holdfast.scenarios.base import choose
from holdfast.statistics import excess
from tasks import tracking
from tasks.progress import tell
from tasks.recovery import open_ledger

if TYPE_CHECKING:
    from holdfast.data.source import Loaded
    from holdfast.model import Target
    from holdfast.results import ModelVersion
    from holdfast.stores import Stores

_ROWS = 256
_LEVEL = 1e-4
"""Of the test: other kernels of another library round now and then, and flip an answer."""


def hold_to_record(stores: Stores, version: ModelVersion, target: Target, data: Loaded) -> None:
    """Hold a version to the answers by which it was judged, on up to 256 of the very rows.

    Accuracy on other rows would not do: a world that has drifted is no fault of the version's. So the record must be
    a finding that a decision in the ledger names, and the rows those that it was found on. Where there is none, or
    the rows are of other data (as those of a version that learned from windows: to lay them together again takes
    longer than a rollback may), nothing is held and that is said.

    Args:
        stores: where ledger and registry are.
        version: as the registry knows it.
        target: its model.
        data: the pinned data.

    Raises:
        ModelError: it gets more rows wrong than it did, by McNemar's exact one-sided test.
        StoreError: ledger or registry do not answer.
    """
    judged = _judged(stores, version, data)
    if judged is None or judged.per_example is None:
        tell("recovery", f"version {version.version}: finite answers; what it was judged by is not on these rows")
        return
    then = judged.per_example
    rows = choose(data.samples("test", space=target.space), then.n, judged.provenance.seed)
    if digest_json(rows.ids.tolist()) != then.points:
        tell("recovery", f"version {version.version}: finite answers; the rows that it was judged by are not these")
        return
    asked = rows.take(torch.arange(min(_ROWS, then.n))).to(target.device)
    right, now = then.unpack_flags()[:_ROWS], answer(target, asked).right
    said = f"{int(now.sum())} of {len(now)} rows right, {int(right.sum())} when it was judged"
    if excess(right, now, threshold=0.0, level=_LEVEL).fails:
        raise ModelError(
            f"{version.name} version {version.version}", found=said, expected="the answers that it was judged by",
            remedy=f"Its bytes are its own: mend device or libraries (`holdfast doctor`). Else: {further(version)}",
        )  # fmt: skip
    tell("recovery", f"version {version.version}: {said}")


def further(version: ModelVersion) -> str:
    """Tell a person how to go back beyond a version that does not answer as it should."""
    return (
        f"`holdfast condemn {version.version} --why ...` judges it bad, and `holdfast rollback --why ...` goes further"
        " back then."
    )


def _judged(stores: Stores, version: ModelVersion, data: Loaded) -> Finding | None:
    """Give the quality of a version that a decision in the ledger read, where it was found on these data."""
    with open_ledger(stores).reading() as view:
        entries = view.entries(model=version.name, version=version.version, kinds=("decision",))
        read = {digest for entry in entries for digest in Decision.model_validate(entry.body).evidence}
    for text in tracking.read_findings(stores, version, f"{QUALITY}.test", read):
        try:
            found = Finding.model_validate_json(text)
        except ValidationError:
            continue
        provenance = found.provenance
        if found.fingerprint() in read and (provenance.subject, provenance.data) == (version.digest, data.digest):
            return found
    return None
