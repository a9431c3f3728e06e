from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tmkt_data.errors import SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.images.encode import poisson_frames, repeat_frames
from tmkt_data.images.frames import Placement, image_frame, intensity, resize_rgb

CHANNELS = ("value", "luminance", "blue")
BYTE = st.integers(0, 255)


def pixel(red, green, blue):
    return np.array([[[red, green, blue]]], np.uint8)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestIntensity:
    @pytest.mark.parametrize(("channel", "expected"), [("value", 200), ("luminance", 124), ("blue", 50)])
    def test_the_three_channels_differ_on_one_color(self, channel, expected):
        # Without HSV, the KT reference code takes the last channel, blue (docs/method.md, "Inputs").
        assert intensity(pixel(200, 100, 50), channel).tolist() == [[expected]]

    @pytest.mark.parametrize("channel", CHANNELS)
    def test_grey_stays_grey(self, channel):
        ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
        np.testing.assert_array_equal(intensity(ramp, channel), ramp[:, :, 0])

    def test_luminance_is_that_of_pillow(self):
        rgb = noise(100, 120)
        rgb[0, :8] = [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], *[[255, 255, 0]] * 3]
        np.testing.assert_array_equal(intensity(rgb, "luminance"), np.asarray(Image.fromarray(rgb).convert("L")))

    def test_value_is_that_of_pillow(self):
        rgb = noise(50, 60, seed=1)
        hsv = np.asarray(Image.fromarray(rgb).convert("HSV"))
        np.testing.assert_array_equal(intensity(rgb, "value"), hsv[:, :, 2])

    @settings(deadline=None, max_examples=60)
    @given(red=BYTE, green=BYTE, blue=BYTE)
    def test_any_color(self, red, green, blue):
        values = [int(intensity(pixel(red, green, blue), channel)[0, 0]) for channel in CHANNELS]
        luminance = (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536
        assert values == [max(red, green, blue), luminance, blue]

    @pytest.mark.parametrize("channel", CHANNELS)
    def test_result_is_an_own_contiguous_array(self, channel):
        rgb = noise(4, 5)
        before = rgb.copy()
        result = intensity(rgb, channel)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous
        result[:] = 0
        np.testing.assert_array_equal(rgb, before)

    def test_an_unknown_channel_is_named(self):
        with pytest.raises(SpecError, match="image channel: found 'red', expected value, luminance or blue"):
            intensity(pixel(1, 2, 3), "red")


class TestResize:
    def test_equals_pillow(self):
        rgb = noise(37, 53)
        expected = np.asarray(Image.fromarray(rgb).resize((20, 11), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(resize_rgb(rgb, 11, 20), expected)

    def test_the_right_size_is_returned_as_it_is(self):
        rgb = noise(5, 6)
        assert resize_rgb(rgb, 5, 6) is rgb

    def test_the_input_is_untouched(self):
        rgb = noise(9, 9)
        before = rgb.copy()
        resize_rgb(rgb, 4, 3)
        np.testing.assert_array_equal(rgb, before)


class TestPlacement:
    def test_a_face_of_ncaltech101(self):
        # DATASETS 2.5: a 290 x 334 image was seen as 151 x 173 with the motion.
        assert Placement(3, 3, 227, 167).box_of(290, 334) == (3, 3, 148, 170)

    @pytest.mark.parametrize(
        ("size", "box"),
        [
            ((200, 100), (10, 20, 110, 70)),
            ((100, 200), (10, 20, 40, 80)),
            ((100, 60), (10, 20, 110, 80)),
            ((10, 6), (10, 20, 110, 80)),
            ((10_000, 1), (10, 20, 110, 21)),
            ((1, 10_000), (10, 20, 11, 80)),
        ],
    )
    def test_boxes(self, size, box):
        assert Placement(10, 20, 100, 60).box_of(*size) == box

    @settings(deadline=None, max_examples=100)
    @given(width=st.integers(1, 3000), height=st.integers(1, 3000))
    def test_fits_and_keeps_the_aspect(self, width, height):
        place = Placement(2, 5, 233, 173)
        left, top, right, bottom = place.box_of(width, height)
        assert (left, top) == (2, 5)
        assert 1 <= right - left <= 233
        assert 1 <= bottom - top <= 173
        assert right - left == 233 or bottom - top == 173
        scale = min(233 / width, 173 / height)
        assert abs((right - left) - max(1, width * scale)) <= 0.5 + 1e-9
        assert abs((bottom - top) - max(1, height * scale)) <= 0.5 + 1e-9


class TestImageFrame:
    @pytest.mark.parametrize("channel", CHANNELS)
    def test_without_a_placement_the_image_fills_the_frame(self, channel):
        rgb = noise(30, 50)
        frame = image_frame(rgb, height=12, width=10, channel=channel)
        pillow = np.asarray(Image.fromarray(rgb).resize((10, 12), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(frame, intensity(pillow, channel))

    def test_the_channel_is_taken_after_the_resize(self):
        stripes = np.zeros((8, 8, 3), np.uint8)
        stripes[:, ::2, 0] = 255
        stripes[:, 1::2, 1] = 255
        frame = image_frame(stripes, height=1, width=1, channel="value")
        assert 100 < frame[0, 0] < 160

    def test_a_placed_image_lies_in_its_box_and_nowhere_else(self):
        white = np.full((10, 20, 3), 255, np.uint8)
        frame = image_frame(
            white, height=30, width=40, channel="value",
            sensor_size=SensorSize(40, 30), placement=Placement(4, 6, 20, 20),
        )  # fmt: skip
        expected = np.zeros((30, 40), np.uint8)
        expected[6:16, 4:24] = 255
        np.testing.assert_array_equal(frame, expected)

    def test_an_image_of_the_size_of_its_box_is_exact(self):
        rgb = noise(28, 28)
        frame = image_frame(
            rgb, height=34, width=34, channel="value",
            sensor_size=SensorSize(34, 34), placement=Placement(3, 3, 28, 28),
        )  # fmt: skip
        np.testing.assert_array_equal(frame[3:31, 3:31], rgb.max(axis=2))
        assert frame.sum(dtype=np.int64) == rgb.max(axis=2).sum(dtype=np.int64)

    def test_a_box_beyond_the_sensor_ends_at_its_edge(self):
        white = np.full((10, 10, 3), 255, np.uint8)
        frame = image_frame(
            white, height=12, width=12, channel="blue",
            sensor_size=SensorSize(12, 12), placement=Placement(8, 9, 10, 10),
        )  # fmt: skip
        assert (frame[9:, 8:] == 255).all()
        assert frame.sum(dtype=np.int64) == 255 * 3 * 4

    def test_the_sensor_is_scaled_to_the_frame(self):
        white = np.full((10, 10, 3), 255, np.uint8)
        frame = image_frame(
            white, height=10, width=20, channel="value",
            sensor_size=SensorSize(40, 20), placement=Placement(0, 0, 20, 20),
        )  # fmt: skip
        assert frame[:, :9].min() == 255
        assert frame[:, 11:].max() == 0

    def test_the_input_is_untouched(self):
        rgb = noise(9, 9)
        before = rgb.copy()
        image_frame(
            rgb, height=5, width=5, channel="value",
            sensor_size=SensorSize(12, 12), placement=Placement(1, 1, 9, 9),
        )  # fmt: skip
        np.testing.assert_array_equal(rgb, before)


class TestRepeat:
    def test_values_and_shape(self):
        values = np.array([[0, 51], [102, 255]], np.uint8)
        frames = repeat_frames(values, 3, 2)
        assert frames.shape == (3, 2, 2, 2)
        assert frames.dtype == np.float32
        assert (frames == np.float32([[0.0, 0.2], [0.4, 1.0]])).all()

    def test_leading_axes_come_first(self):
        values = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
        frames = repeat_frames(values, 5, 1)
        assert frames.shape == (4, 5, 1, 2, 3)
        for i in range(4):
            np.testing.assert_array_equal(frames[i], repeat_frames(values[i], 5, 1))

    def test_is_a_read_only_view_that_costs_one_frame(self):
        frames = repeat_frames(np.full((48, 48), 7, np.uint8), 1000, 2)
        assert not frames.flags.writeable
        assert frames.strides[:2] == (0, 0)
        with pytest.raises(ValueError, match="read-only"):
            frames[0, 0, 0, 0] = 1.0


class TestPoisson:
    @settings(deadline=None, max_examples=25)
    @given(
        height=st.integers(1, 5), width=st.integers(1, 5), num_steps=st.integers(1, 4),
        num_channels=st.integers(1, 3), key=st.integers(0, 2**64 - 1), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_equals_naive(self, height, width, num_steps, num_channels, key, seed):
        values = noise(height, width, seed)[:, :, 0]
        frames = poisson_frames(values, num_steps, num_channels, key=key)
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, naive.poisson_frames(values, num_steps, num_channels, key))

    def test_channels_and_steps_are_drawn_apart(self):
        frames = poisson_frames(np.full((16, 16), 128, np.uint8), 4, 2, key=5).reshape(8, -1)
        same = (frames[:, None] == frames[None]).mean(axis=2)
        assert np.allclose(np.diag(same), 1)
        assert same[~np.eye(8, dtype=bool)].max() < 0.65

    def test_writes_into_out_and_returns_it(self):
        values = noise(3, 5)[:, :, 0]
        out = np.full((4, 2, 3, 5), np.nan, np.float32)
        assert poisson_frames(values, 4, 2, key=9, out=out) is out
        np.testing.assert_array_equal(out, poisson_frames(values, 4, 2, key=9))

    def test_writes_into_a_slice_of_a_batch_and_nowhere_else(self):
        values = noise(3, 5)[:, :, 0]
        batch = np.full((3, 4, 2, 3, 5), -1, np.float32)
        poisson_frames(values, 4, 2, key=9, out=batch[1])
        np.testing.assert_array_equal(batch[1], poisson_frames(values, 4, 2, key=9))
        assert (batch[[0, 2]] == -1).all()

    @pytest.mark.parametrize(
        "out",
        [
            np.empty((4, 2, 5, 3), np.float32),
            np.empty((4, 2, 3, 5), np.float64),
            np.empty((4, 2, 3, 10), np.float32)[..., ::2],
        ],
        ids=["shape", "dtype", "strides"],
    )
    def test_an_out_that_does_not_fit_is_named(self, out):
        text = r"out: found float\d\d of shape \(4, 2, \d, \d\), expected contiguous float32 of shape \(4, 2, 3, 5\)"
        with pytest.raises(SpecError, match=text):
            poisson_frames(np.zeros((3, 5), np.uint8), 4, 2, key=0, out=out)

    def test_a_strided_image_gives_the_same_spikes(self):
        wide = noise(6, 8)[:, :, 0]
        np.testing.assert_array_equal(
            poisson_frames(wide[::2, ::2], 3, key=1), poisson_frames(wide[::2, ::2].copy(), 3, key=1)
        )

    def test_the_input_is_untouched(self):
        values = noise(6, 8)[:, :, 0]
        before = values.copy()
        poisson_frames(values, 3, key=1)
        np.testing.assert_array_equal(values, before)

    def test_numpy_and_plain_keys_are_the_same(self):
        values = np.full((4, 4), 99, np.uint8)
        key = 2**64 - 3
        np.testing.assert_array_equal(poisson_frames(values, 5, key=key), poisson_frames(values, 5, key=np.uint64(key)))


def test_what_overhangs_the_sensor_is_cut_off_not_squeezed():
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[:, :2] = 200
    frame = image_frame(
        rgb, height=4, width=4, channel="value", sensor_size=SensorSize(4, 4), placement=Placement(2, 0, 4, 4)
    )
    assert (frame[:, :2] == 0).all()
    assert (frame[:, 2:] == 200).all()


def test_a_placement_off_the_sensor_is_one_line():
    with pytest.raises(SpecError, match=r"^placement: starts at \(5, 0\), expected a pixel of the 4 x 4 sensor$"):
        image_frame(
            np.zeros((3, 3, 3), np.uint8),
            height=4,
            width=4,
            channel="value",
            sensor_size=SensorSize(4, 4),
            placement=Placement(5, 0, 3, 3),
        )


@pytest.mark.parametrize(
    ("intensities", "key", "message"),
    [
        (np.full((2, 2), 0.5), 1, "intensities: found float64, expected uint8"),
        (np.full((2, 2), 300), 1, "intensities: found int64, expected uint8"),
        (np.zeros((2, 2), np.uint8), -1, r"key: found -1, expected 0 to 2\*\*64 - 1"),
    ],
)
def test_poisson_frames_refuse_what_they_cannot_encode(intensities, key, message):
    with pytest.raises(SpecError, match=message):
        poisson_frames(intensities, 2, key=key)
