"""Standard budgets: what an attack or certificate spends where nobody says otherwise, and in the shipped profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.params import load
from holdfast.scenarios.attacks.apgd_ce import ApgdCe
from holdfast.scenarios.attacks.apgd_dlr import ApgdDlr
from holdfast.scenarios.attacks.apgd_t import ApgdT
from holdfast.scenarios.attacks.autoattack import Autoattack
from holdfast.scenarios.attacks.fab import Fab
from holdfast.scenarios.attacks.fab_t import FabT
from holdfast.scenarios.attacks.square import Square
from holdfast.scenarios.certificates.randomized_smoothing import RandomizedSmoothing

PROJECT = Path(__file__).parents[3]
STANDARD = {
    "attacks/apgd_ce": (ApgdCe, {"steps": 100, "restarts": 1}),
    "attacks/apgd_dlr": (ApgdDlr, {"steps": 100, "restarts": 1}),
    "attacks/apgd_t": (ApgdT, {"steps": 100, "targets": 9}),
    "attacks/autoattack": (Autoattack, {"steps": 100, "targets": 9, "queries": 5000}),
    "attacks/fab": (Fab, {"steps": 100, "restarts": 1, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9}),
    "attacks/fab_t": (FabT, {"steps": 100, "targets": 9, "restarts": 1, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9}),
    "attacks/square": (Square, {"queries": 5000}),
    "certificates/randomized_smoothing": (RandomizedSmoothing, {"draws": 1000, "points": 200}),
}
"""Croce and Hein 2020, arXiv:2003.01690, section 6: AutoAttack's own; Cohen et al. 2019, arXiv:1902.02918, with fewer."""


@pytest.mark.parametrize("path", STANDARD)
def test_a_weaker_default_is_no_standard(path):
    """A number that is called by the attack's name alone was reached at the budget that the field means by it."""
    kind, budget = STANDARD[path]
    assert {name: getattr(kind(), name) for name in budget} == budget


def test_the_fashion_profile_attacks_at_standard_budgets():
    """It names the attacks and their norms, and takes nothing off what they spend."""
    params = load(PROJECT / "params.yaml", (PROJECT / "profiles" / "fashion.yaml",))
    for path, (_, budget) in STANDARD.items():
        family, name = path.split("/")
        if name in params.evaluation.scenarios.get(family, {}):
            assert not set(params.evaluation.scenarios[family][name]) & set(budget), path
