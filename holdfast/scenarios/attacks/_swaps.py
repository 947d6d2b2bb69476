"""Categorical changes on tables: which there are, and the greedy choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.model import Target
    from holdfast.space import Table

_ROWS = 1 << 14
"""Candidate rows held at a time."""


def changed(x: Tensor, clean: Tensor, space: Table) -> Tensor:
    """Tell which mutable categorical features (n, k) differ from the clean rows."""
    columns = space.columns("category", mutable=True)
    return (x[:, columns] != clean[:, columns]) & ~clean[:, columns].isnan()


def candidates(space: Table) -> Tensor:
    """List every change to a known category as (column, code) pairs (c, 2)."""
    pairs = [
        (i, code) for i in space.columns("category", mutable=True) for code in range(len(space.features[i].categories))
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def greedy_swaps(
    target: Target, space: Table, x: Tensor, y: Tensor, budget: int, *, eager: bool = True
) -> tuple[Tensor, Tensor]:
    """Change up to ``budget`` mutable categories of each row, each time the one that raises the loss most.

    Args:
        target: the model.
        space: its table.
        x: clean rows (n, features).
        y: labels (n,).
        budget: categorical features that may change.
        eager: what breaks a row beats any loss; without it the loss alone decides.

    Returns:
        The rows (n, features) of highest cross-entropy found, and which of them (n,) are broken; a row that a
        candidate breaks is that candidate and is changed no further.
    """
    pairs = candidates(space).to(x.device)
    rows, broken = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    if len(pairs) == 0:
        return rows, broken
    loss, _ = _losses(target, x, y)
    for _ in range(budget):
        standing, size = torch.nonzero(~broken).flatten(), max(_ROWS // len(pairs), 1)
        for start in range(0, len(standing), size):
            live = standing[start : start + size]
            tried = rows[live].repeat_interleave(len(pairs), 0)
            every = pairs.repeat(len(live), 1)
            at = torch.arange(len(tried), device=x.device)
            here = tried[at, every[:, 0]]
            allowed = (
                ~here.isnan()
                & (here != every[:, 1])
                & (here == x[live].repeat_interleave(len(pairs), 0)[at, every[:, 0]])
            )
            tried[at, every[:, 0]] = torch.where(allowed, every[:, 1].to(x.dtype), here)
            found, wrong = _losses(target, tried, y[live].repeat_interleave(len(pairs)))
            rank = torch.where(wrong & eager, torch.inf, found).where(allowed, -torch.inf).reshape(len(live), -1)
            top, best = rank.max(1)
            chosen = tried.reshape(len(live), len(pairs), -1)[torch.arange(len(live), device=x.device), best]
            better = top > loss[live]
            rows[live] = torch.where(better[:, None], chosen, rows[live])
            loss[live] = torch.where(better, top, loss[live])
            broken[live] = better & top.isposinf()
    return rows, broken


def _losses(target: Target, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits = target.logits(x)
    wrong = (logits.argmax(1) != y) | ~logits.isfinite().all(1)
    return F.cross_entropy(logits, y, reduction="none").nan_to_num(torch.inf), wrong
