"""Images to frames: channels, placement, and the one-pass resize against Pillow and plain loops."""

from __future__ import annotations

import dataclasses

import naive
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pictures import noise
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import read_atis
from tmkt_data.images.decode import decode_image, decode_scaled, read_image
from tmkt_data.images.frames import ImageTarget, Placement, frame_of_pixels, image_frame, intensity, resize_rgb
from tmkt_data.kernels.image import AxisPlace
from tmkt_data.pairs.alignment import best_correlation, event_density, image_gradient
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

CHANNELS = ("value", "luminance", "blue")
BYTE = st.integers(0, 255)
TO_48 = ImageTarget(48, 48).smallest_pixels
ON_SENSOR = {"sensor_size": SensorSize(240, 180), "placement": Placement(3, 3, 227, 167)}


def pixel(red, green, blue):
    return np.array([[[red, green, blue]]], np.uint8)


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
        frame = image_frame(rgb, ImageTarget(12, 10), channel)
        pillow = np.asarray(Image.fromarray(rgb).resize((10, 12), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(frame, intensity(pillow, channel))

    def test_the_channel_is_taken_after_the_resize(self):
        stripes = np.zeros((8, 8, 3), np.uint8)
        stripes[:, ::2, 0] = 255
        stripes[:, 1::2, 1] = 255
        frame = image_frame(stripes, ImageTarget(1, 1), "value")
        assert 100 < frame[0, 0] < 160

    def test_a_placed_image_lies_in_its_box_and_nowhere_else(self):
        white = np.full((10, 20, 3), 255, np.uint8)
        frame = image_frame(white, ImageTarget(30, 40, SensorSize(40, 30), Placement(4, 6, 20, 20)), "value")
        expected = np.zeros((30, 40), np.uint8)
        expected[6:16, 4:24] = 255
        np.testing.assert_array_equal(frame, expected)

    def test_an_image_of_the_size_of_its_box_is_exact(self):
        rgb = noise(28, 28)
        frame = image_frame(rgb, ImageTarget(34, 34, SensorSize(34, 34), Placement(3, 3, 28, 28)), "value")
        np.testing.assert_array_equal(frame[3:31, 3:31], rgb.max(axis=2))
        assert frame.sum(dtype=np.int64) == rgb.max(axis=2).sum(dtype=np.int64)

    def test_a_box_beyond_the_sensor_ends_at_its_edge(self):
        white = np.full((10, 10, 3), 255, np.uint8)
        frame = image_frame(white, ImageTarget(12, 12, SensorSize(12, 12), Placement(8, 9, 10, 10)), "blue")
        assert (frame[9:, 8:] == 255).all()
        assert frame.sum(dtype=np.int64) == 255 * 3 * 4

    def test_the_sensor_is_scaled_to_the_frame(self):
        white = np.full((10, 10, 3), 255, np.uint8)
        frame = image_frame(white, ImageTarget(10, 20, SensorSize(40, 20), Placement(0, 0, 20, 20)), "value")
        assert frame[:, :9].min() == 255
        assert frame[:, 11:].max() == 0

    def test_the_input_is_untouched(self):
        rgb = noise(9, 9)
        before = rgb.copy()
        image_frame(rgb, ImageTarget(5, 5, SensorSize(12, 12), Placement(1, 1, 9, 9)), "value")
        np.testing.assert_array_equal(rgb, before)


def test_what_overhangs_the_sensor_is_cut_off_not_squeezed():
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[:, :2] = 200
    frame = image_frame(rgb, ImageTarget(4, 4, SensorSize(4, 4), Placement(2, 0, 4, 4)), "value")
    assert (frame[:, :2] == 0).all()
    assert (frame[:, 2:] == 200).all()


@pytest.mark.parametrize(
    "side", [image_frame, lambda *given: frame_of_pixels(given[0], given[0].shape[:2], *given[1:])]
)
def test_an_image_that_begins_beyond_the_corner_is_cropped_not_moved(side):
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[2, 3] = 200
    frame = side(rgb, ImageTarget(4, 4, SensorSize(4, 4), Placement(-2, -1, 4, 4)), "value")
    assert np.argwhere(frame).tolist() == [[1, 1]]
    assert frame[1, 1] == 200


@pytest.mark.parametrize("corner", [(-3, 0), (0, -3)])
def test_an_image_that_ends_before_the_sensor_is_one_line(corner):
    with pytest.raises(SpecError, match=rf"^placement: starts at \({corner[0]}, {corner[1]}\), expected a pixel of"):
        ImageTarget(4, 4, SensorSize(4, 4), Placement(*corner, 3, 3)).box_of(3, 3)


def test_a_placement_off_the_sensor_is_one_line():
    with pytest.raises(SpecError, match=r"^placement: starts at \(5, 0\), expected a pixel of the 4 x 4 sensor$"):
        image_frame(np.zeros((3, 3, 3), np.uint8), ImageTarget(4, 4, SensorSize(4, 4), Placement(5, 0, 3, 3)), "value")


class TestFrameOfPixels:
    @settings(deadline=None, max_examples=60)
    @given(
        height=st.integers(1, 12), width=st.integers(1, 12), rows=st.integers(1, 5), columns=st.integers(1, 5),
        channel=st.sampled_from(CHANNELS), seed=st.integers(0, 9), halved=st.booleans(),
    )  # fmt: skip
    def test_equals_naive(self, height, width, rows, columns, channel, seed, halved):
        pixels = noise(height, width, seed)
        extent = (height - 0.5, width - 0.5) if halved else (float(height), float(width))
        expected = naive.fill_frame(
            pixels, naive.axis_weights(extent[0], rows), naive.axis_weights(extent[1], columns), channel
        )
        found = frame_of_pixels(pixels, extent, ImageTarget(rows, columns), channel)
        np.testing.assert_array_equal(found, expected)

    @settings(deadline=None, max_examples=40)
    @given(
        height=st.integers(1, 10), width=st.integers(1, 10), x=st.integers(-6, 7), y=st.integers(-6, 5),
        room=st.integers(1, 9), channel=st.sampled_from(CHANNELS), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_a_placed_image_equals_naive(self, height, width, x, y, room, channel, seed):
        pixels, sensor, place = noise(height, width, seed), SensorSize(8, 6), Placement(x, y, room, room)
        left, top, right, bottom = place.box_of(width, height)
        assume(right > 0 and bottom > 0)
        weights = (
            naive.axis_weights(height, 4, AxisPlace(top, bottom - top, 6)),
            naive.axis_weights(width, 5, AxisPlace(left, right - left, 8)),
        )
        found = frame_of_pixels(pixels, (height, width), ImageTarget(4, 5, sensor, place), channel)
        np.testing.assert_array_equal(found, naive.fill_frame(pixels, *weights, channel))

    @settings(deadline=None, max_examples=60)
    @given(
        height=st.integers(1, 150), width=st.integers(1, 150), size=st.integers(1, 60),
        channel=st.sampled_from(CHANNELS), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_is_within_one_of_pillow(self, height, width, size, channel, seed):
        pixels = noise(height, width, seed)
        found = frame_of_pixels(pixels, (height, width), ImageTarget(size, size), channel)
        pillow = image_frame(pixels, ImageTarget(size, size), channel)
        assert abs(found.astype(int) - pillow).max() <= 1

    @settings(deadline=None, max_examples=60)
    @given(
        height=st.integers(1, 150), width=st.integers(1, 150), size=st.integers(4, 60),
        x=st.integers(-50, 100), y=st.integers(-50, 100), room=st.integers(1, 200), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_a_placed_one_is_within_two(self, height, width, size, x, y, room, seed):
        pixels = noise(height, width, seed)
        given = {"sensor_size": SensorSize(120, 110), "placement": Placement(x, y, room, room)}
        assume(min(given["placement"].box_of(width, height)[2:]) > 0)
        found = frame_of_pixels(pixels, (height, width), ImageTarget(size, size, **given), "value")
        pillow = image_frame(pixels, ImageTarget(size, size, **given), "value")
        assert abs(found.astype(int) - pillow).max() <= 2

    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3000, 2), (2, 3000)])
    def test_white_stays_white(self, shape):
        pixels = np.full((*shape, 3), 255, np.uint8)
        assert (frame_of_pixels(pixels, shape, ImageTarget(48, 48), "value") == 255).all()

    def test_a_view_gives_the_same_and_nothing_is_written(self):
        pixels = noise(20, 30)
        before = pixels.copy()
        found = frame_of_pixels(pixels[::2, ::3], (10, 10), ImageTarget(4, 4), "blue")
        assert (found == frame_of_pixels(pixels[::2, ::3].copy(), (10, 10), ImageTarget(4, 4), "blue")).all()
        np.testing.assert_array_equal(pixels, before)
        assert pixels.flags.writeable

    @pytest.mark.parametrize("extent", [(4.0, 6.0), (5.0, 5.0), (4.0, 5.0), (5.5, 6.0)])
    def test_an_extent_of_other_pixels_is_refused(self, extent):
        with pytest.raises(SpecError, match=r"^extent: found \(.*\) of pixels of shape \(5, 6, 3\), expected their"):
            frame_of_pixels(noise(5, 6), extent, ImageTarget(4, 4), "value")

    def test_what_is_no_image_or_off_the_sensor_is_refused_as_ever(self):
        with pytest.raises(SpecError, match=r"^image: found float64 of shape"):
            frame_of_pixels(np.zeros((3, 3, 3)), (3, 3), ImageTarget(4, 4), "value")
        with pytest.raises(SpecError, match=r"^placement: starts at \(5, 0\)"):
            frame_of_pixels(noise(3, 3), (3, 3), ImageTarget(4, 4, SensorSize(4, 4), Placement(5, 0, 3, 3)), "value")


class TestSmallest:
    def test_two_pixels_a_cell(self):
        assert ImageTarget(40, 48).smallest_pixels(1000, 10) == (96, 80)

    def test_a_placed_image_needs_pixels_for_its_own_cells_only(self):
        # 145 of 240 columns and 167 of 180 rows, see TestPlacement: 29 and 44.5 cells.
        assert ImageTarget(48, 48, **ON_SENSOR).smallest_pixels(290, 334) == (58, 90)


def test_photographs_of_ncaltech101_are_decoded_by_halves():
    chosen = {name: default_spec(name).image_decode for name in ("ncaltech101", "nmnist", "digits", "folder")}
    assert chosen == {"ncaltech101": "scaled", "nmnist": "full", "digits": "full", "folder": "full"}


def frames_by(real_data, decode, size=48, **given):
    paths = sorted((real_data / "caltech101/101_ObjectCategories").glob("*/*.jpg"))
    assert len(paths) == 320
    frames = []
    for path in paths:
        data = path.read_bytes()
        if decode == "full":
            frames.append(image_frame(decode_image(data), ImageTarget(size, size, **given), "value"))
        else:
            image = decode_scaled(data, ImageTarget(size, size, **given).smallest_pixels)
            frames.append(frame_of_pixels(image.pixels, image.extent, ImageTarget(size, size, **given), "value"))
    return np.stack(frames).astype(int)


@pytest.mark.real_data
@pytest.mark.parametrize(("given", "mean", "largest"), [({}, 0.33, 23), (ON_SENSOR, 0.32, 14)], ids=["tight", "fixed"])
def test_real_photographs_differ_by_less_than_a_level(real_data, given, mean, largest):
    # docs/design/performance-images.md.
    change = abs(frames_by(real_data, "scaled", **given) - frames_by(real_data, "full", **given))
    assert change.mean() == pytest.approx(mean, abs=0.02)
    assert change.max() <= largest + 2
    assert np.percentile(change, 99) <= 3
    assert change.mean(axis=(1, 2)).max() < 1.4


@pytest.mark.real_data
def test_the_face_correlates_with_its_scaled_photograph_as_with_the_full_one(real_data):
    # DATASETS 9.3: the only recording of N-Caltech101 here; 151 x 173 pixels, 48 x 48 cells.
    events = read_atis(real_data / "ncaltech101/Caltech101/Faces_easy/image_0001.bin")
    counts = np.zeros((1, 1, 48, 48), np.float32)
    np.add.at(counts[0, 0], (events.y.astype(int) * 48 // 173, events.x.astype(int) * 48 // 151), 1)
    path = real_data / "caltech101/101_ObjectCategories/Faces_easy/image_0001.jpg"
    image = decode_scaled(path.read_bytes(), TO_48)
    assert image.scale == 2
    scaled = frame_of_pixels(image.pixels, image.extent, ImageTarget(48, 48), "value")
    full = image_frame(read_image(path), ImageTarget(48, 48), "value")
    flips = [full, scaled, full[::-1].copy(), full[:, ::-1].copy()]
    scores = best_correlation(event_density(counts), np.stack([image_gradient(frame) for frame in flips]), 3)
    assert scores[1] == pytest.approx(scores[0], abs=0.005)
    assert scores[1] > scores[2:].max() + 0.15


@pytest.mark.real_data
@pytest.mark.parametrize("canvas", ["tight", "fixed"])
def test_a_cache_holds_those_frames(real_data, tmp_path, canvas):
    catalogue = open_catalogue(
        "ncaltech101", events=real_data / "ncaltech101/Caltech101", images=real_data / "caltech101/101_ObjectCategories"
    )
    found = {}
    for decode in ("full", "scaled"):
        spec = dataclasses.replace(default_spec("ncaltech101"), image_decode=decode, canvas=canvas)
        plan = plan_prepare(catalogue, spec, tmp_path / f"{decode}.h5")
        for _ in prepare_cache(plan, workers=2):
            pass
        cache = Cache(plan.path)
        found[decode] = cache.image_frames(np.arange(320)).astype(int)
        assert cache.info.spec.image_decode == decode
        assert (cache.tables["images/width_px"].min(), cache.tables["images/width_px"].max()) == (144, 1280)
    given = {} if canvas == "tight" else {"sensor_size": catalogue.sensor_size, "placement": catalogue.placement}
    for decode, frames in found.items():
        np.testing.assert_array_equal(frames, frames_by(real_data, decode, **given))


@pytest.mark.parametrize(
    "image", [np.full((2, 2, 3), 0.5), np.full((2, 2, 4), 255, np.uint8), np.zeros((2, 2), np.uint8)]
)
def test_what_is_no_rgb_image_has_no_intensity(image):
    # The opacity of a fourth channel would be the largest value everywhere.
    with pytest.raises(
        SpecError, match=r"^image: found (float64|uint8) of shape .*, expected uint8 of shape \(h, w, 3\)$"
    ):
        intensity(image, "value")
