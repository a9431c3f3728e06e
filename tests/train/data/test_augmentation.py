import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.random_keys import Purpose, uniform
from tmkt_train.data.augmentation import augment, crop_frames, crop_offsets, rotate_frames
from tmkt_train.data.sampling import DrawKeys


def naive_crop(frames, offsets, padding):
    out = np.zeros_like(frames)
    height, width = frames.shape[-2:]
    for row, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                from_y, from_x = y + dy - padding, x + dx - padding
                if 0 <= from_y < height and 0 <= from_x < width:
                    out[row, ..., y, x] = frames[row, ..., from_y, from_x]
    return out


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32))
def test_crop_equals_the_naive_one_and_leaves_its_input(num_rows, padding, seed):
    draw = np.random.default_rng(seed)
    frames = draw.random((num_rows, 2, 2, 5, 4), dtype=np.float32)
    before = frames.copy()
    offsets = draw.integers(0, 2 * padding + 1, (num_rows, 2))
    np.testing.assert_array_equal(crop_frames(frames, offsets, padding), naive_crop(frames, offsets, padding))
    np.testing.assert_array_equal(frames, before)


def test_crop_draws_belong_to_the_sample_and_reach_every_place():
    uids = np.arange(4000, dtype=np.uint64)
    zeros = np.zeros(4000, np.int64)
    offsets = crop_offsets(DrawKeys(3, 0, uids, zeros), 2)
    some = DrawKeys(3, 0, uids[100:200], zeros[:100])
    np.testing.assert_array_equal(crop_offsets(some, 2), offsets[100:200])
    assert not np.array_equal(crop_offsets(DrawKeys(3, 1, uids, zeros), 2), offsets)
    assert not np.array_equal(crop_offsets(DrawKeys(3, 0, uids, zeros + 1), 2), offsets)
    places, counts = np.unique(offsets, axis=0, return_counts=True)
    assert len(places) == 25
    assert counts.min() > 160 - 5 * np.sqrt(160)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(-180, 180))
def test_rotation_equals_scipy_with_the_nearest_cell(seed, degrees):
    frames = np.random.default_rng(seed).random((1, 2, 2, 9, 7), dtype=np.float32)
    rotated = rotate_frames(frames, np.array([degrees]))
    expected = scipy.ndimage.rotate(frames, degrees, axes=(-2, -1), reshape=False, order=0, mode="grid-constant")
    # A place half-way between two cells may fall to either.
    assert (rotated == expected).mean() > 0.9


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_rotation_by_right_angles_is_exact(degrees, turns):
    frames = np.random.default_rng(1).random((1, 2, 2, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(rotate_frames(frames, np.array([degrees])), np.rot90(frames, turns, axes=(-2, -1)))


def test_rotation_draws_zeros_from_outside_and_leaves_its_input():
    frames = np.ones((2, 1, 1, 8, 8), np.float32)
    rotated = rotate_frames(frames, np.array([45.0, 0.0]))
    assert rotated[0, 0, 0, 0, 0] == rotated[0, 0, 0, 7, 7] == 0
    assert rotated[0, 0, 0, 3:5, 3:5].min() == 1
    np.testing.assert_array_equal(rotated[1], frames[1])
    assert frames.min() == 1


def test_each_sample_is_flipped_and_rotated_by_its_own_draw():
    frames = np.random.default_rng(2).random((40, 2, 2, 6, 6), dtype=np.float32)
    uids, zeros = np.arange(40, dtype=np.uint64), np.zeros(40, np.int64)
    keys = DrawKeys(3, 1, uids, zeros)
    flipped = augment(frames, keys, flip=True)
    mirrored = uniform(3, 1, uids, zeros, Purpose.FLIP, 1) < 0.5
    assert 0 < mirrored.sum() < 40
    np.testing.assert_array_equal(flipped[mirrored], frames[mirrored][..., ::-1])
    np.testing.assert_array_equal(flipped[~mirrored], frames[~mirrored])
    angles = (2 * uniform(3, 1, uids, zeros, Purpose.ROTATE, 1) - 1) * 15
    rotated = augment(frames, keys, rotation=15)
    np.testing.assert_array_equal(rotated, rotate_frames(frames, angles))
    some = DrawKeys(3, 1, uids[7:9], zeros[7:9])
    np.testing.assert_array_equal(augment(frames[7:9], some, rotation=15), rotated[7:9])


def test_nothing_to_do_changes_nothing():
    frames = np.ones((1, 1, 1, 4, 4), np.float32)
    assert augment(frames, DrawKeys(3, 1, np.zeros(1, np.uint64), np.zeros(1, np.int64))) is frames
