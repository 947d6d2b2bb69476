"""The one training loop: every recipe, every device, exact resume, the best weights by validation."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.digests import digest_json, library_digest, library_versions
from holdfast.errors import ModelError
from holdfast.model import Target, save_model
from holdfast.results import Score, Value
from holdfast.seeding import Noise, drawing
from holdfast.space import Box
from holdfast.statistics import quality
from holdfast.training.augment import shift_and_mirror
from holdfast.training.checkpoints import CheckpointFolder
from holdfast.training.continual import ContinualRecipe, weighted_distance
from holdfast.training.optimisation import class_weights, decay_groups, learning_rate
from holdfast.training.preconditions import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric

    from holdfast.data import Samples
    from holdfast.model import ModelSpec
    from holdfast.training.base import Recipe
    from holdfast.training.warm_start import Former


class EpochReport(Value):
    """What one epoch did. ``seconds`` is no part of what a seed determines."""

    epoch: int
    """From 1."""
    loss: float
    """Mean training loss over the epoch's rows, class weights applied."""
    validation: Score
    """What ``measure`` names, on validation rows: by it the best epoch is kept, and patience counts."""
    measure: str
    """``accuracy`` or ``balanced accuracy``, and ``under attack`` where the recipe is robust."""
    seconds: float
    """Wall time of the epoch, validation included."""
    validation_seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training: the weights of the best epoch, and how they came about."""

    target: Target
    module: nn.Module
    """The target's own module, in eval mode."""
    history: tuple[EpochReport, ...]
    best_epoch: int
    stopped_early: bool


def fit(
    recipe: Recipe,
    spec: ModelSpec,
    train: Samples,
    validation: Samples,
    *,
    seed: int,
    device: torch.device,
    former: Former | None = None,
    checkpoints: Path | None = None,
    progress: Callable[[EpochReport], None] | None = None,
    fabric: Fabric | None = None,
) -> Trained:
    """Train a model by a recipe and keep its best epoch.

    Everything random is a function of (seed, epoch, step, row id), so a training that was killed and called
    again with the same arguments ends in the same bits as an unbroken one. The global generators come back
    untouched. Equal results are promised for one machine, device and thread count.

    Args:
        recipe: settings and loss.
        spec: the model to build.
        train: rows of role ``train``.
        validation: rows of role ``validation``: they choose the epoch.
        seed: of initial weights, order, augmentation, attacks and dropout.
        device: where to train; the answer lives there too.
        former: the model whose weights the training begins from, built by the same ``spec``; None draws fresh ones.
        checkpoints: folder of this training alone; None keeps none.
        progress: called after each epoch, its checkpoint already on disk.
        fabric: a launched Fabric of the caller's, for several processes; each takes its share of every batch.

    Raises:
        RoleError: rows of another role.
        DataError: no rows, or labels outside the classes.
        ModelError: the loss is not finite, the recipe does not fit the input space, it goes on from a former model
            and there is none, or the former model is another network.
        StoreError: the checkpoint is corrupt or of another training, or cannot be written.
    """
    check(recipe, spec, train.require("train"), validation.require("validation"), former)
    fabric = fabric or _launch(device, recipe.precision)
    run = _Run(recipe, spec, train.to(device), validation.to(device), Noise(seed, ("training",)), fabric, former)
    folder = None
    if checkpoints is not None:
        folder = CheckpointFolder(checkpoints, _training_digest(run, seed))
        if (kept := folder.read()) is not None:
            run.restore(*kept)
    while not run.finished:
        report = run.epoch()
        if folder is not None:
            if fabric.is_global_zero:
                folder.write(report.epoch, *run.state())
            fabric.barrier()
        if progress is not None:
            progress(report)
    return run.trained(device)


def _launch(device: torch.device, precision: Literal["32-true", "bf16-mixed"]) -> Fabric:
    from lightning_fabric import Fabric  # noqa: PLC0415  two seconds, that commands which train nothing need not wait

    devices = 1 if device.index is None else [device.index]
    return Fabric(accelerator=device.type, devices=devices, precision=precision)


