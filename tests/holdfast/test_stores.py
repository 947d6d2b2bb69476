"""Results survive kills and full disks whole, and are believed only when nobody touched them."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest
from pydantic import SecretStr

from holdfast.errors import StoreError
from holdfast.results import Reason
from holdfast.stores import ResultStore, Stores, write_atomically

VALUE = Reason(about="a", passed=True, text="b")


def test_stores_without_an_actor_record_nobody(tmp_path):
    """There is no name to fall back to: what is to be recorded in somebody's name is refused."""
    assert Stores.local(tmp_path, tmp_path, actor="alice").named_actor() == "alice"
    with pytest.raises(StoreError, match="nobody who acts"):
        Stores.local(tmp_path, tmp_path).named_actor()


def test_a_value_comes_back_under_its_key_and_no_other(tmp_path):
    """What was put is what is got; a key that nobody used has nothing."""
    store = ResultStore(tmp_path)
    store.put("abc", VALUE)
    assert store.get("abc", Reason) == VALUE
    assert store.get("abd", Reason) is None


@pytest.mark.parametrize(
    "change", [lambda t: t[:-9], lambda t: t.replace("true", "false"), lambda _: "{}", lambda _: "\x80\x04."]
)
def test_a_result_that_was_changed_is_refused(tmp_path, change):
    """Truncated, edited, emptied or replaced by a pickle: an error that names the file, never a value, never a miss."""
    store = ResultStore(tmp_path)
    store.put("abc", VALUE)
    path = tmp_path / "ab" / "abc.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(StoreError, match=r"abc\.json"):
        store.get("abc", Reason)


def test_a_disk_that_fills_leaves_the_former_file(tmp_path):
    """A write that cannot be finished changes nothing and leaves no part behind."""
    path = tmp_path / "file"
    write_atomically(path, "former")
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            write_atomically(path, "x" * 1000)
        except StoreError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert path.read_text() == "former"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("body", ["Größe\r\n", b"\x00\xff"])
def test_a_body_is_written_as_it_is(tmp_path, body):
    """Bytes stay bytes, and a text is UTF-8 with its own line ends, on any machine."""
    write_atomically(tmp_path / "deep" / "file", body)
    assert (tmp_path / "deep" / "file").read_bytes() == (body.encode() if isinstance(body, str) else body)


def test_a_kill_in_the_middle_of_a_write_leaves_the_former_file(tmp_path):
    """The name appears only when every byte is on disk."""
    path = tmp_path / "file"
    write_atomically(path, "former")
    code = (
        "import os, signal, sys; from pathlib import Path; import holdfast.stores as s\n"
        "s.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.write_atomically(Path(sys.argv[1]), 'other')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "former"


def test_urls_with_passwords_do_not_show(tmp_path):
    """Neither repr nor JSON of the stores holds what a URL hides."""
    stores = Stores.local(tmp_path, tmp_path, tracking="http://me:hunter2@host", ledger="sqlite:///x")
    assert "hunter2" not in repr(stores) + json.dumps(stores.model_dump(mode="json"))
    assert stores.tracking == SecretStr("http://me:hunter2@host")
