"""Params are validated whole: each mistake is named with its place, and all of them at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.errors import ParamsError
from holdfast.params import load
from holdfast.params_files import read

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
    ("training.recipe=ewc", "training.recipe: ewc goes on from a champion, and a first training has none; name it under recovery.retraining.recipe"),
    ("recovery.retraining.recipe={name: replai}", "recovery.retraining.recipe.name: no such recipe"),
    ("recovery.retraining.recipe={name: replay, settings: {ratio: 1.5}}", "recovery.retraining.recipe.settings.ratio: must be less than 1 (got 1.5)"),
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
    ("data.classes=[no, yes]", "data.classes.0: must be a valid string in quotes: YAML reads yes, no, on, off and numbers"),
    ("data.task=[regression]", "data.task: must be 'classification'"),
    ("evaluation.uses.run=[a]", "evaluation.uses.run: no pack ['a']"),
    ("evaluation.packs.gate.scenarios=[probes/quality, poisoning/badnets]", "evaluation.packs.gate.scenarios: poisoning/badnets trains models"),
    ("evaluation.packs.gate.scenarios=[probes/quality, attacks/transfer]", "evaluation.packs.gate.scenarios: attacks/transfer trains models"),
    ("evaluation.packs.gate.scenarios=[probes/quality, drift/later_years]", "evaluation.packs.gate.scenarios: drift/later_years asks about rows after data.train_until"),
    ("evaluation.packs.gate.sequential=true", "evaluation.packs.gate.sequential: evaluation.uses.gate asks this pack"),
    ("evaluation.packs.smoke.scenarios=3", "evaluation.packs.smoke.scenarios: must be a valid tuple (got 3)"),
    ("monitoring.stream.recorded=[p_paid]", "monitoring.stream.recorded: needs a table, and a column for each of two classes"),
    ("monitoring.stream.recorded=[term, p_off]", "monitoring.stream.recorded: term, p_off would be a feature too"),
    ("monitoring.detectors.harm=null", "monitoring.detectors: surprise, challenger, page_hinkley, adwin, classification_quality without harm, which alone says by how much answers are worse, and when that is over; add harm: {}"),
    ("monitoring.detectors.suspicion.traces=[probng]", "monitoring.detectors.suspicion.traces.0: must be 'off_data', 'boundary', 'sudden', 'probing' or 'inconsistent'"),
    ("evaluation.scenarios.attacks=pgd", "evaluation.scenarios.attacks: must be a valid dictionary (got pgd)"),
]  # fmt: skip


@pytest.mark.parametrize(("assignment", "expected"), WRONG, ids=[case[0] for case in WRONG])
def test_a_mistake_is_named_with_its_place(assignment, expected):
    """One wrong line is refused before any work, with its place, what was found and what is valid."""
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, assignments=(assignment,))
    assert f"\n  {expected}" in str(caught.value)


def test_recorded_predictions_have_no_champion_to_ask_about_squeezed_rows():
    """The trace that needs one is refused before any work; the others are not."""
    recorded = ("monitoring.stream.recorded=[p_paid, p_off]", "data.exclude=[fy, p_paid, p_off]")
    with pytest.raises(ParamsError, match=r"suspicion\.traces: inconsistent asks a champion"):
        load(PARAMS, assignments=(*recorded, "monitoring.detectors.suspicion.traces=[probing, inconsistent]"))
    assert load(PARAMS, assignments=(*recorded, "monitoring.detectors.suspicion.traces=[sudden]")).recorded


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
        "monitoring.stream.recorded",
        "recovery.retraining.recipe",
    )
    cases = [case for case in WRONG if not case[0].startswith((*later, *shared))]
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, assignments=tuple(assignment for assignment, _ in cases))
    assert [expected for _, expected in cases if expected not in str(caught.value)] == []


@pytest.mark.parametrize(
    "detectors", ["{}", "{mmd: {}, calibration_drift: {}}", "{harm: {}, surprise: {}}", "{harm: null, surprise: null}"]
)
def test_a_panel_without_harm_is_fine_where_nothing_else_tells_of_it(detectors):
    """Shifts and attacks begin no episode that must end."""
    asked = load(PARAMS, assignments=(f"monitoring.detectors={detectors}",)).panel().detectors
    assert "harm" in asked or not [name for name, detector in asked.items() if detector.about == "harm"]


def test_recorded_predictions_may_be_watched_without_harm():
    """Nothing is ever retrained there."""
    columns = ("data.exclude=[p_paid, p_off]", "monitoring.stream.recorded=[p_paid, p_off]")
    only = "monitoring.detectors={surprise: {}}"
    assert load(PARAMS, assignments=(only, "monitoring.detectors.harm=null", *columns)).recorded


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


def test_a_retraining_has_the_recipe_of_its_own_where_it_has_one():
    """Without one it trains as the first training did, and afresh; with warm start or a continual recipe it goes on."""
    plain = load(PARAMS)
    assert plain.retrained() is plain
    assert not plain.goes_on
    assert load(PARAMS, assignments=("recovery.retraining.warm_start=true",)).goes_on
    told = "recovery.retraining.recipe={name: %s, settings: {epochs: 3}}"
    for name, goes_on in (("replay", True), ("ewc", True), ("lwf", True), ("trades", False)):
        params = load(PARAMS, assignments=(told % name,))
        assert params.goes_on == goes_on
        assert (params.retrained().recipe().name(), params.retrained().recipe().epochs) == (name, 3)
        assert params.recipe() == plain.recipe()


def test_the_gates_attack_is_the_first_of_its_pack_or_none():
    """Rehearsals and comparisons ask with the attack that the gate asks with, and with none where it has none."""
    found = load(Path("params.yaml")).gate_attack()
    assert found is not None
    assert found[0] == next(
        p for p in load(Path("params.yaml")).evaluation.packs["gate"].scenarios if p[:7] == "attacks"
    )
    assert load(Path("params.yaml"), (Path("profiles/crisis.yaml"),)).gate_attack() is None


def test_an_overlay_changes_what_it_says_and_nothing_else(tmp_path):
    """Mappings merge; ``replace: true`` replaces a mapping whole."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"seed": 99, "model": {"replace": True, "factory": "holdfast.networks:mlp"}}))
    before, after = load(PARAMS), load(PARAMS, (overlay,))
    assert (after.seed, after.model.settings) == (99, {})
    assert after.data == before.data


