"""What is observed of a window: damage only where bytes or answers are not the champion's, and what was served."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flows import recovery as flow
from holdfast.data.escrow import Escrow
from holdfast.data.stream import Window
from holdfast.data.streams.base import Arrival
from holdfast.errors import ArtefactError, ModelError
from holdfast.model import ModelSpec, Target, save_model
from holdfast.monitoring.harm import Harm
from holdfast.monitoring.label_shift import LabelShift
from holdfast.monitoring.panels import Calibration, Panel, Threshold
from holdfast.prediction_log import PredictionLog
from holdfast.recovery.promotion import promote
from holdfast.recovery.promotion import register as record
from holdfast.recovery.triage import Evidence, triage
from holdfast.results import Decision, IntegrityFinding, Reason, Signal
from holdfast.seeding import Noise
from holdfast.space import Feature
from holdfast.statistics import share
from holdfast.stores import Stores, WallClock
from tasks import calibration, monitoring, prediction, recovery, replicas, responses, timeline, tracking
from tasks.on_record import windows_of

ROWS = 40
WATCHED = monitoring._watched
HUGE = 3e38
"""A number of float32 whose distance from any median, in a unit below 1, is none."""


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
    monkeypatch.setattr(monitoring, "quality_of", lambda *_: ())
    monkeypatch.setattr(monitoring, "_reference", lambda *_: (None, None))
    monkeypatch.setattr(monitoring, "_watched", lambda *_: ())
    monkeypatch.setattr(responses, "announce", lambda *_: None)
    monkeypatch.setattr(prediction, "tell", lambda *words: told.append(words))
    for chore in ("restore", "set_aside", "responded"):
        monkeypatch.setattr(flow, chore, getattr(responses, chore).fn)
    monkeypatch.setattr(flow, "mend_copies", replicas.mend_copies.fn)

    def crown(number, *, code="", parent=None, iqr=None):
        space = world.data.space
        if iqr is not None:
            space = space.model_copy(
                update={"features": tuple(each.model_copy(update={"iqr": iqr}) for each in space.features)}
            )
        spec = ModelSpec(
            factory=params.model.factory, settings=params.model.settings, space=space,
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

    def observe(champion, seen=window, matured=()):
        return monitoring.observe.fn(params, stores, world.snapshot, champion, seen, matured)

    def copies(version):
        stored = stores.artifacts / "models" / version.source.rsplit("/", 1)[-1]
        return [folder for folder in (stores.models / version.digest, stored) if folder.exists()]

    return SimpleNamespace(
        stores=stores, params=params, snapshot=world.snapshot, rows=rows, window=window, told=told, crown=crown,
        observe=observe, copies=copies, log=PredictionLog(stores.predictions, WallClock()), arrival=arrival,
        space=world.data.space,
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


def test_the_watch_goes_on_where_the_champion_before_read_a_column_that_is_gone(loop, monkeypatch):
    """What retraining paid is not known then, and no number says so."""
    first = loop.crown(0)
    second = loop.crown(1, parent=first)
    space = loop.space.model_copy(
        update={"features": (*loop.space.features, Feature(name="z", kind="number", iqr=1.0))}
    )
    spec = ModelSpec(
        factory=loop.params.model.factory, settings=loop.params.model.settings, space=space, classes=("no", "yes")
    )
    monkeypatch.setattr(monitoring, "open_former", lambda *_: Target(spec.build(seed=1), spec, "c" * 64))
    told: list[str] = []
    monkeypatch.setattr(monitoring, "tell", lambda _, words: told.append(words))
    assert paid(loop, second) is None
    (words,) = told
    assert words.startswith("window 0  what the last retraining paid is not known: the version before it: ")
    assert "no column 'z'" in words


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


@pytest.fixture
def panelled(loop, monkeypatch):
    """The watch of signals as it is, with two detectors, and a past that the champion answers, or not."""
    panel = Panel(detectors={"label_shift": LabelShift(), "harm": Harm()})
    known = {name: Threshold(value=1e9, source="t") for name in panel.detectors}
    monkeypatch.setattr(monitoring, "_watched", WATCHED)
    monkeypatch.setattr(monitoring, "calibrated", lambda *_: SimpleNamespace(thresholds=known))
    monkeypatch.setattr(monitoring, "judged_from", lambda *_: 0)
    monkeypatch.setattr(type(loop.params), "panel", lambda _: panel)

    def champion():
        """Crown one that counts in small units, and let it answer a past."""
        version = loop.crown(0, iqr=0.1)
        rows = pd.DataFrame(np.random.default_rng(6).normal(size=(300, 3)), columns=["a", "b", "c"])
        told = prediction.open_champion(loop.params, loop.stores).examine(rows)
        past = Window(
            -1, np.arange(300), told.inputs, told.probabilities, loop.space, (rows["a"] > 0).to_numpy(np.int64)
        )
        monkeypatch.setattr(monitoring, "_reference", lambda *_: (past, None))
        return version

    def window(place, cells, *, column="a", told=None):
        """Take a window in which some cells of a column are replaced, with its labels where they have matured."""
        rows = pd.DataFrame(np.random.default_rng(place).normal(size=(ROWS, 3)), columns=["a", "b", "c"])
        for row, value in cells.items():
            rows.loc[row, column] = value
        watch, escrow = monitoring.open_watch(loop.params, loop.stores), Escrow(loop.stores.escrow)
        record = watch.arrive(place, escrow.keep(Arrival(place, rows)), ROWS)
        if told is not None:
            watch.mature(place, escrow.keep_labels(np.array(told)))
            watch.screened(place, "clean", "{}")
            record = next(each for each in watch.windows() if each.position == place)
        return record

    return SimpleNamespace(champion=champion, window=window)


LABELS = ["paid", "charged_off"] * (ROWS // 2)


def test_rows_that_no_champion_can_answer_are_at_fault_and_the_others_are_watched(loop, panelled):
    """One wild number blinds nobody: it is told by its place, and the finite rows are read and judged as ever."""
    champion = panelled.champion()
    record = panelled.window(1, {3: HUGE, 17: -HUGE}, told=LABELS)
    seen = loop.observe(champion, record, (record,))
    (found,) = seen.quality
    assert (found.check, found.verdict, found.rows, seen.artefact) == ("answers", "quarantine", (3, 17), "")
    assert {s.detector: s.n for s in seen.signals} == {"label_shift": ROWS - 2, "harm": ROWS - 2}
    decision = responses.decide.fn(loop.params, loop.stores, record, seen, champion)
    assert (decision.cause, decision.action) == ("none", "none")
    assert any("2 of 40 rows have no finite answer (rows 3, 17)" in each.text for each in decision.reasons)
    assert 1 in monitoring.open_watch(loop.params, loop.stores).looked_at()


def test_many_rows_without_an_answer_are_a_broken_feed(loop, panelled):
    """More than the policy's share of them: the window is set aside, and judges nobody."""
    champion = panelled.champion()
    record = panelled.window(1, dict.fromkeys(range(9), HUGE), told=LABELS)
    seen = loop.observe(champion, record, (record,))
    decision = responses.decide.fn(loop.params, loop.stores, record, seen, champion)
    assert (decision.cause, decision.action, windows_of(decision)) == ("quality_fault", "quarantine", (1,))
    assert seen.signals == ()


