"""Params are validated whole: each mistake is named with its place, and all of them at once."""

from pathlib import Path

import pytest
import yaml

from holdfast.errors import ParamsError
from holdfast.params import load

PROJECT = Path(__file__).parents[2]
PARAMS = PROJECT / "params.yaml"
PROFILES = sorted((PROJECT / "profiles").glob("*.yaml"))

WRONG = [
    ("seed=-1", "seed: must be greater than or equal to 0 (got -1)"),
    ("sed=1", "sed: no such setting (got 1); did you mean 'seed'?"),
    ("metric=acuracy", "metric: must be"),
    ("name=Loans!", "name: string should match pattern"),
    ("data.kind=tables", "data.kind: must be 'table' or 'images' (got tables)"),
    ("data.task=regression", "data.task: regression is not supported yet: classification is"),
    ("data.path=/etc/passwd", "data.path: must be a path below data/"),
    ("data.roles.train=0.9", "data: roles: shares sum to"),
    ("data.time=null", "data: train_until needs a time column"),
    ("model.factory=holdfast.networks.mlp", "model.factory: string should match pattern"),
    ("training.recipe=standart", "training.recipe: no such recipe"),
    ("training.settings.epochs=0", "training.settings.epochs: must be greater than 0 (got 0)"),
    ("evaluation.scenarios.attacks.pgd.steps=0", "evaluation.scenarios.attacks.pgd.steps: must be greater than 0 (got 0)"),
    ("evaluation.scenarios.attacks.pgd.step=3", "evaluation.scenarios.attacks.pgd.step: no such setting (got 3); did you mean 'steps'?"),
    ("evaluation.scenarios.attacks.pgd_inf={}", "evaluation.scenarios.attacks.pgd_inf: no such scenario; attacks/ holds:"),
    ("evaluation.scenarios.atacks={}", "evaluation.scenarios.atacks: no such family; did you mean 'attacks'?"),
    ("evaluation.uses.gate=gatee", "evaluation.uses.gate: no pack gatee; did you mean 'gate'?"),
    ("evaluation.packs.smoke.budget_seconds=0", "evaluation.packs.smoke.budget_seconds: must be greater than 0 (got 0)"),
    ("recovery.gates.floors.attacks/pgdd=0.5", "recovery.gates.floors.attacks/pgdd: the pack standard does not hold it"),
    ("recovery.gates.floors.attacks/pgd=1.5", "recovery.gates.floors.attacks/pgd: must be less than or equal to 1 (got 1.5)"),
    ("integrity.shema={}", "integrity.shema: no such check"),
    ("stores.tracking=http://me:hunter2@host/", "stores.tracking: a URL with a password"),
]  # fmt: skip


@pytest.mark.parametrize(("assignment", "expected"), WRONG, ids=[case[0] for case in WRONG])
def test_a_mistake_is_named_with_its_place(assignment, expected):
    """One wrong line is refused before any work, with its place, what was found and what is valid."""
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, assignments=(assignment,))
    assert f"\n  {expected}" in str(caught.value)


def test_all_mistakes_are_reported_at_once():
    """Nobody mends a file mistake by mistake."""
    # Sums and needs are read after their fields, and a recipe's settings after its name.
    cases = [case for case in WRONG if not case[0].startswith(("data.roles", "data.time", "training.recipe"))]
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, assignments=tuple(assignment for assignment, _ in cases))
    assert [expected for _, expected in cases if expected not in str(caught.value)] == []


@pytest.mark.parametrize("secret", ["http://me:hunter2@host/", "postgresql+psycopg2://me:hunter2@db/ledger"])
def test_a_password_is_never_repeated(secret):
    """The message that refuses a password does not print it."""
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, assignments=(f"stores.ledger={secret}", "model.settings.password=hunter2"))
    assert "hunter2" not in str(caught.value)
    assert "model.settings.password: looks like a secret" in str(caught.value)


@pytest.mark.parametrize("profile", [None, *PROFILES], ids=lambda path: path.stem if path else "params")
def test_shipped_params_are_valid_and_build_everything_they_name(profile):
    """Every profile builds its checks, its recipe and the scenarios of each pack."""
    params = load(PARAMS, (profile,) if profile else ())
    assert params.recipe()
    assert params.checks()
    for pack, content in params.evaluation.packs.items():
        assert list(params.scenarios(pack)) == list(content.scenarios)


def test_an_overlay_changes_what_it_says_and_nothing_else(tmp_path):
    """Mappings merge; ``replace: true`` replaces a mapping whole."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"seed": 99, "model": {"replace": True, "factory": "holdfast.networks:mlp"}}))
    before, after = load(PARAMS), load(PARAMS, (overlay,))
    assert (after.seed, after.model.settings) == (99, {})
    assert after.data == before.data


def test_a_pack_caps_points_and_never_raises_them(tmp_path):
    """The smoke pack reads fewer points than the scenarios' own settings, and no pack reads more."""
    params = load(PARAMS)
    own = params.scenarios("standard")["attacks/fgsm"].points
    assert params.scenarios("smoke")["attacks/fgsm"].points == min(own, params.evaluation.packs["smoke"].points)
    raised = load(PARAMS, assignments=("evaluation.packs.smoke.points=999999",))
    assert raised.scenarios("smoke")["attacks/fgsm"].points == own
