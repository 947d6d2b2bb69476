"""The promotion saga: intent, alias, read back, done; whatever was killed, the next start finishes or undoes it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from holdfast.digests import digest_json
from holdfast.errors import LedgerError, ProjectionError
from holdfast.recovery.ledger import CROWNING
from holdfast.results import Json, ModelVersion, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.recovery.chain import Entry
    from holdfast.recovery.ledger import ChampionHead, Ledger, LedgerTransaction, LedgerView
    from holdfast.results import Decision

Action = Literal["promote", "rollback"]
Status = Literal["in_flight", "done", "undone"]


class Projection(Protocol):
    """Where the champion is shown to the world, the registry's alias: set from the ledger, never believed over it.

    Writing what is already there must change nothing. Raise `StoreError` when the registry does not answer.
    """

    def read(self, model: str) -> int | None:
        """Tell the version that the alias names; None only when a registry that answered has no alias."""
        ...

    def write(self, model: str, version: int | None) -> None:
        """Set the alias, or with None remove it."""
        ...


class Promotion(Value):
    """One promotion or rollback, as far as the ledger saw it."""

    promotion: str
    action: Action
    candidate: ModelVersion
    previous: ModelVersion | None
    """Champion before it, to which *undone* returns."""
    status: Status
    who: str
    why: str
    evidence: tuple[str, ...]
    at: datetime
    """When it was intended, or ended."""
    seq: int


def read_promotion(intent: Entry, settled: Entry | None = None) -> Promotion:
    """Read a promotion off its intent and, where it has ended, the entry that ended it."""
    body = intent.body
    latest = settled or intent
    return Promotion.model_validate(
        {
            "promotion": intent.promotion,
            "action": body["action"],
            "candidate": _candidate(intent),
            "previous": body["previous"],
            "status": "in_flight" if settled is None else settled.kind,
            "who": intent.who,
            "why": body["why"],
            "evidence": body["evidence"],
            "at": latest.at,
            "seq": latest.seq,
        }
    )


def register(ledger: Ledger, version: ModelVersion, *, who: str, lineage: Json) -> Entry:
    """Record once that a version came to be, and from what.

    Args:
        ledger: where to.
        version: the version with the digest of its bytes.
        who: what made it.
        lineage: data, code, params, parent, seeds: any JSON object.

    Raises:
        LedgerError: this version is recorded already with another digest or lineage.
    """
    body = {"digest": version.digest, "source": version.source, "run_id": version.run_id, "lineage": lineage}
    key = f"registered:{version.name}:{version.version}"
    return ledger.append("registered", who=who, model=version.name, version=version.version, body=body, key=key)


def condemn(ledger: Ledger | LedgerTransaction, version: ModelVersion, *, who: str, why: str) -> Entry:
    """Judge a version bad: it is no target of a rollback, and cannot be promoted until it is cleared."""
    return _judge(ledger, "condemned", version, who, why)


def clear(ledger: Ledger, version: ModelVersion, *, who: str, why: str) -> Entry:
    """Take a judgement back, in a named person's name."""
    return _judge(ledger, "cleared", version, who, why)


def _judge(
    ledger: Ledger | LedgerTransaction, kind: Literal["condemned", "cleared"], version: ModelVersion, who: str, why: str
) -> Entry:
    body = {"digest": version.digest, "why": why}
    return ledger.append(kind, who=who, model=version.name, version=version.version, body=body)


def promote(
    ledger: Ledger,
    projection: Projection,
    decision: Decision,
    *,
    expected: str | None,
    who: str,
    why: str,
    evidence: Sequence[str] = (),
) -> Promotion:
    """Make a decision's candidate champion: a promotion, or a rollback to a former champion.

    Every step may be taken twice: called again with the same arguments, after an error or a kill, it goes on where
    it stopped, and when all is done it changes nothing.

    Args:
        ledger: the authority.
        projection: the alias, its projection.
        decision: with action ``promote`` or ``rollback``, the candidate, and the champion that it was compared with.
        expected: ``promotion`` of the head that the caller believes in, None for no champion: the compare-and-set.
        who: the person or flow that acts.
        why: one line for the record.
        evidence: digests beside those of the decision.

    Raises:
        LedgerError: the chain is broken, the head is not the expected one, another promotion is in flight, or the
            candidate may not become champion. Nothing was changed.
        ProjectionError: the alias was moved from outside, or did not take the version.
        StoreError: ledger or registry do not answer; if the intent was written, `recover` ends it.
    """
    candidate = decision.candidate
    if candidate is None or decision.action not in ("promote", "rollback"):
        raise _refused("ledger", f"a decision to {decision.action}", "promote or rollback, with a candidate")
    with ledger.reading() as view:
        view.require_whole()
    asked = {
        "action": decision.action,
        "digest": candidate.digest,
        "source": candidate.source,
        "run_id": candidate.run_id,
        "expected": expected,
        "decision": decision.model_dump(mode="json"),
        "evidence": sorted({*decision.evidence, *evidence}),
        "why": why,
    }
    with ledger.writing() as transaction:
        intent = _begin(transaction, projection, decision, candidate, asked, who)
    if isinstance(intent, ProjectionError):  # raised only now, when its alert is committed
        raise intent
    promotion = settle(ledger, projection, intent, finish=True, who=who)
    if promotion.status == "undone":
        raise _refused(candidate.name, "this promotion undone by a recovery", "no recovery in between")
    return promotion


