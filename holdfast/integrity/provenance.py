"""Provenance: the bytes are the pinned bytes, and the columns are the columns agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from holdfast.digests import digest_json
from holdfast.integrity.base import Faults, IntegrityCheck, Material

if TYPE_CHECKING:
    import pandas as pd


def schema_version(frame: pd.DataFrame) -> str:
    """Name a table's schema: the first 12 hex digits of the digest of its columns' names and types, in order."""
    return digest_json([[str(name), str(dtype)] for name, dtype in frame.dtypes.items()])[:12]


@final
class Provenance(IntegrityCheck):
    """Hold the md5 of the data against the pinned one, and the schema's version against the declared one.

    What is not known is a fault: a file without a pin has no provenance.
    """

    about_origin: ClassVar[bool] = True
    on_fault: Literal["block"] = "block"
    schema_version: str | None = None
    """Version that the table must have, as ``schema_version`` of this module names it; None asks for none."""

    def look(self, material: Material) -> Faults:
        """Compare what was found with what was pinned."""
        found, pinned = (material.provenance.get(key) or "unknown" for key in ("md5", "expected_md5"))
        version = schema_version(material.frame)
        whole = []
        if "unknown" in {found, pinned} or found != pinned:
            whole.append(f"the md5 of the data is {found}, the pinned one {pinned}")
        if self.schema_version is not None and self.schema_version != version:
            whole.append(f"the schema's version is {version}, the declared one {self.schema_version}")
        return Faults(whole=tuple(whole), note=f"md5 {found} as pinned, schema version {version}")
