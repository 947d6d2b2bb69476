"""What is observed of a window: damage only where bytes or answers are not the champion's, and what was served."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flows import recovery as flow
from holdfast.data.escrow import Escrow
from holdfast.data.stream import Window
from holdfast.data.streams.base import Arrival
from holdfast.errors import ModelError
from holdfast.model import ModelSpec, save_model
from holdfast.monitoring.panels import Calibration
from holdfast.prediction_log import PredictionLog
from holdfast.recovery.promotion import promote
from holdfast.recovery.promotion import register as record
from holdfast.recovery.triage import Evidence, triage
from holdfast.results import Decision, IntegrityFinding, Reason, Signal
from holdfast.seeding import Noise
from holdfast.statistics import share
from holdfast.stores import Stores, WallClock
from tasks import calibration, monitoring, prediction, recovery, replicas, responses, timeline, tracking

ROWS = 40


@pytest.fixture(scope="module")
def stores(world, tmp_path_factory):
    """Stores for models of several names: making MLflow's tables takes seconds."""
    return Stores.local(world.stores.project, tmp_path_factory.mktemp("observed") / "stores", actor="test")


@pytest.fixture
def loop(world, stores, tmp_path, monkeypatch, request):
    """A stream's window in escrow, versions that can be crowned, and the watch of signals left out."""
    name = f"m{Noise(0, (request.node.name,)).key}"
    params = world.params.model_copy(update={"name": name})
    tracking.prepare(stores, name)
    ledger, told = recovery.open_ledger(stores), []
    rows = pd.DataFrame(np.random.default_rng(5).normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    arrival = Arrival(0, rows)
    window = monitoring.open_watch(params, stores).arrive(0, Escrow(stores.escrow).keep(arrival), ROWS)
    monkeypatch.setattr(monitoring, "_quality", lambda *_: ())
    monkeypatch.setattr(monitoring, "_reference", lambda *_: (None, None))
    monkeypatch.setattr(monitoring, "_watched", lambda *_: ())
    monkeypatch.setattr(responses, "announce", lambda *_: None)
    monkeypatch.setattr(prediction, "tell", lambda *words: told.append(words))
    for chore in ("restore", "set_aside", "responded"):
        monkeypatch.setattr(flow, chore, getattr(responses, chore).fn)
    monkeypatch.setattr(flow, "mend_copies", replicas.mend_copies.fn)

    def crown(number, *, code="", parent=None):
        spec = ModelSpec(
            factory=params.model.factory, settings=params.model.settings, space=world.data.space,
            classes=world.data.classes, code=code,
        )  # fmt: skip
        folder, key, head = tmp_path / str(number), f"key-{number}", ledger.head(name)
        made = save_model(folder, spec.build(seed=Noise(number, (name,)).key & 0x7FFFFFFF), spec)
        run = tracking.open_run(stores, name, key, title="training")
        version = tracking.register(stores, name, folder, spec, run, key, made)
        lineage = {} if parent is None else {"parent": {"version": parent.version, "digest": parent.digest}}
        record(ledger, version, who="test", lineage=lineage)
        crowned = Decision(
            action="promote", candidate=version, champion=head and head.reference(),
            reasons=(Reason(about="test", passed=True, text="first"),),
        )  # fmt: skip
        projection = tracking.MlflowProjection(stores)
        promote(ledger, projection, crowned, expected=head and head.promotion, who="test", why="-")
        return version

    def observe(champion):
        return monitoring.observe.fn(params, stores, world.snapshot, champion, window, ())

    def copies(version):
        stored = stores.artifacts / "models" / version.source.rsplit("/", 1)[-1]
        return [folder for folder in (stores.models / version.digest, stored) if folder.exists()]

    return SimpleNamespace(
        stores=stores, params=params, snapshot=world.snapshot, rows=rows, window=window, told=told, crown=crown,
        observe=observe, copies=copies, log=PredictionLog(stores.predictions, WallClock()), arrival=arrival,
    )  # fmt: skip


def test_an_edited_module_is_no_damage(loop):
    """The bytes verify, so nothing that the loop does would mend it: the watch stops with what is wrong, each time."""
    champion = loop.crown(0, code="f" * 64)
    for _ in range(2):
        with pytest.raises(ModelError, match="as trained with"):
            loop.observe(champion)


def test_bytes_that_do_not_verify_are_damage_and_are_restored(loop, spoil):
    """The copy here, spoilt or gone in part, is fetched anew, and the outcome says so."""
    champion = loop.crown(0)
    prediction.open_champion(loop.params, loop.stores)
    spoil(loop.stores.models / champion.digest)
    assert "bytes with digest" in loop.observe(champion).artefact
    assert responses.restore.fn(loop.params, loop.stores).startswith("version 1 restored")
    assert loop.observe(champion).artefact == ""


def test_watching_a_window_serves_nobody(loop):
    """The log is what was served: it has no answer that went to no client, and of these none was served."""
    champion = loop.crown(0)
    assert loop.observe(champion).served == 0
    assert loop.log.count(champion) == 0
    served = prediction.open_champion(loop.params, loop.stores)
    served.predict(loop.rows[:30], "shop")
    seen = loop.observe(champion)
    assert (seen.served, seen.artefact, loop.log.count(champion)) == (30, "", 30)


def test_answers_that_the_bytes_do_not_give_are_damage_that_no_repair_mends(loop):
    """What a process serves beside sound bytes is told with its count; repair says that the bytes verify."""
    champion = loop.crown(0)
    served = prediction.open_champion(loop.params, loop.stores)
    good = served.predict(loop.rows, "shop").answers
    turned = {"yes": "no", "no": "yes"}
    loop.log.append(
        champion, [a.model_copy(update={"output": turned[a.output], "confidence": 0.99}) for a in good[:17]], "shop"
    )
    seen = loop.observe(champion)
    assert seen.artefact.startswith("17 of 40 answers served were not the champion's: served ")
    decision = responses.decide.fn(loop.params, loop.stores, loop.window, seen, champion)
    assert (decision.cause, decision.action) == ("damaged_artefact", "repair")
    outcome = flow.respond(loop.params, loop.stores, loop.snapshot, None, decision)
    assert "restored" not in outcome
    assert "bytes verify" in outcome
    assert "must be started anew" in outcome
    served.predict(loop.rows, "shop")  # by a process that was
    assert loop.observe(champion).artefact == ""


def test_rows_at_fault_beside_a_damaged_champion_are_set_aside_with_the_repair(loop, spoil):
    """A window that nobody can look at trains nothing where its rows break their declaration, and that is told."""
    champion = loop.crown(0)
    prediction.open_champion(loop.params, loop.stores)
    spoil(loop.stores.models / champion.digest)
    block = IntegrityFinding(check="schema", verdict="block", reason="no column term", examined=ROWS)
    seen = loop.observe(champion).model_copy(update={"quality": (block,)})
    decision = responses.decide.fn(loop.params, loop.stores, loop.window, seen, champion)
    assert (decision.action, decision.windows) == ("repair", (0,))
    outcome = flow.respond(loop.params, loop.stores, loop.snapshot, None, decision)
    assert outcome.startswith("version 1 restored")
    assert outcome.endswith("; window 0 in quarantine")
    (kept,) = monitoring.open_watch(loop.params, loop.stores).windows()
    assert (kept.state, kept.why) == ("quarantined", "rows at fault, beside damage")


def test_the_streams_page_says_how_often_a_version_alarms_on_clean_windows(loop):
    """By version, as it was found with its thresholds; a version of which nothing is kept is not spoken of."""
    champion = loop.crown(0)
    responses.decide.fn(loop.params, loop.stores, loop.window, loop.observe(champion), champion)
    assert "False alarms" not in timeline.draw_stream.fn(loop.params, loop.stores).read_text()
    found = Calibration(budget=0.01, rows=40, thresholds={}, replays=200, achieved=share([True] * 200), seed=0)
    loop.stores.results.put(calibration._last(champion), found)
    page = timeline.draw_stream.fn(loop.params, loop.stores).read_text()
    assert f"Version 1: {found.sentence()}." in page


HARM = Signal(
    detector="harm", about="harm", needs="labels", window="w", position=0, n=ROWS, statistic=0.0, threshold=1.0,
    alarm=False, effect=0.0, effect_unit="share",
)  # fmt: skip


def paid(loop, champion):
    """Say what the last retraining paid on the window."""
    target = prediction.open_champion(loop.params, loop.stores)
    labels = np.zeros(ROWS, dtype=np.int64)
    told = target.examine(loop.rows)
    window = Window(0, np.arange(ROWS), told.inputs, told.probabilities, target.space, labels)
    (signal,) = monitoring._with_gain(loop.params, loop.stores, champion, loop.arrival, window, (HARM,))
    return signal.details.get("gain")


def test_a_spoilt_copy_of_the_champion_before_is_fetched_anew(loop, spoil):
    """It serves nobody: a copy here that does not verify stops no watch, and is mended beside it."""
    first = loop.crown(0)
    second = loop.crown(1, parent=first)
    known = paid(loop, second)
    assert known is not None
    spoil(loop.stores.models / first.digest)
    assert paid(loop, second) == known
    assert loop.told == []


@pytest.mark.parametrize("fault", ["spoilt", "edited"])
def test_the_watch_goes_on_without_the_champion_before(loop, fault, spoil):
    """Where no copy verifies, or its module was edited since, what retraining paid is not known, and no number says so."""
    first = loop.crown(0, code="f" * 64 if fault == "edited" else "")
    second = loop.crown(1, parent=first)
    if fault == "spoilt":
        recovery.still_good(loop.stores, first)
        for folder in loop.copies(first):
            spoil(folder)
    assert paid(loop, second) is None
    ((_, words),) = loop.told
    assert words.startswith("window 0  what the last retraining paid is not known: version 1: ")


def test_triage_reads_what_was_served():
    """Rows that were served and agree are on record with the reasons; the first word is still that of the signals."""
    told = triage(Evidence(position=3, rows=900, served=850), faulty_share=0.2)
    assert [reason.about for reason in told.reasons] == ["prediction log", "signals"]
    assert told.reasons[0].text.startswith("850 of 900 rows were served")
    assert (told.cause, told.reasons[0].passed) == ("none", True)
