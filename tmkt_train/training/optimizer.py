"""The optimizer of a training and its learning rate per epoch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tmkt_data.errors import SpecError
from tmkt_train.errors import NonFiniteError
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import OptimTable

_O = TypeVar("_O", bound=Optimizer)


def build_optimizer(optim: OptimTable, *modules: nn.Module) -> Optimizer:
    """Build the optimizer over the parameters of modules; parameters of one dimension have no weight decay.

    On a GPU it steps in one kernel, never waits for the device, and can be recorded in a CUDA graph.
    """
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    device = parameters[0].device
    on_gpu = device.type == "cuda"
    rate: float | Tensor = torch.tensor(optim.learning_rate, device=device) if on_gpu else optim.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    match optim.name:
        case "adamw":
            return _eager(AdamW)(groups, lr=rate, betas=optim.betas, eps=1e-8, fused=on_gpu or None, capturable=on_gpu)
        case "adam":
            return _eager(Adam)(groups, lr=rate, betas=optim.betas, eps=1e-8, fused=on_gpu or None, capturable=on_gpu)
        case "sgd":
            return _eager(SGD)(groups, lr=rate, momentum=optim.momentum, fused=on_gpu or None)


def _eager(kind: type[_O]) -> type[_O]:
    """Return an optimizer without what torch wraps around its methods for its compiler.

    The wrappers load that compiler on their first call, which takes seconds, also where nothing is compiled.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(methods["step"])})


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def load_optimizer(optimizer: Optimizer, values: Mapping[str, Any]) -> None:
    """Load a state that was saved on any device; it goes where the parameters are, as `build_optimizer` wants it."""
    groups = []
    for group, saved in zip(optimizer.param_groups, values["param_groups"], strict=True):
        rate = float(saved["lr"])
        lr = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate
        of_device = {name: group[name] for name in ("fused", "capturable") if name in group}
        groups.append({**saved, "lr": lr, **of_device})
    optimizer.load_state_dict({**values, "param_groups": groups})


def count_steps(optimizer: Optimizer) -> int | None:
    """Return how many steps changed weights; a step whose gradients overflow float16 is skipped. Waits for the GPU.

    None for an optimizer that does not count them.
    """
    if isinstance(optimizer, SGD):
        return None
    return max((int(state["step"]) for state in optimizer.state.values()), default=0)


def require_loss_scale(scaler: torch.amp.GradScaler, place: str) -> None:
    """Refuse to go on where gradients overflow however little the loss is scaled, so that no step changes a weight.

    Each overflow skips a step and halves the scale, which starts at 65536; this waits for the GPU.

    Raises:
        NonFiniteError: The scale has fallen below 1.
    """
    if scaler.is_enabled() and scaler.get_scale() < 1.0:
        raise NonFiniteError(
            f"{place}: gradients overflow float16 at a loss scale of {scaler.get_scale():g}, expected 1 or more; "
            "set train.precision=bfloat16 or tf32, or lower optim.learning_rate"
        )


def learning_rate_at(epoch: int, num_epochs: int, optim: OptimTable) -> float:
    """Return the learning rate of an epoch.

    During warm-up the rate rises linearly from `warmup_learning_rate` towards `learning_rate`. After it, the schedule
    is evaluated at the epoch itself: warm-up does not shift it. With E epochs,

    - "cosine" is min + (base - min) (1 + cos(pi epoch / E)) / 2;
    - "step" is multiplied by `step_factor` at each of `step_epochs`;
    - "constant" stays.

    Args:
        epoch: Epoch, from 0.
        num_epochs: Number of epochs E, at least 1.
        optim: Rates and schedule.

    Raises:
        SpecError: The epoch lies outside 0 to E.

    Example:
        >>> optim = OptimTable(learning_rate=0.1, min_learning_rate=0.0, warmup_epochs=2, warmup_learning_rate=0.02)
        >>> [round(learning_rate_at(epoch, 10, optim), 6) for epoch in (0, 1, 5)]
        [0.02, 0.06, 0.05]
    """
    if not 0 <= epoch <= num_epochs or num_epochs < 1:
        message = f"schedule: epoch {epoch} of {num_epochs}, expected 0 to the number of epochs; count epochs from 0"
        raise SpecError(message)
    base, least, first = optim.learning_rate, optim.min_learning_rate, optim.warmup_learning_rate
    if epoch < optim.warmup_epochs:
        return first + epoch * (base - first) / optim.warmup_epochs
    match optim.schedule:
        case "cosine":
            return least + 0.5 * (base - least) * (1.0 + math.cos(math.pi * epoch / num_epochs))
        case "step":
            return base * optim.step_factor ** sum(epoch >= step for step in optim.step_epochs)
        case "constant":
            return base


def learning_rate_of(recipe: Recipe, epoch: int) -> float:
    """Return the learning rate of an epoch of a run; each of two stages has its own schedule."""
    on_images, optim = recipe.image_epochs, recipe.optim
    if epoch < on_images:
        return learning_rate_at(epoch, on_images, optim)
    if on_images and optim.second_stage_learning_rate != "auto":
        optim = optim.model_copy(update={"learning_rate": optim.second_stage_learning_rate})
    return learning_rate_at(epoch - on_images, recipe.train.epochs, optim)