def _training_digest(run: _Run, seed: int) -> str:
    """Name everything that the weights depend on."""
    rows = hashlib.sha256()
    for samples in (run.train, run.validation):
        for tensor in (samples.ids, samples.y, samples.x):
            rows.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest_json(
        [
            run.recipe.name(), run.recipe.model_dump(mode="json"), run.spec.model_dump(mode="json"), rows.hexdigest(),
            seed, run.fabric.device.type, run.fabric.world_size, library_digest(), library_versions(),
            None if run.former is None else [run.former.target.digest, *run.learned.nonzero().flatten().tolist()],
        ]
    )  # fmt: skip


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Hold a module in eval mode with its weights frozen: no weight gradients, no batch statistics moved."""
    modes = [(part, part.training) for part in module.modules()]
    trainable = [p for p in module.parameters() if p.requires_grad]
    module.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)  # noqa: FBT003  torch's parameter has no name in its stubs
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)  # noqa: FBT003  as above


@dataclass(eq=False)
class _Run:
    """One training under way: all that changes from step to step, and nothing random but by name."""

    recipe: Recipe
    spec: ModelSpec
    train: Samples
    validation: Samples
    noise: Noise
    fabric: Fabric
    former: Former | None = None
    history: list[EpochReport] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0

    def __post_init__(self) -> None:
        self.module = self.spec.build(self._seed("weights"))
        if self.former is not None:
            self.module.load_state_dict(self.former.target.module.state_dict())
        self.layout = torch.channels_last if isinstance(self.spec.space, Box) else torch.contiguous_format
        self.module.to(self.fabric.device)
        self.module.to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stubs forget it
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.module, self.recipe.weight_decay), lr=self.recipe.learning_rate
        )
        # What Fabric wraps is the same parameters: `module` is for attacks and validation, `network` for descent.
        self.network, self.stepper = self.fabric.setup(self.module, self.optimizer)
        self.averaged = {name: t.detach().clone() for name, t in self._floats()} if self.recipe.average else {}
        self.learned = torch.zeros(len(self.train), dtype=torch.bool)
        self.anchor: dict[str, tuple[Tensor, Tensor]] = {}
        if self.former is not None:
            self.learned = self.former.knows(self.train.ids)
            self._anchor(self.former)
        self.steps = len(self._batches(1))
        self.weights = None
        if self.recipe.balance_classes:
            seen = self.recipe.seen(self.train, self.learned, self.noise.derive("order"))
            weights = class_weights(self.train.y.cpu(), seen, len(self.spec.classes))
            self.weights = weights.to(self.train.y.device)

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.recipe.epochs or self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        if self.recipe.patience is None or not self.history:
            return False
        values = [report.validation.value for report in self.history]
        return len(values) - (values.index(max(values)) + 1) >= self.recipe.patience

    def _anchor(self, former: Former) -> None:
        """Lay each parameter that the former model's answers hang on beside where it was, and how much they do."""
        if isinstance(self.recipe, ContinualRecipe):
            known = self.train.take(self.learned.to(self.train.y.device))
            matters = self.recipe.importance(former.target, known, self.noise.derive("importance"))
            own = dict(former.target.module.named_parameters())
            device = self.fabric.device
            self.anchor = {n: (w.to(device), own[n].detach().clone().to(device)) for n, w in matters.items()}

    def _batches(self, number: int) -> tuple[Tensor, ...]:
        return self.recipe.batches(self.train, self.learned, self.noise.derive("order"), number)

    def epoch(self) -> EpochReport:
        """Train one epoch, validate, and keep the weights where no epoch was better."""
        started, number = time.perf_counter(), len(self.history) + 1
        batches = self._batches(number)
        total = torch.zeros((), device=self.fabric.device)
        self.network.train()
        for step, index in enumerate(batches):
            # Dropout and its like draw from torch's own generators: theirs is a named stream for this step.
            with drawing(self._seed("step", number, step, self.fabric.global_rank), self.fabric.device):
                total += self._step(number, step, index.to(self.fabric.device))
        loss = self._mean_loss(total, sum(map(len, batches)), number)
        self._agree()
        validated = time.perf_counter()
        with drawing(self._seed("validate"), self.fabric.device):
            score = self._validate()
        if not self.history or score.value >= max(report.validation.value for report in self.history):
            self.best, self.best_epoch = self._current(), number
        ended = time.perf_counter()
        report = EpochReport(
            epoch=number, loss=loss, validation=score, measure=self.recipe.measure,
            seconds=ended - started, validation_seconds=ended - validated,
        )  # fmt: skip
        self.history.append(report)
        return report

    def _seed(self, *parts: object) -> int:
        return self.noise.derive(*parts).generator().initial_seed()

    def _step(self, number: int, step: int, index: Tensor) -> Tensor:
        """Take one step on this process's share of a batch; give the sum of its rows' losses."""
        rate = learning_rate(
            self.recipe.learning_rate, (number - 1) * self.steps + step, self.recipe.epochs * self.steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        mine = self.train.take(index[self.fabric.global_rank :: self.fabric.world_size])
        x = self._images(mine, number)
        with frozen(self.module), self.fabric.autocast():
            noise = self.noise.derive("perturb", number)
            perturbed = self.recipe.perturb(self.module, x, mine.y, mine.ids, noise, self.spec.space).detach()
        if self.former is not None and isinstance(self.recipe, ContinualRecipe):
            losses = self.recipe.loss_beside(self.former.target.module, self.network, x, mine.y)
        else:
            losses = self.recipe.loss(self.network, x, perturbed, mine.y)
        if self.weights is not None:
            losses = losses * self.weights[mine.y]
        total = losses.sum()
        # Fabric averages gradients over processes; shares of a batch can differ by a row.
        objective, pull = total * (self.fabric.world_size / len(index)), torch.zeros((), device=total.device)
        if self.anchor:
            pull = weighted_distance(dict(self.module.named_parameters()), self.anchor)
            objective = objective + pull
        self.fabric.backward(objective)
        self.stepper.step()
        self.stepper.zero_grad()
        self._average((number - 1) * self.steps + step)
        return total.detach() + pull.detach() * len(mine)

    def _mean_loss(self, total: Tensor, rows: int, number: int) -> float:
        value = float(_reduced(self.fabric, total, "sum")) / rows
        if not math.isfinite(value):
            raise ModelError(
                f"training {self.recipe.name()}", found=f"a loss of {value} in epoch {number}", expected="a finite one",
                remedy="Lower learning_rate, and check the rows for values outside their range.",
            )  # fmt: skip
        return value

    def _images(self, rows: Samples, number: int) -> Tensor:
        x = shift_and_mirror(rows.x, rows.ids, self.noise.derive("augment", number)) if self.recipe.augment else rows.x
        return x.contiguous(memory_format=self.layout)

    def _floats(self) -> list[tuple[str, Tensor]]:
        return [(name, tensor) for name, tensor in self.module.state_dict().items() if tensor.is_floating_point()]

    def _average(self, step: int) -> None:
        if not self.averaged:
            return
        # The start is forgotten soon: a long memory of random weights would be worse than none.
        decay = min(self.recipe.average, (1.0 + step) / (10.0 + step))
        current = [tensor for _, tensor in self._floats()]
        torch._foreach_lerp_(list(self.averaged.values()), current, 1.0 - decay)

    def _agree(self) -> None:
        """Make batch statistics equal on all processes; their weights are equal already."""
        if self.fabric.world_size > 1:
            for tensor in (*(b for b in self.module.buffers() if b.is_floating_point()), *self.averaged.values()):
                tensor.copy_(_reduced(self.fabric, tensor, "mean"))

    def _current(self) -> dict[str, Tensor]:
        """Copy what would be the model if training ended here."""
        state = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        return state | {name: tensor.clone() for name, tensor in self.averaged.items()}

    def _validate(self) -> Score:
        """Score the model as it would be kept, on the same validation rows and noise in every epoch."""
        own = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        self.module.load_state_dict(self._current())
        flags = []
        try:
            with frozen(self.module), self.fabric.autocast():
                for index in torch.split(torch.arange(len(self.validation), device=self.fabric.device), 256):
                    rows = self.validation.take(index)
                    x, noise = rows.x.contiguous(memory_format=self.layout), self.noise.derive("validation")
                    flags.append(
                        self.recipe.validation_flags(self.module, x, rows.y, rows.ids, noise, self.spec.space).cpu()
                    )
        finally:
            self.module.load_state_dict(own)
        metric = "balanced_accuracy" if self.recipe.balance_classes else "accuracy"
        labels, right = self.validation.y.cpu().numpy(), torch.cat(flags).numpy()
        return quality(metric, labels, right, rng=np.random.default_rng(0))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give all that a resumed training needs, as tensors by name and JSON numbers."""
        tensors = {f"module/{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.averaged.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{key}/{name}"] = value
        history = [report.model_dump(mode="json") for report in self.history]
        return tensors, {"history": history, "best_epoch": self.best_epoch}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go back to a state; memory layouts stay as a fresh training has them, since sums depend on them."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts.setdefault(part, {})[rest] = tensor
        self.module.load_state_dict(parts["module"])
        for name, tensor in self.averaged.items():
            tensor.copy_(parts["average"][name])
        self.best = {name: tensor.to(self.fabric.device) for name, tensor in parts["best"].items()}
        named = dict(self.module.named_parameters())
        for name, value in parts.get("optimizer", {}).items():
            key, owner = name.split("/", 1)
            parameter = named[owner]
            like = torch.empty_like(parameter) if value.shape == parameter.shape and value.dim() else value.clone()
            self.optimizer.state[parameter][key] = like.copy_(value)
        self.history = [EpochReport.model_validate(report) for report in numbers["history"]]
        self.best_epoch = numbers["best_epoch"]

    def trained(self, device: torch.device) -> Trained:
        """Give the best weights in the layout that a loaded model has, so that both answer alike."""
        module = self.spec.build(seed=0)
        module.load_state_dict(self.best)
        with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
            digest = save_model(Path(folder), module, self.spec)
        target = Target(module, self.spec, digest, device)
        early = self.out_of_patience and len(self.history) < self.recipe.epochs
        return Trained(target, module, tuple(self.history), self.best_epoch, early)


def _reduced(fabric: Fabric, tensor: Tensor, how: str) -> Tensor:
    """Reduce a tensor over processes; one process keeps its own."""
    if fabric.world_size == 1:
        return tensor
    return cast("Tensor", fabric.all_reduce(tensor, reduce_op=how))
