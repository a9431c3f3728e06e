"""Iterations without a GPU, on tensors that have shapes, dtypes and devices but no values.

Forward, loss and metrics run on fake tensors of a GPU. Backward cannot: autograd asks the driver for the streams of a
GPU, and fails where there is none. So the whole iteration runs on meta tensors as well, which take the same branches:
what asks for the type of a device asks only whether it is a CPU. Kernels run as on a GPU, without a launch; a hook on
all modules lets the plain layers run instead.
"""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.methods import build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.execution import who_ran
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.metrics import LOSS, EpochMeans
from tmkt_train.training.optimizer import build_optimizer

from ..recipe.test_shipped_recipes import NAMES

pytest.importorskip("triton")


def what_runs(name):
    """The settings of a recipe that decide what runs on the device, but for the size of the frames."""
    recipe = load_recipe(find_recipe(name))
    tables = [table.model_dump_json() for table in (recipe.model, recipe.method, recipe.loss, recipe.mix)]
    return *tables, recipe.slide, recipe.image_epochs > 0, recipe.optim.name


RECIPES = sorted({what_runs(name): name for name in reversed(NAMES)}.values())
NUM_TIME_STEPS = 4
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero", "equal"}
COPIES = {"_to_copy", "copy_"}


class Watch(TorchDispatchMode):
    """Refuses operations that mix devices or wait for the GPU; numbers are no tensors here."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        # A kernel takes a number on the CPU as an argument; a copy of it is a copy.
        is_number = [name not in COPIES and tensor.ndim == 0 for tensor in tensors]
        devices = {
            t.device.type for t, skip in zip(tensors, is_number, strict=True) if not skip or t.device.type != "cpu"
        }
        if len(devices) > 1:
            is_async = name in COPIES and (kwargs or {}).get("non_blocking", args[-1] is True)
            assert is_async, f"{func} mixes {devices}"
        if devices - {"cpu"}:
            assert name not in WAITS, f"{func} waits for the device"
        return result


@contextmanager
def plain_layers():
    handle = register_module_forward_hook(lambda *_: None)
    try:
        yield
    finally:
        handle.remove()


def build(recipe, dtype=torch.float32, surrogate=None):
    shape = FrameShape(NUM_TIME_STEPS, 2, (recipe.data.prepare.size,) * 2)
    model = build_model(
        recipe.model.backbone,
        shape,
        Heads(7, separate=recipe.model.separate_heads and recipe.has_two_streams),
        LayerChoices(recipe.model.batch_norm, recipe.model.eval_statistics, surrogate or recipe.model.surrogate),
    )
    model.compute_dtype = None if dtype == torch.float32 else dtype
    start = 0.5 if recipe.mixes_time_steps else None
    method = build_method(
        recipe.method.name,
        recipe.loss,
        mixer=Mixer(NUM_TIME_STEPS, recipe.mix, start, recipe.slide),
        feature_size=model.feature_size,
        image_epochs=recipe.image_epochs,
    )
    return model, method


def move(module, device):
    """Give a module tensors on a device; `Module.to` cannot do that with fake ones."""
    for part in module.modules():
        for name, tensor in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(torch.empty(tensor.shape, device=device)))
        for name, tensor in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty(tensor.shape, dtype=tensor.dtype, device=device))


def draw(recipe, device, batch_size=4):
    size = recipe.data.prepare.size
    frames = torch.empty(NUM_TIME_STEPS, batch_size, 2, size, size, device=device)
    indices = np.arange(batch_size)
    keys = DrawKeys(0, 0, indices.astype(np.uint64), np.zeros(batch_size, np.int64))
    labels = torch.empty(batch_size, dtype=torch.int64, device=device)
    return Batch(frames if recipe.needs_images else None, frames, labels, indices, keys)


def run_on_fake_gpu(recipe, built):
    model, method = built
    device = torch.device("cuda:0")
    with FakeTensorMode():
        move(model, device)
        move(method, device)
        batch, means = draw(recipe, device), EpochMeans(device)
        draws = method.draw(batch.keys, 0.5)
        with Watch():
            objective = method.compute(model, batch, draws)
            for _ in range(2):
                means.add({LOSS: objective.loss, **objective.metrics, **draws.metrics}, weight=len(batch))
    return objective


@pytest.mark.parametrize("name", RECIPES)
def test_forward_pass_on_a_gpu_mixes_no_devices_and_does_not_wait(name):
    recipe = load_recipe(find_recipe(name))
    model, method = build(recipe)
    objective = run_on_fake_gpu(recipe, (model, method))
    assert objective.loss.device == torch.device("cuda:0")
    assert set(who_ran(model).values()) == {"kernels"}


@pytest.mark.parametrize("name", ["vggsnn_ncaltech", "resnet18_cepdvs", "scnn_nomniglot"])
def test_plain_layers_on_a_gpu_mix_no_devices_and_do_not_wait(name):
    recipe = load_recipe(find_recipe(name))
    # For the rectangle, spikingjelly asks the driver which GPU there is.
    model, method = build(recipe, surrogate="triangle")
    with plain_layers():
        assert run_on_fake_gpu(recipe, (model, method)).loss.device == torch.device("cuda:0")
    assert set(who_ran(model).values()) == {"plain"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x + torch.ones(3),
        lambda x: x.nonzero(),
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: torch.from_numpy(np.ones(3)).to(x.device),
    ],
)
def test_what_mixes_devices_or_waits_is_found(spoil):
    with Watch(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        spoil(torch.empty(3, device="meta"))


def test_number_that_is_copied_to_a_gpu_is_found():
    with FakeTensorMode(), Watch(), pytest.raises(AssertionError, match="mixes"):
        torch.as_tensor(0.5, device="cuda:0")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_iteration_mixes_no_devices_and_does_not_wait(name, dtype, monkeypatch):
    recipe = load_recipe(find_recipe(name))
    model, method = build(recipe, dtype)
    run_on_meta_tensors(recipe, (model, method), monkeypatch)
    assert set(who_ran(model).values()) == {"kernels"}


@pytest.mark.parametrize("name", ["vggsnn_ncaltech", "resnet18_cepdvs", "scnn_nomniglot"])
def test_iteration_of_plain_layers_mixes_no_devices_and_does_not_wait(name, monkeypatch):
    recipe = load_recipe(find_recipe(name))
    model, method = build(recipe, surrogate="triangle")
    with plain_layers():
        run_on_meta_tensors(recipe, (model, method), monkeypatch)
    assert set(who_ran(model).values()) == {"plain"}


def run_on_meta_tensors(recipe, built, monkeypatch):
    # There is no autocast of meta tensors; the losses only ask for none.
    monkeypatch.setattr(torch, "autocast", lambda **_: nullcontext())
    model, method = built
    device = torch.device("meta")
    move(model, device)
    move(method, device)
    optimizer = build_optimizer(recipe.optim, model, method)
    batch, means = draw(recipe, device), EpochMeans(device)
    draws = method.draw(batch.keys, 0.5)
    with Watch():
        objective = method.compute(model, batch, draws)
        objective.loss.backward()
        optimizer.step()
        means.add({LOSS: objective.loss, **objective.metrics, **draws.metrics}, weight=len(batch))
    assert {(p.grad.device, p.grad.dtype, p.grad.shape) for p in model.parameters()} == {
        (device, torch.float32, p.shape) for p in model.parameters()
    }
