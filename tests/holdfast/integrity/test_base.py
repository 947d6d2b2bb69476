"""Policy: what faults mean, and what a material must be."""

import numpy as np
import pandas as pd
import pytest

from holdfast.errors import DataError
from holdfast.integrity.base import Faults, IntegrityCheck, run_checks, verdict
from holdfast.registry import available, class_name, find


class Planted(IntegrityCheck):
    """Says what it is told to."""

    bad: int = 0
    whole: tuple[str, ...] = ()

    def look(self, material):
        return Faults(rows=dict.fromkeys(range(self.bad), "planted"), whole=self.whole)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "pass"),
        ({"bad": 5}, "quarantine"),
        ({"bad": 6}, "block"),
        ({"bad": 1, "on_fault": "block"}, "block"),
        ({"bad": 1, "max_quarantined": 0.0}, "block"),
        ({"whole": ("broken",)}, "block"),
    ],
)
def test_policy_decides(build, settings, expected):
    """Up to the stated share is quarantined, more blocks, and a fault of the whole always blocks."""
    finding = Planted(**settings).examine(build(pd.DataFrame({"a": range(100)})))
    assert finding.verdict == expected
    assert len(finding.rows) == settings.get("bad", 0)


def test_a_block_lists_a_thousand_rows_at_most(build):
    """A refused snapshot's finding stays small."""
    finding = Planted(bad=3000).examine(build(pd.DataFrame({"a": range(3000)})))
    assert (finding.verdict, len(finding.rows), len(finding.reasons)) == ("block", 1000, 1000)
    assert "3000 of 3000" in finding.reason


def test_the_gravest_verdict_counts(build):
    """One block blocks; nothing examined blocks too, since absence means do not act."""
    material = build(pd.DataFrame({"a": range(100)}))
    passed, held, blocked = run_checks([Planted(), Planted(bad=1), Planted(whole=("x",))], material)
    assert verdict([passed]) == "pass"
    assert verdict([passed, held]) == "quarantine"
    assert verdict([held, blocked, passed]) == "block"
    assert verdict([]) == "block"


@pytest.mark.parametrize(
    "parts",
    [
        {"ids": np.array([1, 1, 2])},
        {"labels": np.zeros(2, dtype=np.int64)},
        {"roles": np.array(["train"])},
        {"features": np.array([[1.0], [np.nan], [0.0]], dtype=np.float32)},
        {"frame": pd.DataFrame({"a": [1, 2, 3]}, index=[1, 2, 3])},
    ],
)
def test_an_unsound_material_is_refused(build, parts):
    """Repeated ids, unequal lengths, foreign indices and NaN features are errors."""
    with pytest.raises(DataError):
        build(**({"frame": pd.DataFrame({"a": [1, 2, 3]})} | parts))


def test_every_check_stands_in_the_registry():
    """Each file of a check holds the class of its name, final, with defaults for every setting."""
    names = available("holdfast.integrity")
    assert set(names) == {
        "duplicates", "label_errors", "leakage", "poison_screening", "provenance", "schema"
    }  # fmt: skip
    for name in names:
        check = find("holdfast.integrity", name, IntegrityCheck)
        assert check.__name__ == class_name(name)
        assert check().name() == name
        assert check.model_validate_json(check().model_dump_json()) == check()
