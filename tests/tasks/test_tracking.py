"""Tracking: what MLflow answers is believed as it is, and what it cannot answer is an error without secrets."""

import shutil
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from holdfast.errors import ModelError, StoreError
from holdfast.model import WEIGHTS, ModelSpec, load_model, save_model
from holdfast.pyfunc import _load_pyfunc
from holdfast.results import Finding, Measure, ModelVersion, Provenance, Score
from holdfast.space import Feature, Table
from holdfast.stores import Stores
from tasks import tracking

SPEC = ModelSpec(
    factory="holdfast.networks:mlp",
    settings={"width": 4},
    space=Table(features=(Feature(name="age", kind="number", median=40, iqr=10),)),
    classes=("no", "yes"),
)
SCORED = Finding(
    path="attacks/pgd", dimension="defence", family="evasion", settings={"steps": 10},
    score=Score(value=0.5, low=0.4, high=0.6, n=100, method="wilson"),
    provenance=Provenance(subject="5e", data="d4", role="test", seed=7, library="11", versions={}, device="cpu"),
)  # fmt: skip
UNSCORED = SCORED.model_copy(update={"score": None, "unscored": "the scenario broke"})


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    made = Stores.local(root, root)
    tracking.prepare(made, "people")
    return made


@pytest.mark.parametrize(
    "url",
    ["http://me:hunter2@127.0.0.1:9/x", "postgresql+psycopg2://me:hunter2@127.0.0.1:9/x", "http://me:hun%20ter2@h/"],
)
def test_an_outage_says_no_secret_not_even_in_its_traceback(tmp_path, url):
    """The error, its cause and its rendered traceback hold no password, however the library quotes the URL."""
    stores = Stores.local(tmp_path, tmp_path, tracking=url)
    with pytest.raises(StoreError) as caught, tracking.answering(stores):
        raise OSError(f"cannot reach {url}, that is {url.replace('hun%20ter2', 'hun ter2')}")
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "hunter2" not in said
    assert "hun ter2" not in said
    assert caught.value.__suppress_context__


def test_no_alias_is_none_and_no_model_is_an_error(stores):
    """Only a registry that knows the model may say that it has no champion."""
    projection = tracking.MlflowProjection(stores)
    assert projection.read("people") is None
    with pytest.raises(StoreError, match="not found"):
        projection.read("strangers")


def test_a_version_is_registered_once_for_a_key_and_loads_without_a_pickle(stores, tmp_path):
    """The same key gives the same version; other bytes under it are refused; the artefact holds no pickle."""
    run = tracking.open_run(stores, "people", "k1", title="training")
    digest = save_model(tmp_path / "m", SPEC.build(seed=0), SPEC)
    first = tracking.register(stores, "people", tmp_path / "m", SPEC, run, "k1", digest)
    assert tracking.register(stores, "people", tmp_path / "m", SPEC, run, "k1", digest) == first
    with pytest.raises(StoreError, match="of the same training"):
        tracking.register(stores, "people", tmp_path / "m", SPEC, run, "k1", "f" * 64)
    assert (tracking.fetch_model(stores, first) / "spec.json").exists()
    names = [path.name for path in Path(stores.artifacts).rglob("*") if path.is_file()]
    assert "MLmodel" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]


def test_mlflow_serves_only_the_bytes_that_were_registered(stores, tmp_path):
    """The registered artefact loads through MLflow's hook as MLflow calls it; with one byte changed it does not."""
    run = tracking.open_run(stores, "people", "k2", title="training")
    digest = save_model(tmp_path / "m", SPEC.build(seed=2), SPEC)
    made = tracking.register(stores, "people", tmp_path / "m", SPEC, run, "k2", digest)
    (top,) = [path.parent for path in Path(stores.artifacts).rglob("MLmodel") if made.source[-32:] in str(path)]
    data = top / yaml.safe_load((top / "MLmodel").read_text())["flavors"]["python_function"]["data"]
    assert len(_load_pyfunc(str(data)).predict({"age": [30, 50]})) == 2
    weights = bytearray((data / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (data / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="as recorded"):
        _load_pyfunc(str(data))


@pytest.mark.parametrize("digest", ["", "../../etc", "f" * 63, "F" * 64])
def test_a_digest_that_is_none_is_never_a_path(stores, digest):
    """A tag that somebody changed in the registry cannot make the store write elsewhere."""
    with pytest.raises(StoreError, match="a digest that is none"):
        tracking.fetch_model(stores, ModelVersion(name="people", version=1, digest=digest, source="models:/m-1"))


@pytest.fixture(scope="module")
def version(stores, tmp_path_factory):
    """A registered version of its own lifecycle."""
    parent = tracking.open_run(stores, "people", "findings", title="lifecycle")
    run = tracking.open_run(stores, "people", "findings: training", title="training", parent=parent)
    folder = tmp_path_factory.mktemp("model") / "m"
    digest = save_model(folder, SPEC.build(seed=3), SPEC)
    return tracking.register(stores, "people", folder, SPEC, run, "findings", digest)


@pytest.mark.parametrize("lost", ["model.safetensors", "spec.json"])
def test_an_artefact_without_a_model_is_refused(stores, version, lost):
    """A version whose files were lost is named, with what to do, and leaves no half of a model behind."""
    (top,) = [path.parent for path in Path(stores.artifacts).rglob("MLmodel") if version.source[-32:] in str(path)]
    (file,) = [path for path in top.rglob(lost) if "code" not in path.parts]
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(StoreError, match=rf"people version {version.version}.*no model.safetensors") as caught:
        tracking.fetch_model(stores, version)
    assert "backup" in caught.value.remedy
    assert not (stores.models / version.digest).exists()
    file.write_bytes(kept)
    assert (tracking.fetch_model(stores, version) / lost).read_bytes() == kept
    shutil.rmtree(stores.models / version.digest)


def test_scenarios_that_fetch_one_version_at_once_each_get_it_whole(stores, version, monkeypatch):
    """Nobody takes away what another has written and is about to put in place."""
    shutil.rmtree(stores.models / version.digest, ignore_errors=True)
    replace, ready = Path.replace, threading.Barrier(2, timeout=20)

    def together(path, target):
        if target.name == WEIGHTS:
            ready.wait()  # both have written
        return replace(path, target)

    def fetched(_):
        return load_model(tracking.fetch_model(stores, version), version.digest).digest

    monkeypatch.setattr(Path, "replace", together)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetched, range(2))) == [version.digest] * 2


