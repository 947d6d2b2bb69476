"""The doctor: each fault is found where it is, with its remedy, and the healthy are told so; nothing is started."""

import json
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from holdfast.errors import HoldfastError, LedgerError, StoreError
from holdfast.params import load
from holdfast.recovery.ledger import Ledger
from holdfast.stores import Stores, WallClock
from tasks import doctor, tracking

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def stores(tmp_path):
    """Stores in which a run has left something everywhere."""
    root = tmp_path / "state"
    for name in ("results", "models", "reports", "artifacts", "quarantine", "checkpoints", "prefect"):
        (root / name).mkdir(parents=True)
    for name in ("mlflow.db", "ledger.db", "predictions.db", "run.lock", "prefect/server.db"):
        (root / name).touch()
    return Stores.local(tmp_path, root)


def forbid(monkeypatch, *closed):
    """Have the system say that some paths may not be written; root may write whatever modes say."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in closed and real(path, mode))


@contextmanager
def serving(answers):
    """Answer some paths on loopback with JSON; all others are not found."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path, (404, None))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_may_be_written_passes(stores):
    """Folders and databases of this user are in order."""
    assert doctor._permissions(stores).passed


@pytest.mark.parametrize(
    "name",
    ["", "results", "models", "reports", "artifacts", "quarantine", "prefect", "mlflow.db", "ledger.db",
     "predictions.db", "prefect/server.db", "run.lock"],
)  # fmt: skip
def test_a_place_that_may_not_be_written_is_named_with_its_remedy(stores, monkeypatch, name):
    """Each folder and each database is looked at by itself."""
    closed = stores.root / name
    forbid(monkeypatch, closed)
    reason = doctor._permissions(stores)
    assert not reason.passed
    assert f"may not write {closed}: " in reason.text
    assert f"chmod u+rwX {closed}`" in reason.text


def test_what_is_not_there_yet_is_asked_of_the_folder_above(tmp_path, monkeypatch):
    """Before the first run nothing is there, and nothing is made: the folder that will hold it must be writable."""
    stores = Stores.local(tmp_path, tmp_path / "deep" / "state")
    assert doctor._permissions(stores).passed
    assert doctor._disk(stores).text
    assert not (tmp_path / "deep").exists()
    forbid(monkeypatch, tmp_path)
    assert f"may not write {tmp_path}:" in doctor._permissions(stores).text


def test_without_a_named_server_the_local_home_must_be_writable(stores, monkeypatch):
    """The doctor says that commands start their own server, and starts none."""
    assert "starts a server of its own" in doctor._own_server(stores)
    assert not (stores.root / "prefect" / "server.pid").exists()
    forbid(monkeypatch, stores.root / "prefect")
    with pytest.raises(StoreError, match="chmod"):
        doctor._own_server(stores)


OURS = version("prefect")
MAJOR, MINOR, *_ = (int(part) for part in OURS.split(".")[:2])


@pytest.mark.parametrize("theirs", [OURS, f"{MAJOR}.{MINOR + 1}.0"])
def test_a_server_that_is_not_older_passes(theirs):
    """A healthy server of our version, or a later one of the same major version, is in order."""
    with serving({"/api/health": (200, True), "/api/admin/version": (200, theirs)}) as url:
        assert f"answers, version {theirs}" in doctor._named_server(url)


@pytest.mark.parametrize("theirs", [f"{MAJOR}.{MINOR - 1}.9", f"{MAJOR + 1}.0.0", "a web page"])
def test_a_server_of_another_version_is_a_fault(theirs):
    """An older server, another major version, and what is no version are refused."""
    answers = {"/api/health": (200, True), "/api/admin/version": (200, theirs)}
    with serving(answers) as url, pytest.raises(StoreError) as caught:
        doctor._named_server(url)
    assert theirs in caught.value.found


@pytest.mark.parametrize("answers", [{}, {"/api/health": (503, None)}, {"/health": (200, True)}])
def test_a_server_that_is_not_in_health_is_a_fault(answers):
    """Something else on that port, a sick server and a URL without its path are refused."""
    with serving(answers) as url, pytest.raises(StoreError, match="PREFECT_API_URL"):
        doctor._named_server(url)


@pytest.mark.parametrize("url", ["http://me:hunter2@127.0.0.1:9/api", "nonsense"])
def test_a_server_that_does_not_answer_is_a_fault_and_its_password_stays_hidden(url):
    """Nobody there, and a URL that is none: what to do is said, the URL's password is not."""
    with pytest.raises(StoreError, match="unset PREFECT_API_URL") as caught:
        doctor._named_server(url)
    assert "hunter2" not in str(caught.value)


def test_an_examination_holds_every_check_and_each_fault_makes_it_unhealthy(stores, monkeypatch):
    """Versions, permissions, disk, data, model, stores and Prefect are all asked; one fault is enough."""
    for module, name in ((doctor.storage, "verify"), (doctor, "_tracking"), (doctor, "_ledger"), (doctor, "_copies")):
        monkeypatch.setattr(module, name, lambda *_: "fine")
    params = load(PROJECT / "params.yaml")
    checkup = doctor.examine(params, stores, None)
    names = [check.about for check in checkup.checks]
    assert names == ["python", "libraries", "permissions", "disk", "data", "model", "tracking", "ledger",
                     "copies", "prefect"]  # fmt: skip
    assert [c.about for c in checkup.checks if not c.passed and c.about not in {"libraries", "disk"}] == []
    sick = doctor.examine(params, stores, "http://127.0.0.1:9/api")
    assert [c.about for c in sick.checks if not c.passed and c.about not in {"libraries", "disk"}] == ["prefect"]
    assert not sick.healthy


def test_a_second_name_in_the_same_stores_is_no_disagreement_until_one_side_knows_it(tmp_path):
    """Before its first run neither ledger nor registry has heard of a project; a ledger that has is alone with it."""
    stores = Stores.local(tmp_path, tmp_path / "state")
    (tmp_path / "state").mkdir()
    tracking.prepare(stores, "first")
    ledger = Ledger.create(stores.ledger.get_secret_value(), WallClock())
    ledger.append("registered", who="t", model="first", version=1, body={"digest": "0" * 64})
    second = load(PROJECT / "params.yaml").model_copy(update={"name": "second"})
    assert "nothing of second yet" in doctor._ledger(second, stores)
    with closing(sqlite3.connect(stores.root / "ledger.db")) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE holdfast_ledger SET who = 'mallory' WHERE seq = 1")
    with pytest.raises(LedgerError):
        doctor._ledger(second, stores)  # its first entry would come to lie on that chain
    with closing(sqlite3.connect(stores.root / "ledger.db")) as database, database:
        database.execute("UPDATE holdfast_ledger SET who = 't' WHERE seq = 1")
    ledger.append("registered", who="t", model="second", version=1, body={"digest": "1" * 64})
    with pytest.raises(HoldfastError, match="second"):
        doctor._ledger(second, stores)


def test_a_registry_that_does_not_answer_is_a_fault_and_not_an_end(stores, monkeypatch):
    """One store's outage is a line of the examination; the other checks are still made."""

    def outage(*_):
        raise HoldfastError("tracking", found="no answer", expected="one", remedy="Start it.")

    monkeypatch.setattr(tracking, "list_versions", outage)
    monkeypatch.setattr(doctor.storage, "verify", lambda *_: "fine")
    monkeypatch.setattr(doctor, "_ledger", lambda *_: "fine")
    checkup = doctor.examine(load(PROJECT / "params.yaml"), stores, None)
    (fault,) = [check for check in checkup.checks if check.about == "tracking"]
    assert not fault.passed
    assert "Start it." in fault.text
