"""A stage by the kernels against the float64 oracle: on a GPU, or under Triton's interpreter on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tmkt_train.network.batch_norm import batch_norm
from tmkt_train.network.cuda import door
from tmkt_train.network.neurons import avg_pool, conv2d, keep_membrane, lif, membrane, reset
from tmkt_train.network.stages import Signal, Stage

from .stage_oracle import CENTER, Affine, neurons, pool

BOTH = ("image", "event")
NEAR = 1e-6
"""Distance of a charge from the threshold up to which rounding may decide the spike."""
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest relative error of a gradient; those in half precision are rounded when they are written."""


@dataclass(frozen=True)
class Case:
    """A stage and its input.

    Attributes:
        steps: T.
        channels: C.
        batch: Frames of a stream and step.
        size: Height and width.
        mode: Of the batch norm; "evaluation" is "per-step" in evaluation mode.
        outputs: Channels of a convolution at the end; 0 for none.
        keeps: Whether membrane potentials are kept, and get a gradient.
    """

    steps: int
    channels: int
    batch: int = 2
    size: tuple[int, int] = (5, 7)
    mode: str = "per-step"
    streams: tuple[str, ...] = ("event",)
    is_separate: bool = False
    surrogate: str = "triangle"
    is_pooled: bool = False
    outputs: int = 0
    keeps: bool = False
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        return self.steps, len(self.streams) * self.batch, self.channels, *self.size

    @property
    def is_trained(self) -> bool:
        return self.mode in ("per-step", "fused")


class Layers:
    """The layers of a case on a device."""

    def __init__(self, case: Case, device: str) -> None:
        torch.manual_seed(7)
        wide = torch.float64 if case.dtype == torch.float64 else torch.float32
        norm = "per-step" if case.mode == "evaluation" else case.mode
        self.norm = batch_norm(case.channels, norm, "event" if case.is_separate else "shared").to(device, wide)
        with torch.no_grad():
            for parameter in self.norm.parameters():
                parameter += 0.3 * torch.randn(case.channels, dtype=wide).to(device)
            for name, buffer in self.norm.named_buffers():
                if buffer.is_floating_point():
                    buffer += 0.2 * torch.rand(case.channels, dtype=wide).to(device) * (1 if "var" in name else -1)
        self.norm.streams = case.streams
        self.neurons = lif(case.surrogate)
        keep_membrane(self.neurons, case.keeps)
        self.pooling = avg_pool() if case.is_pooled else None
        self.conv = conv2d(case.channels, case.outputs, 3, padding=1).to(device, wide) if case.outputs else None
        if case.mode == "evaluation":
            self.norm.eval()

    @property
    def stage(self) -> Stage:
        return Stage(self.norm, self.neurons, self.pooling, self.conv)


@dataclass
class Result:
    """What a pass gives, forward and backward."""

    values: Tensor
    potentials: Tensor | None
    input_grad: Tensor
    parameter_grads: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def tensors(self) -> list[Tensor]:
        found = [self.values, self.input_grad, *self.parameter_grads.values(), *self.buffers.values()]
        return found if self.potentials is None else [*found, self.potentials]


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill all memory that is allocated with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def draw(case: Case, device: str) -> tuple[Tensor, Tensor]:
    """Return an input with a mean of its own in every channel and step, and the gradient of potentials."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(case.shape, generator=generator, dtype=torch.float64)
    x += torch.randn(case.steps, 1, case.channels, 1, 1, generator=generator, dtype=torch.float64)
    x = 1.5 * x + 0.3
    return x.to(device, case.dtype), torch.randn(case.shape, generator=generator, dtype=torch.float64).to(device)


def outward(shape: torch.Size, device: str) -> Tensor:
    """Return a gradient of the output."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(13), dtype=torch.float64).to(device)


