"""Memory of a training step, counted from the shapes of what its layers save for backward."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef

from tmkt_data import PairedFrames
from tmkt_train.data.device import DeviceFrames
from tmkt_train.data.stored import stored_bytes
from tmkt_train.network.network import Network
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.environment import available_bytes, choose_precision, compute_dtype
from tmkt_train.training.setup import TrainingSetup, build_network

_COPIES_OF_WEIGHTS = {"adamw": 4, "adam": 4, "sgd": 3}
"""Weights, gradients, and the moments that an optimizer keeps."""
_SHARE = 0.75
"""Share of the memory that what is counted may take; measured peaks are up to 1.13 of it, and blocks leave gaps."""
_PROBES = {"meta": (8, 16), "cpu": (2, 4)}
"""Batch sizes to count with. A CPU has to compute them, and treats a single sample in another way."""


class StepMemory(NamedTuple):
    """Bytes that a training step takes: weights, their gradients and the optimizer; and each sample, for backward."""

    fixed: int
    per_sample: int

    def of(self, batch_size: int) -> int:
        """Return the bytes of a step."""
        return self.fixed + batch_size * self.per_sample

    def largest_batch(self, num_bytes: float) -> int:
        """Return the largest batch whose step takes at most this much; 0 if there is none."""
        return max(0, math.floor((num_bytes - self.fixed) / self.per_sample))


def count_step_memory(recipe: Recipe, frames: PairedFrames, dtype: torch.dtype, *, on_cpu: bool = False) -> StepMemory:
    """Count what a training step takes, on a GPU without one; `dtype` passes between the layers.

    A network from elsewhere is counted on the CPU, in float32.
    """
    is_imported = recipe.model.is_imported
    device = torch.device("cpu" if on_cpu or is_imported else "meta")
    with device:
        model = build_network(recipe, frames)
    model.compute_dtype = None if is_imported else dtype
    fixed = _COPIES_OF_WEIGHTS[recipe.optim.name] * sum(weight.nbytes for weight in model.parameters())
    probes = _PROBES[device.type]
    few, many = (_saved_bytes(model, batch_size, recipe.has_two_streams) for batch_size in probes)
    return StepMemory(fixed, (many - few) // (probes[1] - probes[0]))


def _saved_bytes(model: Network, batch_size: int, has_two_streams: bool) -> int:
    shape = model.frame_shape
    saved: dict[int, UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        # What several operations keep is there once; a storage that is held keeps its number.
        storage = tensor.untyped_storage()
        saved[StorageWeakRef(storage).cdata] = storage  # type: ignore[no-untyped-call]
        return tensor

    frames = torch.empty(
        shape.num_time_steps, batch_size, shape.num_channels, *shape.size, device=next(model.parameters()).device
    )
    frames.zero_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if has_two_streams:
            model.forward_pair(frames, frames, tap=True)
        else:
            model(frames)
    return sum(storage.nbytes() for storage in saved.values())


def memory_for_steps(setup: TrainingSetup) -> int:
    """Return how many bytes steps may take on the device, beside frames that it holds; 0 if that is unknown."""
    if setup.device.type != "cuda":
        return available_bytes(setup.device)
    free, _ = torch.cuda.mem_get_info(setup.device)
    return int(free + torch.cuda.memory_reserved(setup.device) - held_bytes(setup))


def held_bytes(setup: TrainingSetup) -> int:
    """Return the bytes of the frames that lie on the device."""
    sources = (setup.train_source, setup.selection_source)
    return sum(stored_bytes(source.frames) for source in sources if isinstance(source, DeviceFrames))


def fitting_batch(recipe: Recipe, setup: TrainingSetup, step: StepMemory | None = None) -> int:
    """Return about how many samples a training batch may have on the device, with or without a count of its `step`.

    0 if that is not known: where the free memory is unknown, and in float32 on a GPU, where convolutions take
    workspaces of any size.
    """
    precision, free = choose_precision(recipe, setup.device), memory_for_steps(setup)
    on_cpu = setup.device.type != "cuda"
    if free == 0 or (precision == "float32" and not on_cpu):
        return 0
    step = step or count_step_memory(recipe, setup.frames, compute_dtype(precision), on_cpu=on_cpu)
    return step.largest_batch(_SHARE * free)
