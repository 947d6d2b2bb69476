"""Incident files: all that are shipped can be read, settings lie over them, and what is wrong is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdfast.drills.incident import EVENTS, Right, one_name_each, read_incident, shipped
from holdfast.errors import ParamsError
from holdfast.registry import available

if TYPE_CHECKING:
    from pathlib import Path

ASKED = {
    "natural_drift", "abrupt_drift", "benign_shift", "poisoned_batch", "evasion_wave", "tampered_artefact",
    "weight_bitflips", "broken_feed", "registry_outage", "worker_killed", "label_delay", "compound",
}  # fmt: skip
"""What everybody who drills expects to find."""


def test_every_incident_that_is_expected_is_shipped_and_sound() -> None:
    """Each file is an incident whose events are there, and every event is used by one."""
    read = {name: read_incident(name) for name in shipped()}
    assert set(read) == ASKED
    assert {event.do for each in read.values() for event in each.events} == set(available(EVENTS))


def test_settings_lie_over_a_file_place_by_place() -> None:
    """What is said in params wins, and what is not said stays."""
    plain, later = read_incident("natural_drift"), read_incident("natural_drift", {"after": {"since": 2005}})
    assert plain.after is not None
    assert later.after == plain.after.model_copy(update={"since": 2005})
    assert later.right == plain.right


def test_an_incident_of_a_users_own_needs_no_code(tmp_path: Path) -> None:
    """A .yaml file by its path is an incident like the shipped ones."""
    path = tmp_path / "late_feed.yaml"
    path.write_text(
        "title: Late feed\nabout: A column is missing.\nmeasures: recovery\nonset: 1\nhorizon: 3\n"
        "events: [{do: missing_column, at: [1], settings: {feature: a}}]\nright: {action: quarantine}\n"
    )
    assert read_incident(str(path)).name == "late_feed"
    assert read_incident(str(path)).right == (Right(action="quarantine"),)
    path.write_text(f"{path.read_text()}\nright: {{action: none}}\n")
    with pytest.raises(ParamsError, match="right stands 2 times in one section"):
        read_incident(str(path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"onset": 11}, "not before horizon"),
        ({"events": [{"do": "missing_colum", "at": [3]}]}, "missing_column"),
        ({"events": [{"do": "label_flip", "at": [3], "settings": {"share": 2}}]}, "less than or equal to 1"),
        ({"events": [{"do": "label_flip", "at": [30]}]}, "outside onset"),
        ({"outage": [5, 4]}, "no stretch"),
        ({"rihgt": {}}, "rihgt"),
        ({"right": []}, "right"),
        ({"right": [{"action": "none"}, {"action": "retrain"}]}, "there is no other"),
        ({"after": {"period": "later", "tilt": {}}}, "cannot be tilted"),
    ],
)
def test_what_is_wrong_with_an_incident_is_said(settings: dict[str, object], said: str) -> None:
    """A mistake in file or settings is refused with what is wrong, before anything is played."""
    with pytest.raises(ParamsError, match=said):
        read_incident("abrupt_drift", settings)


def test_an_unknown_incident_is_refused_with_what_there_is() -> None:
    """The message lists the incidents."""
    with pytest.raises(ParamsError, match="natural_drift"):
        read_incident("natural_drfit")


def test_a_file_with_the_name_of_a_shipped_incident_is_refused(tmp_path: Path) -> None:
    """Its scores would stand for the other's: findings go by the name."""
    path = tmp_path / "poisoned_batch.yaml"
    path.write_text("title: Mine\nabout: Mine.\nmeasures: recovery\nonset: 1\nhorizon: 3\nright: {action: none}\n")
    with pytest.raises(ParamsError, match=r"poisoned_batch.*Rename the file"):
        read_incident(str(path))


def test_two_files_of_one_name_are_refused() -> None:
    """The last of them would take the first one's place, and nobody be told."""
    one_name_each(["mine/late.yaml", "mine/early.yaml", "natural_drift"])
    with pytest.raises(ParamsError, match=r"theirs/late.yaml.*mine/late.yaml"):
        one_name_each(["mine/late.yaml", "theirs/late.yaml"])
