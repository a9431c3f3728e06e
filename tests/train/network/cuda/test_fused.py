"""VGG-SNN by the Triton kernels on meta tensors: shapes, dtypes and what is saved for backward, without a launch."""

from __future__ import annotations

import pytest
import torch

from tmkt_train.network.backbones import build_model
from tmkt_train.network.batch_norm import StreamBatchNorm2d
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.neurons import keep_membrane, membrane
from tmkt_train.network.stages import LayerChoices, Signal

pytest.importorskip("triton")

from tmkt_train.network.cuda import door

GIGABYTES = {torch.float16: 8.0, torch.bfloat16: 8.0, torch.float32: 11.0}


def run_stage(stage, signal):
    result = door.run_stage(stage, signal)
    assert result is not None
    return result


@pytest.mark.parametrize("dtype", list(GIGABYTES))
def test_what_vgg_snn_saves_for_backward(dtype):
    with torch.device("meta"):
        network = build_model("vgg-snn", FrameShape(10, 2, (48, 48)), Heads(101, separate=True), LayerChoices())
    for module in network.modules():
        if isinstance(module, StreamBatchNorm2d):
            module.streams = ("image", "event")
    keep_membrane(network.body.tapped, True)
    frames, kept = torch.empty(10, 2 * 120, 2, 48, 48, device="meta", dtype=dtype), []

    def note(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = network.body(Signal(frames), run_stage)
        potentials = membrane(network.body.tapped)
    assert sum(kept) <= GIGABYTES[dtype] * 1e9
    assert found.shape == (10, 240, 4608)
    assert found.dtype == potentials.dtype == dtype
    (found.float().sum() + potentials.float().sum()).backward()
    for name, parameter in network.body.named_parameters():
        assert parameter.grad.shape == parameter.shape, name
        assert parameter.grad.dtype == torch.float32, name