def test_a_sequential_pack_tells_its_attacks_their_floors():
    """Those that have one stop at its verdict, with their part of the error; the others are asked whole."""
    floors = "recovery.gates.floors={attacks/pgd: 0.3, attacks/fgsm: 0.4, probes/quality: 0.6}"
    gate = "evaluation.packs.gate.scenarios=[probes/quality, attacks/pgd, attacks/fgsm, anomalies/missing_values]"
    quick = "evaluation.packs.quick={budget_seconds: 9, sequential: true, scenarios: [attacks/pgd, attacks/fgsm, probes/quality, attacks/square]}"
    asked = load(Path("params.yaml"), assignments=(floors, gate, quick)).scenarios("quick")
    assert [asked[f"attacks/{name}"].until for name in ("pgd", "fgsm", "square")] == [0.3, 0.4, None]
    assert asked["attacks/pgd"].error == pytest.approx(0.005)
    assert load(Path("params.yaml")).scenarios("standard")["attacks/pgd"].until is None


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
    """Ports, counts of tokens, names of variables and URLs without a password are fine, and arrive as written."""
    place, _, said = assignment.partition("=")
    found = load(PARAMS, assignments=(assignment,)).model_dump()
    for key in place.split("."):
        found = found[key]
    assert str(found) == said


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


OVERLAY = """
seed: -2
evaluation: {scenarios: {attacks: {pgdd: {steps: 3}}}}
training: {settings: {epochs: 0}}
"""


@pytest.fixture
def overlay(tmp_path):
    """An overlay with three mistakes, in a file of its own."""
    file = tmp_path / "mine.yaml"
    file.write_text(OVERLAY)
    return file


def refusal(**layers):
    """The error that layers of params give."""
    with pytest.raises(ParamsError) as caught:
        load(PARAMS, **layers)
    return caught.value


def test_a_list_of_mistakes_ends_with_what_happened_and_no_tail():
    """Below the last mistake stands that nothing was started, and no empty phrase."""
    error = refusal(assignments=("seed=-1",))
    assert str(error).splitlines() == [
        "--set seed=-1: found 1 mistake:", "  seed: must be greater than or equal to 0 (got -1)", "Nothing was started.",
    ]  # fmt: skip


def test_a_mistake_is_blamed_on_the_layer_that_made_it(overlay):
    """An overlay's mistakes name the overlay, an assignment's the assignment, and neither names params.yaml."""
    assert refusal(overlays=(overlay,)).where == str(overlay)
    error = refusal(overlays=(overlay,), assignments=("training.settings.epochs=-1", "metric=acuracy"))
    lines = str(error).splitlines()
    assert "params.yaml" not in str(error)
    for place, layer in (
        ("seed:", overlay), ("evaluation.scenarios.attacks.pgdd:", overlay),
        ("training.settings.epochs:", "--set training.settings.epochs=-1"), ("metric:", "--set metric=acuracy"),
    ):  # fmt: skip
        (line,) = [line for line in lines if line.strip().startswith(place)]
        assert line.endswith(f"[{layer}]")


