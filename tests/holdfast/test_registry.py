"""The path is the registry: every file holds the class that its name promises, and says where it comes from."""

from pathlib import Path

import pytest

import holdfast
from holdfast.integrity.base import IntegrityCheck
from holdfast.params import FAMILIES
from holdfast.registry import available, class_name, find
from holdfast.scenarios.base import Scenario
from holdfast.training.base import Recipe

ROOT = Path(holdfast.__file__).parent
KINDS = [(f"holdfast.scenarios.{family}", Scenario) for family in FAMILIES]
KINDS += [("holdfast.integrity", IntegrityCheck), ("holdfast.training", Recipe)]
ENTRIES = [(package, name, base) for package, base in KINDS for name in available(package)]


@pytest.mark.parametrize(("package", "name", "base"), ENTRIES, ids=[f"{p}.{n}" for p, n, _ in ENTRIES])
def test_each_name_stands_for_one_final_class_with_defaults(package, name, base):
    """The class has the file's name, is concrete, needs no settings, refuses unknown ones, and is frozen."""
    kind = find(package, name, base)
    assert kind.__name__ == class_name(name)
    made = kind.model_validate({})
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    assert kind.model_validate_json(made.model_dump_json()) == made
    assert getattr(kind, "__final__", False)


def test_the_shipped_families_hold_what_the_manual_names():
    """Nothing that ships has silently left its family."""
    assert set(available("holdfast.scenarios.attacks")) >= {"fgsm", "pgd", "apgd_ce", "apgd_t", "square"}
    corruptions = {"gaussian_noise", "motion_blur", "brightness", "contrast", "jpeg"}
    assert set(available("holdfast.scenarios.corruptions")) >= corruptions
    anomalies = {"missing_values", "unit_slip", "stuck_sensor", "category_swap"}
    assert set(available("holdfast.scenarios.anomalies")) >= anomalies
    assert set(available("holdfast.training")) >= {"standard", "adversarial", "trades"}


def test_a_name_that_is_none_lists_what_there_is():
    """The error is where a user learns the names."""
    with pytest.raises(LookupError, match=r"attacks/ holds: .*pgd"):
        find("holdfast.scenarios.attacks", "pgd_inf", Scenario)


def test_a_private_file_is_no_entry(tmp_path):
    """Helpers beside the entries are not offered as settings."""
    assert not [name for package, _ in KINDS for name in available(package) if name.startswith("_")]
