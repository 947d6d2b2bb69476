"""A realistic page from synthetic findings; run it with a folder to write the page there and look at it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from holdfast.reporting import Epoch, HistoryRow, Page, markdown, render
from holdfast.results import (
    Check,
    Cost,
    Curve,
    CurvePoint,
    DataSnapshot,
    Decision,
    Finding,
    IntegrityFinding,
    Measure,
    ModelVersion,
    PerExample,
    Provenance,
    Reason,
    RoleSummary,
)
from holdfast.scorecard import scorecard, tags
from holdfast.statistics import share

N = 1000
AT = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
PASSED = Check(
    name="gradients finite", status="passed", reason="all gradients finite and not zero", statistic=0.0, threshold=0.02
)
NOT_HERE = Check(name="unbounded epsilon", status="not_applicable", reason="some features may not move")
MASKED = Check(
    name="black box breaks more", status="failed", reason="square broke 41 points that apgd_ce did not",
    statistic=0.041, threshold=0.02, p_value=0.0004,
)  # fmt: skip


def score(value, n=N, kind="measured"):
    return share(np.arange(n) < round(value * n), kind)


def finding(path, dimension, family, value, *, kind="measured", n=N, settings=None, unscored=None, **parts):
    """One synthetic finding; ``value`` is a share, or None for unscored."""
    provenance = Provenance(
        subject="5e" * 32, data="d4" * 32, role="test", seed=7, library="11" * 32, revision="f39917c",
        versions={"torch": "2.13.0", "numpy": "2.4.1"}, device="cpu",
    )  # fmt: skip
    return Finding(
        path=path, dimension=dimension, family=family, settings=settings or {"points": N}, provenance=provenance,
        score=None if unscored else score(value, n, kind), unscored=unscored,
        **{"cost": Cost(seconds=1.25, forwards=40_000, backwards=20_000), **parts},
    )  # fmt: skip


def attack(path, broken, *, norm="linf", epsilon=0.05, value=None, **parts):
    """One synthetic attack that broke the points of ``broken``."""
    flags = ~np.isin(np.arange(N), broken)
    grid = np.linspace(0, 2 * epsilon, 9)
    top = flags.mean() + 0.1
    points = tuple(
        CurvePoint(
            at=float(at),
            score=score(max(top - 0.1 * at / epsilon - 0.15 * (at / epsilon) ** 2, 0.0), kind="upper_bound"),
        )
        for at in grid
    )
    return finding(
        path, "defence", "evasion", flags.mean(), kind="upper_bound",
        settings={"norm": norm, "epsilon": epsilon, "steps": 100, "points": N},
        per_example=PerExample.pack(np.arange(N), flags, np.arange(N) % 10),
        **{"checks": (PASSED, NOT_HERE), "curves": (Curve(name="robust accuracy", axis=f"epsilon ({norm})", points=points),), **parts},
    )  # fmt: skip


def confusion(right, seed):
    rng = np.random.default_rng(seed)
    return [
        [int(c) for c in rng.multinomial(100, np.where(np.arange(10) == k, right, (1 - right) / 9))] + [0]
        for k in range(10)
    ]


def pictures():
    rng = np.random.default_rng(3)
    shape = np.add.outer(np.abs(np.arange(28) - 13), np.abs(np.arange(28) - 13)) < 14
    out = []
    for k in range(6):
        before = (shape * 180 + rng.integers(0, 20, (28, 28))).astype(int)
        after = np.clip(before + rng.choice([-13, 13], (28, 28)), 0, 255)
        out.append(
            {
                "before": before.tolist(),
                "after": after.tolist(),
                "label": CLASSES[k],
                "predicted": CLASSES[(k + 3) % 10],
            }
        )
    return out


def rows():
    before = {"amount": 50000.0, "term": 84, "state": "CA", "new_business": "yes", "guaranteed": 0.75, "jobs": None}
    return [
        {
            "before": before,
            "after": {**before, "amount": 51250.5, "term": 96},
            "label": "repaid",
            "predicted": "default",
        },
        {
            "before": before,
            "after": {**before, "state": "NV"},
            "label": "repaid",
            "predicted": "repaid",
        },
    ]


def severities(path, start, slope):
    points = tuple(CurvePoint(at=s, score=score(start - slope * s)) for s in range(1, 6))
    return finding(
        f"corruptions/{path}", "robustness", "corruptions", start - 3 * slope,
        curves=(Curve(name="accuracy", axis="severity", points=points),),
        measures=(Measure(name="retained", value=0.91, unit="of clean accuracy", better="higher", low=0.89, high=0.93, n=N),),
    )  # fmt: skip


def findings():
    """Every shape that a finding takes: scored, unscored, invalid, bounded from either side, with and without details."""
    radii = tuple(CurvePoint(at=r, score=score(0.8 - 0.5 * r, 200, "lower_bound")) for r in (0, 0.25, 0.5, 0.75, 1.0))
    details = {"confusion": {"clean": confusion(0.86, 1), "under_attack": confusion(0.62, 2)}, "classes": CLASSES}
    return (
        finding("probes/quality", "robustness", "quality", 0.861, slices={"class shirt": score(0.61, 100), "class bag": score(0.97, 100)}),
        severities("gaussian_noise", 0.86, 0.03), severities("motion_blur", 0.84, 0.06), severities("brightness", 0.86, 0.02),
        severities("contrast", 0.83, 0.09), severities("jpeg", 0.86, 0.01),
        finding("faults/weight_bitflip", "robustness", "faults", 0.94, n=640, measures=(Measure(name="worst flip", value=71.2, unit="points lost", better="lower"),)),
        finding("drift/rotation", "robustness", "shift", 0.71, curves=(Curve(name="accuracy", axis="degrees", points=tuple(CurvePoint(at=a, score=score(0.86 - a / 90)) for a in (0, 10, 20, 30))),)),
        finding("anomalies/missing_values", "robustness", "anomalies", None, unscored="not defined on a box space"),
        attack("attacks/fgsm", range(210)), attack("attacks/pgd", range(248)),
        attack("attacks/apgd_ce", range(256), details={**details, "examples": pictures()}, checks=(PASSED, NOT_HERE, MASKED)),
        attack("attacks/apgd_t", range(4, 262), details={"examples": rows(), "confusion": {"clean": [[1, 2], [3]]}}),
        attack("attacks/square", range(220, 300)), attack("attacks/pgd-l2", range(330), norm="l2", epsilon=1.0),
        finding("certificates/randomized_smoothing", "defence", "evasion", 0.41, kind="lower_bound", n=200, settings={"norm": "l2", "sigma": 0.25, "epsilon": 0.5, "draws": 1000}, curves=(Curve(name="certified accuracy", axis="radius", points=radii),)),
        finding("poisoning/label_flip", "defence", "poisoning", 0.91, n=5), finding("poisoning/badnets", "defence", "poisoning", 0.07),
        finding("privacy/membership_lira", "defence", "privacy", 0.88, n=4000, measures=(Measure(name="TPR at 0.1 % FPR", value=0.031, unit="", better="lower", low=0.022, high=0.041, n=4000), Measure(name="shadow models to find a member", value=None, unit="models", better="higher", censored=True))),
    )  # fmt: skip


def example_page(**changes):
    """A report about a candidate that did not pass."""
    made = changes.pop("findings", findings())
    card = scorecard(made, "standard", "ab" * 32)
    version = ModelVersion(name="fashion", version=4, digest="5e" * 32, source="models:/m-1", run_id="9f3c")
    champion = ModelVersion(name="fashion", version=3, digest="3c" * 32)
    reasons = (
        Reason(about="floors attacks/apgd_ce", passed=True, text="0.744 [0.716, 0.770] is above the floor 0.700 on the safe end"),
        Reason(about="corruptions/contrast", passed=False, text="lower limit of the paired difference -0.061 is below the margin -0.020 (n = 1,000)"),
        Reason(about="attacks/apgd_ce", passed=False, text="validity: square broke 41 points that apgd_ce did not (p = 0.0004)"),
        *(Reason(about=f"corruptions/{name}", passed=True, text="non-inferior: lower limit -0.008 above the margin -0.020") for name in ("jpeg", "brightness", "gaussian_noise")),
    )  # fmt: skip
    roles = {
        name: RoleSummary(rows=rows_, digest=f"{k}c" * 32)
        for k, (name, rows_) in enumerate(
            {"train": 3000, "validation": 400, "calibration": 300, "gate": 600, "test": 700}.items()
        )
    }
    history = tuple(
        HistoryRow(
            version=v, digest=f"{v}c" * 32, status=("retired", "rolled back", "champion", "kept out")[v - 1],
            at=AT - timedelta(days=30 * (4 - v)), headlines={name.removeprefix("holdfast."): text for name, text in tags(card).items()},
            pack_digest="ab" * 32 if v > 1 else "cd" * 32,
        )
        for v in (4, 3, 2, 1)
    )  # fmt: skip
    integrity = (
        IntegrityFinding(check="schema", verdict="pass", reason="23 expectations hold", examined=5000),
        IntegrityFinding(check="duplicates", verdict="quarantine", reason="37 rows repeat others", examined=5000, rows=tuple(range(37)), reasons={str(k): "exact duplicate" if k < 30 else "near duplicate, distance 2" for k in range(37)}),
        IntegrityFinding(check="label_noise", verdict="quarantine", reason="12 labels are improbable under cross-validation", examined=3000, rows=tuple(range(12)), measures=(Measure(name="estimated label errors", value=0.004, unit="of rows", better="lower"),)),
    )  # fmt: skip
    fields = {
        "title": "fashion", "version": version, "scorecard": card, "findings": made, "integrity": integrity, "generated_at": AT,
        "decision": Decision(action="keep", reasons=reasons, candidate=version, champion=champion, evidence=("aa" * 32, "bb" * 32)),
        "snapshot": DataSnapshot(name="fashion", path="data/fashion_mnist_5k.npz", md5="0123456789abcdef0123456789abcdef.dir", file_md5="fe" * 16, revision="f39917c", rows=5000, period=None, roles=roles, quarantined="77" * 32),
        "lineage": {"recipe": "adversarial", "parent": "version 3", "seeds": {"run": 7, "training": 11}, "params digest": "99" * 32, "library digest": "11" * 32, "code revision": "f39917c"},
        "training": tuple(Epoch(epoch=k, loss=2.1 * 0.82**k + 0.3, validation=0.75 - 0.4 * 0.7**k if k % 2 else None) for k in range(1, 16)),
        "history": history, "ledger_head": "e1" * 32, "warnings": ("recipe findings were reused from version 3: same recipe, data and code",),
    }  # fmt: skip
    return Page(**{**fields, **changes})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "report.html").write_text(render(example_page()))
    (folder / "report.md").write_text(markdown(example_page()))
