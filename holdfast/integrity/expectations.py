"""Rules put to Great Expectations: the only file that knows it, imported when first used since that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from holdfast.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Rule:
    """One expectation, by the name of its class, and what its failure means."""

    expectation: str
    """For example ``ExpectColumnValuesToBeInSet``."""
    arguments: dict[str, Any]
    about: str
    """The fault in words, for example ``state: not in the set``."""
    of_rows: bool
    """Whether a failure is of single rows, or of the whole table."""
    severity: Severity = "critical"


@dataclass(frozen=True)
class Answer:
    """What Great Expectations says of one rule."""

    rule: Rule
    met: bool
    observed: str = ""
    """The observed value, or how many rows fail."""
    rows: dict[int, object] = field(default_factory=dict)
    """Row position to offending value, for rules about rows."""


def ask(rules: Sequence[Rule], frame: pd.DataFrame) -> list[Answer]:
    """Put rules to a table whose index is the row's position.

    Returns:
        One answer for each rule, in order.

    Raises:
        IntegrityError: an expectation could not be evaluated; that is not the same as one that is met.
    """
    if not rules:
        return []
    context, batch_definition = _table()
    suite = _suite(rules)
    context.suites.add(suite)
    batch = batch_definition.get_batch(batch_parameters={"dataframe": frame})
    results = batch.validate(suite, result_format="COMPLETE").results
    by_number = {int(result.expectation_config.meta["rule"]): result for result in results}
    if sorted(by_number) != list(range(len(rules))):
        raise _unevaluated("the suite", f"{len(by_number)} results for {len(rules)} expectations")
    return [_answer(rule, by_number[number], frame) for number, rule in enumerate(rules)]


def write_docs(rules: Sequence[Rule], frame: pd.DataFrame, folder: Path) -> Path:
    """Validate once more, as a checkpoint, and write Great Expectations' Data Docs.

    Returns:
        The index page.
    """
    import great_expectations as gx  # noqa: PLC0415  takes 3 s
    from great_expectations.checkpoint.actions import UpdateDataDocsAction  # noqa: PLC0415  as above

    site = "integrity"
    context, batch_definition = _table()
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.absolute())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    context.add_data_docs_site(site, {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store})
    suite = context.suites.add(_suite(rules))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="integrity", data=batch_definition, suite=suite)
    )
    action = UpdateDataDocsAction(name="docs", site_names=[site])
    checkpoint = gx.Checkpoint(
        name="integrity", validation_definitions=[definition], result_format="SUMMARY", actions=[action]
    )
    context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    page = folder / "index.html"
    if not page.is_file():
        raise _unevaluated("Data Docs", f"no page at {page}")
    return page


def _table() -> tuple[Any, Any]:
    """Open a context that lives in memory, reports nothing to anyone and draws no progress bars."""
    import great_expectations as gx  # noqa: PLC0415  takes 3 s
    from great_expectations.data_context.types.base import (  # noqa: PLC0415  as above
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("snapshot")
    return context, asset.add_batch_definition_whole_dataframe("whole")


def _suite(rules: Sequence[Rule]) -> Any:  # noqa: ANN401  the library is untyped here
    import great_expectations as gx  # noqa: PLC0415  takes 3 s

    expectations = [
        getattr(gx.expectations, rule.expectation)(
            **rule.arguments, severity=rule.severity, meta={"rule": number, "about": rule.about}
        )
        for number, rule in enumerate(rules)
    ]
    return gx.ExpectationSuite(name="integrity", expectations=expectations)


def _answer(rule: Rule, result: Any, frame: pd.DataFrame) -> Answer:  # noqa: ANN401  the library is untyped here
    """Read one result; an expectation that raised has no index list, and must not be taken for "no bad rows".

    Values are read from the frame, since the library lists the first 200 of them only.
    """
    raised = result.exception_info or {}
    failed = raised.get("raised_exception") is True or any(
        isinstance(entry, dict) and entry.get("raised_exception") for entry in raised.values()
    )
    if failed:
        raise _unevaluated(rule.about, _message(raised))
    if result.success:
        return Answer(rule, met=True, observed=_observed(result))
    rows: dict[int, object] = {}
    if rule.of_rows:
        positions = [int(label) for label in result.result.get("unexpected_index_list") or []]
        if not positions or len(positions) != result.result.get("unexpected_count"):
            raise _unevaluated(rule.about, "a failed expectation that does not name its rows")
        asked = [rule.arguments[key] for key in ("column", "column_A", "column_B") if key in rule.arguments]
        values = frame[asked].iloc[positions].itertuples(index=False, name=None)
        rows = {at: value[0] if len(value) == 1 else value for at, value in zip(positions, values, strict=True)}
    return Answer(rule, met=False, observed=_observed(result), rows=rows)


def _observed(result: Any) -> str:  # noqa: ANN401  the library is untyped here
    value = result.result.get("observed_value")
    if value is not None:
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    count, total = result.result.get("unexpected_count"), result.result.get("element_count")
    return "absent" if count is None else f"{count} of {total} rows"


def _message(raised: dict[str, Any]) -> str:
    entries = [raised, *(entry for entry in raised.values() if isinstance(entry, dict))]
    texts = [str(entry["exception_message"]) for entry in entries if entry.get("exception_message")]
    return texts[0].splitlines()[0] if texts else "an exception without a message"


def _unevaluated(where: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"schema check, {where}",
        found=found,
        expected="an expectation that can be evaluated",
        remedy="Mend the column's declaration in params.yaml or the data's types; nothing has passed.",
    )
