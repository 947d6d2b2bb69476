"""Failures: each one is a clear error with its exit code, promotes nothing and loses nothing."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)  # whole runs, on a machine that may have other work

LOANS = "sba_loans_small.parquet"


def unharmed(project: Any, entries: int) -> None:
    """Hold that ledger and champion are as they were."""
    assert project.ledger().verify().valid
    assert project.ledger().head("tiny").version == 1
    assert len(project.entries()) == entries
    assert project.no_process_left()


def test_a_changed_byte_in_the_data_is_refused_and_kept(champion: Any) -> None:
    """Data that is not what data.dvc pins ends a run with exit code 3; the changed file is not overwritten."""
    entries, path = len(champion.entries()), champion.folder / "data" / LOANS
    path.chmod(0o644)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    done = champion.run(expect=3)
    assert "DataError" in done.words
    assert path.read_bytes() == body
    unharmed(champion, entries)
    checkup = champion.holdfast("doctor", "--json", "--params", "profiles/tiny.yaml", expect=1).document
    (fault,) = [check for check in checkup["checks"] if not check["passed"]]
    assert fault["about"] == "data"
    assert "dvc checkout" in fault["text"]
    path.unlink()
    champion.holdfast("data")
    unharmed(champion, entries)


@pytest.mark.slow
def test_a_truncated_table_is_refused_before_and_after_it_is_pinned(champion: Any, tmp_path: Path) -> None:
    """A Parquet file cut in half is not the pinned data; pinned by its owner, it still cannot be read."""
    entries, path = len(champion.entries()), champion.folder / "data" / LOANS
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[: len(whole) // 2])
    assert "data.dvc" in champion.run(expect=3).words
    champion.holdfast("data", "add", f"data/{LOANS}")
    assert LOANS in champion.run(expect=3).words
    unharmed(champion, entries)
    path.write_bytes(whole)
    champion.holdfast("data", "add", f"data/{LOANS}")
    champion.run()
    champion.hold()


@pytest.mark.slow
def test_a_wrong_md5_in_the_pin_is_refused(champion: Any) -> None:
    """A data.dvc that pins data nobody has ends a run with exit code 3."""
    entries, pin = len(champion.entries()), champion.folder / "data.dvc"
    text = pin.read_text()
    md5 = yaml.safe_load(text)["outs"][0]["md5"]
    pin.write_text(text.replace(md5, "0" * 32 + ".dir"))
    assert "0" * 32 in champion.run(expect=3).words
    unharmed(champion, entries)
    pin.write_text(text)
    champion.run()
    champion.hold()


def holding(text: str, paths: list[Path]) -> list[Path]:
    """List the files that hold a text."""
    return [path for path in paths if path.is_file() and text.encode() in path.read_bytes()]


def test_an_unreachable_tracking_server_is_an_outage_and_its_password_is_not_shown(
    champion: Any, secret: str, records: Any
) -> None:
    """A tracking URL that nobody answers ends a run with exit code 7; nothing is taken as absent."""
    entries = len(champion.entries())
    done = champion.run(
        "--json", "--set", "stores.tracking=env:TRACKING", expect=7, TRACKING=f"http://me:{secret}@127.0.0.1:9"
    )
    assert done.document["error"]["kind"] == "StoreError"
    assert "127.0.0.1:9" in done.document["error"]["where"]
    assert secret not in done.out + done.err
    assert holding(secret, [*champion.folder.rglob("*"), *records()]) == []
    unharmed(champion, entries)


def test_an_alias_moved_by_hand_is_refused_reported_and_repaired(champion: Any) -> None:
    """An alias that somebody sets on a version of his own: prediction refuses, the audit reports, a reason mends it."""
    from mlflow import MlflowClient  # noqa: PLC0415  seconds

    mine = MlflowClient(url := f"sqlite:///{champion.root / 'mlflow.db'}", registry_uri=url)
    crowned = mine.get_model_version_by_alias("tiny", "champion")
    bytes_of_it = mine.get_logged_model(crowned.source.rsplit("/", 1)[-1]).artifact_location
    slipped = mine.create_model_version("tiny", bytes_of_it, crowned.run_id).version  # recorded by nobody
    mine.set_registered_model_alias("tiny", "champion", slipped)
    mine._tracking_client.store.engine.dispose()
    profile, rows = ("--params", "profiles/tiny.yaml"), f"data/{LOANS}"
    refused = champion.holdfast("predict", rows, "--out", "answers.csv", *profile, expect=8)
    assert "ProjectionError" in refused.words
    assert not (champion.folder / "answers.csv").exists()
    audit = champion.holdfast("audit", "--json", *profile, expect=8).document
    assert audit["chain_valid"]
    assert not audit["agrees"]
    assert (audit["champion"], audit["alias_version"]) == (1, int(slipped))
    assert "ProjectionError" in champion.run(expect=8).words
    champion.holdfast("audit", "--repair", "--why", "somebody slipped", *profile)
    assert champion.registry().get_model_version_by_alias("tiny", "champion").version == crowned.version
    mine.delete_model_version("tiny", slipped)
    mine._tracking_client.store.engine.dispose()
    assert [entry.body["why"] for entry in champion.entries("projected")] == ["somebody slipped"]
    champion.hold()


@pytest.mark.slow
def test_an_outside_move_is_accepted_in_a_persons_name(champion: Any) -> None:
    """The same removal, accepted: the ledger then says that nothing serves, and the next run promotes by the gate."""
    from mlflow import MlflowClient  # noqa: PLC0415  seconds

    profile = ("--params", "profiles/tiny.yaml")
    mine = MlflowClient(url := f"sqlite:///{champion.root / 'mlflow.db'}", registry_uri=url)
    mine.delete_registered_model_alias("tiny", "champion")
    mine._tracking_client.store.engine.dispose()
    assert "ProjectionError" in champion.run(expect=8).words
    champion.holdfast("audit", "--repair", "--accept-outside", "--why", "we withdraw it", *profile)
    assert champion.ledger().head("tiny") is None
    champion.run()
    champion.hold()


def test_two_runs_at_once_are_refused(champion: Any) -> None:
    """While somebody holds the run lock, a second run ends with exit code 7 and says who."""
    entries = len(champion.entries())
    with (champion.root / "run.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "a run under way" in champion.run(expect=7).words
    unharmed(champion, entries)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "code", "kind"), [("ledger.db", 7, "LedgerError"), ("mlflow.db", 8, "ProjectionError")]
)
def test_a_lost_database_is_no_empty_one(champion: Any, lost: str, code: int, kind: str) -> None:
    """Without its ledger, or without its registry, a run refuses before any work; put back, all is as it was."""
    aside = champion.folder / lost
    (champion.root / lost).rename(aside)
    done = champion.run(expect=code)
    assert kind in done.words
    assert "epoch" not in done.words
    aside.replace(champion.root / lost)
    champion.run()
    champion.hold()


def test_a_broken_ledger_stops_everything(champion: Any) -> None:
    """One altered word in the ledger: the audit says so, a run refuses, and nothing is written on top."""
    with sqlite3.connect(champion.root / "ledger.db") as ledger:
        for (trigger,) in ledger.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            ledger.execute(f"drop trigger {trigger}")
        ledger.execute("update holdfast_ledger set who = 'somebody else' where seq = 1")
        before = ledger.execute("select * from holdfast_ledger").fetchall()
    assert "LedgerError" in champion.run(expect=7).words
    audit = champion.holdfast("audit", "--json", "--params", "profiles/tiny.yaml", expect=7).document
    assert not audit["chain_valid"]
    assert audit["champion"] is None
    with sqlite3.connect(champion.root / "ledger.db") as ledger:
        assert ledger.execute("select * from holdfast_ledger").fetchall() == before


def test_a_rewritten_crowning_predicts_nothing(champion: Any) -> None:
    """The entry that made the champion, rewritten with a hash that fits it: prediction and audit refuse the ledger."""
    from holdfast.recovery.chain import seal  # noqa: PLC0415  beside what it forges

    with sqlite3.connect(champion.root / "ledger.db") as ledger:
        ledger.row_factory = sqlite3.Row
        for (trigger,) in ledger.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            ledger.execute(f"drop trigger {trigger}")
        (row,) = map(dict, ledger.execute("select * from holdfast_ledger where kind = 'done'"))
        row["who"] = "somebody else"
        change = "update holdfast_ledger set who = ?, hash = ? where seq = ?"
        ledger.execute(change, (row["who"], seal(row), row["seq"]))
        ledger.execute("update holdfast_ledger_head set hash = ? where seq = ?", (seal(row), row["seq"]))
    rows, profile = f"data/{LOANS}", ("--params", "profiles/tiny.yaml")
    done = champion.holdfast("predict", rows, "--out", "answers.csv", *profile, expect=7)
    assert "LedgerError" in done.words
    assert not (champion.folder / "answers.csv").exists()
    champion.holdfast("audit", *profile, expect=7)


class Bomb:
    """Something whose unpickling leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_no_planted_pickle_is_opened_and_no_planted_password_is_kept(
    champion: Any, secret: str, records: Any, tmp_path: Path
) -> None:
    """Pickles under every name a library might look for leave no mark; a password in the environment no byte."""
    bomb, folders = pickle.dumps(Bomb(tmp_path / "opened")), [p for p in champion.root.rglob("*") if p.is_dir()]
    assert len(folders) > 10
    planted = 0
    for folder in folders:
        for name in ("model.pkl", "python_model.pkl", "data.pickle", "result", "checkpoint.pt", "model.pth"):
            planted += not (folder / name).exists()
            (folder / name).write_bytes(bomb)
    for result in list(champion.root.glob("results/*/*.json")):
        result.with_suffix(".pkl").write_bytes(bomb)
        result.with_suffix("").write_bytes(bomb)
    done = champion.run("--set", "recovery.gates.non_inferiority.probes/quality=0.19")
    champion.holdfast("predict", f"data/{LOANS}", "--out", "answers.parquet", "--params", "profiles/tiny.yaml")
    assert planted
    assert not (tmp_path / "opened").exists()
    pickle.loads(bomb)  # noqa: S301  the bomb is live
    assert (tmp_path / "opened").exists()
    assert secret not in done.out + done.err
    assert secret in "".join(champion.environment.values())
    assert holding("lifecycle", records())  # what would be found, were it there
    assert holding(secret, [*champion.folder.rglob("*"), *records()]) == []


