"""The doctor: what must be in order before a run, each fault with its remedy; it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from holdfast.errors import HoldfastError, ModelError, StoreError
from holdfast.factory import check_factory
from holdfast.recovery.ledger import Ledger
from holdfast.results import Reason, Value
from holdfast.stores import WallClock
from tasks import storage, tracking
from tasks.recovery import audited
from tasks.replicas import BACKUP, examined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.params import Params
    from holdfast.stores import Stores

_LEAST_FREE_BYTES = 2 * 1024**3
_NONE_YET = "none yet: the first run makes it"
_PATIENCE = 5
"""Seconds that a Prefect server may take to answer."""


class Checkup(Value):
    """What ``holdfast doctor --json`` prints."""

    checks: tuple[Reason, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed for check in self.checks)


def examine(params: Params, stores: Stores, prefect_api: str | None) -> Checkup:
    """Check Python, libraries, permissions, disk, data, the user's module, stores, copies of the champion, and Prefect.

    Args:
        params: what names the model and its module.
        stores: where state lives.
        prefect_api: URL of the Prefect API that records runs; None where each command starts a server of its own.
    """
    checks = [
        _python(),
        _versions(),
        _permissions(stores),
        _disk(stores),
        _ask(
            "data",
            lambda: f"md5 {storage.verify(stores.project)} as data.dvc pins",
        ),
        _ask("model", lambda: _model(params)),
        _ask("tracking", lambda: _tracking(params, stores)),
        _ask("ledger", lambda: _ledger(params, stores)),
        _ask("copies", lambda: _copies(params, stores)),
        _ask("prefect", lambda: _named_server(prefect_api) if prefect_api else _own_server(stores)),
    ]
    return Checkup(checks=tuple(checks))


def _ask(about: str, question: Callable[[], str]) -> Reason:
    try:
        return Reason(about=about, passed=True, text=question())
    except HoldfastError as error:
        return Reason(about=about, passed=False, text=str(error))


def _model(params: Params) -> str:
    check_factory(params.model.factory, params.model.settings)
    return f"{params.model.factory} imports, and takes its settings"


def _python() -> Reason:
    found = ".".join(map(str, sys.version_info[:3]))
    return Reason(about="python", passed=sys.version_info[:2] == (3, 11), text=f"{found}; 3.11 is supported")


def _versions() -> Reason:
    wrong = []
    for line in requires("holdfast") or []:
        requirement = Requirement(line)
        if requirement.marker is not None:
            continue  # extras
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, not {requirement.specifier}")
    text = "; ".join(wrong) + ": install with constraints.txt" if wrong else "every library is in its range"
    return Reason(about="libraries", passed=not wrong, text=text)


def _permissions(stores: Stores) -> Reason:
    places = [_existing(stores.root), *(path for path in _state(stores) if path.exists())]
    closed = [path for path in dict.fromkeys(places) if not _may_write(path)]
    text = f"{stores.root} and what it holds may be written"
    if closed:
        text = f"this user may not write {', '.join(map(str, closed))}: {_remedy(closed)}"
    return Reason(about="permissions", passed=not closed, text=text)


def _state(stores: Stores) -> Iterator[Path]:
    """List every folder and database below the root that a run writes."""
    root = stores.root
    yield from (root / "results", stores.models, stores.reports, stores.artifacts, stores.quarantine)
    yield from (stores.checkpoints, stores.predictions, root / "mlflow.db", root / "ledger.db", root / "run.lock")
    yield from (root / "prefect", root / "prefect" / "server.db")


def _existing(path: Path) -> Path:
    """Give a path, or the nearest folder above it that is there: the first run makes what is missing."""
    return path if path.exists() else next(above for above in path.absolute().parents if above.exists())


def _may_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def _remedy(closed: list[Path]) -> str:
    names = " ".join(map(str, closed))
    return (
        f"`chmod u+rwX {names}` as their owner, `chown` them to this user as root, mount their file system writable,"
        " or set stores.root"
    )


def _disk(stores: Stores) -> Reason:
    free = shutil.disk_usage(_existing(stores.root)).free
    text = f"{free / 1024**3:.1f} GiB free at {stores.root}; at least {_LEAST_FREE_BYTES / 1024**3:.0f} are asked for"
    return Reason(about="disk", passed=free >= _LEAST_FREE_BYTES, text=text)


def _tracking(params: Params, stores: Stores) -> str:
    if (
        stores.tracking.get_secret_value() == f"sqlite:///{stores.root / 'mlflow.db'}"
        and not (stores.root / "mlflow.db").exists()
    ):
        return _NONE_YET
    return f"MLflow answers, {len(tracking.list_versions(stores, params.name))} versions"


def _ledger(params: Params, stores: Stores) -> str:
    ledger = _opened(stores)
    if ledger is None:
        return _NONE_YET
    if _unheard_of(params, stores, ledger):
        return f"nothing of {params.name} yet, neither here nor in the registry: the first run makes it"
    report = audited(ledger, tracking.MlflowProjection(stores), stores, params.name)
    if report.problems:
        raise HoldfastError(
            "ledger", found="; ".join(report.problems), expected="a whole chain and an alias that agrees",
            remedy="Run `holdfast audit`.",
        )  # fmt: skip
    return f"{report.chain_length} entries, chain whole, alias agrees"


def _opened(stores: Stores) -> Ledger | None:
    """Open the ledger, where there is one: the doctor makes none."""
    url = stores.ledger.get_secret_value()
    if url == f"sqlite:///{stores.root / 'ledger.db'}" and not (stores.root / "ledger.db").exists():
        return None
    return Ledger(url, WallClock())


def _copies(params: Params, stores: Stores) -> str:
    """Verify the registry's and the local copy of the champion, and of the last good version."""
    ledger = _opened(stores)
    found = () if ledger is None else examined(params, stores, ledger)
    if not found:
        return _NONE_YET
    if spoilt := [copies.told for copies in found if not copies.whole]:
        raise ModelError(
            "copies", found="; ".join(spoilt), expected="copies of champion and last good version that verify",
            remedy="`holdfast audit --repair --why ...` restores the one from the other, and so does the nightly run."
            f" Where neither verifies: {BACKUP}",
        )  # fmt: skip
    return "; ".join(copies.told for copies in found)


