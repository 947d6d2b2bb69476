"""Tests of the figures: drawn from findings alone, the same each time, words where data are missing."""

from __future__ import annotations

import base64
import io
import re
import threading

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from holdfast.reporting.canvas import COLOURS, draw
from holdfast.reporting.confusion import confusions
from holdfast.reporting.content import Epoch
from holdfast.reporting.curves import curves
from holdfast.reporting.examples import galleries, gallery
from holdfast.reporting.forest import forest
from holdfast.reporting.training import training_curve
from holdfast.results import Curve, CurvePoint, Finding, PerExample


@pytest.fixture
def findings(example):
    return example.findings()


def all_figures(findings):
    return [forest(findings), *curves(findings), *(figure for finding in findings for figure in confusions(finding))]


def test_figures_redraw_identically_from_logged_json(findings):
    """A finding that went through its JSON form draws the same bytes."""
    logged = tuple(Finding.model_validate_json(finding.model_dump_json()) for finding in findings)
    drawn = all_figures(findings)
    assert all_figures(logged) == drawn
    assert galleries(logged) == galleries(findings)
    assert len({figure.svg for figure in drawn if figure.svg}) >= 8


def test_figures_leave_matplotlib_as_it_was_and_ignore_its_settings(findings):
    """Another's settings change no byte, and ours change no setting of theirs."""
    expected = forest(findings)
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert forest(findings) == expected
        assert dict(mpl.rcParams) == before


def test_figures_drawn_in_threads_are_the_same(example):
    """Drawing takes turns: what threads draw is what one draws."""
    findings = [example.severities("jpeg", 0.9, 0.01)]
    expected, drawn = curves(findings), []
    threads = [threading.Thread(target=lambda: drawn.append(curves(findings))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [expected] * 3


def test_colours_are_left_to_the_page(findings):
    """No figure fixes a colour or a font: each colour is a variable that the page's scheme defines."""
    for figure in all_figures(findings):
        assert not re.search(r"#[0-9a-f]{6}\b(?!-)", re.sub(r'(?:href="|url\()#\w+', "", figure.svg))
        assert "font-family" not in figure.svg
        assert set(re.findall(r"var\(--([a-z0-9]+)\)", figure.svg)) <= set(COLOURS)


def _marks(svg, colour):
    """Positions (x, y) of the markers of one colour."""
    uses = re.findall(r'<use [^>]*x="([0-9.]+)" y="([0-9.]+)" style="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y, style in uses if f"var(--{colour})" in style]


def test_the_forest_places_values_on_its_scale(example):
    """Marks lie where the values say, weakest first: distances on the page are proportional to differences."""
    values = (0.2, 0.5, 0.9)
    made = [example.finding(f"faults/f{v}", "robustness", "faults", v) for v in values]
    marks = sorted(_marks(forest(made).svg, "accent"), key=lambda mark: mark[1])
    xs = [x for x, _ in marks if x]
    points = xs[-3:]
    assert points == sorted(points)
    assert (points[1] - points[0]) / (points[2] - points[1]) == pytest.approx(0.3 / 0.4, rel=1e-3)


def test_an_unscored_finding_has_no_mark(example):
    """The row of an unscored finding holds the word and no point."""
    figure = forest([example.finding("faults/f", "robustness", "faults", None, unscored="no rows")])
    assert ">unscored</text>" in figure.svg
    assert _marks(figure.svg, "accent") == []
    assert _marks(figure.svg, "bad") == []


def test_every_curve_is_drawn_and_no_figure_has_more_lines_than_styles(example):
    """Eight scenarios on one axis fill two figures, each line named once."""
    made = [example.severities(f"c{k}", 0.9, 0.01 * k) for k in range(8)]
    drawn = curves(made)
    assert len(drawn) == 2
    for finding in made:
        assert sum(figure.svg.count(f">{finding.path}</text>") for figure in drawn) == 1


def _certificate(example, n, points):
    curve = Curve(
        name="c",
        axis="radius",
        points=tuple(CurvePoint(at=r, score=example.score(0.5 - r / 4, n, "lower_bound")) for r in (0, 0.5, 1)),
    )
    flags = np.zeros(n, dtype=bool)
    return example.finding(
        "certificates/randomized_smoothing", "defence", "evasion", 0.4, kind="lower_bound", n=n, settings={"norm": "l2"},
        curves=(curve,), per_example=PerExample.pack(points, flags, flags),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "points", "norm", "words"),
    [
        (1000, np.arange(1000), "l2", "read on the same points"),
        (1000, np.arange(1, 1001), "l2", "did not read the same set of points"),
        (1000, np.arange(1000), "linf", "has no upper end"),
    ],
)
def test_the_bracket_says_what_it_is_worth(example, n, points, norm, words):
    """A certificate and attacks of its norm bracket the truth only on the same points."""
    made = [_certificate(example, n, points), example.attack("attacks/pgd", range(300), norm=norm, epsilon=1.0)]
    bracket = next(figure for figure in curves(made) if "bracket" in figure.name)
    assert words in bracket.caption
    assert (">attacks/pgd</text>" in bracket.svg) == (norm == "l2")


def test_confusion_shows_every_count(example):
    """The numbers in the cells are the stored ones; an empty column of outputs that are not finite is left out."""
    counts = [[31, 7, 0], [2, 53, 0]]
    details = {"confusion": {"clean": counts, "under_attack": [[3, 34, 1], [40, 15, 0]]}, "classes": ["yes", "no"]}
    before, after = confusions(example.attack("attacks/pgd", range(3), details=details))
    assert [int(found) for found in re.findall(r">(\d+)</text>", before.svg)] == [31, 7, 2, 53]
    assert [int(found) for found in re.findall(r">(\d+)</text>", after.svg)] == [3, 34, 1, 40, 15, 0]
    assert "n = 93" in before.caption
    assert ">not finite</text>" in after.svg


@pytest.mark.parametrize(
    "stored", [None, [[1, 2], [3]], [["a", 1], [1, 1]], [[-1, 0], [0, 1]], [], [[1, 2, 3, 4]], {"a": 1}]
)
def test_confusion_without_counts_is_words(example, stored):
    """What is no matrix of counts is said and not drawn."""
    figures = confusions(example.attack("attacks/pgd", range(3), details={"confusion": {"clean": stored}}))
    assert all(not figure.svg and "attacks/pgd" in figure.missing for figure in figures)


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (5, 4, 3), (1, 5, 4)])
def test_example_images_come_back_pixel_by_pixel(example, shape):
    """The PNG holds the stored pixels, channels first or last."""
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    entry = {"before": pixels.tolist(), "after": (255 - pixels).tolist(), "label": "a", "predicted": "b"}
    shown = gallery(example.attack("attacks/pgd", range(3), details={"examples": [entry]})).examples[0]
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.before.partition(",")[2]))))
    expected = pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0) if shape[0] == 3 else pixels
    assert np.array_equal(read, expected)
    assert shown.after != shown.before
    assert shown.fooled


