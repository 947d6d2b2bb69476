"""The audit: whether the chain is whole, whether the alias shows what the ledger says, and what each version was."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from holdfast.digests import digest_json
from holdfast.errors import LedgerError
from holdfast.recovery.ledger import CROWNING, ChampionHead
from holdfast.recovery.promotion import Promotion, disagreement, read_promotion, show
from holdfast.results import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from holdfast.recovery.chain import ChainReport
    from holdfast.recovery.ledger import Ledger, LedgerTransaction, LedgerView
    from holdfast.recovery.promotion import Projection

Standing = Literal["champion", "in_flight", "condemned", "former", "undone", "registered"]


class VersionRecord(Value):
    """What the ledger knows of one version."""

    version: int
    digest: str
    status: Standing
    at: datetime
    """When the ledger last had something to say of it."""


class AuditReport(Value):
    """The ledger against itself and against the alias. Nothing is well unless ``problems`` is empty."""

    model: str
    chain_valid: bool
    chain_length: int
    chain_head: str
    champion: ChampionHead | None
    """Of a broken chain always None, and then it says nothing."""
    alias_version: int | None
    agrees: bool
    in_flight: tuple[Promotion, ...]
    problems: tuple[str, ...]
    versions: tuple[VersionRecord, ...]


def checked_champion(
    ledger: Ledger, projection: Projection, model: str, *, expected_heads: Collection[str] = ()
) -> ChampionHead | None:
    """Resolve the champion, as every loader must: from a whole chain, and only when the alias agrees.

    None only when a ledger that answered has no champion and a registry that answered has no alias. The caller
    still has to find the champion's digest in the bytes.

    Args:
        ledger: the authority.
        projection: the alias.
        model: registered model.
        expected_heads: chain heads that were kept elsewhere (the versions' tags); without them a table that was
            rewritten as a whole is believed.

    Raises:
        ProjectionError: the alias disagrees; an alert is in the ledger, one for each disagreement.
        LedgerError: the ledger was tampered with.
        StoreError: ledger or registry do not answer.
    """
    with ledger.reading() as view:  # one snapshot: the champion that is given is on the chain that was walked
        view.require_whole(expected_heads=expected_heads)
        head = view.head(model)
    if projection.read(model) == _version(head):
        return head
    refusal = None
    with ledger.writing() as transaction:  # a promotion on its way is waited for, and then agrees
        transaction.require_whole(expected_heads=expected_heads)
        head = transaction.head(model)
        refusal = disagreement(transaction, model, head, projection.read(model))
    if refusal is not None:
        raise refusal
    return head


def reconcile(
    ledger: Ledger, projection: Projection, model: str, *, expected_heads: Collection[str] = ()
) -> AuditReport:
    """Verify the chain and compare it with the alias, changing nothing.

    Args:
        ledger: the authority.
        projection: the alias.
        model: registered model.
        expected_heads: chain heads that were kept elsewhere (versions' tags, a report); without them a table that
            was rewritten as a whole looks sound.

    Raises:
        StoreError: ledger or registry do not answer.
    """
    chain = ledger.verify(expected_heads=expected_heads)
    if not chain.valid:
        return _broken(chain, model, projection.read(model))
    with ledger.reading() as view:
        report = _compare(view, chain, model, projection.read(model))
    if report.agrees:
        return report
    with ledger.writing() as transaction:  # a promotion on its way is waited for
        return _compare(transaction, chain, model, projection.read(model))


def repair(
    ledger: Ledger, projection: Projection, model: str, *, who: str, why: str, accept_outside: bool = False
) -> AuditReport:
    """End a disagreement: show the ledger's champion again, or accept the outside move as a person's decision.

    Either way the disagreement is on record before anything moves. Where both agree, nothing is done.

    Args:
        ledger: the authority.
        projection: the alias.
        model: registered model.
        who: the person who decides.
        why: the person's reason.
        accept_outside: make the version that the alias names champion, in this person's name.

    Raises:
        LedgerError: the chain is broken, a promotion is in flight, or the accepted version has no recorded digest.
        ProjectionError: the alias does not take the version.
        StoreError: ledger or registry do not answer.
    """
    with ledger.reading() as view:
        view.require_whole()
    with ledger.writing() as transaction:
        _refuse_in_flight(transaction, model)
        disagreement(transaction, model, transaction.head(model), projection.read(model))
    with ledger.writing() as transaction:
        _refuse_in_flight(transaction, model)
        head, alias = transaction.head(model), projection.read(model)
        if alias != _version(head) and accept_outside:
            _accept(transaction, model, head, alias, who, why)
        elif alias != _version(head):
            body = {"alias": alias, "champion": _version(head), "why": why}
            transaction.append("projected", who=who, model=model, version=_version(head), body=body)
            show(projection, model, _version(head))
    return reconcile(ledger, projection, model)


def _refuse_in_flight(transaction: LedgerTransaction, model: str) -> None:
    for pending in transaction.in_flight(model):
        raise LedgerError(
            f"repair of {model}",
            found=f"promotion {pending.promotion} of version {pending.version} in flight",
            expected="none in flight",
            remedy="Let the next start finish or undo it first.",
        )


def _accept(
    transaction: LedgerTransaction, model: str, head: ChampionHead | None, alias: int | None, who: str, why: str
) -> None:
    digest = None if alias is None else transaction.digest(model, alias)
    if alias is not None and digest is None:
        raise LedgerError(
            f"repair of {model}",
            found=f"an alias on version {alias}, of which the ledger has no digest",
            expected="a registered version, whose bytes can be verified",
            remedy="Register the version first, or repair without accepting the move.",
        )
    seq, tip = transaction.tip()
    transaction.append(
        "outside_move",
        who=who,
        model=model,
        version=alias,
        promotion=digest_json([model, alias, seq, tip]),
        body={
            "digest": digest,
            "previous": None if head is None else head.reference().model_dump(mode="json"),
            "why": why,
        },
    )


def _compare(view: LedgerView, chain: ChainReport, model: str, alias: int | None) -> AuditReport:
    head = view.head(model)
    pending = tuple(view.in_flight(model))
    problems = [f"promotion {entry.promotion} of version {entry.version} is in flight" for entry in pending]
    if alias != _version(head):
        problems.append(f"the alias names version {alias}, the ledger's champion is version {_version(head)}")
    if head is not None and head.version in view.condemned(model):
        problems.append(f"the champion, version {head.version}, was judged bad")
    return AuditReport(
        model=model,
        chain_valid=True,
        chain_length=chain.length,
        chain_head=chain.head,
        champion=head,
        alias_version=alias,
        agrees=alias == _version(head),
        in_flight=tuple(read_promotion(entry) for entry in pending),
        problems=tuple(problems),
        versions=tuple(_versions(view, model, head)),
    )


def _broken(chain: ChainReport, model: str, alias: int | None) -> AuditReport:
    return AuditReport(
        model=model,
        chain_valid=False,
        chain_length=chain.length,
        chain_head=chain.head,
        champion=None,
        alias_version=alias,
        agrees=False,
        in_flight=(),
        problems=(str(chain.problem),),
        versions=(),
    )


def _versions(view: LedgerView, model: str, head: ChampionHead | None) -> Iterator[VersionRecord]:
    """Fold the entries into one record for each version whose digest is known; the strongest standing is given."""
    digests: dict[int, str] = {}
    times: dict[int, datetime] = {}
    undone: set[int] = set()
    former: set[int] = set()
    telling = ("registered", "intent", "undone", "condemned", "cleared", *CROWNING)
    for entry in view.entries(model=model, kinds=telling):
        if entry.version is None:
            continue
        digests.setdefault(entry.version, str(entry.body["digest"]))
        times[entry.version] = entry.at
        if entry.kind in CROWNING:
            former.add(entry.version)
            if left := entry.body.get("previous"):  # whose reign ended there, or who was judged by it
                times[int(left["version"])] = entry.at
        elif entry.kind == "undone":
            undone.add(entry.version)
    standings: tuple[tuple[Standing, frozenset[int] | set[int]], ...] = (
        ("champion", set() if head is None else {head.version}),
        ("in_flight", {entry.version for entry in view.in_flight(model) if entry.version is not None}),
        ("condemned", view.condemned(model)),
        ("former", former),
        ("undone", undone),
    )
    for version in sorted(digests):
        status = next((name for name, members in standings if version in members), "registered")
        yield VersionRecord(version=version, digest=digests[version], status=status, at=times[version])


def _version(head: ChampionHead | None) -> int | None:
    return None if head is None else head.version
