"""Screening in the loop: what a window is held against."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from holdfast.recovery.ablation import Labelled
from holdfast.recovery.inspection import Inspection
from holdfast.recovery.screening import Screening
from tasks import screening


def test_windows_that_were_judged_by_another_measure_are_not_compared(monkeypatch):
    """After an upgrade, or where labels became facts, earlier margins mean something else."""
    measures = ("difference", "ratio", "usual ratio", "ratio")
    watch = SimpleNamespace(
        verdicts=lambda: dict.fromkeys(range(4), "clean"),
        windows=lambda: [SimpleNamespace(position=i, state="escrowed") for i in range(4)],
        screening=lambda i: Inspection.of(np.full(3, -i / 4), measure=measures[i]).model_dump_json(),
    )
    monkeypatch.setattr(screening, "open_watch", lambda *_: watch)
    monkeypatch.setattr(
        screening, "_window", lambda *_: (Labelled(np.zeros((3, 1), np.float32), np.zeros(3, np.int64)), {})
    )
    for facts, places in ((False, (1, 3)), (True, (2,))):
        params = SimpleNamespace(recovery=SimpleNamespace(screening=Screening(facts=facts)))
        found = screening._clean(params, None, None, None, SimpleNamespace(position=9))
        assert [each.judged.margins[0] for each in found] == [-i / 4 for i in places]
