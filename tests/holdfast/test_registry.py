"""The path is the registry: every file holds the class that its name promises, and says where it comes from."""

import importlib
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.integrity.base import IntegrityCheck
from holdfast.params import FAMILIES
from holdfast.registry import available, class_name, code_of, find
from holdfast.scenarios.base import Context, Scenario
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
    corruptions = {
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
        "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg",
        "speckle_noise", "gaussian_blur", "spatter", "saturate", "composition",
    }  # fmt: skip
    assert set(available("holdfast.scenarios.corruptions")) >= corruptions
    anomalies = {
        "missing_values", "unit_slip", "stuck_sensor", "category_swap", "missing_at_random", "missing_not_at_random",
        "sentinel_values", "drifting_sensor", "swapped_columns", "category_typos", "encoding_faults", "composition",
    }  # fmt: skip
    assert set(available("holdfast.scenarios.anomalies")) >= anomalies
    assert set(available("holdfast.training")) >= {"standard", "adversarial", "trades", "replay", "ewc", "lwf"}


def test_a_name_that_is_none_lists_what_there_is():
    """The error is where a user learns the names."""
    with pytest.raises(LookupError, match=r"attacks/ holds: .*pgd"):
        find("holdfast.scenarios.attacks", "pgd_inf", Scenario)


def test_a_private_file_is_no_entry(tmp_path):
    """Helpers beside the entries are not offered as settings."""
    assert not [name for package, _ in KINDS for name in available(package) if name.startswith("_")]


ATTACK = """
from holdfast.scenarios.base import OnModel
class Theirs(OnModel):
    dimension, family = "robustness", "probes"
    def measure(self, target, samples, noise, context):
        raise NotImplementedError
"""


def theirs(folder, monkeypatch, package, helper):
    """Import a third party's scenario as a fresh process would."""
    (folder / package).mkdir(parents=True, exist_ok=True)
    (folder / package / "__init__.py").write_text("")
    (folder / package / "attack.py").write_text(ATTACK)
    (folder / package / "helper.py").write_text(helper)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return importlib.import_module(f"{package}.attack").Theirs


def test_code_of_third_parties_is_named_and_ours_is_not(tmp_path, monkeypatch):
    """Any file of a third party's package changes the digest, and with it the identity of its findings."""
    before = theirs(tmp_path, monkeypatch, "acme_scenarios", "x = 1")
    same = theirs(tmp_path, monkeypatch, "acme_scenarios", "x = 1")
    origin = {"subject": "m", "data": "d", "role": "test", "device": "cpu"}
    first = before().origin(Context(seed=0, code="model"), **origin)
    assert code_of(before) == code_of(same) != ""
    after = theirs(tmp_path, monkeypatch, "acme_scenarios", "x = 2")
    assert code_of(after) != code_of(before)
    assert after().origin(Context(seed=0, code="model"), **origin).code != first.code
    assert before().origin(Context(seed=0, code="other"), **origin).code != first.code
    quality = find("holdfast.scenarios.probes", "quality", Scenario)
    assert code_of(quality) == ""
    assert quality().origin(Context(seed=0, code="model"), **origin).code == "model"


def test_code_of_follows_imports_beside_the_package(tmp_path, monkeypatch):
    """A module of the working copy that a third party's package imports counts, and one that it does not is nothing."""
    kinds = []
    for blocks, unused in (("x = 1", "y = 1"), ("x = 1", "y = 2"), ("x = 2", "y = 2")):
        (tmp_path / "acme_blocks.py").write_text(blocks)
        (tmp_path / "acme_unused.py").write_text(unused)
        kinds.append(theirs(tmp_path, monkeypatch, "acme_beside", "def late():\n    import acme_blocks"))
        code_of(kinds[-1])
    assert code_of(kinds[0]) == code_of(kinds[1]) != code_of(kinds[2])


def test_a_class_without_source_is_refused():
    """Nothing would tell when it changes, so no result of it could be kept."""
    with pytest.raises(TypeError, match="no source file"):
        code_of(type("Nowhere", (), {"__module__": "nowhere_at_all"}))