@pytest.mark.parametrize("cells", [{3: HUGE}, {}], ids=["wild row", "usual rows"])
def test_a_champion_without_answers_to_its_own_past_is_damaged(loop, panelled, monkeypatch, cells):
    """Nothing is learned from the window then, whatever its rows are."""
    champion = panelled.champion()

    def broken(*_):
        raise ArtefactError("w", found="no finite output for 300 of 300 rows", expected="answers", remedy="-")

    monkeypatch.setattr(monitoring, "_reference", broken)
    seen = loop.observe(champion, panelled.window(1, cells))
    assert "no finite output for 300 of 300 rows" in seen.artefact
    assert (seen.signals, seen.quality) == ((), ())


@pytest.mark.parametrize("cells", [{3: np.inf}, dict.fromkeys(range(ROWS), HUGE)], ids=["unreadable", "unanswered"])
def test_labels_of_earlier_windows_are_read_whatever_the_last_one_holds(loop, panelled, cells):
    """Who spoils each window must not keep the champion from being judged by those that came before."""
    champion = panelled.champion()
    before = panelled.window(1, {}, told=LABELS)
    record = panelled.window(2, cells, told=LABELS)
    seen = loop.observe(champion, record, (before, record))
    assert {(s.position, s.detector, s.turn) for s in seen.signals} == {(1, "harm", 2)}
    assert seen.judged == 1
    assert bool(seen.unreadable) == (np.inf in cells.values())
    decision = responses.decide.fn(loop.params, loop.stores, record, seen, champion)
    assert (decision.cause, windows_of(decision)) == ("quality_fault", (2,))


def test_what_a_retraining_paid_is_read_off_the_rows_that_were_answered(loop, panelled):
    """A wild row has no part in it, on either side."""
    panelled.champion()
    second = loop.crown(1, iqr=0.1, parent=recovery.open_ledger(loop.stores).head(loop.params.name).reference())
    record = panelled.window(1, {0: HUGE}, told=LABELS)
    seen = loop.observe(second, record, (record,))
    (harm,) = (s for s in seen.signals if s.detector == "harm")
    assert harm.n == ROWS - 1
    assert harm.details["gain"] is not None


@pytest.mark.parametrize("verdict", ["clean", "released"])
@pytest.mark.parametrize("fault", ["labels", "rows"])
def test_a_matured_window_that_nobody_can_read_stops_no_watch(loop, panelled, monkeypatch, fault, verdict):
    """It judges nobody, is set aside with the reason, and is told of once; whoever released it."""
    champion, told = panelled.champion(), []
    monkeypatch.setattr(monitoring, "tell", lambda *words: told.append(words))
    odd = ["maybe", *LABELS[1:]] if fault == "labels" else LABELS
    spoilt = panelled.window(1, {0: np.inf} if fault == "rows" else {}, told=odd)
    watch = monitoring.open_watch(loop.params, loop.stores)
    if verdict == "released":
        watch.move(1, "quarantined", "suspected_poisoning")
        watch.release(1, "a person did")
    sound, now = panelled.window(2, {}, told=LABELS), panelled.window(3, {})
    seen = loop.observe(champion, now, (spoilt, sound))
    assert {s.position for s in seen.signals} == {2, 3}
    state = {each.position: each for each in watch.windows()}[1]
    assert state.state == "quarantined"
    assert state.why.startswith("it cannot be read: ")
    assert [words for _, words in told if words.startswith("window 1  in quarantine; it cannot be read")]
    told.clear()
    loop.observe(champion, now, tuple(w for w in watch.windows() if w.matured))
    assert told == []
