"""The predictor: verified bytes, validated rows, abstention, and a log without gaps."""

import hashlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch

from holdfast.errors import DataError, ModelError, StoreError
from holdfast.model import ModelSpec, save_model
from holdfast.prediction_log import Answer, PredictionLog
from holdfast.predictor import NOT_FINITE, UNSURE, Predictor
from holdfast.results import ModelVersion
from holdfast.space import Box, Feature, Table
from holdfast.squeezing import squeezed

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SPACE = Table(
    features=(
        Feature(name="age", kind="number", low=0, high=120, median=40, iqr=10),
        Feature(name="town", kind="category", categories=("Bonn", "Ulm")),
    )
)


class Clock:
    """Stands still."""

    def now(self):
        return NOW


def make(folder, space=SPACE, spoil=False):
    spec = ModelSpec(
        factory="holdfast.networks:mlp", settings={"width": 8, "depth": 1}, space=space, classes=("go", "stay")
    )
    if isinstance(space, Box):
        spec = spec.model_copy(update={"factory": "holdfast.networks:cnn", "settings": {"width": 2, "hidden": 4}})
    module = spec.build(seed=1)
    if spoil:
        with torch.no_grad():
            next(module.parameters()).fill_(torch.nan)
    return ModelVersion(name="people", version=3, digest=save_model(folder, module, spec))


@pytest.fixture
def log(tmp_path):
    return PredictionLog(tmp_path / "predictions.db", Clock())


@pytest.fixture
def predictor(tmp_path, log):
    return Predictor.open(tmp_path / "m", make(tmp_path / "m"), log)


def rows(n=7):
    return pd.DataFrame({"town": ["Ulm", "Bonn", None, "Rome"] * n, "age": np.arange(4.0 * n)})[:n]


def test_answers_are_the_models_and_all_are_logged(tmp_path, log):
    """Classes and confidences are those of the softmax, and the log holds time, version, input, output and client."""
    version = make(tmp_path / "m")
    predictor = Predictor.open(tmp_path / "m", version, log, unseen_categories="answer")
    answers = predictor.predict(rows(), "shop")
    x = torch.tensor([[a, c] for a, c in zip(range(7), [1, 0, torch.nan, 2, 1, 0, torch.nan], strict=True)])
    confidence, indices = torch.softmax(predictor._target.module(x).double(), 1).max(1)
    assert answers.confidence == pytest.approx(confidence.numpy(), abs=1e-6)
    assert list(answers.classes) == [("go", "stay")[i] for i in indices.tolist()]
    logged = log.read(version)
    assert [(a.output, a.confidence, a.input) for a in logged] == [
        (a.output, a.confidence, a.input) for a in answers.answers
    ]
    assert {(a.at, a.version, a.client, a.abstained) for a in logged} == {(NOW, version, "shop", False)}
    assert len({a.input for a in logged}) == 7
    assert log.count() == log.count(version) == 7
    assert log.read(after=logged[4].id) == logged[5:]


def test_a_row_gets_its_answer_whatever_lies_beside_it(predictor):
    """Answers do not depend on batch, order, column order, index, or how often one asks."""
    frame = rows(600)
    whole = predictor.predict(frame, "c").answers
    alone = [predictor.predict(frame.iloc[i : i + 1], "c").answers[0] for i in (0, 3, 511, 599)]
    assert alone == [whole[i] for i in (0, 3, 511, 599)]
    assert predictor.predict(frame[::-1][["age", "town"]], "c").answers == whole[::-1]


def test_answers_to_squeezed_rows_are_given_to_nobody(predictor, log):
    """How far they move is what the answers to such rows say, and none of them is logged."""
    asked = pd.DataFrame({"town": ["Ulm"] * 40, "age": np.linspace(0.0, 100.0, 40)})
    told = predictor.predict(asked, "shop")
    found = predictor.squeeze(told.inputs, told.inputs)
    assert len(log.read(predictor.version)) == 40
    (coarse,) = squeezed(told.inputs, told.inputs, SPACE)
    moved = predictor.predict(pd.DataFrame({"town": "Ulm", "age": coarse[:, 0].numpy()}), "shop").probabilities
    assert found[:, 0] == pytest.approx(np.abs(moved - told.probabilities).sum(1), abs=1e-12)
    assert found.max() > 0.0


