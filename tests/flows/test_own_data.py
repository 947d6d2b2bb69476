"""What the how-to promises: a table, images and models that are not ours, by naming them, through the front door."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHURN = """
name: churn
metric: accuracy
data:
  replace: true
  kind: table
  path: churn.csv
  label: churned
  classes: ["no", "yes"]
  features:
    age: {low: 18, high: 110, step: 1}
    monthly_fee: {low: 0, mutable: true}
    plan: {kind: category, mutable: true}
  relations: ["months_paid <= months_total"]
  missing_values: {age: [-1]}
integrity:
  replace: true
  provenance: {}
  schema:
    columns:
      age: {type: integer, min: -1, max: 110}
      monthly_fee: {type: number, not_null: true, min: 0}
  duplicates: {}
  leakage: {}
model: {replace: true, factory: "churn_model:build", settings: {width: 16}}
training: {replace: true, recipe: standard, settings: {epochs: 6, batch_size: 128, learning_rate: 0.01}}
evaluation:
  packs:
    replace: true
    gate: {budget_seconds: 60, scenarios: [probes/quality, attacks/pgd]}
    standard: {budget_seconds: 60, points: 200, scenarios: [probes/quality, attacks/pgd, anomalies/missing_values]}
  uses: {run: standard, gate: gate, nightly: standard}
recovery:
  gates:
    replace: true
    floors: {probes/quality: 0.70}
    non_inferiority: {probes/quality: 0.2, attacks/pgd: 0.2}
"""
CHURN_MODEL = '''
from torch import nn


def build(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Module:
    """Linear, GELU and LayerNorm: nothing of ours."""
    return nn.Sequential(nn.Linear(shape[0], width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, classes))
'''
PARTS = """
name: parts
data:
  replace: true
  kind: images
  path: parts
  roles: {train: 0.50, validation: 0.08, calibration: 0.04, gate: 0.18, test: 0.18, trusted: 0.02}
integrity: {replace: true, provenance: {}, duplicates: {correlation: 0.999}, leakage: {correlation: 0.999}}
model: {replace: true, factory: "parts_model:build"}
training: {replace: true, recipe: standard, settings: {epochs: 6, batch_size: 32, learning_rate: 0.01}}
evaluation:
  packs:
    replace: true
    gate: {budget_seconds: 60, scenarios: [probes/quality]}
    standard: {budget_seconds: 60, points: 60, scenarios: [probes/quality, attacks/pgd, corruptions/brightness]}
  uses: {run: standard, gate: gate, nightly: standard}
recovery:
  gates: {replace: true, floors: {probes/quality: 0.70}, non_inferiority: {probes/quality: 0.2}}
"""
PARTS_MODEL = '''
from torch import nn


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    """One convolution and one linear layer."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * height * width, classes)
    )