def _unheard_of(params: Params, stores: Stores, ledger: Ledger) -> bool:
    """Tell whether neither side knows the model: a second project in the same stores is no disagreement."""
    with ledger.reading() as view:
        view.require_whole()
        known = next(view.entries(model=params.name), None)
    return known is None and not tracking.list_versions(stores, params.name)


def _own_server(stores: Stores) -> str:
    home = stores.root / "prefect"
    if not _may_write(place := _existing(home)):
        raise StoreError(
            "local Prefect server", found=f"{place}, which this user may not write",
            expected="a home for its database and log", remedy=f"Mend it: {_remedy([place])}; or set PREFECT_API_URL.",
        )  # fmt: skip
    return (
        f"PREFECT_API_URL is not set: each command that records runs starts a server of its own, with its home {home}"
    )


def _named_server(url: str) -> str:
    """Ask the server that the environment names for its health and its version; the URL is not repeated."""
    parts = urlsplit(url)
    where = f"PREFECT_API_URL ({parts.hostname}{f':{parts.port}' if parts.port else ''})"
    if _get(url, "health", where) is None:
        raise _refused(
            where, "no /health that it shows", "the API of a Prefect server", "Name it with its path: it ends in /api."
        )
    found, ours = _get(url, "admin/version", where), Version(version("prefect"))
    if found is None:
        return f"{where} answers; it does not tell its version"
    try:
        theirs = Version(str(found))
    except InvalidVersion:
        raise _refused(
            where, f"version {found!r:.40}", "the version of a Prefect server", "Name a Prefect API."
        ) from None
    if theirs.major != ours.major or theirs < ours:
        asked = f"one of {ours.major}.x that is not older than the client here, {ours}"
        raise _refused(where, f"a server of version {theirs}", asked, "Upgrade the server, or unset PREFECT_API_URL.")
    return f"{where} answers, version {theirs}"


def _get(url: str, path: str, where: str) -> object | None:
    """Read one JSON answer; None where the server has no such page, or shows it to none without a password."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/{path}", timeout=_PATIENCE) as response:  # noqa: S310  what the user named
            answer: object = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        if error.code in {401, 403, 404}:
            return None
        raise _refused(where, f"HTTP {error.code}", "a server in health", "Read its log.") from error
    except (OSError, ValueError) as error:  # also a URL that is none
        raise _refused(
            where, "no answer", "a Prefect server in health", "Start it, or unset PREFECT_API_URL to use a local one."
        ) from error


def _refused(where: str, found: str, expected: str, remedy: str) -> StoreError:
    return StoreError(where, found=found, expected=expected, remedy=remedy)
