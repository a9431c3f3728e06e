from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from tmkt_data import PairedFrames
from tmkt_data.errors import SpecError
from tmkt_data.torch import EpochBatches, PairedTensors, collate_pairs, pair_loader

ENCODERS = ["repeat", "poisson", "saccade"]


def equal(batch: PairedTensors, expected) -> None:
    for name in ("image", "events", "label", "position", "image_index"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), getattr(expected, name))
    assert set(batch.epoch.tolist()) == {expected.epoch}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("time_first", [True, False])
def test_a_loader_gives_what_is_read(nmnist_cache, encoder, time_first):
    frames = PairedFrames(nmnist_cache, "train", encoder=encoder, seed=5)
    frames.set_epoch(3)
    order = list(EpochBatches(frames, 7))
    for batch, indices in zip(pair_loader(frames, 7, time_first=time_first), order, strict=True):
        equal(batch, frames.read(indices, time_first=time_first))
        assert batch.image.is_contiguous()
        batch.image.add_(1)  # its own memory


# More of the ways to start a process are in pairs/test_epoch.py.
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_persistent_workers_follow_the_epoch(nmnist_cache, context):
    frames = PairedFrames(nmnist_cache, "train", encoder="poisson")
    loader = pair_loader(
        frames, 16, shuffle=False, num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in (0, 4):
        frames.set_epoch(epoch)
        seen = list(loader)
        assert {number for batch in seen for number in batch.epoch.tolist()} == {epoch}
        equal(seen[0], frames.read(range(16), time_first=True))


def test_the_order_is_of_seed_and_epoch_alone(nmnist_cache):
    frames, other = (PairedFrames(nmnist_cache, "train", seed=seed) for seed in (1, 2))
    batches = EpochBatches(frames, 8)

    def order():
        return [index for batch in batches for index in batch]

    torch.manual_seed(0)
    first = order()
    torch.manual_seed(1)
    assert order() == first != list(range(len(frames)))
    assert sorted(first) == list(range(len(frames)))
    frames.set_epoch(1)
    assert order() != first
    frames.set_epoch(0)
    assert order() == first != [index for batch in EpochBatches(other, 8) for index in batch]


@pytest.mark.parametrize("drop_last", [False, True])
def test_lengths(nmnist_cache, drop_last):
    frames = PairedFrames(nmnist_cache, "train")
    for size in (1, 7, len(frames), len(frames) + 1):
        batches = EpochBatches(frames, size, drop_last=drop_last)
        found = [len(batch) for batch in batches]
        assert len(found) == len(batches)
        assert sum(found) == (len(frames) // size * size if drop_last else len(frames))
        assert all(length == size for length in found[:-1])


def test_a_plain_loader_collates_to_the_same(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", encoder="poisson")
    plain = DataLoader(frames, batch_sampler=EpochBatches(frames, 7), collate_fn=collate_pairs)
    for one, other in zip(plain, pair_loader(frames, 7, time_first=False), strict=True):
        for left, right in zip(one, other, strict=True):
            assert left.dtype == right.dtype
            assert torch.equal(left, right)


def test_tensors_move_together(nmnist_cache):
    batch = next(iter(pair_loader(PairedFrames(nmnist_cache, "train"), 3))).to("meta")
    assert {tensor.device.type for tensor in batch} == {"meta"}


def test_bad_input_is_one_line(nmnist_cache):
    with pytest.raises(SpecError, match=r"^batch size: found 0, expected 1 or more$"):
        pair_loader(PairedFrames(nmnist_cache, "train"), 0)
    with pytest.raises(SpecError, match=r"^pair_loader: found transforms, expected none; apply them to batches"):
        pair_loader(PairedFrames(nmnist_cache, "train", transform=np.flip), 2)


@pytest.mark.parametrize("size", [2.0, None, "8"])
def test_the_batch_size_is_a_whole_number(nmnist_cache, size):
    with pytest.raises(SpecError, match=f"^batch size: found {size!r}, expected a whole number$"):
        pair_loader(PairedFrames(nmnist_cache, "train"), size)


def test_pairs_in_another_dataset_go_into_a_plain_loader(nmnist_cache):
    subset = Subset(PairedFrames(nmnist_cache, "train"), [3, 1])
    with pytest.raises(SpecError, match=r"^pair_loader: found a Subset, expected PairedFrames; .*collate_fn"):
        pair_loader(subset, 2)
    batch = next(iter(DataLoader(subset, 2, collate_fn=collate_pairs)))
    assert batch.position.tolist() == [3, 1]


@pytest.mark.parametrize("part", ["sampler", "batch_sampler", "collate_fn", "dataset"])
def test_parts_of_the_loader_cannot_be_replaced(nmnist_cache, part):
    frames = PairedFrames(nmnist_cache, "train")
    with pytest.raises(
        SpecError, match=rf"^pair_loader: found {part}, expected none, as it has its own; use DataLoader"
    ):
        pair_loader(frames, 2, **{part: [0]})
