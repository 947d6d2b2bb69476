"""The doctor: what must be in order before a run, each fault with its remedy; it changes nothing."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from holdfast.errors import HoldfastError
from holdfast.model import resolve_factory
from holdfast.recovery.ledger import Ledger
from holdfast.results import Reason, Value
from holdfast.stores import WallClock
from tasks import storage, tracking
from tasks.recovery import audited

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.params import Params
    from holdfast.stores import Stores

_LEAST_FREE_BYTES = 2 * 1024**3


class Checkup(Value):
    """What ``holdfast doctor --json`` prints."""

    checks: tuple[Reason, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed for check in self.checks)


def examine(params: Params, stores: Stores) -> Checkup:
    """Check Python, library versions, disk, data, the user's module and the stores."""
    checks = [
        _python(),
        _versions(),
        _disk(stores),
        _ask(
            "data",
            lambda: f"md5 {storage.verify(stores.project)} as data.dvc pins",
        ),
        _ask("model", lambda: f"{resolve_factory(params.model.factory).__name__} imports"),
        _ask("tracking", lambda: _tracking(params, stores)),
        _ask("ledger", lambda: _ledger(params, stores)),
    ]
    return Checkup(checks=tuple(checks))


def _ask(about: str, question: Callable[[], str]) -> Reason:
    try:
        return Reason(about=about, passed=True, text=question())
    except HoldfastError as error:
        return Reason(about=about, passed=False, text=str(error))


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


def _disk(stores: Stores) -> Reason:
    free = shutil.disk_usage(stores.root).free
    text = f"{free / 1024**3:.1f} GiB free at {stores.root}; at least {_LEAST_FREE_BYTES / 1024**3:.0f} are asked for"
    return Reason(about="disk", passed=free >= _LEAST_FREE_BYTES, text=text)


def _tracking(params: Params, stores: Stores) -> str:
    if (
        stores.tracking.get_secret_value() == f"sqlite:///{stores.root / 'mlflow.db'}"
        and not (stores.root / "mlflow.db").exists()
    ):
        return "none yet: the first run makes it"
    return f"MLflow answers, {len(tracking.list_versions(stores, params.name))} versions"


def _ledger(params: Params, stores: Stores) -> str:
    url = stores.ledger.get_secret_value()
    if url == f"sqlite:///{stores.root / 'ledger.db'}" and not (stores.root / "ledger.db").exists():
        return "none yet: the first run makes it"
    report = audited(Ledger(url, WallClock()), tracking.MlflowProjection(stores), stores, params.name)
    if report.problems:
        raise HoldfastError(
            "ledger", found="; ".join(report.problems), expected="a whole chain and an alias that agrees",
            remedy="Run `holdfast audit`.",
        )  # fmt: skip
    return f"{report.chain_length} entries, chain whole, alias agrees"
