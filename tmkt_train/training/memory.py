"""GPU memory of a training step, counted on tensors that have shapes but no values."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef

from tmkt_data import PairedFrames
from tmkt_train.data.device import DeviceFrames
from tmkt_train.data.stored import stored_bytes
from tmkt_train.network.network import SpikingNetwork
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.environment import choose_precision, compute_dtype
from tmkt_train.training.setup import TrainingSetup, build_network

_COPIES_OF_WEIGHTS = 4
"""Weights, gradients, and the two moments of AdamW."""
_SHARE = 0.75
"""Share of the memory that what is counted may take; measured peaks are up to 1.13 of it, and blocks leave gaps."""
_PROBES = (8, 16)


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


def count_step_memory(recipe: Recipe, frames: PairedFrames, dtype: torch.dtype) -> StepMemory:
    """Count what a training step takes on a GPU, without one; `dtype` passes between the layers."""
    with torch.device("meta"):
        model = build_network(recipe, frames)
    model.compute_dtype = dtype
    fixed = _COPIES_OF_WEIGHTS * sum(weight.nbytes for weight in model.parameters())
    few, many = (_saved_bytes(model, batch_size, recipe.has_two_streams) for batch_size in _PROBES)
    return StepMemory(fixed, (many - few) // (_PROBES[1] - _PROBES[0]))


def _saved_bytes(model: SpikingNetwork, batch_size: int, has_two_streams: bool) -> int:
    shape = model.frame_shape
    saved: dict[int, UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        # What several operations keep is there once; a storage that is held keeps its number.
        storage = tensor.untyped_storage()
        saved[StorageWeakRef(storage).cdata] = storage  # type: ignore[no-untyped-call]
        return tensor

    frames = torch.empty(shape.num_time_steps, batch_size, shape.num_channels, *shape.size, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if has_two_streams:
            model.forward_pair(frames, frames, tap=True)
        else:
            model(frames)
    return sum(storage.nbytes() for storage in saved.values())


def fitting_batch(recipe: Recipe, setup: TrainingSetup) -> int:
    """Return about how many samples a training batch may have on the GPU, whose memory has just run out.

    0 if that is not known: on a CPU, and in float32, where convolutions take workspaces of any size.
    """
    device, precision = setup.device, choose_precision(recipe, setup.device)
    if device.type != "cuda" or precision == "float32":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    sources = (setup.train_source, setup.selection_source)
    held = sum(stored_bytes(source.frames) for source in sources if isinstance(source, DeviceFrames))
    step = count_step_memory(recipe, setup.frames, compute_dtype(precision))
    return step.largest_batch(_SHARE * (free + torch.cuda.memory_reserved(device) - held))


def explain_out_of_memory(recipe: Recipe, setup: TrainingSetup, error: torch.OutOfMemoryError) -> str:
    """Say in one line what did not fit, and what would."""
    train = recipe.train
    found = f"{str(error).split('. ')[0]} with train.batch_size = {train.batch_size}"
    fits = fitting_batch(recipe, setup)
    if 0 < fits < train.batch_size:
        return f"{found}; about {fits} fit: start a new run with that, or with train.precision=bfloat16"
    return (
        f"{found} and train.eval_batch_size = {train.eval_batch_size}; start a new run with lower ones, or with "
        "train.precision=bfloat16"
    )
