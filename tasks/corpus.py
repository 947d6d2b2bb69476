"""The regression corpus in files: what attacks broke a version with is kept, and handed to the versions that follow."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from holdfast.data import Samples
from holdfast.digests import digest_json
from holdfast.errors import DataError, RoleError
from holdfast.scenarios.corpus import Corpus, named_ids, none_yet, schema_of, successes
from holdfast.scenarios.probes.regression_corpus import RegressionCorpus
from holdfast.stores import write_atomically
from tasks.heldout import fault_of_rows_seen, rows_seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from holdfast.data.source import Loaded
    from holdfast.model import Target
    from holdfast.params import Params
    from holdfast.results import Json, ModelVersion
    from holdfast.stores import Stores


class Earlier(NamedTuple):
    """Successes of attacks on other versions, as this version reads them."""

    samples: Samples
    told: Json
    """How many are kept, how many were left out and why, and how many each attack found."""


def keeper(
    params: Params, stores: Stores, data: Loaded, target: Target, path: str
) -> Callable[[Samples, Tensor], None] | None:
    """Give what keeps the rows that an attack breaks a version with; None where params replay none.

    Nor is anything kept of a version that reads other features than the data set has.
    """
    told = params.evaluation.scenarios.get("probes", {}).get("regression_corpus")
    schema = _schema(data, target)
    if told is None or schema is None:
        return None
    replays = RegressionCorpus.model_validate(told)

    def keep(rows: Samples, adversarial: Tensor) -> None:
        named = dict(zip(data.ids.tolist(), data.digests.tolist(), strict=True))
        digests = np.array([named[row] for row in rows.ids.tolist()], dtype=np.int64)
        found = successes(schema, target.space, target.classes, rows, digests, adversarial, path, target.digest)
        folder = _folder(params, stores, schema) / path.replace("/", ".")
        held = _read(folder, none_yet(schema, data.space), replays.kept)
        _write(folder, held.corpus.with_more(found, replays.kept), held.files)

    return keep


def earlier(params: Params, stores: Stores, data: Loaded, target: Target, version: ModelVersion) -> Earlier | str:
    """Give what earlier versions fell for, in this version's codes, possible in its space; or say why there is none.

    Raises:
        DataError: a kept file is not what was written.
        StoreError: tracking or ledger do not answer.
    """
    schema = _schema(data, target)
    if schema is None:
        return "this version reads other features than the data set has"
    place = _folder(params, stores, schema)
    if not place.exists():
        others = place.parent.exists() and any(place.parent.iterdir())
        return (
            "the corpus is of another data set or schema; this one begins its own"
            if others
            else "no attack on an earlier version is kept"
        )
    if fault := fault_of_rows_seen(stores, version):
        return f"{_UNTOLD}: {fault}"
    try:
        seen = data.recognise(rows_seen(stores, version))
    except RoleError as error:
        return f"{_UNTOLD}: {error}"
    whole = none_yet(schema, data.space)
    for folder in sorted(each for each in place.iterdir() if each.is_dir()):
        whole = _read(folder, whole, _ALL).corpus
    kept = whole.earlier_than(target.digest, data.digests[~seen])  # of a row that is gone nothing can be told
    before, after, y = kept.encoded(target.space, target.classes)
    possible = target.space.feasible(after, before)
    ids = torch.from_numpy(named_ids(kept))
    if not bool(possible.any()):
        return f"none of {len(whole)} kept rows is an earlier version's and can exist here"
    shown = kept.take(possible.numpy())
    content = digest_json([data.digest, sorted(shown.content(subject=False))])
    samples = Samples(x=after[possible], y=y[possible], ids=ids[possible], role="test", snapshot=content)
    told = {
        "kept": len(whole), "own_or_perhaps_learned_from_or_double": len(whole) - len(kept),
        "cannot_exist": int((~possible).sum()),
        "attacks": {str(path): int((shown.paths == path).sum()) for path in sorted(set(shown.paths.tolist()))},
    }  # fmt: skip
    return Earlier(samples, told)


_ALL = 1 << 62
_UNTOLD = "which rows this version learned from cannot be told"


def _schema(data: Loaded, target: Target) -> str | None:
    """Name the data set, where the version reads it as it is now."""
    params = data.params
    now, own = (schema_of(params.path, params.label, s, c) for s, c in
                ((data.space, data.classes), (target.space, target.classes)))  # fmt: skip
    return now if now == own else None


def _folder(params: Params, stores: Stores, schema: str) -> Path:
    return stores.corpus / params.name / schema[:16]


class _Held(NamedTuple):
    """What files of one attack hold together, and which they are."""

    corpus: Corpus
    files: tuple[Path, ...]


def _read(folder: Path, start: Corpus, most: int) -> _Held:
    """Lay all files of one attack together with what is there already, verified by their names."""
    found, files = start, []
    for path in sorted(folder.glob("*.npz")):
        try:
            body = path.read_bytes()
        except FileNotFoundError:  # another process laid it together with others meanwhile
            continue
        if hashlib.sha256(body).hexdigest() != path.stem:
            raise DataError(
                str(path), found="other bytes than its name says", expected="a file of the regression corpus",
                remedy="Restore it from a backup, or delete it.",
            )  # fmt: skip
        found = found.with_more(Corpus.from_bytes(body, start.schema), most)
        files.append(path)
    return _Held(found, tuple(files))


def _write(folder: Path, corpus: Corpus, former: tuple[Path, ...]) -> None:
    """Keep one file in place of those that it was laid together from: a kill leaves some of them, and loses none.

    A file that another process wrote since these were read stays beside it; the next that writes lays both together.
    """
    if len(corpus) == 0:
        return
    body = corpus.to_bytes()
    path = folder / f"{hashlib.sha256(body).hexdigest()}.npz"
    if not path.exists():
        write_atomically(path, body)
    for each in former:
        if each != path:
            each.unlink(missing_ok=True)
