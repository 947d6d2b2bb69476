"""Every way Holdfast refuses to go on: one tree, each message with place, found, expected and remedy."""

from __future__ import annotations


class HoldfastError(Exception):
    """A refusal. ``str(error)`` is one line for people; the parts are kept for machines.

    Args:
        where: file, store, parameter or stage that is at fault.
        found: what was there.
        expected: what should have been there.
        remedy: what to do about it.
    """

    exit_code = 1

    def __init__(self, where: str, *, found: str, expected: str, remedy: str) -> None:
        super().__init__(where, found, expected, remedy)
        self.where, self.found, self.expected, self.remedy = where, found, expected, remedy

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}. {self.remedy}"


class ParamsError(HoldfastError):
    """``params.yaml``, an overlay or ``--set`` is wrong; raised once, with every mistake in it."""

    exit_code = 2

    def __str__(self) -> str:
        listed = self.found.endswith("\n")  # each line says itself what was expected there
        return f"{self.where}: found {self.found}{self.remedy}" if listed else super().__str__()


class DataError(HoldfastError):
    """The data cannot be read, or is not the data that ``data.dvc`` pins."""

    exit_code = 3


class IntegrityError(HoldfastError):
    """A check blocked the data: it never trains."""

    exit_code = 4


class RoleError(DataError):
    """Rows of one role were about to be used in another."""


class ModelError(HoldfastError):
    """A model cannot be built, loaded or verified; tampered bytes end here."""

    exit_code = 5


class ArtefactError(ModelError):
    """A model's bytes are missing, or not those that were registered: the only `ModelError` that a repair mends."""


class ScenarioError(HoldfastError):
    """A scenario broke its own contract (left the perturbation set, returned non-finite values)."""

    exit_code = 6


class StoreError(HoldfastError):
    """A store (tracking, ledger, results, Prefect) is unreachable, read-only, full or corrupt."""

    exit_code = 7


class LedgerError(StoreError):
    """The ledger's chain is broken, or its head is not where the caller expected it."""


class ProjectionError(StoreError):
    """The MLflow alias disagrees with the ledger: somebody moved it from outside."""

    exit_code = 8
