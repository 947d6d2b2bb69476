"""Quality and calibration against planted answers and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from holdfast.data import Samples
from holdfast.model import ModelSpec, Target
from holdfast.scenarios.base import Context, choose
from holdfast.scenarios.probes.calibration import Calibration
from holdfast.scenarios.probes.quality import Quality
from holdfast.scenarios.probes.regression_corpus import RegressionCorpus
from holdfast.seeding import Noise
from holdfast.space import Box, Feature, Table

TABLE = Table(features=(Feature(name="a", kind="number", iqr=1.0), Feature(name="b", kind="number", iqr=1.0)))
CLASSES = ("no", "yes")


class Echo(nn.Module):
    """Give the row itself as logits."""

    def forward(self, x):
        return x.flatten(1)


def echo(space=TABLE, classes=CLASSES):
    return Target(Echo(), ModelSpec(factory="none:none", space=space, classes=classes), "digest")


def rows(logits, labels):
    x = torch.tensor(logits, dtype=torch.float32)
    return Samples(x, torch.tensor(labels), torch.arange(len(labels)), "test", "snap")


def ranked(n=200):
    ids = torch.arange(n)
    y = Noise(1).integers(ids, 2)
    margin = Noise(2).normal(ids) + y
    return Samples(torch.stack([torch.zeros(n), margin], 1), y, ids, "test", "snap")


def test_quality_reads_accuracy_classes_and_confusion(context):
    """Five rows with one mistake in class 1."""
    samples = rows([[1, 0], [2, 0], [0, 1], [0, 3], [1, 0]], [0, 0, 1, 1, 1])
    finding = Quality().run(echo(), samples, context)
    assert finding.score.value == pytest.approx(4 / 5)
    assert finding.score.method == "wilson"
    assert {name: score.value for name, score in finding.slices.items()} == {
        "class=no": 1.0,
        "class=yes": pytest.approx(2 / 3),
    }
    assert finding.details["confusion"] == [[2, 0], [1, 2]]


@pytest.mark.parametrize(
    ("metric", "reference"), [("auroc", roc_auc_score), ("average_precision", average_precision_score)]
)
def test_ranking_metrics_equal_scikit_learn(metric, reference):
    """The ranking score is the margin of class 1, and travels with the finding."""
    samples = ranked()
    finding = Quality().run(echo(), samples, Context(seed=1, metric=metric))
    assert finding.score.value == pytest.approx(reference(samples.y, samples.x[:, 1]))
    stored = finding.per_example.unpack_scores()
    assert reference(finding.per_example.unpack_labels(), stored) == pytest.approx(finding.score.value)


def test_costs_are_read_from_the_context():
    """Missing a yes costs ten times a false alarm: one of each in four rows."""
    samples = rows([[1, 0], [0, 1], [1, 0], [0, 1]], [0, 0, 1, 1])
    costs = ((0.0, 1.0), (10.0, 0.0))
    finding = Quality().run(echo(), samples, Context(seed=1, metric="expected_cost", costs=costs))
    assert finding.score.value == pytest.approx(1 - 11 / 22)


@pytest.mark.parametrize("metric", ["accuracy", "auroc", "average_precision", "expected_cost"])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_rows_without_an_answer_are_wrong_in_every_metric(metric, broken):
    """A model that breaks on half of the rows scores lower than one that answers them by chance."""
    samples = ranked()
    context = Context(seed=1, metric=metric, costs=((0.0, 1.0), (1.0, 0.0)) if metric == "expected_cost" else None)
    whole = Quality().run(echo(), samples, context)
    x = samples.x.clone()
    x[:100] = torch.tensor([0.0, broken])
    finding = Quality().run(echo(), Samples(x, samples.y, samples.ids, "test", "snap"), context)
    assert finding.score.value < whole.score.value - 0.2
    flags = finding.per_example.unpack_flags()
    assert not flags[(choose(samples, 1000, 1).ids < 100).numpy()].any()


def test_a_metric_that_is_not_defined_is_unscored():
    """AUROC ranks two classes, both present."""
    space = Table(features=(*TABLE.features, Feature(name="c", kind="number", iqr=1.0)))
    three = rows([[0, 0, 1], [1, 0, 0]], [2, 0])
    finding = Quality().run(echo(space, ("a", "b", "c")), three, Context(seed=1, metric="auroc"))
    assert finding.unscored == "auroc ranks two classes, and the model has more"
    one = Quality().run(echo(), rows([[0, 1], [1, 0]], [1, 1]), Context(seed=1, metric="auroc"))
    assert one.unscored == "auroc needs rows of both classes"


@pytest.mark.parametrize(("right", "error"), [(75, 0.0), (50, 0.25), (100, 0.25)])
def test_calibration_error_of_one_confidence_is_its_distance_from_accuracy(right, error, context):
    """Always 75 % sure: right three times in four is calibrated, less and more are not."""
    odds = torch.log(torch.tensor(3.0)).item()
    samples = rows([[odds, 0.0]] * 100, [0] * right + [1] * (100 - right))
    finding = Calibration().run(echo(), samples, context)
    assert finding.score.value == pytest.approx(1 - error, abs=1e-6)
    clean = finding.measures[0]
    assert clean.value == pytest.approx(error, abs=1e-6)
    assert finding.score.low <= finding.score.value <= finding.score.high


@pytest.mark.parametrize("label", [0, 1])
def test_a_few_rows_that_agree_are_not_certain(label, context):
    """Seven rows of full confidence, all right or all wrong: resamples agree, and the interval does not shrink."""
    finding = Calibration(draws=100).run(echo(), rows([[60.0, 0.0]] * 7, [label] * 7), context)
    assert finding.score.value == pytest.approx(1.0 - label)
    assert finding.score.high - finding.score.low == pytest.approx(1.96**2 / (7 + 1.96**2), abs=1e-3)


def test_calibration_under_shift_sees_what_the_shift_does(context):
    """A model sure of itself is right when clean, and stays as sure on noisy images that mislead it."""
    box = Box(shape=(1, 1, 2), mean=(0.0,), std=(1.0,))

    class Sure(nn.Module):
        def forward(self, x):
            return 1e4 * (x.flatten(1) - 0.5)

    target = Target(Sure(), ModelSpec(factory="none:none", space=box, classes=CLASSES), "digest")
    x = torch.tensor([[0.48, 0.52], [0.52, 0.48]]).repeat(100, 1).reshape(200, 1, 1, 2)
    samples = Samples(x, torch.tensor([1, 0]).repeat(100), torch.arange(200), "test", "snap")
    finding = Calibration().run(target, samples, context)
    clean, shifted = finding.measures
    assert clean.value == pytest.approx(0.0, abs=1e-6)
    assert shifted.value > 0.2
    assert finding.details == {"shift": "corruptions/gaussian_noise at severity 3"}


def test_the_regression_corpus_counts_what_still_breaks(context):
    """Of five rows that broke earlier versions two still do; a row without an answer still breaks."""
    samples = rows([[1, 0], [2, 0], [0, 1], [0, 3], [float("inf"), 0]], [0, 0, 1, 0, 0])
    samples = replace(samples, ids=(torch.tensor([1, 1, 2, 3, 4]) << 32) + torch.arange(5))
    finding = RegressionCorpus().run(echo(), samples, context)
    (measure,) = finding.measures
    assert (finding.score.value, finding.score.n, finding.score.method) == (pytest.approx(3 / 5), 4, "wilson_clustered")
    assert (measure.name, measure.value, measure.better) == ("still_breaking", pytest.approx(2 / 5), "lower")
    assert measure.low < measure.value < measure.high
    order = choose(samples, 1000, context.seed).ids
    assert finding.per_example.unpack_flags().tolist() == (order % 2**32 < 3).tolist()
