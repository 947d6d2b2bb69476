"""Pruning: what the stores hold, and whether it may go."""

from __future__ import annotations

from typing import Literal

from holdfast.results import Value

Kind = Literal[
    "answers",  # of the prediction log
    "window",  # rows and labels in escrow
    "rows",  # that one integrity check set aside in one snapshot
    "exclusion",  # list of the rows that a snapshot leaves out
    "object",  # of DVC's cache: a retraining's manifest, or rows and labels that one names
    "model",  # a copy of a version's two files
    "checkpoint",  # of one training
    "shards",  # of one attack
    "result",  # kept for the next who asks
    "sandbox",  # of drills
    "leftover",  # of a write or a prune that a kill cut off
]


class Holding(Value):
    """One thing that a store holds, and whether it may go."""

    kind: Kind
    name: str
    """What names it in its store: a place, a digest, a key, a path."""
    bytes: int
    goes: bool
    why: str
    """What needs it, or why nothing does."""


def hold(kind: Kind, name: str, size: int, days: float, *, least: int, needed: str = "", spare: str) -> Holding:
    """Judge one thing: what is needed stays however old it is, and what is not stays until it is old enough.

    Args:
        kind: what it is.
        name: what names it.
        size: bytes.
        days: since it was written.
        least: days that it stays in any case.
        needed: what needs it; empty where nothing does.
        spare: why nothing does.
    """
    if needed:
        return Holding(kind=kind, name=name, bytes=size, goes=False, why=needed)
    if days < least:
        return Holding(kind=kind, name=name, bytes=size, goes=False, why=f"{spare}, but not {least} days old")
    return Holding(kind=kind, name=name, bytes=size, goes=True, why=spare)
