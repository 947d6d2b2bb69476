"""Projects in temporary folders, driven through the ``holdfast`` command as a person would."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, make_url, text

from flows.processes import free_port, wait
from holdfast.recovery.ledger import Ledger
from holdfast.stores import Stores, WallClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

REPOSITORY = Path(__file__).parents[2]
STACK = runpy.run_path(str(Path(__file__).with_name("stack.py")))
TINY = ("--params", "profiles/tiny.yaml")
MODEL = "tiny"
SECRET = "correct-horse-battery-staple"  # noqa: S105  planted, to be looked for
PLANTED = {"HOLDFAST_TEST_PASSWORD": SECRET, "DATABASE_URL": f"postgresql://me:{SECRET}@127.0.0.1/db"}
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background hands deafness to Ctrl-C on
    signal.signal(signal.SIGINT, signal.default_int_handler)
PATIENCE = 280  # seconds for one command, on a machine with other work


@dataclass(frozen=True)
class Done:
    """An ended command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document of a command with --json."""
        return json.loads(self.out)

    @property
    def words(self) -> str:
        """Standard error on one line: the console wraps."""
        return " ".join(self.err.split())


@dataclass(frozen=True)
class Project:
    """A working copy as a team has it: params, profiles, embedded data and its pin; state below ``.holdfast``."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    command = str(Path(sys.executable).with_name("holdfast"))

    @property
    def root(self) -> Path:
        return self.folder / ".holdfast"

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in the project."""
        return subprocess.Popen(
            command, cwd=self.folder, env=os.environ | self.environment | environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ended(self, process: subprocess.Popen[str], expect: int | None) -> Done:
        """Wait for a command, and hold its exit code against the expected one."""
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"no end after {PATIENCE} s: {process.args}\n{err[-3000:]}")
        assert expect in (None, process.returncode), f"exit code {process.returncode}\n{out[-1000:]}\n{err[-4000:]}"
        return Done(process.returncode, out, err)

    def holdfast(self, *arguments: str, expect: int | None = 0, **environment: str) -> Done:
        """Run the command as it is installed."""
        return self.ended(self.start(self.command, *arguments, **environment), expect)

    def run(self, *arguments: str, expect: int | None = 0, **environment: str) -> Done:
        """Run the lifecycle on the tiny profile."""
        return self.holdfast("run", *TINY, *arguments, expect=expect, **environment)

    def killed(self, target: str, when: str = "before", number: int = 1, *arguments: str, stroke: str = "KILL") -> Done:
        """Run the lifecycle and have it killed at one call of one function; see ``kill_at.py``."""
        launcher = str(Path(__file__).with_name("kill_at.py"))
        command = (sys.executable, launcher, target, when, str(number), stroke, "run", *TINY, *arguments)
        code = {"KILL": -9, "INT": 130, "TERM": 143}[stroke]
        try:
            return self.ended(self.start(*command), code)
        except AssertionError as error:
            raise AssertionError(f"not killed {when} call {number} of {target}") from error

    def ledger(self) -> Ledger:
        """Open the ledger."""
        return Ledger(f"sqlite:///{self.root / 'ledger.db'}", WallClock())

    def entries(self, *kinds: str) -> list[Any]:
        """List the ledger's entries of some kinds, all when none is named."""
        with self.ledger().reading() as view:
            return list(view.entries(kinds=kinds))

    def registry(self) -> MlflowClient:
        """Open MLflow on a copy of its database as it is now: a client of a file that was put back reads the old one."""
        from mlflow import MlflowClient  # noqa: PLC0415  seconds, that not every test needs

        copy = Path(tempfile.mkdtemp(prefix="registry-", dir=self.folder.parent)) / "mlflow.db"
        with sqlite3.connect(self.root / "mlflow.db") as source, sqlite3.connect(copy) as target:
            source.backup(target)
        url = f"sqlite:///{copy}"
        return MlflowClient(url, registry_uri=url)  # else the registry that this process named last answers

    def stores(self) -> Stores:
        """Give the stores as the command resolves them."""
        return Stores.local(self.folder, self.root)

    def processes(self) -> list[str]:
        """List processes that work in or for this project."""
        found, needle = [], str(self.folder).encode()
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                told = (proc / "cmdline").read_bytes() + b"\0" + (proc / "environ").read_bytes()
            except OSError:
                continue
            if needle in told and int(proc.name) != os.getpid():
                found.append(f"{proc.name} {told[:200]!r}")
        return found

    def no_process_left(self) -> bool:
        """Tell whether every process of the project has ended, allowing the last a moment."""
        for _ in range(50):
            if not self.processes():
                return True
            time.sleep(0.1)
        return False

    def alone(self) -> Project:
        """The same project with a Prefect server of its own, started and ended by each command."""
        return replace(self, environment={k: v for k, v in self.environment.items() if k != "PREFECT_API_URL"})

    def hold(self, versions: int = 1) -> None:
        """Hold that all is right: one champion, chain, alias and tags agree, nothing in flight, no orphan, no process."""
        ledger, registry = self.ledger(), self.registry()
        assert ledger.verify().valid
        head = ledger.head(MODEL)
        assert head is not None
        with ledger.reading() as view:
            assert not list(view.in_flight())
            hashes = {entry.hash for entry in view.entries()}
            recorded = {entry.version for entry in view.entries(kinds=["registered"])}
        found = {int(v.version): v for v in registry.search_model_versions(f"name = '{MODEL}'")}
        assert sorted(found) == sorted(recorded) == list(range(1, versions + 1))
        assert len({v.tags["holdfast.key"] for v in found.values()}) == versions
        assert int(registry.get_model_version_by_alias(MODEL, "champion").version) == head.version
        assert [n for n, v in found.items() if v.tags["holdfast.status"] == "champion"] == [head.version]
        assert found[head.version].tags["holdfast.digest"] == head.digest
        assert found[head.version].tags["holdfast.ledger_head"] in hashes
        (experiment,) = registry.search_experiments(filter_string=f"name = '{MODEL}'")
        ready = [m for m in registry.search_logged_models([experiment.experiment_id]) if m.status.name == "READY"]
        assert {m.model_id for m in ready} == {v.source.rsplit("/", 1)[-1] for v in found.values()}
        runs = registry.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert len({run.data.tags["holdfast.key"] for run in runs}) == len(runs)
        assert (self.root / "reports" / f"{MODEL}-{head.version}.html").stat().st_size > 10_000
        assert not list(self.root.joinpath("checkpoints").iterdir())
        assert sorted(path.name for path in self.root.joinpath("models").iterdir() if path.name[0] != ".") == sorted(
            {v.tags["holdfast.digest"] for v in found.values()}
        )
        assert self.no_process_left(), self.processes()

    def save(self) -> None:
        """Keep a copy of everything, for `restore`."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.folder, self._copy, symlinks=True)

    def restore(self) -> None:
        """Put everything back as it was saved; paths in the databases stay true, since the place is the same."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._copy, self.folder, symlinks=True)

    @property
    def _copy(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-saved")


def make_project(folder: Path, *, git: bool, **environment: str) -> Project:
    """Make a project as a fresh clone, or as a tarball without git."""
    (folder / ".dvc").mkdir(parents=True)
    for name in ("params.yaml", "data.dvc", ".dvcignore"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("profiles", "embedded"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("config", ".gitignore"):
        shutil.copy(REPOSITORY / ".dvc" / name, folder / ".dvc")
    (folder / ".gitignore").write_text("/data\n/.holdfast\n")
    if git:
        who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
        for command in (("init", "-q", "-b", "main"), ("add", "."), (*who, "commit", "-q", "-m", "Start")):
            subprocess.run(("git", *command), cwd=folder, check=True)
    return Project(folder, {"COLUMNS": "200", **environment})


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for all projects that need none of their own, started and ended as the command does it."""
    from flows.environment import prefect_server  # noqa: PLC0415

    root = tmp_path_factory.mktemp("prefect")
    with prefect_server(Stores.local(root, root)) as url:
        del os.environ["PREFECT_API_URL"]  # only projects that ask for it get it
        yield url
        os.environ["PREFECT_API_URL"] = url


@pytest.fixture
def records(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """List the files in which the shared Prefect server keeps runs, logs and its own words."""
    del prefect_api  # started
    return lambda: [path for path in tmp_path_factory.getbasetemp().glob("prefect*/**/*") if path.is_file()]


@pytest.fixture
def make(tmp_path: Path, prefect_api: str) -> Any:
    """Make a fresh project, outside git unless asked, recorded by the shared Prefect server."""
    return lambda name="project", *, git=False, **environment: make_project(
        tmp_path / name, git=git, PREFECT_API_URL=prefect_api, **environment
    )


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """A fresh project outside git, for which no server runs."""
    return make_project(tmp_path / "project", git=False)


@pytest.fixture
def drifting(bare: Project) -> Project:
    """A project with a feed of three windows from the crisis of 2008, which a model of 1999 gets wrong."""
    import pandas as pd  # noqa: PLC0415  seconds, that not every test needs

    rows = pd.read_parquet(bare.folder / "embedded" / "sba_loans_small.parquet").query("fy == 2007")
    (bare.folder / "feed" / "labels").mkdir(parents=True)
    for number in range(3):
        window = rows[300 * number :][:300].reset_index(drop=True)
        window[["charged_off"]].to_parquet(bare.folder / "feed" / "labels" / f"{number}.parquet")
        window.drop(columns="charged_off").to_parquet(bare.folder / "feed" / f"{number}.parquet")
    return bare


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> tuple[Project, Done]:
    """A git project after its first run, with secrets in its environment; saved."""
    project = make_project(
        tmp_path_factory.mktemp("shared") / "champion", git=True, PREFECT_API_URL=prefect_api, **PLANTED
    )
    done = project.run("--json")
    project.save()
    return project, done


@pytest.fixture
def champion(begun: tuple[Project, Done]) -> Iterator[Project]:
    """The project with a champion, put back afterwards as it was."""
    yield begun[0]
    begun[0].restore()


@pytest.fixture(scope="session")
def first(begun: tuple[Project, Done]) -> Done:
    """The first run of the shared project."""
    return begun[1]


@pytest.fixture
def ask_prefect(prefect_api: str) -> Any:
    """Ask the shared server's API by POST."""

    def ask(path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{prefect_api}{path}", data=json.dumps(body).encode(), headers=headers)  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310  loopback
            return json.load(response)

    return ask


@pytest.fixture
def secret() -> str:
    """The password that lies in the environment of every run of the shared project."""
    return SECRET


@pytest.fixture
def somebody() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), STACK["Told"])
    server.told = []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def world(drifting: Any, cluster: str, somebody: Any, tmp_path: Path) -> Iterator[Any]:
    """PostgreSQL, Prefect server and MLflow server as ``infra/`` has them, and a project whose world moved."""
    bare = drifting
    database, ports = make_url(cluster), {name: free_port() for name in ("prefect", "mlflow", "worker")}
    shutil.copytree(REPOSITORY / "infra", bare.folder / "infra")
    (bare.folder / "profiles" / "watched.yaml").write_text(STACK["WATCHED"])
    engine = create_engine(f"{cluster}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (REPOSITORY / "infra" / "databases.sql").read_text().split(";"):
            if statement.strip():
                connection.execute(text(statement))
    engine.dispose()
    settings = {
        "POSTGRES_PASSWORD": str(database.password), "HOLDFAST_WEBHOOK": f"http://127.0.0.1:{somebody.server_port}",
        "HOLDFAST_PARAMS": "--params profiles/tiny.yaml --params profiles/watched.yaml",
    }  # fmt: skip
    moved = {
        "postgres:5432": f"127.0.0.1:{database.port}", "prefect:4200": f"127.0.0.1:{ports['prefect']}",
        "mlflow:5000": f"127.0.0.1:{ports['mlflow']}", "4200": str(ports["prefect"]), "5000": str(ports["mlflow"]),
        "8080": str(ports["worker"]), "0.0.0.0": "127.0.0.1",  # noqa: S104  what a container binds
        "/artifacts": str(bare.folder / "artifacts"), "/project": str(bare.folder),
        "/tmp": str(bare.folder / "home"),  # noqa: S108  a container's
    }  # fmt: skip
    (bare.folder / "home").mkdir()
    stack = STACK["Stack"](settings, moved, bare.folder, tmp_path)
    try:
        for name in ("prefect", "mlflow"):
            stack.start(name)
        for name in ("prefect", "mlflow"):
            stack.wait(name, STACK["LONG"])
        yield STACK["World"](bare, stack, ports)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for each in (*stack.running.values(), *stack.running.values()):
                with suppress(ProcessLookupError):
                    os.killpg(each.pid, number)
            for told in bare.processes():
                with suppress(ProcessLookupError):
                    os.kill(int(told.split()[0]), number)
            wait(lambda: not bare.processes(), 60)
        for each in stack.running.values():
            each.wait(30)
        assert not bare.processes()
