"""Laws that cross every registered scenario about a model: a new file is held to them before it has tests."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import random
import re

import numpy as np
import pytest
import torch

import holdfast.scenarios
from holdfast.errors import RoleError
from holdfast.registry import available, class_name, find
from holdfast.results import Finding
from holdfast.scenarios.base import OnModel, Scenario, choose

SMALL = {
    "points": 1000, "steps": 3, "queries": 12, "restarts": 1, "targets": 2, "flips": 3, "selections": 6, "draws": 100,
    "min_rows": 1, "searches": 3, "samples": 4,
}  # fmt: skip
FAMILIES = [m.name for m in pkgutil.iter_modules(holdfast.scenarios.__path__) if m.ispkg]
EVERY = [
    find(f"holdfast.scenarios.{family}", name, Scenario)
    for family in FAMILIES
    for name in available(f"holdfast.scenarios.{family}")
]
SCENARIOS = [scenario for scenario in EVERY if issubclass(scenario, OnModel)]
CASES = [pytest.param(s, kind, id=f"{s.name()}-{kind}") for s in SCENARIOS for kind in sorted(s.kinds)]
by_class = pytest.mark.parametrize("scenario", [pytest.param(s, id=s.name()) for s in SCENARIOS])
by_case = pytest.mark.parametrize(("scenario", "kind"), CASES)


def small(scenario):
    return scenario(**{name: value for name, value in SMALL.items() if name in scenario.model_fields})


def essence(finding):
    """All of a finding but what it took."""
    return finding.model_dump(mode="json", exclude={"cost"})


def flags_by_id(finding, samples, context):
    """Flag of each row; the finding lists them in the order of the seeded choice."""
    chosen = choose(samples, SMALL["points"], context.seed)
    return dict(zip(chosen.ids.tolist(), finding.per_example.unpack_flags().tolist(), strict=True))


def test_the_families_are_found():
    """The laws below cross what ships: at least these."""
    names = {scenario.name() for scenario in SCENARIOS}
    assert names >= {
        "corruptions/gaussian_noise", "corruptions/motion_blur", "corruptions/brightness", "corruptions/contrast",
        "corruptions/jpeg", "anomalies/missing_values", "anomalies/unit_slip", "anomalies/stuck_sensor",
        "anomalies/category_swap", "drift/later_years", "drift/rotation", "faults/weight_bitflip",
        "faults/progressive_bit_search", "faults/activation_bitflip", "faults/stuck_neurons",
        "faults/quantisation", "faults/nan_injection", "faults/dropped_tensors",
        "certificates/randomized_smoothing", "probes/quality", "probes/calibration",
    }  # fmt: skip


@by_case
def test_one_seed_gives_one_result_in_any_order_of_rows(scenario, kind, build, context):
    """Asked again, and with the rows reversed, every scenario finds the same, down to the last digit."""
    target, samples = build(kind)
    first, again = (essence(small(scenario).run(target, samples, context)) for _ in range(2))
    backwards = samples.take(torch.arange(len(samples) - 1, -1, -1))
    assert first["score"] is not None, first["unscored"]
    assert again == first
    assert essence(small(scenario).run(target, backwards, context)) == first


@by_case
def test_another_shard_changes_no_flag(scenario, kind, build, context):
    """Rows asked in shards of 1, 11 and the rest get the flags that they get together."""
    target, samples = build(kind)
    whole = small(scenario).run(target, samples, context)
    if whole.per_example is None:
        pytest.skip("it has no flags: it is a statistic of all rows together")
    parts = {}
    for shard in torch.arange(len(samples)).tensor_split([1, 12]):
        part = samples.take(shard)
        parts |= flags_by_id(small(scenario).run(target, part, context), part, context)
    assert parts == flags_by_id(whole, samples, context)


@by_case
def test_model_and_rows_come_back_untouched(scenario, kind, build, context):
    """Weights, buffers, modes and rows are bit for bit what they were."""
    target, samples = build(kind)
    state = {name: tensor.clone() for name, tensor in target.module.state_dict().items()}
    buffers = {name: tensor.clone() for name, tensor in target.module.named_buffers()}
    before = [tensor.clone() for tensor in (samples.x, samples.y, samples.ids, samples.time)]
    small(scenario).run(target, samples, context)
    assert all(same_bits(tensor, state[name]) for name, tensor in target.module.state_dict().items())
    assert all(same_bits(tensor, buffers[name]) for name, tensor in target.module.named_buffers())
    assert not any(module.training for module in target.module.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in target.module.parameters())
    after = (samples.x, samples.y, samples.ids, samples.time)
    assert all(same_bits(new, old) for new, old in zip(after, before, strict=True))
    assert not samples.x.requires_grad


def same_bits(new, old):
    return new.dtype == old.dtype and new.numpy().tobytes() == old.numpy().tobytes()


@by_case
def test_only_its_own_generator_is_drawn_from(scenario, kind, build, context):
    """The global generators of torch, NumPy and Python stand where they stood, and do not matter."""
    target, samples = build(kind)
    first = essence(small(scenario).run(target, samples, context))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        np.random.seed(123)  # noqa: NPY002  the global state is what this is about
        random.seed(123)
        states = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002  likewise
        second = essence(small(scenario).run(target, samples, context))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002  likewise
        assert random.getstate() == states[2]
    assert second == first


@by_case
def test_settings_and_findings_survive_json(scenario, kind, build, context):
    """What is written can be read, and is the same."""
    target, samples = build(kind)
    settings = small(scenario)
    finding = settings.run(target, samples, context, path=f"{scenario.name()}-variant")
    assert scenario.model_validate_json(settings.model_dump_json()) == settings
    assert Finding.model_validate_json(finding.model_dump_json()) == finding
    assert (finding.path, finding.settings) == (f"{scenario.name()}-variant", settings.settings)


@by_case
def test_no_rows_are_unscored_with_a_reason(scenario, kind, build, context):
    """Nothing to measure is said, and is no number."""
    target, samples = build(kind)
    finding = scenario().run(target, samples.take(torch.arange(0)), context)
    assert finding.score is None
    assert "rows" in finding.unscored


@by_class
def test_another_space_is_unscored_with_a_reason(scenario, build, context):
    """A scenario says where it means nothing; it never guesses."""
    for kind in {"box", "table"} - scenario.kinds:
        finding = scenario().run(*build(kind), context)
        assert finding.score is None
        assert kind in finding.unscored


@by_case
def test_rows_of_another_role_are_refused(scenario, kind, build, context):
    """Training rows never reach a scenario."""
    with pytest.raises(RoleError):
        scenario().run(*build(kind, role="train"), context)


@by_class
def test_another_seed_is_another_question(scenario, build):
    """The seed is part of a finding's key, and so is every setting."""
    from holdfast.scenarios.base import Context  # noqa: PLC0415  the fixture of this name is one seed

    kind = min(scenario.kinds)
    target, samples = build(kind)
    keys = {small(scenario).run(target, samples, Context(seed=seed)).key for seed in (1, 2)}
    keys.add(small(scenario).model_copy(update={"points": 999}).run(target, samples, Context(seed=1)).key)
    assert len(keys) == 3


@pytest.mark.parametrize("scenario", [pytest.param(s, id=s.name()) for s in EVERY])
def test_the_file_says_what_it_is(scenario):
    """The class is named as its file, final, documented, cites its source, and all its settings have defaults."""
    stem = scenario.__module__.rsplit(".", 1)[-1]
    assert scenario.__name__ == class_name(stem)
    assert getattr(scenario, "__final__", False)
    assert not inspect.isabstract(scenario)
    assert scenario.__doc__
    assert re.search(r"\b(19|20)\d\d\b", scenario.reference)
    assert scenario() == scenario()
    assert scenario.dimension in {"robustness", "defence", "recovery", "evolution"}
    with pytest.raises(ValueError, match="frozen"):
        scenario().points = 1


def test_samples_are_a_value():
    """The laws compare rows by their tensors: none may be left out."""
    names = {field.name for field in dataclasses.fields(holdfast.data.Samples)}
    assert names == {"x", "y", "ids", "role", "snapshot", "time"}