'''


def customers(n: int) -> pd.DataFrame:
    """Customers who leave when they are young and pay much; some ages are unknown."""
    rng = np.random.default_rng(0)
    age, fee, total = rng.integers(18, 90, n), rng.gamma(4.0, 10.0, n).round(2), rng.integers(1, 60, n)
    drive = 0.12 * (45 - age) + 0.08 * (fee - 40.0) + rng.normal(0.0, 0.5, n)
    return pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.03, -1, age),
            "monthly_fee": fee,
            "plan": rng.choice(["basic", "plus", "family"], n),
            "months_total": total,
            "months_paid": np.minimum(total, rng.integers(0, 60, n)),
            "churned": np.where(drive > 0, "yes", "no"),
        }
    )


def draw_parts(folder: Path) -> None:
    """Grey tiles, the cracked ones with a dark line."""
    rng = np.random.default_rng(0)
    for name in ("ok", "cracked"):
        (folder / name).mkdir(parents=True)
        for number in range(200):
            pixels = rng.integers(120, 200, (10, 10), dtype=np.uint8)
            if name == "cracked":
                pixels[rng.integers(2, 8), :] = 10
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def commit(folder: Path) -> None:
    """Commit what `data add` says is to be committed."""
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    for command in (("add", "data.dvc"), (*who, "commit", "-q", "-m", "Add data")):
        subprocess.run(("git", *command), cwd=folder, check=True)


@pytest.mark.slow
def test_a_table_and_a_model_that_are_not_ours(make: Callable[..., Any], tmp_path: Path) -> None:
    """A CSV and a module of one's own go from `data add` to a champion that answers, without a change of code."""
    project, rows = make(git=True), customers(1500)
    rows.loc[:7, "age"] = range(120, 128)  # eight that the schema sets aside: their ids are negative as often as not
    rows.to_csv(tmp_path / "churn.csv", index=False)
    (project.folder / "profiles" / "churn.yaml").write_text(CHURN)
    (project.folder / "churn_model.py").write_text(CHURN_MODEL)
    profile = ("--params", "profiles/churn.yaml")
    added = project.holdfast("data", "add", str(tmp_path / "churn.csv"))
    assert "data.dvc" in added.words + added.out
    commit(project.folder)
    report = project.holdfast("run", "--json", *profile).document
    assert report["decision"]["action"] == "promote", report["decision"]["reasons"]
    assert project.ledger().head("churn").version == 1
    asked = rows.tail(40)
    asked.assign(note="new").to_csv(project.folder / "asked.csv", index=False)
    done = project.holdfast("predict", "asked.csv", "--out", "answers.csv", *profile)
    assert "columns that are no features of version 1: churned, note" in done.out
    answers = pd.read_csv(project.folder / "answers.csv")
    assert (answers["prediction"] == asked["churned"].reset_index(drop=True)).mean() > 0.7
    asked.rename(columns={"monthly_fee": "monthlyfee"}).to_csv(project.folder / "asked.csv", index=False)
    refused = project.holdfast("predict", "asked.csv", "--out", "answers.csv", *profile, expect=3)
    assert "asked.csv: found no column 'monthly_fee' (there is 'monthlyfee')" in refused.words
    listed = project.holdfast("data", "quarantine", "--json", *profile).document
    held = listed["held"]
    assert (len(held), sorted(row["row"] for row in listed["rows"])) == (8, held)
    released = project.holdfast("data", "release", *map(str, held), "--why", "looked at", "--json", *profile)
    assert released.document == {"released": 8}
    assert project.holdfast("data", "quarantine", "--json", *profile).document["held"] == []
    told = project.holdfast("audit", "--json", *profile).document
    assert (told["champion"], told["chain_valid"], told["agrees"]) == (1, True, True)


def test_a_users_broken_module_is_told_by_its_line_and_trains_nothing(make: Callable[..., Any], tmp_path: Path) -> None:
    """A module that cannot be imported fails the doctor; one whose logits do not fit the classes is refused untrained."""
    project, module = make(git=True), "churn_model.py"
    customers(600).to_csv(tmp_path / "churn.csv", index=False)
    (project.folder / "profiles" / "churn.yaml").write_text(CHURN)
    (project.folder / module).write_text(CHURN_MODEL.replace("return nn", "retrun nn"))
    project.holdfast("data", "add", str(tmp_path / "churn.csv"))
    profile = ("--params", "profiles/churn.yaml", "--json")
    told = {check["about"]: check for check in project.holdfast("doctor", *profile, expect=1).document["checks"]}
    assert told["model"]["passed"] is False
    assert "SyntaxError: invalid syntax (churn_model.py, line 7)" in told["model"]["text"]
    (project.folder / module).write_text(CHURN_MODEL.replace("width, classes)", "width, classes + 1)"))
    refused = project.holdfast("run", *profile, expect=5)
    assert refused.document["error"]["kind"] == "ModelError"
    assert refused.document["error"]["found"] == "(3, 3) of torch.float32"
    assert "Traceback" not in refused.err
    assert "epoch" not in refused.words
    assert project.entries("registered") == []


@pytest.mark.slow
def test_images_and_a_network_that_are_not_ours(make: Callable[..., Any], tmp_path: Path) -> None:
    """A folder of images and a convolution of one's own go the same way, and an npz of images is answered."""
    project = make(git=True)
    draw_parts(tmp_path / "parts")
    (project.folder / "profiles" / "parts.yaml").write_text(PARTS)
    (project.folder / "parts_model.py").write_text(PARTS_MODEL)
    assert yaml.safe_load(PARTS)["data"]["kind"] == "images"
    profile = ("--params", "profiles/fashion.yaml", "--params", "profiles/parts.yaml")
    project.holdfast("data", "add", str(tmp_path / "parts"))
    commit(project.folder)
    report = project.holdfast("run", "--json", *profile).document
    assert report["decision"]["action"] == "promote", report["decision"]["reasons"]
    names = sorted((tmp_path / "parts" / "ok").iterdir())[:10] + sorted((tmp_path / "parts" / "cracked").iterdir())[:10]
    np.savez(project.folder / "asked.npz", x=np.stack([np.asarray(Image.open(name)) for name in names]))
    project.holdfast("predict", "asked.npz", "--out", "answers.csv", *profile)
    answers = pd.read_csv(project.folder / "answers.csv")
    expected = ["ok"] * 10 + ["cracked"] * 10
    assert (answers["prediction"] == expected).mean() > 0.7
