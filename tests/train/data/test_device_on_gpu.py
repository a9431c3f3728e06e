"""Frames made on a GPU equal those of the CPU bit for bit, and nothing waits for the GPU."""

from typing import get_args

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_data.spec import EventScale
from tmkt_train.data import device
from tmkt_train.data.batches import EpochPlan, evaluation_batches, training_batches
from tmkt_train.data.device import DeviceFrames, free_bytes, hold_frames, place_frames
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.data.stored import stored_bytes

from .test_device import CACHES, CAMERAS, CPU, MOVES, require_equal, train_table

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")
ENCODINGS = [
    ("bytes", "repeat"),
    ("bytes", "poisson"),
    ("bytes", "baked"),
    ("overflow", "baked"),
    ("voxels", "poisson"),
    ("bytes", "gradient"),
    *((name, encoder) for name in ("bytes", "fine", "fine-voxels") for encoder in ("saccade", "microsaccade")),
]


@pytest.fixture(autouse=True)
def _deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def keys_of(frames, num):
    return np.arange(num), DrawKeys(3, 1, frames.uids[:num], np.zeros(num, np.int64))


@pytest.mark.parametrize("moves", ["still", "all"])
@pytest.mark.parametrize("scale", get_args(EventScale))
@pytest.mark.parametrize("name", CACHES)
def test_events_are_equal(stored_caches, name, scale, moves):
    frames = PairedFrames(stored_caches[name], pairing="none", seed=4, scale=scale)
    train, plan = train_table(**MOVES[moves]), EpochPlan(4, 2)
    expected = list(training_batches(frames, train, plan, CPU))
    require_equal(training_batches(hold_frames(frames, GPU), train, plan, GPU), expected)
    require_equal(training_batches(frames, train, plan, GPU), expected)


@pytest.mark.parametrize("pairing", ["same-class", "twin"])
@pytest.mark.parametrize(("name", "encoder"), ENCODINGS)
def test_images_are_equal(stored_caches, name, encoder, pairing):
    frames = PairedFrames(stored_caches[name], pairing=pairing, seed=4, encoder=encoder)
    train, plan = train_table(), EpochPlan(5, 3)
    expected = list(training_batches(frames, train, plan, CPU))
    require_equal(training_batches(hold_frames(frames, GPU), train, plan, GPU), expected)
    require_equal(training_batches(frames, train, plan, GPU), expected)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("encoder", ["saccade", "microsaccade"])
def test_images_moved_by_any_camera_are_equal(stored_caches, encoder, camera):
    frames = PairedFrames(stored_caches["fine"], seed=4, encoder=encoder, scale="raw", camera=CAMERAS[camera])
    train, plan = train_table(**MOVES["all"]), EpochPlan(5, 3)
    held = place_frames(frames, GPU)
    assert isinstance(held, DeviceFrames)
    expected = list(training_batches(frames, train, plan, CPU))
    require_equal(training_batches(held, train, plan, GPU), expected)
    require_equal(training_batches(frames, train, plan, GPU), expected)


def test_a_split_beyond_its_share_of_the_memory_is_not_held(stored_caches, monkeypatch):
    frames = PairedFrames(stored_caches["bytes"])
    monkeypatch.setattr(device, "LARGEST_SHARE", 0.9 * stored_bytes(frames) / free_bytes(GPU))
    assert place_frames(frames, GPU) is frames


def test_a_small_split_is_held_and_evaluates_alike(stored_caches):
    frames = PairedFrames(stored_caches["overflow"], split="test", pairing="none", scale="max")
    expected = list(evaluation_batches(frames, batch_size=7, device=CPU))
    held = place_frames(frames, GPU)
    assert isinstance(held, DeviceFrames)
    require_equal(evaluation_batches(held, batch_size=7, device=GPU), expected)
    require_equal(evaluation_batches(frames, batch_size=7, device=GPU), expected)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("scale", ["log1p", "max"])
@pytest.mark.parametrize("encoder", ["repeat", "poisson", "baked", "saccade", "microsaccade"])
@pytest.mark.parametrize("name", ["bytes", "overflow"])
def test_neither_a_plan_nor_a_batch_waits_for_the_gpu(stored_caches, name, encoder, scale):
    frames = PairedFrames(stored_caches[name], encoder=encoder, scale=scale)
    held, train = hold_frames(frames, GPU), train_table(**MOVES["all"])
    held.batch(held.plan(*keys_of(frames, 8), train))
    torch.cuda.set_sync_debug_mode("error")
    try:
        plan = held.plan(*keys_of(frames, 20), train)
        for start in range(0, 20, 8):
            held.batch(plan.part(slice(start, start + 8)))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("name", "encoder"), ENCODINGS)
def test_a_cuda_graph_makes_batches_from_a_plan_that_is_overwritten(stored_caches, name, encoder):
    frames = PairedFrames(stored_caches[name], encoder=encoder, scale="step-max")
    held, train = hold_frames(frames, GPU), train_table(**MOVES["all"])
    plan = held.plan(*keys_of(frames, 16), train)
    here = plan._replace(table=plan.table[:8].clone())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        held.batch(here)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = held.batch(here)
    for samples in (slice(8, 16), slice(0, 8)):
        here.table.copy_(plan.table[samples])
        graph.replay()
        expected = held.batch(plan.part(samples))
        for one, other in zip(made, expected, strict=True):
            assert torch.equal(one, other)