def test_tampered_bytes_are_refused(tmp_path, log):
    """One changed byte in weights or description, and the model is not opened."""
    for name in ("model.safetensors", "spec.json"):
        version = make(tmp_path / "m")
        path = tmp_path / "m" / name
        path.write_bytes(path.read_bytes()[:-1] + b" ")
        with pytest.raises(ModelError, match="do not serve"):
            Predictor.open(tmp_path / "m", version, log)


def test_a_wrong_schema_is_refused_before_any_work(predictor, log, monkeypatch):
    """Every fault of the rows is named, the model is not asked, and nothing is logged."""
    monkeypatch.setattr(predictor._target, "logits", lambda x: pytest.fail("the model was asked"))
    with pytest.raises(DataError) as refusal:
        predictor.predict(pd.DataFrame({"age": ["old"]}), "c")
    assert "no column 'town'" in str(refusal.value)
    assert "text where a number is expected" in str(refusal.value)
    for bad in (np.zeros((1, 2)), [[1, 2]], {"age": 1}):
        with pytest.raises(DataError, match="expected a table"):
            predictor.predict(bad, "c")
    with pytest.raises(DataError, match="client"):
        predictor.predict(rows(), "")
    assert log.count() == 0


def test_extra_columns_by_policy(tmp_path, log):
    """A column that is no feature is ignored, and changes no answer, or refused where the policy says so."""
    version = make(tmp_path / "m")
    lax = Predictor.open(tmp_path / "m", version, log)
    strict = Predictor.open(tmp_path / "m", version, log, extra="refuse")
    more = rows().assign(label=1)
    assert lax.predict(more, "c").answers == lax.predict(rows(), "c").answers
    with pytest.raises(DataError, match="'label' that is no feature"):
        strict.predict(more, "c")


def test_codes_for_unknown_are_missing_as_in_training(tmp_path, log):
    """A code that the model's own space knows for *unknown* gets the answer of a missing value."""
    codes = {"age": (99,), "town": ("?",)}
    features = tuple(f.model_copy(update={"missing": codes.get(f.name, ())}) for f in SPACE.features)
    version = make(tmp_path / "m", SPACE.model_copy(update={"features": features}))
    predictor = Predictor.open(tmp_path / "m", version, log)
    coded, missing = predictor.predict(pd.DataFrame({"age": [99, np.nan], "town": ["?", None]}), "c").answers
    assert (coded.output, coded.confidence) == (missing.output, missing.confidence)


def test_low_confidence_abstains(tmp_path, log):
    """Below the threshold there is no class, the reason is given, and the log says so."""
    version = make(tmp_path / "m")
    answering = {"unseen_categories": "answer"}
    sure = Predictor.open(tmp_path / "m", version, log, **answering).predict(rows(), "c")
    threshold = float(np.median(sure.confidence))
    answers = Predictor.open(tmp_path / "m", version, log, abstain_below=threshold, **answering).predict(rows(), "d")
    assert answers.abstained.tolist() == (sure.confidence < threshold).tolist()
    assert 0 < answers.abstained.sum() < 7
    for answer in answers.answers:
        assert (answer.output is None) == (answer.reason == UNSURE)
    assert [a.abstained for a in log.read(after=7)] == answers.abstained.tolist()
    assert answers.frame()["prediction"].isna().tolist() == answers.abstained.tolist()


def test_outputs_that_are_not_finite_abstain(tmp_path, log):
    """A model that gives NaN answers nothing, and its confidence is no number."""
    answers = Predictor.open(tmp_path / "m", make(tmp_path / "m", spoil=True), log).predict(rows(), "c")
    assert answers.abstained.all()
    assert {a.reason for a in answers.answers} == {NOT_FINITE}
    assert np.isnan(answers.confidence).all()
    assert {a.confidence for a in log.read()} == {None}


def test_values_outside_the_declared_range_abstain(predictor):
    """Ages of -1 and 121 get no answer; 0, 120 and a missing one do."""
    answers = predictor.predict(pd.DataFrame({"age": [-1.0, 0, 120, 121, np.nan], "town": "Ulm"}), "c")
    assert answers.abstained.tolist() == [True, False, False, True, False]
    assert answers.answers[0].reason.endswith("age")


