"""What a threat can reach: which features it moves in no row at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from holdfast.space import Box

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.perturbation import Threat
    from holdfast.space import Table


def immovable(space: Box | Table, threat: Threat, x: Tensor, categories: int) -> list[str]:
    """Name the mutable features that no attack within the threat can change in any of the rows x (n, features).

    A number is among them when it has no unit of distance, when epsilon is less than its step, or when ranges and
    relations hold it in every row; a category when none may change or there is no other. The score says nothing of
    an attacker who can change them.
    """
    if isinstance(space, Box):
        return []
    reach = threat.epsilon * space.scale(x.device)
    numbers = space.columns("number", mutable=True)
    single = torch.zeros((len(numbers), len(reach)), device=x.device)
    for row, column in enumerate(numbers):
        single[row, column] = reach[column]
    # Together too: a relation may hold back what moves alone.
    moves = torch.cat([single, -single, reach[None], -reach[None]])
    moved = torch.zeros(len(reach), dtype=torch.bool, device=x.device)
    for move in moves:
        changed = threat.project(x + move, x, space) != x
        moved |= (changed & ~x.isnan()).any(0)
    for column in space.columns("category", mutable=True) if categories else ():
        known = x[:, column][~x[:, column].isnan()]
        codes = len(space.features[column].categories)
        moved[column] = codes > 1 or (codes == 1 and bool((known != 0).any()))
    return [
        f.name for f, moves_some in zip(space.features, moved.tolist(), strict=True) if f.mutable and not moves_some
    ]