def test_versions_beyond_one_page_are_listed(stores, version, monkeypatch):
    """However many versions there are, all are listed, oldest first."""
    client = tracking.client(stores)
    for _ in range(4):
        client.create_model_version("people", version.source, run_id=version.run_id)
    everyone = [int(found.version) for found in client.search_model_versions("name = 'people'")]
    monkeypatch.setattr("tasks.tracking.versions.PAGE", 2)
    assert [found.version for found, _, _ in tracking.list_versions(stores, "people")] == sorted(everyone)
    assert len(everyone) > 4


def asked(stores, version, key):
    """Open a run of one stage about the version."""
    parent, number = tracking.parent_run(stores, version), str(version.version)
    tags = {"holdfast.version": number}
    return tracking.open_run(stores, "people", key, title="evaluation", parent=parent, tags=tags)


def test_a_scenario_that_broke_once_is_logged_when_it_is_scored(stores, version):
    """The question is the same, the answer is not: the score reaches MLflow, and the version's record names it."""
    assert UNSCORED.key == SCORED.key
    run = asked(stores, version, "broke")
    for finding in (UNSCORED, SCORED, SCORED):
        tracking.log_finding(stores, run, version, finding)
    client = tracking.client(stores)
    assert client.get_run(run).data.metrics["defence/attacks/pgd"] == 0.5
    assert len(client.get_metric_history(run, "defence/attacks/pgd")) == 1, "logged once, however often it is tried"
    assert tracking.finding_tags(stores, version)["attacks/pgd.test"] == SCORED.fingerprint()


def test_what_is_unscored_has_its_measures_all_the_same(stores, version):
    """A drill in which nothing was to be done has no score, and says what share of windows was left alone."""
    run = asked(stores, version, "quiet")
    left = Measure(name="quiet_windows_left_alone", value=1.0, unit="share of windows", better="higher")
    never = Measure(name="time_to_recover", value=None, unit="windows", better="lower", censored=True)
    tracking.log_finding(stores, run, version, UNSCORED.model_copy(update={"measures": (left, never)}))
    metrics = tracking.client(stores).get_run(run).data.metrics
    assert metrics == {"defence/attacks/pgd.quiet_windows_left_alone": 1.0}


def kept_findings(stores, run, folder="findings"):
    """Read every finding that a run keeps."""
    found = tracking.client(stores).list_artifacts(run, folder)
    names = [item.path for item in found if not item.is_dir]
    below = [each for item in found if item.is_dir for each in kept_findings(stores, run, item.path)]
    return [Finding.model_validate_json(tracking.read_text(stores, run, name)) for name in names] + below


@pytest.mark.parametrize("side", ["", "champion"])
def test_what_a_decision_read_is_never_overwritten(stores, version, side):
    """Another seed, metric or library, asked in the same run, leaves the evidence of an earlier decision in place."""
    run = asked(stores, version, f"evidence {side}")
    origins = [{}, {"seed": 8}, {"metric": "auroc"}, {"library": "22"}]
    found = [SCORED.model_copy(update={"provenance": SCORED.provenance.model_copy(update=o)}) for o in origins]
    found.append(SCORED.model_copy(update={"path": "attacks/pgd-l2"}))
    for finding in (*found, found[0]):
        tracking.log_finding(stores, run, version, finding, side)
    evidence = sorted(finding.fingerprint() for finding in found)
    assert sorted(finding.fingerprint() for finding in kept_findings(stores, run)) == evidence
    if not side:
        assert tracking.finding_tags(stores, version)["attacks/pgd.test"] == SCORED.fingerprint(), "the last asked"


def test_a_run_that_failed_says_so(stores):
    """What is still running under a lifecycle is marked as failed; what had finished stays finished."""
    parent = tracking.open_run(stores, "people", "p", title="lifecycle")
    done = tracking.open_run(stores, "people", "d", title="training", parent=parent)
    tracking.close_run(stores, done)
    broken = tracking.open_run(stores, "people", "b", title="evaluation", parent=parent)
    tracking.fail_runs(stores, "people", parent)
    found = {run: tracking.client(stores).get_run(run).info.status for run in (parent, done, broken)}
    assert found == {parent: "FAILED", done: "FINISHED", broken: "FAILED"}
