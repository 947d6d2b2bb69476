"""Category typos: names with one slip of the finger, which training never saw or takes for another name."""

from __future__ import annotations

import string
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, final

import pandas as pd
import torch

from holdfast.data.table import names_of
from holdfast.scenarios.anomalies.base import Anomaly, some_cells

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Feature, Table

_MISSING = -1


@final
class CategoryTypos(Anomaly):
    """Mistype 5, 10, 20, 35 and 50 % of the categories, as many as ``category_swap`` swaps at the same severity.

    A typo is one character left out, put in, put in another's place, or two neighbours transposed: each of the four
    is as likely where the name allows it, and so is every place and every character of its class (digit, capital,
    small letter). The outcome is read as a file's would be: mostly as a name not seen in training, now and then as
    another one, short codes most often. Names that training never saw stay unseen, missing ones missing.

    Source: Damerau 1964, Communications of the ACM 7(3) (four in five misspellings are one such slip).
    """

    reference: ClassVar[str] = "Damerau 1964, Communications of the ACM 7(3) (the four single slips)"
    shares: ClassVar[tuple[float, ...]] = (0.05, 0.10, 0.20, 0.35, 0.50)

    def columns(self, space: Table) -> list[int]:
        """The categories."""
        return [i for i in space.columns("category") if space.features[i].categories]

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Mistype each category with the share of this severity."""
        width = cells.shape[1]
        drawn = noise.derive("typo").uniform(ids, (width,))
        features = [space.features[i] for i in self.columns(space)]
        typed = torch.stack([_mistyped(cells[:, j], drawn[:, j], each) for j, each in enumerate(features)], dim=1)
        return torch.where(some_cells(ids, width, self.shares[severity - 1], noise), typed, cells)


def _mistyped(codes: Tensor, drawn: Tensor, feature: Feature) -> Tensor:
    """Read each category (n,) after one typo, by a number (n,) drawn from [0, 1)."""
    missing = names_of(pd.Series(list(feature.missing), dtype=object)).dropna()
    ends, landed = _table(feature.categories, frozenset(missing))
    unseen = len(feature.categories)
    row = codes.nan_to_num(0.0).clamp(0, unseen - 1).long()
    place = (drawn[:, None] >= ends.to(codes)[row]).sum(1)
    return torch.where(codes < unseen, landed.to(codes)[row, place], codes)


@lru_cache(maxsize=256)
def _table(names: tuple[str, ...], missing: frozenset[str]) -> tuple[Tensor, Tensor]:
    """Give for each name the ends (k, m) of its typos' shares of [0, 1), and what each is read as (k, m + 1).

    The last is the unseen code; NaN is missing.
    """
    codes = {name: code for code, name in enumerate(names)} | dict.fromkeys(missing, _MISSING)
    known = [_known(name, codes) for name in names]
    most, unseen = max(map(len, known)), len(names)
    ends, landed = torch.zeros((unseen, most)), torch.full((unseen, most + 1), float(unseen))
    for code, found in enumerate(known):
        shares = torch.tensor([*found.values(), *[0.0] * (most - len(found))])
        ends[code] = shares.cumsum(0)
        landed[code, : len(found)] = torch.tensor([torch.nan if each == _MISSING else each for each in found])
    return ends, landed


def _known(name: str, codes: dict[str, int]) -> dict[int, float]:
    """Give the chances that a typo of a name is read as each known code."""
    chances: dict[int, float] = {}
    kinds = [found for found in typos(name) if found]
    for found in kinds:
        for typo in found:
            if typo in codes:
                chances[codes[typo]] = chances.get(codes[typo], 0.0) + 1.0 / (len(kinds) * len(found))
    return chances


def typos(name: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """List what one slip makes of a name: a character left out, put in, replaced, two transposed.

    Repeats are kept, since each slip is as likely; a slip that leaves nothing, or all as it was, is none.
    """
    spots = range(len(name))
    left_out = [name[:i] + name[i + 1 :] for i in spots if len(name) > 1]
    beside = [name[max(i - 1, 0)] for i in range(len(name) + 1) if name]
    put_in = [name[:i] + each + name[i:] for i, near in enumerate(beside) for each in _class_of(near)]
    replaced = [name[:i] + each + name[i + 1 :] for i in spots for each in _class_of(name[i]) if each != name[i]]
    transposed = [
        name[:i] + second + first + name[i + 2 :] for i, (first, second) in enumerate(pairwise(name)) if first != second
    ]
    return left_out, put_in, replaced, transposed


def _class_of(character: str) -> str:
    """Give the characters that a finger may take for this one."""
    if character.isdigit():
        return string.digits
    return string.ascii_uppercase if character.isupper() else string.ascii_lowercase