def test_categories_that_training_never_saw_abstain(tmp_path, log):
    """By default such a row gets no answer and the reason names the feature; a missing or coded value is answered."""
    features = tuple(f.model_copy(update={"missing": ("?",) if f.name == "town" else ()}) for f in SPACE.features)
    version = make(tmp_path / "m", SPACE.model_copy(update={"features": features}))
    asked = pd.DataFrame({"age": [30.0, 30, 30, 30, 121], "town": ["Ulm", "Rome", None, "?", "Rome"]})
    answers = Predictor.open(tmp_path / "m", version, log).predict(asked, "c").answers
    reasons = ["", "category not seen in training: town", "", "", "outside the range of age"]
    assert [answer.reason for answer in answers] == reasons
    assert [answer.output is None for answer in answers] == [bool(reason) for reason in reasons]
    bold = Predictor.open(tmp_path / "m", version, log, unseen_categories="answer").predict(asked, "c").answers
    assert [answer.reason for answer in bold] == ["", "", "", "", "outside the range of age"]
    assert [answer.confidence for answer in bold] == [answer.confidence for answer in answers]


def test_no_answer_without_a_log(tmp_path, predictor, log):
    """When the log cannot be written, the caller gets an error and no prediction."""
    predictor.predict(rows(), "c")
    log.path.write_bytes(b"this is no database, and long enough to be seen as none" * 100)
    with pytest.raises(StoreError, match="prediction log"):
        predictor.predict(rows(), "c")
    (tmp_path / "file").write_text("")
    blocked = PredictionLog(tmp_path / "file" / "p.db", Clock())
    with pytest.raises(StoreError):
        Predictor(predictor._target, predictor.version, blocked).predict(rows(), "c")


def test_no_rows_get_no_answers(predictor, log):
    """An empty table is answered with nothing, and nothing is logged."""
    assert len(predictor.predict(rows(0), "c")) == 0
    assert log.count() == 0


def test_images_are_answered_in_any_layout(tmp_path, log):
    """Bytes and floats of the same images get the same classes; other sizes and ranges are refused."""
    space = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.25,))
    predictor = Predictor.open(tmp_path / "m", make(tmp_path / "m", space), log)
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    answers = predictor.predict(x, "c")
    assert predictor.predict(x[..., None], "c").answers == answers.answers
    assert predictor.predict(x / 255.0, "c").classes == answers.classes
    assert len(predictor.predict(x[:0], "c")) == 0
    for bad in (x[:, :4], x.astype(float), x.astype(np.int32), rows()):
        with pytest.raises(DataError):
            predictor.predict(bad, "c")
    assert answers.answers[0].input != hashlib.sha256(b"").hexdigest()


def test_the_last_answer_to_each_row_is_found_however_many_are_asked_for(log):
    """Of one version's bytes alone: another digest under the same number, and other models, are other answers."""
    mine = ModelVersion(name="people", version=3, digest="d")
    others = [mine.model_copy(update={"digest": "e"}), mine.model_copy(update={"name": "cats"})]
    names = [f"{place:064x}" for place in range(40_000)]  # more than SQLite takes variables
    for version, output in ((mine, "go"), (mine, "stay"), *((other, "none") for other in others)):
        log.append(version, [Answer(input=name, output=output, confidence=0.9) for name in names[:3]], "shop")
    log.append(mine, [Answer(input=names[1], output=None, confidence=0.4, reason=UNSURE)], "shop")
    found = log.served(mine, names[1:])
    assert {name: answer.output for name, answer in found.items()} == {names[1]: None, names[2]: "stay"}
    assert found[names[1]] == Answer(input=names[1], output=None, confidence=0.4, reason=UNSURE)
    assert log.served(mine, []) == {}


