"""The resilience curve on the page: three arms, onset, and what was done, of drilled findings alone."""

from __future__ import annotations

from holdfast.reporting.resilience import resilience_curves, responses
from holdfast.results import Curve, CurvePoint, Finding, Measure, Provenance
from holdfast.statistics.intervals import make_score

ARMS = ("responses on", "responses off", "oracle")


def finding(path: str) -> Finding:
    """A finding with one flat curve for each arm, and three responses in its first course."""
    flat = tuple(CurvePoint(at=float(k), score=make_score(0.8, (0.7, 0.9), 3, "range over seeds")) for k in range(6))
    acts = [{"at": 1, "action": "alert"}, {"at": 2, "action": "repair"}, {"at": 4, "action": "none"}]
    return Finding(
        path=path, dimension="recovery", family="damage",
        settings={"onset": 2, "title": "Tampered artefact", "about": "Weights are replaced."},
        provenance=Provenance(subject="s", data="d", role="drill", seed=0, library="l", versions={}, device="cpu"),
        unscored="no avoidable loss", curves=tuple(Curve(name=name, axis="window", points=flat) for name in ARMS),
        details={"courses": [{"responses": acts}]},
    )  # fmt: skip


def test_a_drilled_incident_is_drawn_with_its_arms_and_responses() -> None:
    """Each arm, onset and each response that did something are on the drawing, and told in words."""
    (figure,) = resilience_curves([finding("drills/tampered_artefact"), finding("attacks/pgd")])
    assert all(f">{word}<" in figure.svg for word in (*ARMS, "onset", "repair"))
    assert "alert" not in figure.svg
    assert "repair at window 2" in figure.description
    assert "3 seeds" in figure.caption


def test_only_what_did_something_is_a_response() -> None:
    """Alerts and windows that were left alone are none."""
    assert responses(finding("drills/tampered_artefact")) == [(2, "repair")]


def test_what_the_drawing_must_not_be_read_without_is_beside_it() -> None:
    """Quiet windows apart from the score, what forgetting is of, and rows that were known: by their numbers."""
    plain = finding("drills/benign_shift")
    assert "earlier window" not in resilience_curves([plain])[0].caption

    def told(name: str, value: float) -> Measure:
        return Measure(name=name, value=value, unit="share", better="lower", low=0.5, high=1.0, n=5)

    measures = (told("quiet_windows_left_alone", 1.0), told("forgetting_clean", 0.1), told("rows_seen_before", 0.75))
    (figure,) = resilience_curves([plain.model_copy(update={"measures": measures})])
    assert "Quiet windows left alone: 1 share (0.5 to 1), n = 5." in figure.caption
    assert "robust is not measured, the gate has no attack" in figure.caption
    assert "75.0 % of the rows from onset on" in figure.caption