def test_the_last_layer_that_set_a_place_is_to_blame(overlay):
    """An assignment that mends an overlay's mistake leaves it blameless; one that repeats it takes the blame."""
    lines = str(refusal(overlays=(overlay,), assignments=("seed=-3",))).splitlines()
    (line,) = [line for line in lines if "seed:" in line]
    assert line.endswith("[--set seed=-3]")
    assert "seed" not in str(refusal(overlays=(overlay,), assignments=("seed=3",)))


def test_what_nobody_set_is_for_the_file_to_set(tmp_path):
    """A missing section is params.yaml's, and a section that an overlay replaced is the overlay's."""
    bare, replaced = tmp_path / "params.yaml", tmp_path / "replaced.yaml"
    whole = yaml.safe_load(PARAMS.read_text())
    del whole["name"]
    bare.write_text(yaml.safe_dump(whole))
    with pytest.raises(ParamsError) as caught:
        load(bare, assignments=("seed=1",))
    assert caught.value.where == "params.yaml"
    replaced.write_text("model: {replace: true}")
    assert refusal(overlays=(replaced,)).where == str(replaced)


def test_a_mistake_of_two_layers_together_names_both():
    """Shares that only together are too large name both who set some of them."""
    assert refusal(assignments=("data.roles.train=0.9",)).where == "params.yaml + --set data.roles.train=0.9"


def test_what_cannot_be_read_is_reported_at_once_and_together(tmp_path):
    """Two overlays that are not there, and an assignment without a value, are three mistakes of one error."""
    error = refusal(overlays=(tmp_path / "a.yaml", tmp_path / "b.yaml"), assignments=("seed", "name.of.it=3"))
    assert "4 mistakes" in str(error)
    for part in (
        "a.yaml: found No such file",
        "b.yaml: found No such file",
        "--set seed: found no '='",
        "--set name.of.it:",
    ):
        assert part in str(error)


HEAVY = ("torch", "pandas", "scipy", "sklearn", "mlflow", "prefect", "great_expectations", "dvc")
LIGHTLY = """
import sys
import subprocess
import sys
from pathlib import Path
from holdfast.errors import ParamsError
from holdfast.params_files import read
try:
    read(Path(sys.argv[1]), tuple(map(Path, sys.argv[2:3])), tuple(sys.argv[3:]))
except ParamsError:
    print(*(set(sys.modules) & set({heavy!r})))
else:
    print("no refusal")
"""


@pytest.mark.parametrize("layers", [("nope.yaml",), ("params.yaml", "nope.yaml"), ("params.yaml", "params.yaml", "x")])
def test_what_cannot_be_read_is_refused_before_anything_heavy_is_imported(layers):
    """A wrong path and a malformed assignment import no tensors, tables, trackers or orchestrators."""
    code = LIGHTLY.format(heavy=HEAVY)
    done = subprocess.run(
        (sys.executable, "-c", code, *layers), cwd=PROJECT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def test_the_classes_of_checks_need_no_classifiers():
    """A check's settings are read without the libraries that only its work needs."""
    heavy = "{'sklearn', 'pandas', 'scipy', 'torch'}"
    code = (
        "import sys, holdfast.integrity.base, holdfast.integrity.label_errors\n"
        f"sys.exit(sorted({heavy} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_stands_twice_is_refused_with_all_its_lines(tmp_path):
    """YAML would take the last and lose the others; nested, in an overlay, behind an alias or in --set alike."""
    overlay = tmp_path / "twice.yaml"
    overlay.write_text(
        "seed: 1\ntraining:\n  settings:\n    epochs: 3\n    batch_size: 8\n    epochs: 4\n    epochs: 5\nseed: 2\n"
        "data: &one {exclude: [a], exclude: [b]}\nmodel: *one\n"
    )
    with pytest.raises(ParamsError) as error:
        read(PARAMS, (overlay,))
    assert error.value.where == str(overlay)
    assert error.value.found.split("; ") == [
        "epochs stands 3 times in one section: lines 4, 6, 7", "exclude stands 2 times in one section: lines 9, 9",
        "seed stands 2 times in one section: lines 1, 8",
    ]  # fmt: skip
    with pytest.raises(ParamsError, match="--set training"):
        read(PARAMS, (), ("training={recipe: standard, recipe: trades}",))
    overlay.write_text("training: {settings: {epochs: 3}}\nprediction: {settings: {epochs: 3}}\n")
    assert read(PARAMS, (overlay,)).tree["training"]["settings"]["epochs"] == 3


def test_set_takes_a_section_whole_with_or_without_the_mark():
    """What a profile says with ``replace: true`` may be pasted behind --set."""
    marked, plain = (
        read(PARAMS, (), (f"training={{{mark}recipe: trades}}",)).tree["training"] for mark in ("replace: true, ", "")
    )
    assert marked == plain == {"recipe": "trades"}