def recover(
    ledger: Ledger, projection: Projection, still_good: Callable[[ModelVersion], bool], *, who: str
) -> tuple[Promotion, ...]:
    """End every promotion that a kill or an outage left in flight: to be called first at each start.

    Safe while the owner of a promotion still lives: alias and end of a promotion move only under the ledger's lock,
    and whoever comes second finds it ended.

    Args:
        ledger: the authority.
        projection: the alias.
        still_good: whether a candidate's bytes are there and have their digest. It raises when it cannot tell.
        who: the person or flow that acts.

    Raises:
        LedgerError: the chain is broken.
        ProjectionError: the alias does not take the version.
        StoreError: ledger or registry do not answer. What is in flight stays so.
    """
    with ledger.reading() as view:
        view.require_whole()
        intents = tuple(view.in_flight())
    return tuple(
        settle(ledger, projection, intent, finish=still_good(_candidate(intent)), who=who) for intent in intents
    )


def settle(ledger: Ledger, projection: Projection, intent: Entry, *, finish: bool, who: str) -> Promotion:
    """Set the alias, read it back and end the promotion, all under the lock; undo it where ``finish`` is false."""
    _note_stranger(ledger, projection, intent, who)
    with ledger.writing() as transaction:
        settled = _end(transaction, intent)
        if settled is None:
            head = transaction.head(intent.model)
            previous = None if head is None else head.version
            version = intent.version if finish else previous
            show(projection, intent.model, version)
            body = {name: intent.body[name] for name in ("action", "digest", "previous")}
            settled = transaction.append(
                "done" if finish else "undone",
                who=who,
                model=intent.model,
                version=intent.version,
                promotion=intent.promotion,
                key=f"settled:{intent.promotion}",  # one key for both ends: a promotion has one
                body=body,
            )
    return read_promotion(intent, settled)


def show(projection: Projection, model: str, version: int | None) -> None:
    """Set the alias and read it back.

    Raises:
        ProjectionError: the alias did not take the version.
    """
    projection.write(model, version)
    found = projection.read(model)
    if found != version:
        raise ProjectionError(
            f"champion alias of {model}",
            found=f"{_alias(found)} right after it was set",
            expected=_alias(version),
            remedy="Find out who else moves the alias; the next start ends what is in flight.",
        )


def disagreement(
    transaction: LedgerTransaction, model: str, head: ChampionHead | None, alias: int | None
) -> ProjectionError | None:
    """Compare alias and head; append one alert for each disagreement, and give the error for the caller to raise.

    It is given and not raised, because the alert must be committed first.
    """
    expected = None if head is None else head.version
    if alias == expected:
        return None
    pending = next(transaction.in_flight(model), None)
    moves = transaction.entries(model=model, kinds=(*CROWNING, "undone", "projected"), backwards=True)
    since = next((entry.seq for entry in moves), 0)  # the same wrong alias after a repair is another disagreement
    key = f"alert:alias:{model}:{since}:{alias}"
    transaction.append(
        "alert",
        who="holdfast",
        model=model,
        version=alias,
        # The same alias moved by hand, put back, and then set by a promotion that was killed, is another one too.
        key=key if pending is None else f"{key}:{pending.promotion}",
        body={
            "about": "the champion alias disagrees with the ledger",
            "alias": alias,
            "champion": expected,
            "in_flight": None if pending is None else pending.promotion,
        },
    )
    remedy = "Run `holdfast audit --repair`, or accept the move in a person's name."
    if pending is not None and pending.version == alias:
        remedy = "A promotion was interrupted: `holdfast run` finishes or undoes it at its start."
    return ProjectionError(
        f"champion alias of {model}",
        found=_alias(alias),
        expected=f"{_alias(expected)}, as the ledger says",
        remedy=remedy,
    )


