"""The environment: who acts is what the system says of the process, and no variable."""

import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.utilities.collections import visit_collection

from flows.environment import acting, in_a_sandbox, open_stores
from holdfast.errors import StoreError
from holdfast.params import Params, load

TOP = Path(__file__).parents[2]
PARAMS = SimpleNamespace(stores=SimpleNamespace(root=".holdfast", tracking=None, ledger=None, stream=None))


@pytest.mark.parametrize("name", ["LOGNAME", "USER", "LNAME", "USERNAME"])
def test_no_variable_names_who_acts(tmp_path, monkeypatch, name):
    """Whoever the environment claims to be, the stores name the account of this process."""
    monkeypatch.setenv(name, "alice")
    assert open_stores(PARAMS, tmp_path).named_actor() == pwd.getpwuid(os.getuid()).pw_name != "alice"


def test_a_user_without_a_name_acts_by_number(tmp_path, monkeypatch):
    """A container's user that no file knows is named by its number."""
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert acting() == "uid:54321"
    assert open_stores(PARAMS, tmp_path).named_actor() == "uid:54321"


def test_a_sandbox_knows_nothing_of_productions_prefect(monkeypatch, tmp_path):
    """API, home and database of production are not handed down, what else is there is; a bad end is refused."""
    (tmp_path / "asked.py").write_text(
        "import os, sys\nsys.exit(any(name in os.environ for name in sys.argv[1:]) or 'KEPT' not in os.environ)\n"
    )
    names = ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
    for name in (*names, "KEPT"):
        monkeypatch.setenv(name, "production")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    in_a_sandbox("asked", *names)
    with pytest.raises(StoreError, match="exit code 1"):
        in_a_sandbox("asked", "KEPT")


def test_prefect_walks_through_no_setting():
    """It looks for futures in every argument of every task: params are one thing to it, and still one dictionary."""
    seen = []
    params = load(TOP / "params.yaml")
    walked = visit_collection([params], visit_fn=lambda each: seen.append(each) or each, return_data=True)
    assert [type(each) for each in seen] == [list, Params]
    assert walked[0] is params
    assert Params.model_validate(params.model_dump()) == params


def test_what_was_imported_is_out_of_the_collectors_sight():
    """A start imports with collection off, has none of it walked through again, and leaves collection on."""
    script = (
        "import gc\nfrom flows.imports import no_garbage\nwith no_garbage():\n    off = not gc.isenabled()\n"
        "    import holdfast.params\n"
        "print(off, gc.isenabled(), gc.get_freeze_count() > 10 * len(gc.get_objects()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3
