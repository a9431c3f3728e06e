"""The epoch reaches the workers of a real DataLoader, whichever way they are started and however long they live."""

import copy
import multiprocessing
import multiprocessing.heap
import os
import pickle
import tempfile

import numpy as np
import pytest
from torch.utils.data import DataLoader, Subset

from tmkt_data.errors import PairingError
from tmkt_data.pairs import epoch as module
from tmkt_data.pairs.epoch import SharedEpoch
from tmkt_data.pairs.paired_frames import PairedFrames

START_METHODS = [name for name in ("fork", "spawn", "forkserver") if name in multiprocessing.get_all_start_methods()]
# Python 3.12 and later warn of any fork beside threads, which a DataLoader on Linux does by default.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def loader_of(frames, method, **options):
    # Starting a process of a fresh interpreter takes seconds.
    num_workers = 2 if method == "fork" else 1
    return DataLoader(frames, batch_size=5, num_workers=num_workers, multiprocessing_context=method, **options)


def columns(batches):
    """What a pass gave: images, rows of the images, and epochs, sample by sample."""
    batches = list(batches)
    names = ("image", "image_index", "epoch")
    return [np.concatenate([np.asarray(getattr(batch, name)) for batch in batches]) for name in names]


def expected(cache, epoch, **options):
    frames = PairedFrames(cache, "train", **options)
    frames.set_epoch(epoch)
    batch = frames.read(np.arange(len(frames)))
    return [batch.image, batch.image_indices, np.full(len(frames), epoch)]


def assert_equal(found, right):
    for mine, theirs in zip(found, right, strict=True):
        np.testing.assert_array_equal(mine, theirs)


# A process that is not forked imports torch; one that persists, and one that does not, are enough of those.
EACH_PASS = [("fork", False), ("fork", True), ("spawn", True), ("forkserver", False)]


@pytest.mark.parametrize(("method", "is_persistent"), [pair for pair in EACH_PASS if pair[0] in START_METHODS])
def test_each_pass_is_of_the_epoch_set_before_it(nmnist_cache, method, is_persistent):
    options = {"seed": 2, "encoder": "poisson"}
    frames = PairedFrames(nmnist_cache, "train", **options)
    frames.set_epoch(7)
    loader = loader_of(Subset(frames, range(len(frames))), method, persistent_workers=is_persistent)
    rights = {epoch: expected(nmnist_cache, epoch, **options) for epoch in (7, 0, 1)}
    assert (rights[0][1] != rights[1][1]).any()
    for epoch in (7, 0, 1) if is_persistent else (7, 0) if method == "fork" else (7,):
        frames.set_epoch(epoch)
        assert_equal(columns(loader), rights[epoch])


@pytest.mark.parametrize("method", [name for name in START_METHODS if name != "forkserver"])
def test_a_pass_that_was_broken_off_leaves_nothing_in_the_next(nmnist_cache, method):
    frames = PairedFrames(nmnist_cache, "train", seed=2)
    loader = loader_of(frames, method, persistent_workers=True, prefetch_factor=3)
    next(iter(loader))
    # Several batches of epoch 0 are still being read.
    frames.set_epoch(1)
    assert_equal(columns(loader), expected(nmnist_cache, 1, seed=2))


