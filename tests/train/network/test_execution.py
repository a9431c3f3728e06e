"""Who computes a stage: kernels unless somebody observes it, and plain layers wherever there are no kernels."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
)
from torch.utils.flop_counter import FlopCounterMode

import tmkt_train
from tmkt_train.network import execution
from tmkt_train.network.backbones import build_model
from tmkt_train.network.execution import lif_implementation, run_stage, who_ran
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.neurons import avg_pool, conv2d, lif, reset
from tmkt_train.network.stages import LayerChoices, Signal, Stage, run_plain

KINDS = ("forward_pre", "forward", "full_backward_pre", "full_backward")


def build(backbone="scnn"):
    torch.manual_seed(0)
    return build_model(backbone, FrameShape(3, 2, (16, 16)), Heads(4, separate=True), LayerChoices("per-step"))


def frames(kind=torch.float32):
    return 4 * torch.rand(3, 2, 2, 16, 16, generator=torch.Generator().manual_seed(1), dtype=kind)


def stage():
    torch.manual_seed(0)
    return Stage(LayerChoices().norm(4), lif(), avg_pool(), conv2d(4, 5, 3, padding=1))


def is_by_kernels(some_stage):
    x = Signal(torch.rand(3, 2, 4, 6, 6, generator=torch.Generator().manual_seed(2)).requires_grad_())
    result = run_stage(some_stage, x)
    result.values.sum().backward()
    for layer in some_stage.layers():
        reset(layer)
    return type(result.values.grad_fn).__name__.startswith("_FireAndConvolve")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_hook_on_a_layer_is_called_and_removing_it_brings_the_kernels_back(kind, position):
    some_stage, seen = stage(), []
    assert is_by_kernels(some_stage)
    handle = getattr(some_stage.layers()[position], f"register_{kind}_hook")(lambda *_: seen.append(1))
    assert not is_by_kernels(some_stage)
    assert seen == [1]
    handle.remove()
    assert is_by_kernels(some_stage)
    assert seen == [1]


@pytest.mark.parametrize(
    "register",
    [
        register_module_forward_pre_hook,
        register_module_forward_hook,
        register_module_full_backward_pre_hook,
        register_module_full_backward_hook,
    ],
)
def test_a_hook_on_all_modules_is_called(register):
    some_stage, seen = stage(), []
    handle = register(lambda module, *_: seen.append(module))
    try:
        assert not is_by_kernels(some_stage)
    finally:
        handle.remove()
    assert set(some_stage.layers()) <= set(seen)
    assert is_by_kernels(some_stage)


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
def test_a_backward_hook_of_the_deprecated_kind_is_called():
    some_stage, seen = stage(), []
    some_stage.convolution.register_backward_hook(lambda *_: seen.append(1))
    assert not is_by_kernels(some_stage)
    assert seen == [1]


def test_hooks_that_were_there_before_the_first_pass_and_those_of_a_copy():
    network, seen = build(), []
    network.body.lif2.register_forward_hook(lambda *_: seen.append(1))
    network(frames())
    copy_of = torch.nn.Module.__new__(type(network))
    copy_of.__dict__.update(network.__dict__)
    copy_of(frames())
    assert seen == [1, 1]


def test_looking_for_hooks_leaves_none():
    network = build()
    network(frames())
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, table) for module in network.modules() for table in tables)


def test_tools_that_watch_all_modules_see_every_layer():
    network = build()
    with FlopCounterMode(display=False) as counter:
        network(frames())
    assert {"SpikingNetwork.body.conv1", "SpikingNetwork.body.conv2"} <= set(counter.get_flop_counts())


@pytest.mark.parametrize("backbone", ["vgg-snn", "resnet18", "scnn"])
def test_plain_layers_give_the_same(backbone):
    network = build(backbone).double()
    x = frames(torch.float64)
    outputs, grads = [], []
    for plain in (False, True):
        network.zero_grad()
        output = network(x, tap=True, plain=plain)
        (output.logits.square().sum() + output.alignment.square().sum()).backward()
        outputs.append(output)
        grads.append([p.grad for p in network.body.parameters()])
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(outputs[0].alignment, outputs[1].alignment, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-9)


def test_plain_layers_can_be_differentiated_twice():
    network, x = build().double(), frames(torch.float64).requires_grad_()
    (grad,) = torch.autograd.grad(network(x, plain=True).logits.square().sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert network.body.conv1.weight.grad.abs().sum() > 0


def test_state_that_is_left_is_continued_from():
    some_stage, x = Stage(neurons=lif()), torch.rand(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(2))
    expected = torch.cat([run_plain(some_stage, Signal(x)).values for _ in range(2)])
    reset(some_stage.neurons)
    some_stage.neurons(x)
    again = run_stage(some_stage, Signal(x)).values
    assert torch.equal(again, expected[3:])
    assert not torch.equal(again, expected[:3])


def test_a_single_value_per_channel_is_refused_by_batch_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        run_stage(stage()._replace(pooling=None, convolution=None), Signal(torch.ones(3, 1, 4, 1, 1)))


def test_a_layer_that_was_replaced_is_replaced_in_its_stage():
    network, x = build().eval(), frames()
    with torch.no_grad():
        network.body.linear.weight.mul_(20.0)  # the last layer would be silent else
    before = network(x).features
    network.body.conv2 = nn.Sequential(network.body.conv2, nn.Threshold(-1e9, 0))  # changes nothing
    torch.testing.assert_close(network(x).features, before)
    network.body.conv2 = conv2d(15, 40, 5)
    after = network(x).features
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, network(x, plain=True).features)


def test_who_ran_names_every_layer_of_a_stage():
    network = build()
    assert who_ran(network) == {}
    network(frames())
    assert set(who_ran(network).values()) == {"kernels"}
    names = [f"body.{layer}{number}" for number in (1, 2) for layer in ("conv", "norm", "lif", "pool")]
    assert set(who_ran(network)) == {*names, "body.lif3"}
    handle = network.body.lif2.register_forward_hook(lambda *_: None)
    network(frames())
    handle.remove()
    plain = {name for name, who in who_ran(network).items() if who == "plain"}
    assert plain == {"body.norm2", "body.lif2", "body.pool2"}
    network(frames(), plain=True)
    assert set(who_ran(network).values()) == {"plain"}


def test_implementation_by_device():
    assert lif_implementation(torch.device("cpu")) == "tmkt"


TRAIN = """
import sys
import torch
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices

def train():
    torch.manual_seed(0)
    for backbone in ("vgg-snn", "resnet18", "scnn"):
        network = build_model(backbone, FrameShape(3, 2, (16, 16)), Heads(4, separate=True), LayerChoices()).double()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        for step in range(2):
            output = network(4 * torch.rand(3, 2, 2, 16, 16, dtype=torch.float64), tap=True)
            loss = output.logits.square().mean() + output.alignment.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()
"""
ALONE = """
from tmkt_train.network.execution import lif_implementation
assert lif_implementation(torch.device("cpu")) != "tmkt"
print(*train())
assert not any(name.split(".")[0] == "numba" for name in sys.modules)
"""


def test_the_kernels_can_be_deleted_with_the_case_that_names_them(tmp_path):
    package = Path(tmkt_train.__file__).parent
    for root in (package, package.parent / "tmkt_data"):
        shutil.copytree(root, tmp_path / root.name, ignore=shutil.ignore_patterns("__pycache__"))
    network = tmp_path / "tmkt_train" / "network"
    shutil.rmtree(network / "cpu")
    chooser = network / Path(execution.__file__).name
    source, count = re.subn(
        r' +case "cpu":\n +from tmkt_train.network.cpu .*\n\n +return .*\n', "", chooser.read_text()
    )
    assert count == 1
    chooser.write_text(source)
    assert not [path for path in tmp_path.rglob("*.py") if "network.cpu" in path.read_text()]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN + ALONE],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names: dict = {}
    exec(TRAIN, names)
    np.testing.assert_allclose([float(loss) for loss in done.stdout.split()], list(names["train"]()), rtol=1e-9)


def test_blocked_kernels_leave_the_plain_layers(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tmkt_train.network.cpu")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tmkt_train.network.cpu", None)
    network = build()
    with pytest.raises(ImportError):
        network(frames())
    network(frames(), plain=True).logits.sum().backward()
    assert network.body.conv1.weight.grad.abs().sum() > 0