def _candidate(intent: Entry) -> ModelVersion:
    body = intent.body
    return ModelVersion(
        name=intent.model,
        version=int(intent.version or 0),
        digest=body["digest"],
        source=body["source"],
        run_id=body["run_id"],
    )


def _begin(
    transaction: LedgerTransaction,
    projection: Projection,
    decision: Decision,
    candidate: ModelVersion,
    asked: Json,
    who: str,
) -> Entry | ProjectionError:
    head = transaction.head(candidate.name)
    begun = _begun(transaction, candidate, asked, head)
    if begun is not None:
        return begun
    _check(transaction, decision, candidate, asked["expected"], head)
    refusal = disagreement(transaction, candidate.name, head, projection.read(candidate.name))
    return refusal or _intend(transaction, candidate, asked, head, who)


def _begun(
    transaction: LedgerTransaction, candidate: ModelVersion, asked: Json, head: ChampionHead | None
) -> Entry | None:
    """Find the intent that this very call wrote before, when it was interrupted or has become the head."""
    intents = list(transaction.in_flight(candidate.name))
    if head is not None:
        intents += transaction.entries(promotion=head.promotion, kinds=("intent",))
    for intent in intents:
        if intent.version == candidate.version and asked.items() <= intent.body.items():
            return intent
    return None


def _check(
    view: LedgerView, decision: Decision, candidate: ModelVersion, expected: str | None, head: ChampionHead | None
) -> None:
    """Refuse what may not become champion now; the first reason is given."""
    model = candidate.name
    for pending in view.in_flight(model):
        raise _refused(model, f"promotion {pending.promotion} of version {pending.version} in flight", "none in flight")
    found = None if head is None else head.promotion
    if found != expected:
        raise _refused(model, f"promotion {found} as the head", f"promotion {expected}: the champion has changed")
    compared = decision.champion
    believed = None if compared is None else (compared.name, compared.version, compared.digest)
    actual = None if head is None else (head.model, head.version, head.digest)
    if believed != actual:
        raise _refused(model, f"a decision against champion {believed}", f"one against champion {actual}")
    if head is not None and head.version == candidate.version:
        raise _refused(model, f"version {candidate.version}, which is champion already", "another version")
    recorded = view.digest(model, candidate.version)
    if recorded not in (None, candidate.digest):
        raise _refused(model, f"digest {candidate.digest}", f"{recorded}, as version {candidate.version} was recorded")
    bad = view.judged_bad(candidate)
    if bad == candidate.version or (bad is not None and decision.action != "rollback"):
        raise _refused(model, f"bytes of version {bad}, which was judged bad", "a version that nobody condemned")
    if decision.action == "rollback" and not _reigned(view, candidate):
        raise _refused(model, f"a rollback to version {candidate.version}", "a former champion with these bytes")


def _reigned(view: LedgerView, version: ModelVersion) -> bool:
    reigns = view.entries(model=version.name, version=version.version, kinds=CROWNING)
    return any(entry.body["digest"] == version.digest for entry in reigns)


def _intend(
    transaction: LedgerTransaction, candidate: ModelVersion, asked: Json, head: ChampionHead | None, who: str
) -> Entry:
    seq, tip = transaction.tip()
    previous = None if head is None else head.reference().model_dump(mode="json")
    return transaction.append(
        "intent",
        who=who,
        model=candidate.name,
        version=candidate.version,
        promotion=digest_json([candidate.name, candidate.version, seq, tip]),
        body={**asked, "previous": previous},
    )


def _end(view: LedgerView, intent: Entry) -> Entry | None:
    return next(view.entries(promotion=intent.promotion, kinds=("done", "undone")), None)


def _note_stranger(ledger: Ledger, projection: Projection, intent: Entry, who: str) -> None:
    """Record an alias that neither champion nor candidate explains, before the saga writes over it."""
    with ledger.writing() as transaction:
        if _end(transaction, intent) is not None:
            return
        head, found = transaction.head(intent.model), projection.read(intent.model)
        if found not in (intent.version, None if head is None else head.version):
            transaction.append(
                "alert",
                who=who,
                model=intent.model,
                version=found,
                promotion=intent.promotion,
                key=f"alert:in_flight:{intent.promotion}:{found}",
                body={"about": "the alias was moved from outside during a promotion", "alias": found},
            )


def _alias(version: int | None) -> str:
    return "no alias" if version is None else f"version {version}"


def _refused(model: str, found: str, expected: str) -> LedgerError:
    remedy = "Nothing was changed. Read `holdfast audit`, let the next start end what is in flight, and decide again."
    return LedgerError(f"promotion of {model}", found=found, expected=expected, remedy=remedy)