def test_a_log_that_is_there_already_gets_the_index_that_rows_are_found_by(tmp_path, log):
    """Written before anyone asked for rows, it would be read through for each window."""
    log.append(ModelVersion(name="people", version=3, digest="d"), [Answer(input="i", output="go", confidence=1)], "c")
    with sqlite3.connect(log.path) as connection:
        connection.execute("DROP INDEX holdfast_predictions_input")
    again = PredictionLog(log.path, Clock())
    assert again.count() == 1
    with sqlite3.connect(log.path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT max(id) FROM holdfast_predictions WHERE model = 'people' AND digest = 'd' AND input"
            " IN (SELECT value FROM json_each('[]')) GROUP BY input"
        ).fetchall()
    assert any("holdfast_predictions_input (model=? AND input=?)" in str(step) for step in plan)


def test_examined_rows_are_answered_alike_and_not_logged(predictor, log):
    """Who only looks gets what a client gets; the log is what was served."""
    told = predictor.examine(rows())
    assert log.count() == 0
    assert predictor.predict(rows(), "shop").answers == told.answers


def test_served_rows_are_found_by_what_the_model_reads(tmp_path, log):
    """Numbers of any width are one row; 1 and True are one value and two categories, and no answer to the other."""
    space = Table(features=(Feature(name="age", kind="number"),
                            Feature(name="town", kind="category", categories=("False", "True"))))  # fmt: skip
    version = make(tmp_path / "m", space)
    predictor = Predictor.open(tmp_path / "m", version, log, unseen_categories="answer")
    asked = pd.DataFrame({"town": [True, False, True], "age": [1, 2, 3]})

    def found(rows):
        told = predictor.examine(rows)
        return told.against(log.served(version, [each.input for each in told.answers]))

    predictor.predict(asked.assign(town=[1, 0, 1]), "shop")
    assert found(asked) == (0, ())
    predictor.predict(asked, "shop")
    assert found(asked.assign(age=[1.0, 2.0, 3.0])[["age", "town"]].astype({"town": object})) == (3, ())


def test_served_images_are_found_in_bytes_or_floats(tmp_path, log):
    """What the model reads of both is the same."""
    space = Box(shape=(1, 8, 8), mean=(0.5,), std=(0.25,))
    version = make(tmp_path / "m", space)
    predictor = Predictor.open(tmp_path / "m", version, log)
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    predictor.predict(x.astype(np.float32) / np.float32(255), "shop")
    told = predictor.examine(x)
    assert told.against(log.served(version, [each.input for each in told.answers])) == (5, ())


def served(told, place, **other):
    """What was served for these rows where one answer was another."""
    answers = {answer.input: answer for answer in told.answers}
    own = told.answers[place]
    return answers | {own.input: own.model_copy(update=other)}


def test_answers_that_follow_from_the_bytes_are_told_from_those_that_do_not(tmp_path, log):
    """Another class, another confidence and no number are; rounding and another client's threshold are not."""
    told = Predictor.open(tmp_path / "m", make(tmp_path / "m"), log, unseen_categories="answer").examine(rows())
    own = told.answers[2]
    (other,) = {"go", "stay"} - {own.output}
    assert told.against({}) == (0, ())
    assert told.against(served(told, 2)) == (7, ())
    same = ({"confidence": own.confidence + 0.009}, {"output": None, "reason": UNSURE})
    assert [told.against(served(told, 2, **given)) for given in same] == [(7, ())] * 2
    for given in (
        {"output": other}, {"confidence": own.confidence + 0.011}, {"output": None, "confidence": None},
        {"output": "fly"}, {"output": None, "reason": UNSURE, "confidence": own.confidence - 0.2},
    ):  # fmt: skip
        n, (line,) = told.against(served(told, 2, **given))
        assert n == 7
        assert line.endswith(f"its bytes say {own.output} at {own.confidence:.3f}")


def test_of_two_classes_that_are_as_likely_either_may_be_served(tmp_path, log):
    """What other hardware rounds the other way is the same answer."""
    version = make(tmp_path / "m")
    told = Predictor.open(tmp_path / "m", version, log, unseen_categories="answer").examine(rows(1))
    (own,) = told.answers
    (other,) = {"go", "stay"} - {own.output}
    for half, n in ((0.501, 0), (0.51, 1)):
        shares = np.where(np.array(told.names) == own.output, half, 1 - half)[None, :]
        near = replace(told, answers=(own.model_copy(update={"confidence": half}),), probabilities=shares)
        given = {own.input: own.model_copy(update={"output": other, "confidence": half})}
        assert len(near.against(given)[1]) == n
