from __future__ import annotations

import dataclasses
import io
import math
from functools import partial

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import ImageError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import read_atis
from tmkt_data.images.decode import MAX_PIXELS, decode_by_pillow, decode_image, decode_scaled, read_image
from tmkt_data.images.frames import Placement, frame_of_pixels, image_frame, smallest_pixels
from tmkt_data.images.jpeg import decode_plain_jpeg
from tmkt_data.kernels.image import AxisPlace, axis_filter
from tmkt_data.pairs.alignment import best_correlation, event_density, image_gradient
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

CHANNELS = ("value", "luminance", "blue")
TO_48 = partial(smallest_pixels, height=48, width=48)
ON_SENSOR = {"sensor_size": SensorSize(240, 180), "placement": Placement(3, 3, 227, 167)}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(height, width, seed=0):
    """Smooth blobs with one hard edge, as in photographs."""
    coarse = Image.fromarray(noise(6, 7, seed)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).copy()
    pixels[height // 3 : 2 * height // 3, width // 2 :] //= 3
    return Image.fromarray(pixels)


@st.composite
def places(draw):
    canvas = draw(st.integers(1, 14))
    start = draw(st.integers(0, canvas - 1))
    return AxisPlace(start, draw(st.integers(1, 16)), canvas)


class TestFilter:
    @settings(deadline=None, max_examples=150)
    @given(
        extent=st.integers(1, 120).map(lambda eighths: eighths / 8),
        cells=st.integers(1, 9),
        place=st.none() | places(),
    )
    def test_equals_naive(self, extent, cells, place):
        first, length, weight = axis_filter(extent, cells, place)
        found = np.zeros((cells, math.ceil(extent)), int)
        for cell in range(cells):
            found[cell, first[cell] : first[cell] + length[cell]] = weight[cell, : length[cell]]
            assert not weight[cell, length[cell] :].any()
        assert found.tolist() == naive.axis_weights(extent, cells, place)

    @settings(deadline=None, max_examples=100)
    @given(extent=st.integers(1, 5000), cells=st.integers(1, 100))
    def test_the_weights_of_a_cell_add_up_to_one(self, extent, cells):
        assert (axis_filter(float(extent), cells)[2].sum(axis=1) == 2**14).all()

    def test_an_image_on_its_own_pixels_is_left_as_it_is(self):
        first, length, weight = axis_filter(28.0, 34, AxisPlace(3, 28, 34))
        assert first[3:31].tolist() == list(range(28))
        assert length.tolist() == [0] * 3 + [1] * 28 + [0] * 3
        assert (weight[3:31] == 2**14).all()


class TestFrame:
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
        found = frame_of_pixels(pixels, extent, height=rows, width=columns, channel=channel)
        np.testing.assert_array_equal(found, expected)

    @settings(deadline=None, max_examples=40)
    @given(
        height=st.integers(1, 10), width=st.integers(1, 10), x=st.integers(0, 7), y=st.integers(0, 5),
        room=st.integers(1, 9), channel=st.sampled_from(CHANNELS), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_a_placed_image_equals_naive(self, height, width, x, y, room, channel, seed):
        pixels, sensor, place = noise(height, width, seed), SensorSize(8, 6), Placement(x, y, room, room)
        left, top, right, bottom = place.box_of(width, height)
        weights = (
            naive.axis_weights(height, 4, AxisPlace(top, bottom - top, 6)),
            naive.axis_weights(width, 5, AxisPlace(left, right - left, 8)),
        )
        found = frame_of_pixels(
            pixels, (height, width), height=4, width=5, channel=channel, sensor_size=sensor, placement=place
        )
        np.testing.assert_array_equal(found, naive.fill_frame(pixels, *weights, channel))

    @settings(deadline=None, max_examples=60)
    @given(
        height=st.integers(1, 150), width=st.integers(1, 150), size=st.integers(1, 60),
        channel=st.sampled_from(CHANNELS), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_is_within_one_of_pillow(self, height, width, size, channel, seed):
        pixels = noise(height, width, seed)
        found = frame_of_pixels(pixels, (height, width), height=size, width=size, channel=channel)
        pillow = image_frame(pixels, height=size, width=size, channel=channel)
        assert abs(found.astype(int) - pillow).max() <= 1

    @settings(deadline=None, max_examples=60)
    @given(
        height=st.integers(1, 150), width=st.integers(1, 150), size=st.integers(4, 60),
        x=st.integers(0, 100), y=st.integers(0, 100), room=st.integers(1, 200), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_a_placed_one_is_within_two(self, height, width, size, x, y, room, seed):
        pixels = noise(height, width, seed)
        given = {"sensor_size": SensorSize(120, 110), "placement": Placement(x, y, room, room)}
        found = frame_of_pixels(pixels, (height, width), height=size, width=size, channel="value", **given)
        pillow = image_frame(pixels, height=size, width=size, channel="value", **given)
        assert abs(found.astype(int) - pillow).max() <= 2

    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3000, 2), (2, 3000)])
    def test_white_stays_white(self, shape):
        pixels = np.full((*shape, 3), 255, np.uint8)
        assert (frame_of_pixels(pixels, shape, height=48, width=48, channel="value") == 255).all()

    def test_a_view_gives_the_same_and_nothing_is_written(self):
        pixels = noise(20, 30)
        before = pixels.copy()
        found = frame_of_pixels(pixels[::2, ::3], (10, 10), height=4, width=4, channel="blue")
        assert (found == frame_of_pixels(pixels[::2, ::3].copy(), (10, 10), height=4, width=4, channel="blue")).all()
        np.testing.assert_array_equal(pixels, before)
        assert pixels.flags.writeable

    @pytest.mark.parametrize("extent", [(4.0, 6.0), (5.0, 5.0), (4.0, 5.0), (5.5, 6.0)])
    def test_an_extent_of_other_pixels_is_refused(self, extent):
        with pytest.raises(SpecError, match=r"^extent: found \(.*\) of pixels of shape \(5, 6, 3\), expected their"):
            frame_of_pixels(noise(5, 6), extent, height=4, width=4, channel="value")

    def test_what_is_no_image_or_off_the_sensor_is_refused_as_ever(self):
        with pytest.raises(SpecError, match=r"^image: found float64 of shape"):
            frame_of_pixels(np.zeros((3, 3, 3)), (3, 3), height=4, width=4, channel="value")
        with pytest.raises(SpecError, match=r"^placement: starts at \(5, 0\)"):
            frame_of_pixels(
                noise(3, 3), (3, 3), height=4, width=4, channel="value",
                sensor_size=SensorSize(4, 4), placement=Placement(5, 0, 3, 3),
            )  # fmt: skip


class TestSmallest:
    def test_two_pixels_a_cell(self):
        assert smallest_pixels(1000, 10, height=40, width=48) == (96, 80)

    def test_a_placed_image_needs_pixels_for_its_own_cells_only(self):
        # 145 of 240 columns and 167 of 180 rows, see TestPlacement: 29 and 44.5 cells.
        assert smallest_pixels(290, 334, height=48, width=48, **ON_SENSOR) == (58, 90)


class TestDecodeScaled:
    @pytest.mark.parametrize(
        ("size", "scale"), [((300, 200), 2), ((300, 191), 1), ((384, 400), 4), ((767, 800), 4), ((768, 800), 8),
                            ((4000, 97), 1), ((95, 95), 1), ((3000, 2000), 8)],
    )  # fmt: skip
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_the_scale_leaves_as_many_pixels_as_are_asked_for(self, size, scale, mode):
        image = decode_scaled(encoded(photograph(*size[::-1]).convert(mode)), TO_48)
        assert (image.width, image.height, image.scale) == (*size, scale)
        assert image.pixels.shape == (-(-size[1] // scale), -(-size[0] // scale), 3)
        assert image.extent == (size[1] / scale, size[0] / scale)

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
    def test_other_formats_are_decoded_whole(self, kind):
        data = encoded(photograph(400, 500), kind)
        image = decode_scaled(data, TO_48)
        assert image.scale == 1
        np.testing.assert_array_equal(image.pixels, decode_image(data))

    def test_without_a_least_size_it_is_the_whole_image(self):
        data = encoded(photograph(400, 500))
        image = decode_scaled(data, None)
        assert (image.scale, image.extent) == (1, (400, 500))
        np.testing.assert_array_equal(image.pixels, decode_image(data))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_orientation_of_a_camera_is_left_alone_as_in_the_full_size(self, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        plain, marked = encoded(photograph(300, 400)), encoded(photograph(300, 400), exif=exif)
        np.testing.assert_array_equal(decode_scaled(marked, TO_48).pixels, decode_scaled(plain, TO_48).pixels)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_a_truncated_image_is_named_in_the_same_words(self, options, share):
        data = encoded(photograph(400, 500), **options)
        cut, texts = data[: int(share * len(data))], []
        for decode in (decode_image, partial(decode_scaled, smallest=TO_48)):
            with pytest.raises(ImageError, match=r"^image_0001.jpg: damaged image \(.+\); fetch it again$") as refused:
                decode(cut, place="image_0001.jpg")
            texts.append(str(refused.value))
        assert texts[0] == texts[1]

    @settings(deadline=None, max_examples=40)
    @given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
    def test_damage_never_escapes_as_another_error(self, changes):
        data = bytearray(encoded(photograph(200, 200)))
        for at, value in changes:
            data[at % len(data)] = value
        try:
            image = decode_scaled(bytes(data), TO_48)
            frame_of_pixels(image.pixels, image.extent, height=48, width=48, channel="value")
        except ImageError:
            return

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("size", [(200, 300), (193, 389), (799, 777), (1601, 801)])
    def test_no_pixel_drifts(self, size, mode, options):
        # A frame of a picture decoded at 1/2 to 1/8, its last pixel covered in part, lies where the full one does.
        data = encoded(photograph(*size, seed=4).convert(mode), quality=95, **options)
        image = decode_scaled(data, TO_48)
        assert image.scale > 1
        found = frame_of_pixels(image.pixels, image.extent, height=48, width=48, channel="value").astype(int)
        full = image_frame(decode_image(data), height=48, width=48, channel="value")
        assert abs(found - full).mean() < 0.6
        assert abs(found - full).max() <= 16


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
            frames.append(image_frame(decode_image(data), height=size, width=size, channel="value", **given))
        else:
            image = decode_scaled(data, partial(smallest_pixels, height=size, width=size, **given))
            frames.append(
                frame_of_pixels(image.pixels, image.extent, height=size, width=size, channel="value", **given)
            )
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
    scaled = frame_of_pixels(image.pixels, image.extent, height=48, width=48, channel="value")
    full = image_frame(read_image(path), height=48, width=48, channel="value")
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


class TestPlainJpeg:
    """One call of simplejpeg or Pillow, step by step: the same pixels, or the same words."""

    @staticmethod
    def outcome(decode):
        try:
            image = decode()
        except ImageError as problem:
            return str(problem)
        return image.pixels.tobytes(), image.height, image.width, image.scale

    def same(self, data, smallest):
        found = self.outcome(lambda: decode_scaled(data, smallest, place="here"))
        assert found == self.outcome(lambda: decode_by_pillow(data, smallest, "here"))

    @settings(deadline=None, max_examples=80)
    @given(
        height=st.integers(1, 260), width=st.integers(1, 260), mode=st.sampled_from(["RGB", "L", "CMYK"]),
        subsampling=st.integers(0, 2), progressive=st.booleans(), quality=st.integers(5, 100),
        least=st.none() | st.integers(1, 64), seed=st.integers(0, 9),
    )  # fmt: skip
    def test_whole_images(self, height, width, mode, subsampling, progressive, quality, least, seed):
        data = encoded(
            photograph(height, width, seed).convert(mode),
            quality=quality, progressive=progressive, subsampling=subsampling,
        )  # fmt: skip
        self.same(data, None if least is None else lambda *_: (least, least + 1))

    @settings(deadline=None, max_examples=150)
    @given(
        changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
        cut=st.none() | st.floats(0.01, 1), in_header=st.booleans(), scaled=st.booleans(),
        kind=st.sampled_from([{}, {"progressive": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}]),
    )  # fmt: skip
    def test_damaged_images(self, changes, cut, in_header, scaled, kind):
        data = bytearray(encoded(photograph(120, 150), **kind))
        for at, value in changes:
            data[at % min(len(data), 700 if in_header else len(data))] = value
        data = bytes(data[: None if cut is None else max(1, int(cut * len(data)))])
        self.same(data, (lambda *_: (30, 30)) if scaled else None)

    def test_which_are_plain(self):
        def is_plain(image, **options):
            return decode_plain_jpeg(encoded(image, **options), None, 10**6) is not None

        picture = photograph(40, 50)
        assert is_plain(picture)
        assert is_plain(picture.convert("L"))
        assert not is_plain(picture.convert("CMYK"))
        assert not is_plain(picture, kind="PNG")
        assert decode_plain_jpeg(encoded(picture), None, 1999) is None
        assert decode_plain_jpeg(encoded(picture)[:-200], None, 10**6) is None
        assert decode_plain_jpeg(b"", None, 10**6) is None


@pytest.mark.real_data
@pytest.mark.parametrize("smallest", [None, TO_48])
def test_real_photographs_are_plain_and_the_same_by_pillow(real_data, smallest):
    for path in (real_data / "caltech101/101_ObjectCategories").glob("*/*.jpg"):
        data = path.read_bytes()
        plain = decode_plain_jpeg(data, smallest, MAX_PIXELS)
        assert plain is not None
        other = decode_by_pillow(data, smallest, path.name)
        assert plain[1:] == other[1:]
        np.testing.assert_array_equal(plain[0], other.pixels)
