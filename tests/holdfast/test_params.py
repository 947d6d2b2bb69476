"""Params are validated whole: each mistake is named with its place, and all of them at once."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    ("stores.ledger=postgresql://u@h/db?sslmode=require&password=hunter2", "stores.ledger: a URL with a password"),
    ("stores.ledger=postgresql://u:pa/ss@h/db", "stores.ledger: a URL with a password"),
    ("model.settings.api_token=12345", "model.settings.api_token: looks like a secret with a value"),
    ("model.settings.passwords=[hunter2]", "model.settings.passwords.0: looks like a secret with a value"),
    ("data.features.no_emp={low: 5, high: 1}", "data.features.no_emp: low 5 is above high 1"),
    ("data.task=[regression]", "data.task: must be 'classification'"),
    ("evaluation.uses.run=[a]", "evaluation.uses.run: no pack ['a']"),
    ("evaluation.packs.gate.scenarios=[probes/quality, poisoning/badnets]", "evaluation.packs.gate.scenarios: poisoning/badnets trains models"),
    ("evaluation.packs.smoke.scenarios=3", "evaluation.packs.smoke.scenarios: must be a valid tuple (got 3)"),
    ("evaluation.scenarios.attacks=pgd", "evaluation.scenarios.attacks: must be a valid dictionary (got pgd)"),
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
    later = ("data.roles", "data.time", "training.recipe", "data.features")
    shared = (
        "stores.ledger",
        "data.task=[",
        "evaluation.uses.run",
        "evaluation.packs",
        "evaluation.scenarios.attacks=",
    )
    cases = [case for case in WRONG if not case[0].startswith((*later, *shared))]
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


@pytest.mark.parametrize(
    "assignment",
    [
        "password=hunter2",
        "stores.extra={password: hunter2}",
        "model.settings.url=[",
        "stores.tracking=x password=hunter2",
    ],
)
def test_no_message_repeats_a_secret(assignment):
    """A secret in a place where no setting is, or inside a section, is refused and not shown."""
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, assignments=(assignment, "api_token=98765"))
    assert "hunter2" not in str(caught.value)
    assert "98765" not in str(caught.value)


@pytest.mark.parametrize(
    "assignment",
    ["model.settings.max_tokens=512", "stores.tracking=http://host:5000/path", "stores.ledger=postgresql://u@h/db?x=1",
     "stores.ledger=env:LEDGER_URL", "model.settings.api_key=block:key", "stores.tracking=sqlite:///a.db"],
)  # fmt: skip
def test_what_is_no_secret_is_accepted(assignment):
    """Ports, counts of tokens, names of variables and URLs without a password are fine."""
    load(PARAMS, assignments=(assignment,))


def test_a_file_that_is_no_yaml_is_refused_without_repeating_it(tmp_path):
    """Syntax errors, impossible dates, bytes that are no text and sections without end each name the file."""
    file = tmp_path / "params.yaml"
    for content in (
        b"a: [hunter2",
        b"a: 2020-13-45",
        b"\xff\xfe\xfa",
        b"a: &a [*a]",
        b"- a",
        b"",
        b"{[]: 1}",
        b"a: \x01",
    ):
        file.write_bytes(content)
        with pytest.raises(ParamsError) as caught:
            load(file)
        assert "params.yaml" in str(caught.value)
        assert "hunter2" not in str(caught.value)


SECTIONS = ["name", "seed", "metric", "costs", "data", "integrity", "model", "training", "evaluation", "recovery",
            "stores", "scenarios", "packs", "uses", "gates", "floors", "non_inferiority", "attacks", "pgd", "gate", "run",
            "standard", "recipe", "settings", "features", "roles", "task", "schema", "columns", "relations"]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.sampled_from(SECTIONS), st.text(max_size=5)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(SECTIONS), st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=12,
)
WHOLE = yaml.safe_load(PARAMS.read_text())


def places(tree, path=()):
    """Every place of a tree, the whole apart."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.one_of(st.none(), st.sampled_from(sorted(places(WHOLE), key=str))), tree=TREES)
def test_whatever_the_file_holds_it_is_valid_or_refused_by_name(tmp_path, place, tree):
    """Any tree, in any place of the file, gives valid params or the one error that lists mistakes."""
    whole = yaml.safe_load(PARAMS.read_text())
    if place is None:
        whole = tree
    else:
        node = whole
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = tree
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(whole, allow_unicode=True))
    try:
        params = load(file)
    except ParamsError:
        return
    for pack in params.evaluation.packs:
        params.scenarios(pack)
    assert params.recipe()
    params.checks()


def test_a_pack_by_a_wrong_name_is_refused_with_the_right_ones():
    """The error lists the packs there are."""
    with pytest.raises(ParamsError, match="one of smoke, gate, standard"):
        load(PARAMS).scenarios("nope")
