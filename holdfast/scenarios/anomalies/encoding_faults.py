"""Encoding faults: a file that is read by another character set and another locale than it was written by."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import torch

from holdfast.scenarios.anomalies.base import Anomaly, some_columns

if TYPE_CHECKING:
    from torch import Tensor

    from holdfast.seeding import Noise
    from holdfast.space import Feature, Table

_THOUSANDS = tuple(10.0 ** (3 * k) for k in range(1, 13))
"""Powers of 1000 up to the largest float32."""


@final
class EncodingFaults(Anomaly):
    """Misread 1 to 5 columns of each row, by severity, as text of another character set and another locale.

    Numbers were written as in much of Europe, 1.234,56, and are read by a parser that knows the decimal point alone and
    stops at what it does not understand, as C's ``strtod`` and JavaScript's ``parseFloat`` do: 12,5 becomes 12, and
    1.234.567 becomes 1.234. Whole numbers below 1000 come through. Names were written in UTF-8 and are read in
    Windows-1252: a name with a letter beyond ASCII becomes one that training never saw, unless training saw it so
    spelled. Columns whose names are all ASCII cannot be hit.

    Source: ISO C (C99, 1999), section 7.20.1.3 (``strtod``: the longest initial part that is a number); The Unicode
    Standard 15.0 (2022), section 3.9 (UTF-8).
    """

    reference: ClassVar[str] = "ISO/IEC 9899:1999 (C99), section 7.20.1.3 (strtod); Unicode Standard 15.0 (2022), 3.9"

    def columns(self, space: Table) -> list[int]:
        """The numbers, and the categories with a name beyond ASCII."""
        strange = [i for i in space.columns("category") if not all(n.isascii() for n in space.features[i].categories)]
        return space.columns("number") + strange

    def derange(self, cells: Tensor, ids: Tensor, severity: int, noise: Noise, space: Table) -> Tensor:
        """Misread as many columns as the severity says."""
        numbers = len(space.columns("number"))
        names = [_misread(cells[:, j], space.features[i]) for j, i in enumerate(self.columns(space)) if j >= numbers]
        read = torch.cat([as_parsed(cells[:, :numbers]), *[each[:, None] for each in names]], dim=1)
        return torch.where(some_columns(ids, cells.shape[1], severity, noise), read, cells)


def as_parsed(x: Tensor) -> Tensor:
    """Read numbers written as 1.234,56 up to the first character that is part of no number with a decimal point."""
    whole = x.abs().double().trunc()
    powers = torch.tensor(_THOUSANDS, dtype=whole.dtype, device=whole.device)
    groups = (whole[..., None] >= powers).sum(-1)  # points that were written
    # The first point is read as the decimal one, and the second ends the number: three digits follow the first.
    beyond = torch.cat([powers.new_ones(2), powers])[groups]
    leading = (whole / beyond).floor()
    return (x.sign() * torch.where(groups > 0, leading / _THOUSANDS[0], leading)).to(x.dtype)


def _misread(codes: Tensor, feature: Feature) -> Tensor:
    """Read the names of codes (n,) written in UTF-8 as Windows-1252; unseen and missing ones stay."""
    known = {name: code for code, name in enumerate(feature.categories)}
    unseen = len(known)
    read = [known.get(each.encode().decode("cp1252", errors="replace"), unseen) for each in feature.categories]
    table = torch.tensor([*read, unseen], dtype=codes.dtype, device=codes.device)
    return torch.where(codes.isnan(), codes, table[codes.nan_to_num(0.0).clamp(0, unseen).long()])
