"""Data in memory: rows with ids, labels and one role, and nothing that forgets which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from holdfast.errors import RoleError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from holdfast.results import Role


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows of one role.

    ``x`` (n, *shape) float32 in raw units; ``y`` (n,) int64; ``ids`` (n,) int64, from each row's digest;
    ``time`` (n,) float64 or None; ``snapshot`` names the data they came from.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    role: Role
    snapshot: str
    time: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> Samples:
        """Select rows by index (m,) or mask (n,)."""
        time = None if self.time is None else self.time[index]
        return replace(self, x=self.x[index], y=self.y[index], ids=self.ids[index], time=time)

    def to(self, device: torch.device) -> Samples:
        """Move the tensors."""
        time = None if self.time is None else self.time.to(device)
        return replace(self, x=self.x.to(device), y=self.y.to(device), ids=self.ids.to(device), time=time)

    def require(self, *roles: Role) -> Samples:
        """Give the rows back, if their role is one of these.

        Raises:
            RoleError: they hold another role.
        """
        if self.role not in roles:
            raise RoleError(
                f"snapshot {self.snapshot[:16]}",
                found=f"rows of role {self.role}",
                expected=" or ".join(roles),
                remedy="Load the role that this stage may use; roles never mix.",
            )
        return self