def test_example_rows_name_the_features_that_moved(example):
    """Moved features come first, a missing value is a word."""
    shown = galleries([example.attack("attacks/pgd", range(3), details={"examples": example.rows()})])[0].examples[0]
    assert [cell.feature for cell in shown.cells if cell.moved] == ["amount", "term"]
    assert [cell.moved for cell in shown.cells] == sorted((cell.moved for cell in shown.cells), reverse=True)
    assert {cell.feature: cell.after for cell in shown.cells}["jobs"] == "missing"


@pytest.mark.parametrize("before", [None, 3, "x", [[0.5]], [[300]], [[-1]], [[1], [2, 3]], [[]], [[["a"]]]])
def test_unreadable_examples_are_words(example, before):
    """What is neither pixels nor features is said and not shown."""
    entry = {"before": before, "after": [[1]], "label": "a", "predicted": "b"}
    found = gallery(example.attack("attacks/pgd", range(3), details={"examples": [entry]}))
    assert found.examples == ()
    assert "1 of 1" in found.missing


def test_training_needs_epochs():
    """No history is words; one without validation draws the loss alone."""
    assert training_curve((), "accuracy").missing
    lone = training_curve((Epoch(epoch=1, loss=1.0), Epoch(epoch=2, loss=0.5)), "auroc")
    assert ">loss</text>" in lone.svg
    assert "validation auroc" not in lone.svg


def test_labels_are_escaped_and_no_formula(example):
    """Dollar signs, markup and other scripts in a label are drawn as they are."""
    made = [example.severities('$a_b$ <b>&amp; 模型 #0a0b09 #0a0b01 id="x"', 0.9, 0.01)]
    svg = curves(made)[0].svg
    assert '$a_b$ &lt;b&gt;&amp;amp; 模型 #0a0b09 #0a0b01 id="x"' in svg


def test_the_description_is_the_accessible_name():
    """Each drawing is one image with a name for those who cannot see it."""
    figure = draw("n", "caption", 'a "quoted" <name>', 2.0, lambda axes: axes.plot([0, 1], [0, 1]))
    assert 'role="img" aria-label="a &quot;quoted&quot; &lt;name&gt;"' in figure.svg
    assert figure.svg.startswith("<svg viewBox=")


def test_a_curve_against_queries_gives_the_first_of_them_room(findings):
    """Most points break early: 0, 1, 10 and 100 stand side by side and not within a pixel."""
    score = next(finding.score for finding in findings if finding.score is not None)
    points = tuple(CurvePoint(at=at, score=score) for at in (0, 1, 10, 100, 1000))
    made = [next(f for f in findings if f.path.startswith("attacks/")).model_copy(
        update={"curves": (Curve(name="robust accuracy", axis="queries", points=points),)}
    )]  # fmt: skip
    (drawn,) = curves(made)
    assert "against queries" in drawn.caption
    texts = re.findall(r"<text[^>]*>(.*?)</text>", drawn.svg, flags=re.DOTALL)
    assert not any("400" in text for text in texts), "even ticks would crowd all but the last mark"
