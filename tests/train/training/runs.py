"""Runs of the tests: trained, stopped, altered, compared."""

import h5py
import numpy as np
import torch

from tmkt_data import PairedFrames
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.run import start_run

TIMES = {"wall_s", "samples_per_s", "peak_memory_bytes"}


class StopAfter:
    def __init__(self, num_asks):
        self.left = num_asks

    def __call__(self):
        self.left -= 1
        return self.left <= 0


def train(recipe, cache, out):
    return list(start_run(recipe, cache=cache, out=out).train())


def without_times(record):
    return {key: value for key, value in record.items() if key not in TIMES}


def assert_same_state(here, there, place=""):
    assert type(here) is type(there), place
    if isinstance(here, dict):
        assert list(here) == list(there), place
        for key in here:
            # The metrics hold times, too; they are compared as rows.
            if key not in ("wall_s", "epoch_s", "peak_bytes", "metrics"):
                assert_same_state(here[key], there[key], f"{place}/{key}")
    elif isinstance(here, (list, tuple)):
        assert len(here) == len(there), place
        for at, (a, b) in enumerate(zip(here, there, strict=True)):
            assert_same_state(a, b, f"{place}/{at}")
    elif isinstance(here, torch.Tensor):
        assert torch.equal(here, there), place
    else:
        assert here == there, place


def assert_same_run(here, there):
    for name in ("last.pt", "best.pt"):
        assert_same_state(load_checkpoint(here / name), load_checkpoint(there / name), name)
    rows = [[without_times(row) for row in RunFolder(path).metrics.read()[0]] for path in (here, there)]
    assert rows[0] == rows[1]
    results = [without_times(RunFolder(path).read_result()) for path in (here, there)]
    assert results[0] == results[1]
    with np.load(here / "diagnostics.npz") as a, np.load(there / "diagnostics.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class Asks:
    """Counts how often a run asks whether to stop: after each training step and each batch of an evaluation."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return False


def rows_of(cache, split):
    return PairedFrames(cache, split=split, pairing="none").rows


def alter_recording(cache, row):
    with h5py.File(cache) as file:
        frames = file["events/frames"]
        at = frames.id.get_offset() + int(row) * frames.nbytes // len(frames)
    with cache.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
