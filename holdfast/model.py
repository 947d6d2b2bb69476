"""A model as Holdfast sees it: an input space, a network with its preprocessing inside, and a digest of its bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from holdfast.errors import ArtefactError, ModelError
from holdfast.factory import factory_digest, resolve_factory, told
from holdfast.networks import ImageEncoder, TableEncoder
from holdfast.results import Value
from holdfast.seeding import drawing
from holdfast.space import Box, Space
from holdfast.stores import refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WEIGHTS, SPEC = "model.safetensors", "spec.json"


class ModelSpec(Value):
    """Everything about a model but its weights: enough to build it again, and no code."""

    format: int = 1
    factory: str
    """``package.module:function``; called with (encoded shape, classes, **settings), gives logits (n, classes)."""
    settings: dict[str, Any] = Field(default_factory=dict)
    space: Space
    classes: tuple[str, ...]
    code: str = ""
    """Digest of the factory's module, where it is not Holdfast's own."""

    def build(self, seed: int) -> nn.Module:
        """Build the network with its preprocessing in front and fresh weights drawn from ``seed``.

        Raises:
            ModelError: the factory cannot be imported, fails, or gives no module.
        """
        function = resolve_factory(self.factory)
        encoder: nn.Module
        if isinstance(self.space, Box):
            encoder = ImageEncoder(torch.tensor(self.space.mean), torch.tensor(self.space.std))
            shape: tuple[int, ...] = self.space.shape
        else:
            encoder = TableEncoder(self.space)
            shape = (encoder.width,)
        with drawing(seed):
            try:
                network = function(shape, len(self.classes), **self.settings)
            except Exception as error:
                raise ModelError(
                    f"model.factory {self.factory}",
                    found=told(error),
                    expected=f"a torch module from factory({shape}, {len(self.classes)}, **{self.settings})",
                    remedy="Mend the factory or model.settings in params.yaml.",
                ) from error
        if not isinstance(network, nn.Module):
            raise ModelError(
                f"model.factory {self.factory}",
                found=type(network).__name__,
                expected="a torch.nn.Module",
                remedy="Return the module from the factory.",
            )
        return nn.Sequential(encoder, network)


def check_network(spec: ModelSpec, x: Tensor) -> None:
    """Ask a fresh network for the logits of some rows, training and not: what fails here would fail after hours.

    Args:
        spec: what it is built by.
        x: inputs (n, ...) of the spec's space, two rows or more.

    Raises:
        ModelError: it fails on them, gives anything but finite logits (n, classes), has layers whose sizes the first
            rows decide, or draws its answers.
    """
    module, wanted = spec.build(seed=0), (len(x), len(spec.classes))
    lazy = nn.UninitializedParameter | nn.UninitializedBuffer
    if any(isinstance(each, lazy) for each in (*module.parameters(), *module.buffers())):
        raise _unfit(spec, "layers without sizes until rows have come (lazy ones)", "weights from the beginning")
    for training in (True, False):
        with drawing(0), torch.no_grad():
            before = torch.get_rng_state()
            try:
                logits: object = module.train(training)(x)
                again: object = logits if training else module(x)
            except Exception as error:
                raise _no_logits(spec, wanted, told(error)) from error
            drew = not torch.equal(before, torch.get_rng_state())
        if drew and not training:
            raise _unfit(spec, "answers that are drawn at random after eval()", "dropout and its like in training only")
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted or not logits.is_floating_point():
            found = f"{tuple(logits.shape)} of {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
            raise _no_logits(spec, wanted, found)
        if not logits.isfinite().all():
            raise _no_logits(spec, wanted, "values that are not finite, with fresh weights")
        if not (isinstance(again, Tensor) and torch.equal(logits, again)):  # drawn elsewhere than from torch's own
            raise _unfit(spec, "other answers to the same rows after eval()", "the same, whenever they are asked")


def _unfit(spec: ModelSpec, found: str, expected: str) -> ModelError:
    return ModelError(
        f"model.factory {spec.factory}", found=found, expected=expected,
        remedy="Mend the factory's module; nothing was trained.",
    )  # fmt: skip


def _no_logits(spec: ModelSpec, wanted: tuple[int, int], found: str) -> ModelError:
    return ModelError(
        f"model.factory {spec.factory}, asked about {wanted[0]} rows", found=found,
        expected=f"logits of shape {wanted}: one for each of the classes {', '.join(spec.classes)}",
        remedy="Mend the module's forward, or data.classes in params.yaml; nothing was trained.",
    )  # fmt: skip


class Target:
    """A model under evaluation: frozen, in eval mode, counting its passes.

    Forward passes run at one canonical micro-batch shape, padded, so that what a row gets does not depend on
    the rows beside it.
    """

    def __init__(self, module: nn.Module, spec: ModelSpec, digest: str, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.module = module.to(self.device).eval().requires_grad_(requires_grad=False)
        self.spec = spec
        self.space = spec.space
        self.classes = spec.classes
        self.digest = digest
        self.forwards = 0
        self.backwards = 0

    def logits(self, x: Tensor) -> Tensor:
        """Compute logits (n, classes) for inputs (n, *shape) in raw units; differentiable in x."""
        self.forwards += len(x)
        if len(x) == 0:
            return torch.zeros((0, len(self.classes)), device=self.device)
        return torch.cat([self.module(padded)[:real] for padded, real in self._micro_batches(x)])

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """Give what the last linear layer reads (n, width) for inputs (n, *shape): what the model made of them.

        Without rows there is no telling the width, and none is given: (0, 0).

        Raises:
            ModelError: the logits come from no linear layer.
        """
        if len(x) == 0:
            return torch.zeros((0, 0))
        read: list[Tensor] = []
        layers = [each for each in self.module.modules() if isinstance(each, nn.Linear)]
        hooks = [
            layer.register_forward_hook(lambda _, given, out: read.append(given[0]) if out.dim() == 2 else None)  # noqa: PLR2004  rows, units
            for layer in layers
        ]
        found = []
        try:
            for padded, real in self._micro_batches(x.to(self.device)):
                read.clear()
                self.module(padded)
                if not read or read[-1].shape[0] != len(padded):
                    raise ModelError(
                        f"model.factory {self.spec.factory}", found="no linear layer that reads a row of its own",
                        expected="one in front of the logits", remedy="Take detectors of embeddings out of the panel.",
                    )  # fmt: skip
                found.append(read[-1][:real].flatten(1))
        finally:
            for hook in hooks:
                hook.remove()
        self.forwards += len(x)
        return torch.cat(found)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Predict class indices (n,) int64; a row with a non-finite logit gets -1, which is never right."""
        logits = self.logits(x.to(self.device))
        return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)

    def value_and_gradient(
        self, x: Tensor, objective: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate an objective and its gradient in the inputs, one forward and one backward for each row.

        Args:
            x: inputs (n, *shape).
            objective: maps (logits (m, classes), row numbers (m,)) to values (m,).

        Returns:
            Values (n,), logits (n, classes) and gradients like x, all detached. NaN inputs get gradient 0, and so do
            all where the module lets no gradient through: the validity record of an attack convicts it.
        """
        values, all_logits, gradients = [], [], []
        start = 0
        for padded, real in self._micro_batches(x.detach()):
            leaf = padded.requires_grad_()
            with torch.enable_grad():
                logits = self.module(leaf)[:real]
                value = objective(logits, torch.arange(start, start + real, device=x.device))
                gradient = _gradient(value, leaf)
            values.append(value.detach())
            all_logits.append(logits.detach())
            gradients.append(gradient[:real])
            start += real
        self.forwards += len(x)
        self.backwards += len(x)
        return torch.cat(values), torch.cat(all_logits), torch.cat(gradients)

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits (n, classes) and their gradients in the inputs (n, classes, *shape), one forward for each row.

        It takes one backward for each row and class, and as much memory. NaN inputs get gradient 0.
        """
        all_logits, gradients = [], []
        for padded, real in self._micro_batches(x.detach()):
            leaf = padded.requires_grad_()
            with torch.enable_grad():
                logits = self.module(leaf)
                each = [torch.autograd.grad(z.sum(), leaf, retain_graph=True)[0] for z in logits.unbind(1)]
            all_logits.append(logits.detach()[:real])
            gradients.append(torch.stack(each, 1)[:real])
        self.forwards += len(x)
        self.backwards += len(x) * len(self.classes)
        return torch.cat(all_logits), torch.cat(gradients)

    def _micro_batches(self, x: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Cut rows into micro-batches of one shape, repeating the first row as padding."""
        size = self.space.micro_batch
        for piece in torch.split(x, size):
            real = len(piece)
            yield (torch.cat([piece, piece[:1].expand(size - real, *piece.shape[1:])]) if real < size else piece), real


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """Give the gradient of summed values in the inputs; 0 where none of them depends on the inputs by autograd."""
    found = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
    return torch.zeros_like(leaf) if found is None else found


def save_model(folder: Path, module: nn.Module, spec: ModelSpec) -> str:
    """Write weights as safetensors and the description as JSON; give the digest of the two files' bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    weights, description = save_safetensors(state), json.dumps(spec.model_dump(mode="json"), indent=1, sort_keys=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights)
        (folder / SPEC).write_text(description)
    except OSError as error:
        raise refused(folder, error) from error
    return _digest(weights, description.encode())


def digest_of(folder: Path) -> str:
    """Name the bytes of a saved model without reading any sense into them.

    Raises:
        ArtefactError: a file is missing.
    """
    return _digest(*_bytes(folder))


def load_model(folder: Path, digest: str | None, device: torch.device | str = "cpu") -> Target:
    """Load a model after its bytes are verified; only the two files are ever opened, and neither can hold code.

    Args:
        folder: holds ``model.safetensors`` and ``spec.json``.
        digest: what the bytes must have; None only where no record exists to hold them against.
        device: where to put the weights.

    Raises:
        ArtefactError: files are missing or changed.
        ModelError: they are malformed, or the user's module is not the one trained with.
    """
    weights, description = _bytes(folder)
    found = _digest(weights, description)
    if digest is not None and found != digest:
        raise ArtefactError(
            str(folder),
            found=f"bytes with digest {found[:16]}",
            expected=f"{digest[:16]}, as recorded",
            remedy="The artefact was changed after registration: do not serve it; restore it and run `holdfast audit`.",
        )
    try:
        spec = ModelSpec.model_validate_json(description)
        _check_code(spec)
        module = spec.build(seed=0)
        module.load_state_dict(load_safetensors(weights))
    except (ValidationError, SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            str(folder), found=str(error).splitlines()[0], expected="weights that fit the description",
            remedy="Train again, or check out the code this version was trained with.",
        ) from error  # fmt: skip
    return Target(module, spec, found, device)


def pick_device(name: str) -> torch.device:
    """Resolve ``auto`` to CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _bytes(folder: Path) -> tuple[bytes, bytes]:
    try:
        return (folder / WEIGHTS).read_bytes(), (folder / SPEC).read_bytes()
    except OSError as error:
        raise ArtefactError(
            str(folder), found=error.strerror or "nothing", expected=f"{WEIGHTS} and {SPEC}",
            remedy="Fetch the version's artefact again.",
        ) from error  # fmt: skip


def _check_code(spec: ModelSpec) -> None:
    """Refuse a user's module that is not the one that was trained with: the weights' digest says nothing of it.

    Raises:
        ModelError: it was edited since, or it cannot be found.
    """
    found = factory_digest(spec.factory)
    if found != spec.code:
        raise ModelError(
            f"model.factory {spec.factory}", found=f"source with digest {found[:16] or 'none'}",
            expected=f"{spec.code[:16] or 'none'}, as trained with",
            remedy="Check out the module as it was then, or train a version with the edited one.",
        )  # fmt: skip


def _digest(weights: bytes, description: bytes) -> str:
    total = hashlib.sha256(hashlib.sha256(weights).digest())
    total.update(hashlib.sha256(description).digest())
    return total.hexdigest()