def test_samples_read_ahead_say_which_epoch_they_are_of(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", seed=2, encoder="poisson")
    passed = iter(loader_of(frames, "fork", persistent_workers=True))
    batches = [next(passed)]
    frames.set_epoch(1)
    image, rows, epochs = columns([*batches, *passed])
    rights = [expected(nmnist_cache, epoch, seed=2, encoder="poisson") for epoch in (0, 1)]
    assert epochs[0] == 0
    assert epochs[-1] == 1
    for at, epoch in enumerate(epochs):
        assert rows[at] == rights[epoch][1][at]
        np.testing.assert_array_equal(image[at], rights[epoch][0][at])


def read_later(frames, told, answers):
    while (index := told.get()) is not None:
        answers.put(frames[index].epoch)


@pytest.mark.parametrize("method", START_METHODS)
def test_a_worker_that_outlives_the_dataset_keeps_its_epoch(nmnist_cache, method):
    context = multiprocessing.get_context(method)
    told, answers = context.SimpleQueue(), context.SimpleQueue()
    frames = PairedFrames(nmnist_cache, "train")
    frames.set_epoch(5)
    worker = context.Process(target=read_later, args=(frames, told, answers))
    worker.start()
    del frames
    others = [PairedFrames(nmnist_cache, "train") for _ in range(3)]
    for other in others:
        other.set_epoch(9)
    told.put(0)
    assert answers.get() == 5
    told.put(None)
    worker.join()


def train_alone(frames, epochs, gate, answers):
    for epoch in epochs:
        gate.wait()
        frames.set_epoch(epoch)
        gate.wait()
        answers.put(frames[0].epoch == frames.epoch == epoch)


def test_loops_in_several_processes_do_not_disturb_each_other(nmnist_cache):
    context = multiprocessing.get_context(START_METHODS[0])
    gate, answers = context.Barrier(2), context.SimpleQueue()
    frames = PairedFrames(nmnist_cache, "train")
    frames.set_epoch(2)
    runs = [
        context.Process(target=train_alone, args=(frames, epochs, gate, answers)) for epochs in ((0, 1, 2), (5, 6, 7))
    ]
    for run in runs:
        run.start()
    assert [answers.get() for _ in range(6)] == [True] * 6
    for run in runs:
        run.join()
    assert frames.epoch == 2


def set_here(frames, told, answers):
    frames.set_epoch(3)
    answers.put(frames[0].epoch)
    told.get()
    try:
        frames[0]
    except PairingError as error:
        answers.put(str(error))


def test_an_epoch_set_on_both_sides_is_an_error_and_no_silent_choice(nmnist_cache):
    context = multiprocessing.get_context(START_METHODS[0])
    told, answers = context.SimpleQueue(), context.SimpleQueue()
    frames = PairedFrames(nmnist_cache, "train")
    worker = context.Process(target=set_here, args=(frames, told, answers))
    worker.start()
    assert answers.get() == 3
    assert frames.epoch == 0
    frames.set_epoch(4)
    told.put(None)
    assert answers.get() == (
        "epoch: set to 3 in this process, and to 4 in the one that made the dataset; set it there alone, "
        "or make a dataset in each process"
    )
    worker.join()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda frames: pickle.loads(pickle.dumps(frames))])
def test_a_copy_has_an_epoch_of_its_own(nmnist_cache, duplicate):
    frames = PairedFrames(nmnist_cache, "train")
    frames.set_epoch(3)
    other = duplicate(frames)
    assert other.epoch == 3
    other.set_epoch(4)
    assert (frames.epoch, frames[0].epoch, other[0].epoch) == (3, 3, 4)


def test_many_datasets_have_epochs_of_their_own():
    epochs = [SharedEpoch(number) for number in range(1100)]
    assert [epoch.get() for epoch in epochs] == list(range(1100))
    epochs[0].set(2**63 - 1)
    assert epochs[0].get() == 2**63 - 1
    assert epochs[1].get() == 1


class PicklesItself:
    def __init__(self, frames):
        self.frames = frames

    def __getstate__(self):
        return pickle.dumps(self.frames)

    def __setstate__(self, state):
        self.frames = pickle.loads(state)

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        return self.frames[index]


def test_another_pickler_inside_shares_the_epoch_too(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", seed=2)
    loader = loader_of(PicklesItself(frames), "spawn", persistent_workers=True)
    for epoch in (0, 1):
        frames.set_epoch(epoch)
        assert_equal(columns(loader), expected(nmnist_cache, epoch, seed=2))


def test_no_shared_memory_is_one_line(nmnist_cache, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module, "_pages", [])
    monkeypatch.setattr(multiprocessing.heap.BufferWrapper, "_heap", multiprocessing.heap.Heap())
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(PairingError, match=r"^epoch: no shared memory for worker processes \(No space left"):
        PairedFrames(nmnist_cache, "train")
