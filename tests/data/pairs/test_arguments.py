from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_data.errors import SpecError


@pytest.fixture
def frames(nmnist_cache):
    return PairedFrames(nmnist_cache, "train", encoder="poisson")


@pytest.mark.parametrize(
    "index", [3, np.int32(3), np.array(3), torch.tensor(3), (3, 0), (torch.tensor(3), np.uint8(0))]
)
def test_whole_numbers_of_any_type_are_an_index(frames, index):
    assert frames[index].position == 3


@pytest.mark.parametrize("index", [1.0, 1.5, (1, 1.5), (1, 2, 3), None, "1", [1, 2], np.array([1, 2]), np.nan])
def test_anything_else_is_no_index(frames, index):
    with pytest.raises(IndexError, match=r"^index .*, expected a whole number, a slice, or a tuple of index and"):
        frames[index]


def test_a_sample_was_not_drawn_a_negative_number_of_times(frames):
    with pytest.raises(IndexError, match=r"^occurrence -1, expected 0 to 2\*\*63 - 1$"):
        frames[1, -1]


@pytest.mark.parametrize(
    ("indices", "occurrences", "message"),
    [
        ([0.7], None, "indices of type float64, expected whole numbers"),
        (np.ones(9, bool), None, "indices of type bool, expected whole numbers"),
        (3, None, "indices of shape (), expected a sequence, shape (B,)"),
        ([[1, 2], [3, 4]], None, "indices of shape (2, 2), expected a sequence, shape (B,)"),
        (np.array([1, 2**63], np.uint64), None, "indices 1 to 9223372036854775808, expected 0 to "),
        ([1, 2], [0], "occurrences of shape (1,), expected one for each index, (2,)"),
        ([1, 2], [0, 0, 0], "occurrences of shape (3,), expected one for each index, (2,)"),
        ([1, 2], 1, "occurrences of shape (), expected a sequence, shape (B,)"),
        ([1, 2], [0.5, 1.5], "occurrences of type float64, expected whole numbers"),
        ([1, 2], [0, -1], "occurrences -1 to 0, expected 0 to 2**63 - 1"),
    ],
)
def test_a_batch_has_one_whole_number_for_each_sample(frames, indices, occurrences, message):
    with pytest.raises(IndexError, match=f"^{re.escape(message)}"):
        frames.read(indices, occurrences)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1.5}, "seed: found 1.5, expected a whole number from 0 to 2**63 - 1"),
        ({"seed": "0"}, "seed: found '0', expected a whole number from 0 to 2**63 - 1"),
        ({"per_class": 1.5}, "recordings per class: found 1.5, expected a whole number"),
        ({"keep_classes": [0, 99]}, "keep_classes: found 0 to 99, expected labels of 0 to 9"),
        ({"keep_classes": [-1, 2]}, "keep_classes: found -1 to 2, expected labels of 0 to 9"),
        ({"keep_classes": [1.5]}, "keep_classes: found values of type float64, expected labels, whole numbers"),
        ({"keep_classes": [True] * 10}, "keep_classes: found values of type bool, expected labels, whole numbers"),
        ({"camera": "dvs"}, "camera: found 'dvs', expected a Camera, or None for that of the dataset"),
    ],
)
def test_choices_are_not_rounded(nmnist_cache, options, message):
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        PairedFrames(nmnist_cache, **options)


@pytest.mark.parametrize("epoch", [1.0, "1", None, np.nan])
def test_an_epoch_is_a_whole_number(frames, epoch):
    with pytest.raises(SpecError, match=f"^epoch: found {epoch!r}, expected a whole number from 0"):
        frames.set_epoch(epoch)
    frames.set_epoch(np.int64(2))
    assert frames.epoch == 2


def test_a_type_of_torch_is_none_of_numpy(frames):
    with pytest.raises(SpecError, match=r"^dtype: found torch.float16, expected float16, float32 or float64 of NumPy$"):
        frames.read([0], dtype=torch.float16)