def run(case: Case, device: str, *, stage_runner=None) -> Result:
    """Run a case forward and backward by the kernels."""
    layers, (x, of_membranes) = Layers(case, device), draw(case, device)
    x.requires_grad_()
    signal = (stage_runner or door.run_stage)(layers.stage, Signal(x))
    assert signal is not None
    values = signal.values
    assert values.dtype == case.dtype
    total = (values * outward(values.shape, device).to(case.dtype)).sum()
    potentials = membrane(layers.neurons) if case.keeps else None
    if potentials is not None:
        total = total + (potentials * of_membranes.to(case.dtype)).sum()
    total.backward()
    named = {"norm": layers.norm} | ({"conv": layers.conv} if layers.conv is not None else {})
    grads = {f"{key}.{name}": p.grad for key, module in named.items() for name, p in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in layers.norm.named_buffers()}
    reset(layers.neurons)
    kept = None if potentials is None else potentials.detach()
    return Result(values.detach(), kept, x.grad, grads, buffers)


def check(case: Case, device: str) -> None:
    """Compare a case with the oracle."""
    with poisoned():
        found = run(case, device)
        spikes = found.values
        if case.is_pooled or case.outputs:
            stage = Layers(case, device).stage._replace(pooling=None, convolution=None)
            spikes = door.run_stage(stage, Signal(draw(case, device)[0])).values.detach()
    layers, (x, of_membranes) = Layers(case, device), draw(case, device)
    x = x.double().requires_grad_()
    buffers = {name: buffer.double() for name, buffer in layers.norm.named_buffers()}
    expected, charges, potentials, parameters = _oracle(case, layers, x, spikes, buffers)
    flipped = (charges >= CENTER) != spikes.bool()
    assert not (flipped & ((charges - CENTER).abs() > NEAR)).any()
    assert_close(found.values, expected, case, "output")
    total = (expected * outward(expected.shape, device).to(case.dtype)).sum()
    if case.keeps:
        assert_close(found.potentials, potentials, case, "potentials")
        total = total + (potentials * of_membranes.to(case.dtype)).sum()
    total.backward()
    assert_close(found.input_grad, x.grad, case, "input gradient")
    for name, parameter in parameters.items():
        assert_close(found.parameter_grads[name], parameter.grad, case, name)
    for name, buffer in buffers.items():
        if name == "num_batches_tracked":
            shared = [s for s in case.streams if not (case.is_separate and s == "image")]
            count = len(shared) * {"per-step": case.steps, "fused": 1}.get(case.mode, 0)
            assert found.buffers[name].item() == count
        else:
            torch.testing.assert_close(found.buffers[name].double(), buffer, rtol=1e-6, atol=1e-6, msg=name)


def assert_close(found: Tensor, expected: Tensor, case: Case, name: str) -> None:
    """Compare by the norm of the difference."""
    found, expected = found.double(), expected.detach()
    assert found.shape == expected.shape, name
    assert found.isfinite().all(), name
    error = (found - expected).norm() / expected.norm().clamp_min(1e-30)
    assert error <= ROUNDING[case.dtype], f"{name}: relative error {error:.2e}"


def _oracle(
    case: Case, layers: Layers, x: Tensor, spikes: Tensor, buffers: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Return output, charges, potentials and parameters as leaves; change the buffers as the layers would."""
    parameters = {f"norm.{name}": p.detach().double().requires_grad_() for name, p in layers.norm.named_parameters()}
    norm = None
    if parameters:
        sets = {
            "image": [buffers.get("image_mean"), buffers.get("image_var")],
            "event": [buffers["running_mean"], buffers["running_var"]],
        }
        running = [sets[stream if case.is_separate else "event"] for stream in case.streams]
        norm = Affine(parameters["norm.weight"], parameters["norm.bias"], case.mode, running, case.is_trained)
    found = []
    for number, (part, given) in enumerate(
        zip(x.chunk(len(case.streams), 1), spikes.double().chunk(len(case.streams), 1), strict=True)
    ):
        found.append(neurons(part if norm is None else norm(part, number), case.surrogate, given))
    out, potentials, charges = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    if case.is_pooled:
        out = pool(out)
    if layers.conv is not None:
        # The kernels' convolution reads the weight in the dtype of the signal.
        weight = layers.conv.weight.detach().to(case.dtype).double().requires_grad_()
        parameters["conv.weight"] = weight
        out = functional.conv2d(out.flatten(0, 1), weight, padding=1).unflatten(0, out.shape[:2])
    return out, charges, potentials, parameters
