"""Gradients and saccades of log intensity against plain arithmetic, and what a camera has to see."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise

from tmkt_data.errors import SpecError
from tmkt_data.images.log_intensity import (
    BLACK_LEVEL,
    Scene,
    change_response,
    gradient_frames,
    gradient_response,
    saccade_frames,
    stored_changes,
    stored_response,
    unit_response,
)
from tmkt_data.kernels import contrast
from tmkt_data.simulate.brightness import log_brightness
from tmkt_data.simulate.saccade import DrawnKeys, SaccadePath, paths_in_cells, random_paths

RIGHT = np.array([[[0, 0], [1, 0]]], np.float32)


def levels_of(image, is_negative=False):
    return log_brightness(255 - image if is_negative else image, BLACK_LEVEL).astype(np.float32)


def gray(height, width, seed=0):
    return noise(height, width, seed)[:, :, 0].copy()


@st.composite
def scenes(draw):
    """A few images of 1 to 5 pixels a side, a path that may leave them, and boxes within them."""
    height, width, count = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 2))
    images = np.stack([gray(height, width, draw(st.integers(0, 99))) for _ in range(count)])
    num_time_bins, parts = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    step = st.floats(-9, 9, width=32)
    steps = draw(st.lists(step, min_size=2 * (num_time_bins * parts + 1), max_size=2 * (num_time_bins * parts + 1)))
    paths = np.tile(np.array(steps, np.float32).reshape(1, -1, 2), (count, 1, 1))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = [top, draw(st.integers(top + 1, height)), left, draw(st.integers(left + 1, width))]
    return images, paths, num_time_bins, np.tile(np.array(box, np.int32), (count, 1))


class TestSaccade:
    @settings(deadline=None, max_examples=60)
    @given(scene=scenes(), num_channels=st.sampled_from([1, 2]), is_negative=st.booleans())
    def test_equals_naive(self, scene, num_channels, is_negative):
        images, paths, num_time_bins, _ = scene
        height, width = images.shape[1:]
        found = saccade_frames(
            images, paths, num_time_bins, num_channels,
            response=change_response(num_channels), scene=Scene(None, is_negative),
        )  # fmt: skip
        # A step beyond the frame shows its edge, whatever the distance.
        far = np.clip(paths[0], -max(height, width), max(height, width))
        for image, frames in zip(images, found, strict=True):
            levels = levels_of(image, is_negative)
            np.testing.assert_array_equal(
                frames, naive.path_changes(levels, [0, height, 0, width], far, num_time_bins, num_channels)
            )

    @settings(deadline=None, max_examples=60)
    @given(scene=scenes())
    def test_equals_naive_where_the_image_covers_a_box(self, scene):
        images, paths, num_time_bins, boxes = scene
        height, width = images.shape[1:]
        found = saccade_frames(images, paths, num_time_bins, response=change_response(2), scene=Scene(boxes))
        far = np.clip(paths[0], -max(height, width), max(height, width))
        expected = naive.path_changes(levels_of(images[0]), boxes[0], far, num_time_bins, 2)
        top, bottom, left, right = boxes[0]
        rows = window(top, bottom, height, far[:, 1])
        columns = window(left, right, width, far[:, 0])
        outside = np.ones((height, width), bool)
        outside[rows, columns] = False
        expected[:, :, outside] = 0
        np.testing.assert_array_equal(found[0], expected)

    @pytest.mark.parametrize("num_channels", [1, 2])
    @pytest.mark.parametrize(("height", "width"), [(1300, 3), (2, 2500)])
    def test_equals_naive_where_an_image_is_cut_into_strips(self, height, width, num_channels):
        image = gray(height, width)
        path = np.array([[0.3, -0.6], [-1.7, 1.2], [0.9, 0.1]], np.float32)
        found = saccade_frames(image[None], path[None], 2, num_channels, response=change_response(num_channels))
        expected = naive.path_changes(levels_of(image), [0, height, 0, width], path, 2, num_channels)
        np.testing.assert_array_equal(found[0], expected)

    @pytest.mark.parametrize("parts", range(1, 9))
    def test_equals_naive_for_any_number_of_parts(self, parts):
        image = gray(9, 21)
        path = np.random.default_rng(parts).uniform(-2, 2, (2 * parts + 1, 2)).astype(np.float32)
        found = saccade_frames(image[None], path[None], 2, response=change_response(2))
        np.testing.assert_array_equal(found[0], naive.path_changes(levels_of(image), [0, 9, 0, 21], path, 2, 2))

    def test_a_bright_dot_that_moves_right_darkens_where_it_was_and_brightens_where_it_is(self):
        dot = np.zeros((1, 3, 5), np.uint8)
        dot[0, 1, 2] = 255
        off, on = saccade_frames(dot, RIGHT, 1)[0, 0]
        change = np.float32(round(-np.log(BLACK_LEVEL) * 2048) / 2048)
        assert (np.argwhere(off) == [[1, 2]]).all()
        assert (np.argwhere(on) == [[1, 3]]).all()
        assert off[1, 2] == on[1, 3] == change

    def test_a_bright_bar_that_passes_gives_on_first_and_off_later(self):
        bar = np.zeros((1, 3, 9), np.uint8)
        bar[0, :, 1] = 255
        path = np.array([[[step, 0] for step in range(5)]], np.float32)
        passed = saccade_frames(bar, path, 4)[0, :, :, 1, 3]
        assert [tuple(row) for row in np.argwhere(passed)] == [(1, 1), (2, 0)]

    def test_down_is_down(self):
        dot = np.zeros((1, 4, 3), np.uint8)
        dot[0, 1, 1] = 255
        _, on = saccade_frames(dot, RIGHT[:, :, ::-1], 1)[0, 0]
        assert (np.argwhere(on) == [[2, 1]]).all()

    def test_the_negative_swaps_on_and_off_of_black_and_white(self):
        image = np.where(gray(6, 6) > 127, 255, 0).astype(np.uint8)[None]
        found = saccade_frames(image, RIGHT, 1)
        negative = saccade_frames(image, RIGHT, 1, scene=Scene(None, True))
        np.testing.assert_array_equal(found[:, :, ::-1], negative)

    def test_the_way_back_swaps_on_and_off(self):
        images = gray(7, 9)[None]
        path = np.array([[[0, 0], [0.7, -0.4], [1.9, 0.3]]], np.float32)
        there, back = saccade_frames(images, path, 2), saccade_frames(images, path[:, ::-1].copy(), 2)
        np.testing.assert_array_equal(there, back[:, ::-1, ::-1])

    def test_one_channel_is_on_minus_off_of_each_step(self):
        images = gray(7, 9)[None]
        two, one = saccade_frames(images, RIGHT, 1), saccade_frames(images, RIGHT, 1, 1)
        np.testing.assert_allclose(one[:, :, 0], two[:, :, 1] - two[:, :, 0], atol=1 / 2048)

    def test_an_image_at_rest_or_without_contrast_gives_nothing(self):
        still = np.zeros((1, 5, 2), np.float32)
        assert not saccade_frames(gray(8, 8)[None], still, 2).any()
        assert not saccade_frames(np.full((1, 8, 8), 90, np.uint8), RIGHT, 1).any()
        assert not saccade_frames(np.full((1, 1, 1), 90, np.uint8), 100 * RIGHT, 1).any()

    def test_a_path_that_leaves_the_image_shows_its_edge(self):
        image = gray(6, 6)[None]
        out = np.array([[[0, 0], [900, 0], [-900, 0]]], np.float32)
        frames = saccade_frames(image, out, 2)
        shown = np.log(BLACK_LEVEL + (1 - BLACK_LEVEL) * image[0] / 255)
        edge = shown[:, -1:] - shown[:, :1]
        np.testing.assert_allclose(frames[0, 1, 1], np.broadcast_to(np.maximum(edge, 0), (6, 6)), atol=1e-3)

    def test_double_the_contrast_is_more_change(self):
        low, high = (saccade_frames((gray(9, 9) // part)[None], RIGHT, 1).sum() for part in (4, 1))
        assert low < high

    @pytest.mark.parametrize(
        ("images", "path", "scene", "message"),
        [
            (np.zeros((2, 3), np.uint8), RIGHT, Scene(), r"intensities: found uint8 of shape \(2, 3\)"),
            (np.zeros((1, 2, 3), np.float32), RIGHT, Scene(), "intensities: found float32"),
            (np.zeros((1, 0, 3), np.uint8), RIGHT, Scene(), "with one pixel or more"),
            (np.zeros((2, 2, 3), np.uint8), RIGHT, Scene(), r"paths: found shape \(1, 2, 2\), expected \(2, 1 S"),
            (np.zeros((1, 2, 3), np.uint8), RIGHT * np.nan, Scene(), "paths: .* of finite displacements"),
            (np.zeros((1, 2, 3), np.uint8), RIGHT[:, :1], Scene(), "paths: found shape"),
            (np.zeros((1, 2, 3), np.uint8), RIGHT, Scene(np.array([[0, 3, 0, 3]])), r"boxes: found \[0, 3, 0, 3\]"),
            (np.zeros((1, 2, 3), np.uint8), RIGHT, Scene(np.array([[1, 1, 0, 3]])), "a frame of 2 x 3"),
            (np.zeros((1, 2, 3), np.uint8), RIGHT, Scene(np.zeros((2, 4))), r"boxes: found shape \(2, 4\)"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_named(self, images, path, scene, message):
        with pytest.raises(SpecError, match=message):
            saccade_frames(images, path, 1, scene=scene)

    @pytest.mark.parametrize(("num_time_bins", "num_channels"), [(0, 2), (1, 3)])
    def test_bins_and_channels_are_checked(self, num_time_bins, num_channels):
        with pytest.raises(SpecError, match=f"frames: found {num_time_bins} bins of {num_channels} channels"):
            saccade_frames(np.zeros((1, 2, 2), np.uint8), RIGHT, num_time_bins, num_channels)


class TestGradient:
    @settings(deadline=None, max_examples=40)
    @given(scene=scenes(), is_negative=st.booleans())
    def test_equals_naive(self, scene, is_negative):
        images, _, _, boxes = scene
        found = gradient_frames(images, response=change_response(2), scene=Scene(boxes, is_negative))
        for image, box, frame in zip(images, boxes, found, strict=True):
            expected = np.zeros_like(frame)
            inside = slice(*box[:2]), slice(*box[2:])
            expected[inside] = naive.gradient_changes(levels_of(image, is_negative), box)[inside]
            np.testing.assert_array_equal(frame, expected)

    def test_a_ramp_has_its_slope_everywhere_but_at_the_edges(self):
        levels = np.linspace(np.log(BLACK_LEVEL), 0, 8)
        ramp = np.round((np.exp(levels) - BLACK_LEVEL) / (1 - BLACK_LEVEL) * 255).astype(np.uint8)
        found = gradient_frames(np.tile(ramp, (5, 1))[None])[0]
        np.testing.assert_allclose(found[:, 2:-2], -np.log(BLACK_LEVEL) / 7, rtol=0.02)

    def test_images_without_contrast_have_none(self):
        assert not gradient_frames(np.full((2, 4, 4), 7, np.uint8)).any()
        assert gradient_frames(np.full((1, 1, 1), 7, np.uint8)).tolist() == [[[0.0]]]


class TestPaths:
    def test_a_path_is_about_its_mean_and_scaled_to_cells(self):
        scales = np.array([[1.0, 1.0], [0.5, 0.25]])
        paths = paths_in_cells(SaccadePath(), 10, scales)
        assert paths.shape == (2, 31, 2)
        assert paths.dtype == np.float32
        np.testing.assert_allclose(paths.mean(axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(np.ptp(paths[0], axis=0), [7, 7], rtol=1e-6)
        np.testing.assert_allclose(paths[1], paths[0] * [0.5, 0.25], atol=1e-6)

    @pytest.mark.parametrize(("num_time_bins", "num_steps"), [(1, 31), (6, 31), (10, 31), (30, 31), (100, 101)])
    def test_few_bins_are_cut_into_more_parts(self, num_time_bins, num_steps):
        assert paths_in_cells(SaccadePath(), num_time_bins, np.ones((1, 2))).shape == (1, num_steps, 2)

    def test_random_paths_depend_on_every_word_of_their_key_only(self):
        uids = np.arange(5, dtype=np.uint64)
        keys = DrawnKeys(3, 1, uids, np.zeros(5, np.int64))
        scale = np.ones((5, 2))
        found = random_paths(SaccadePath(), 10, scale, keys)
        for at in range(5):
            alone = DrawnKeys(3, 1, uids[at : at + 1], np.zeros(1, np.int64))
            np.testing.assert_array_equal(random_paths(SaccadePath(), 10, scale[:1], alone)[0], found[at])
        others = [keys._replace(seed=4), keys._replace(epoch=2), keys._replace(occurrences=np.ones(5, np.int64))]
        for other in (*others, keys._replace(uids=uids + np.uint64(9))):
            assert (random_paths(SaccadePath(), 10, scale, other) != found).any(axis=(1, 2)).all()

    def test_random_paths_are_turned_stretched_and_mirrored(self):
        num = 400
        keys = DrawnKeys(0, 0, np.arange(num, dtype=np.uint64), np.zeros(num, np.int64))
        path = SaccadePath(corners=((0, 0), (4, 0), (4, 3)))
        found = random_paths(path, 10, np.ones((num, 2)), keys).astype(np.float64)
        first, second = found[:, 15] - found[:, 0], found[:, 30] - found[:, 15]
        length = np.hypot(*first.T) / 4
        np.testing.assert_allclose(np.hypot(*second.T) / 3, length, atol=1e-5)
        assert 0.5 <= length.min() < 0.55 < 1.45 < length.max() <= 1.5
        turns = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        assert 0.4 < (turns > 0).mean() < 0.6
        angles = np.histogram(np.arctan2(*first.T), bins=8, range=(-np.pi, np.pi))[0]
        assert angles.min() > num / 8 / 2


@pytest.mark.parametrize(("num_channels", "least"), [(1, -8.0), (2, 0.0)])
def test_the_unit_response_is_the_change_itself(num_channels, least):
    values = unit_response(num_channels)
    assert values[0] == least
    assert values[-1] == 8
    assert not values.flags.writeable
    np.testing.assert_array_equal(change_response(num_channels), values * 2048)


def window(low, high, end, steps):
    """Rows or columns that see a box at some step; an image that reaches the edge of its frame goes on beyond."""
    first = 0 if low == 0 else min(max(int(low + np.floor(steps.min())), 0), end)
    last = end if high == end else min(max(int(high + np.ceil(steps.max())), 0), end)
    return slice(first, last)


@pytest.mark.parametrize("pooled", [1, 2])
def test_a_table_of_the_callers_own_compiles_no_kernel_again(pooled):
    own, shared = np.arange(9, dtype=np.float32), np.arange(9, dtype=np.float32)
    shared.flags.writeable = False
    images, compiled = gray(4, 6)[None], []
    for response in (own, shared):
        found = saccade_frames(images, RIGHT, 1, response=response, scene=Scene(pooled=pooled))
        edges = gradient_frames(images, response=response)
        kernels = (contrast.path_frames, contrast.pooled_frames, contrast.gradient_frames)
        compiled.append([len(kernel.signatures) for kernel in kernels])
        assert found.flags.writeable
        assert edges.flags.writeable
    assert compiled[0] == compiled[1]
    assert own.flags.writeable


def test_a_byte_of_a_cache_is_the_root_of_a_change():
    changes, stored = stored_changes(), stored_response()
    np.testing.assert_allclose(changes, [8 * (byte / 255) ** 2 for byte in range(256)], rtol=1e-6)
    assert (int(stored[0]), int(stored[2048]), int(stored[-1])) == (0, round(255 * (1 / 8) ** 0.5), 255)
    # Steps of 1 / 2048 tell bytes apart from 4 on.
    np.testing.assert_array_equal(stored[np.rint(changes[4:] * 2048).astype(int)], np.arange(4, 256))


def test_gradients_reach_no_further_than_half_of_black_to_white_along_both_axes():
    response = gradient_response()
    np.testing.assert_array_equal(response, np.arange(int(np.log(10) / np.sqrt(2) * 2048) + 2))
    corner = np.zeros((1, 9, 9), np.uint8)
    corner[0, :4, :4] = corner[0, 5:, 5:] = 255
    assert gradient_frames(corner, response=response).max() < len(response) - 1


@pytest.mark.parametrize("num_channels", [1, 2])
def test_pooled_changes_are_the_mean_of_the_finer_ones_rounded_half_up(num_channels):
    images, path = np.stack([gray(6, 8, 1), gray(6, 8, 2)]), np.array([[[0, 0], [1, 0.5], [0.5, 2]]] * 2, np.float32)
    steps = change_response(num_channels)
    fine = saccade_frames(images, path, 2, num_channels, response=steps).astype(int)
    expected = np.floor(fine.reshape(2, 2, num_channels, 3, 2, 4, 2).mean(axis=(4, 6)) + 0.5)
    assert expected.any()
    pooled = Scene(pooled=2)
    np.testing.assert_array_equal(saccade_frames(images, path, 2, num_channels, response=steps, scene=pooled), expected)
    np.testing.assert_array_equal(saccade_frames(images, path, 2, num_channels, scene=pooled), expected / 2048)


@pytest.mark.parametrize("box", [[-1, 3, 0, 3], [0, 3, -1, 3], [2, 2, 0, 3], [0, 3, 2, 2], [0, 4, 0, 3], [0, 3, 0, 4]])
def test_a_box_has_rows_and_columns_of_its_frame(box):
    with pytest.raises(SpecError, match=r"^boxes: found \[.*\], expected rows and columns of a frame of 3 x 3$"):
        gradient_frames(gray(3, 3)[None], scene=Scene(np.array([box], np.int32)))
    whole = Scene(np.array([[0, 3, 0, 3]], np.int32))
    np.testing.assert_array_equal(gradient_frames(gray(3, 3)[None], scene=whole), gradient_frames(gray(3, 3)[None]))