@pytest.mark.slow
def test_a_result_replaced_by_a_pickle_is_refused_unopened(champion: Any, tmp_path: Path) -> None:
    """A pickle in place of a result or of a model's weights is a clear error and is never opened."""
    bomb = pickle.dumps(Bomb(tmp_path / "opened"))
    for path in champion.root.glob("results/*/*.json"):
        path.write_bytes(bomb)
    assert "a result that is not what was written" in champion.run(expect=7).words
    champion.restore()
    for path in champion.root.rglob("model.safetensors"):
        path.chmod(0o644)
        path.write_bytes(bomb)
    refused = champion.holdfast(
        "predict", f"data/{LOANS}", "--out", "answers.csv", "--params", "profiles/tiny.yaml", expect=5
    )
    assert "changed after registration" in refused.words
    assert not (tmp_path / "opened").exists()


def as_root_with_mounts() -> bool:
    """Tell whether this user may mount."""
    command = ("unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt")
    try:
        return os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount a small file system over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(("mount", *options, str(folder)), check=True)
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


needs_mounts = pytest.mark.skipif(not as_root_with_mounts(), reason="mounting a file system needs root and permission")


@needs_mounts
@pytest.mark.slow
@pytest.mark.parametrize("size", ["40k", "900k", "1500k"])
def test_a_full_disk_is_a_clear_error_and_room_mends_it(make: Callable[..., Any], size: str) -> None:
    """State on a full file system: exit code 7 and a word about room, wherever in the run it fills."""
    project = make()
    with mounted(project.root, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        done = project.run(expect=7)
        assert "StoreError" in done.words
        assert "Traceback" not in done.err
        subprocess.run(("mount", "-o", "remount,size=200m", str(project.root)), check=True)
        project.run()
        project.hold()


@needs_mounts
@pytest.mark.slow
def test_a_read_only_store_is_a_clear_error(champion: Any) -> None:
    """State that may not be written: exit code 7 at once, and nothing changed."""
    entries = len(champion.entries())
    subprocess.run(("mount", "--bind", str(champion.root), str(champion.root)), check=True)
    try:
        subprocess.run(("mount", "-o", "remount,ro,bind", str(champion.root)), check=True)
        done = champion.run(expect=7)
    finally:
        subprocess.run(("umount", "-l", str(champion.root)), check=True)
    assert "Read-only file system" in done.words
    assert "Traceback" not in done.err
    unharmed(champion, entries)


@contextmanager
def mlflow_server(folder: Path, port: int = 0) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Serve MLflow on loopback, from what the folder holds."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    command = (
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
    )  # fmt: skip
    with (folder / "log").open("wb") as log:
        quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=quiet, start_new_session=True)
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield port, server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tracking_server_that_dies_and_comes_back_loses_nothing(
    make: Callable[..., Any], tmp_path: Path, secret: str, records: Any
) -> None:
    """A server by URL with a password serves a run; when it dies in the middle, the next run goes on where it was."""
    project, knob = make(), ("--set", "stores.tracking=env:TRACKING")
    with mlflow_server(tmp_path / "server") as (port, server):
        url = f"http://me:{secret}@127.0.0.1:{port}"
        process = project.start(project.command, "run", "--params", "profiles/tiny.yaml", *knob, TRACKING=url)
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1/2" in line:
                os.killpg(server.pid, signal.SIGKILL)
                break
        cut = project.ended(process, 7)
        assert "StoreError" in cut.words
        assert secret not in cut.err
        assert project.ledger().head("tiny") is None
    with mlflow_server(tmp_path / "server", port):
        done = project.run("--json", *knob, TRACKING=url)
        assert "epoch" not in done.words
        assert secret not in done.out + done.err
        assert done.document["decision"]["action"] == "promote"
        audit = project.holdfast("audit", "--json", "--params", "profiles/tiny.yaml", *knob, TRACKING=url).document
        assert audit["agrees"]
    assert holding(secret, [*project.folder.rglob("*"), *tmp_path.joinpath("server").rglob("*"), *records()]) == []
