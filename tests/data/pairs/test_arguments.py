from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_data.errors import SpecError
from tmkt_data.pairs.arguments import require_count, require_counter, require_labels, sample_at, samples_at


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


class TestRanges:
    """Both ends of each range, and the next number beyond."""

    @pytest.mark.parametrize("number", [0, 1, 2**63 - 1])
    def test_a_counter_has_63_bits(self, number):
        assert require_counter("seed", number) == number
        assert sample_at((0, number), 1) == (0, number)
        positions, repeats = samples_at([0, 0], np.array([0, number], np.uint64), 1)
        assert (positions.tolist(), repeats.tolist()) == ([0, 0], [0, number])
        assert positions.dtype == repeats.dtype == np.int64

    @pytest.mark.parametrize("number", [-1, 2**63])
    def test_beyond_them_is_refused(self, number):
        with pytest.raises(SpecError, match=rf"^seed: found {number}, expected 0 to 2\*\*63 - 1$"):
            require_counter("seed", number)
        with pytest.raises(IndexError, match=rf"^occurrence {number}, expected 0 to 2\*\*63 - 1$"):
            sample_at((0, number), 1)
        if number > 0:
            with pytest.raises(IndexError, match=rf"^occurrences 0 to {number}, expected 0 to 2\*\*63 - 1$"):
                samples_at([0, 0], np.array([0, number], np.uint64), 1)

    def test_an_index_counts_from_either_end(self):
        assert [sample_at(at, 3) for at in (0, 2, -1, -3)] == [(0, 0), (2, 0), (2, 0), (0, 0)]
        for at in (3, -4):
            with pytest.raises(IndexError, match=rf"^index {at}, expected -3 to 2$"):
                sample_at(at, 3)

    def test_a_batch_counts_from_the_start(self):
        assert samples_at([0, 2], None, 3)[0].tolist() == [0, 2]
        assert samples_at([0, 2], None, 3)[1].tolist() == [0, 0]
        assert [part.tolist() for part in samples_at([], [], 3)] == [[], []]
        for at in (3, -1):
            with pytest.raises(IndexError, match=rf"^indices {at} to {at}, expected 0 to 2$"):
                samples_at([at], None, 3)

    def test_labels_are_those_of_the_classes(self):
        for given, labels in (([0, 2], [0, 2]), (1, [1]), (np.uint8(2), [2]), ([], [])):
            found = require_labels(given, 3)
            assert (found.tolist(), found.dtype) == (labels, np.dtype(np.int64))
        for given in ([3], [-1]):
            with pytest.raises(SpecError, match=r"^keep_classes: found .*, expected labels of 0 to 2$"):
                require_labels(given, 3)

    def test_a_count_is_what_was_given(self):
        assert [require_count("per class", number) for number in (-1, 0, np.int8(7))] == [-1, 0, 7]

    @pytest.mark.parametrize("length", [60, 61])
    def test_long_texts_are_shortened_to_60_letters(self, length):
        text = "x" * (length - 2)
        with pytest.raises(SpecError) as refused:
            require_count("per class", text)
        shown = str(refused.value).removeprefix("per class: found ").partition(", expected")[0]
        assert shown == (repr(text) if length == 60 else f"'{'x' * 56}...")
