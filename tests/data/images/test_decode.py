from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, photograph, png_file, turned
from PIL import Image

from tmkt_data.errors import ImageError
from tmkt_data.images.decode import (
    MAX_PIXELS,
    decode_by_pillow,
    decode_image,
    decode_plain_jpeg,
    decode_scaled,
    read_idx,
    read_image,
)
from tmkt_data.images.frames import ImageTarget, frame_of_pixels, image_frame

TO_48 = ImageTarget(48, 48).smallest_pixels
RGB = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)


class TestDecode:
    def test_a_png_is_exact(self):
        decoded = decode_image(encoded(Image.fromarray(RGB), "PNG"))
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, RGB)

    def test_a_jpeg_is_close(self):
        smooth = np.zeros((32, 40, 3), np.uint8) + np.arange(40, dtype=np.uint8)[None, :, None] * 5
        decoded = decode_image(encoded(Image.fromarray(smooth), "JPEG")).astype(int)
        assert decoded.shape == (32, 40, 3)
        assert abs(decoded - smooth).mean() < 3

    def test_grey_has_three_equal_channels(self):
        decoded = decode_image(encoded(Image.fromarray(RGB[:, :, 0]), "PNG"))
        np.testing.assert_array_equal(decoded, np.repeat(RGB[:, :, :1], 3, axis=2))

    def test_black_and_white_becomes_0_and_255(self):
        bits = RGB[:, :, 0] > 128
        decoded = decode_image(encoded(Image.fromarray(bits), "PNG"))
        np.testing.assert_array_equal(decoded, np.repeat(bits[:, :, None] * np.uint8(255), 3, axis=2))

    def test_a_palette_is_looked_up(self):
        image = Image.new("P", (2, 1))
        image.putpalette([200, 100, 50, 1, 2, 3])
        image.putpixel((1, 0), 1)
        assert decode_image(encoded(image, "PNG")).tolist() == [[[200, 100, 50], [1, 2, 3]]]

    def test_cmyk_is_converted(self):
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        decoded = decode_image(encoded(image, "TIFF"))
        assert decoded[8, 8].tolist() == [255, 0, 0]

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF"])
    def test_kinds_are_recognized_by_content(self, kind):
        assert decode_image(encoded(Image.new("L", (5, 3), 77), kind)).shape == (3, 5, 3)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_a_truncated_image_is_named(self, kind, share):
        data = encoded(Image.fromarray(RGB), kind)
        with pytest.raises(ImageError, match=r"^image_0001.jpg: damaged image \(.+\); fetch it again$"):
            decode_image(data[: int(share * len(data))], place="image_0001.jpg")

    @pytest.mark.parametrize("data", [b"", b"not an image at all, but text\n", bytes(100), b"\x89PNG\r\n\x1a\n"])
    def test_what_is_no_image_is_named(self, data):
        text = rf"^a.png: no image that Pillow can read \({len(data)} bytes\); fetch it again$"
        with pytest.raises(ImageError, match=text):
            decode_image(data, place="a.png")

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "DDS"])
    @settings(deadline=None, max_examples=60)
    @given(
        changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
        cut=st.floats(0.01, 1),
    )
    def test_damage_never_escapes_as_another_error(self, kind, changes, cut):
        data = bytearray(encoded(Image.fromarray(RGB), kind))
        for at, value in changes:
            data[at % min(len(data), 150)] = value
        try:
            decoded = decode_image(bytes(data[: max(1, int(cut * len(data)))]))
        except ImageError:
            return
        assert decoded.dtype == np.uint8
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3

    def test_a_large_image_is_refused_before_it_is_decoded(self):
        width, height = 8_001, 8_000
        assert width * height > MAX_PIXELS
        tracemalloc.start()
        with pytest.raises(ImageError, match=rf"^big.png: 8001 x 8000 pixels, expected at most {MAX_PIXELS}; scale"):
            decode_image(png_file(width, height), place="big.png")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000

    def test_an_absurd_size_is_refused(self):
        with pytest.raises(
            ImageError, match=r"^bomb.png: 4611686014132420609 pixels, expected at most 64000000; scale"
        ):
            decode_image(png_file(2**31 - 1, 2**31 - 1), place="bomb.png")


class TestRead:
    def test_a_file(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(encoded(Image.fromarray(RGB), "PNG"))
        np.testing.assert_array_equal(read_image(path), RGB)
        np.testing.assert_array_equal(read_image(str(path)), RGB)

    def test_an_error_names_the_file(self, tmp_path):
        path = tmp_path / "image_0007.jpg"
        path.write_bytes(b"text")
        with pytest.raises(ImageError, match=r"^image_0007.jpg: no image that Pillow can read \(4 bytes\)"):
            read_image(path)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ImageError, match=r"absent.png: no such file; check the path"):
            read_image(tmp_path / "absent.png")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ImageError, match="a folder, expected a file"):
            read_image(tmp_path)


def idx_images(images):
    return struct.pack(">IIII", 0x803, *images.shape) + images.tobytes()


class TestIdx:
    IMAGES = np.random.default_rng(3).integers(0, 256, (4, 28, 28), dtype=np.uint8)

    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_images(self, tmp_path, pack):
        (tmp_path / "images").write_bytes(pack(idx_images(self.IMAGES)))
        np.testing.assert_array_equal(read_idx(tmp_path / "images", 3), self.IMAGES)

    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_labels(self, tmp_path, pack):
        (tmp_path / "labels").write_bytes(pack(bytes.fromhex("00000801 00000003 05 00 04")))
        assert read_idx(tmp_path / "labels", 1).tolist() == [5, 0, 4]

    def test_rows_and_columns_are_not_swapped(self, tmp_path):
        images = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
        (tmp_path / "images").write_bytes(idx_images(images))
        np.testing.assert_array_equal(read_idx(tmp_path / "images", 3), images)

    def test_none_at_all(self, tmp_path):
        (tmp_path / "images").write_bytes(struct.pack(">IIII", 0x803, 0, 28, 28))
        assert read_idx(tmp_path / "images", 3).shape == (0, 28, 28)

    @pytest.mark.parametrize(
        ("data", "num_dims", "text"),
        [
            (b"", 3, r"starts with nothing, expected 00000803 \(IDX, uint8, 3 dimensions\); fetch it again"),
            (b"\x00\x00\x08", 1, "starts with 00 00 08, expected 00000801"),
            (struct.pack(">IIII", 0x803, 0, 28, 28)[:-1], 3, "starts with 00 00 08 03, expected 00000803"),
            (struct.pack(">II", 0x801, 0), 3, "starts with 00 00 08 01, expected 00000803"),
            (struct.pack(">IIII", 0x803, 0, 28, 28), 1, "starts with 00 00 08 03, expected 00000801"),
            (struct.pack("<IIII", 0x803, 0, 28, 28), 3, "starts with 03 08 00 00, expected 00000803"),
            (struct.pack(">IIII", 0xD03, 0, 28, 28), 3, "starts with 00 00 0d 03, expected 00000803"),
            (b"<html>not found</html>", 3, "starts with 3c 68 74 6d, expected 00000803"),
            (struct.pack(">IIII", 0x803, 2, 28, 28) + bytes(784), 3, "800 bytes, the header states 1584; fetch"),
            (struct.pack(">IIII", 0x803, 1, 28, 28) + bytes(785), 3, "801 bytes, the header states 800; fetch"),
            (struct.pack(">II", 0x801, 3) + bytes(2), 1, "10 bytes, the header states 11; fetch it again"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, data, num_dims, text):
        (tmp_path / "train-images").write_bytes(data)
        with pytest.raises(ImageError, match=f"^train-images: {text}"):
            read_idx(tmp_path / "train-images", num_dims)

    def test_absurd_sizes_allocate_nothing(self, tmp_path):
        largest = 2**32 - 1
        (tmp_path / "images").write_bytes(struct.pack(">IIII", 0x803, largest, largest, largest) + bytes(100))
        tracemalloc.start()
        with pytest.raises(ImageError, match=f"images: 116 bytes, the header states {16 + largest**3}; fetch"):
            read_idx(tmp_path / "images", 3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000

    @pytest.mark.parametrize("cut", [3, 10, 40, -9, -1])
    def test_a_cut_gzip_file(self, tmp_path, cut):
        (tmp_path / "images.gz").write_bytes(gzip.compress(idx_images(self.IMAGES), mtime=0)[:cut])
        with pytest.raises(ImageError, match=r"^images.gz: damaged gzip file \(.+\); fetch it again$"):
            read_idx(tmp_path / "images.gz", 3)

    @settings(deadline=None, max_examples=120)
    @given(at=st.integers(2, 3000), value=st.integers(1, 255))
    def test_damage_in_a_gzip_file_never_escapes_as_another_error(self, tmp_path_factory, at, value):
        packed = bytearray(gzip.compress(idx_images(self.IMAGES), mtime=0))
        packed[at % len(packed)] ^= value
        path = tmp_path_factory.getbasetemp() / "damaged.gz"
        path.write_bytes(packed)
        try:
            images = read_idx(path, 3)
        except ImageError:
            return
        np.testing.assert_array_equal(images, self.IMAGES)

    def test_an_invalid_deflate_stream_is_a_damaged_gzip_file(self, tmp_path):
        packed = bytearray(gzip.compress(idx_images(self.IMAGES), mtime=0))
        packed[10] = 0b111  # The third kind of deflate block does not exist.
        (tmp_path / "images.gz").write_bytes(packed)
        with pytest.raises(ImageError, match=r"^images.gz: damaged gzip file \(.*invalid block type"):
            read_idx(tmp_path / "images.gz", 3)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ImageError, match="absent: no such file"):
            read_idx(tmp_path / "absent", 3)


@pytest.mark.real_data
class TestRealImages:
    @pytest.mark.parametrize(("part", "num_images", "pixel_sum"), [("Train", 600, 15_068_065), ("Test", 50, 1_136_989)])
    def test_mnist_pictures(self, real_data, part, num_images, pixel_sum):
        # DATASETS 9.1.
        paths = sorted((real_data / "nmnist/MNIST_png" / part).glob("*/*.png"))
        images = np.stack([read_image(path) for path in paths])
        assert images.shape == (num_images, 28, 28, 3)
        assert images[..., 0].sum(dtype=np.int64) == pixel_sum
        assert (images[..., :1] == images).all()

    def test_every_recording_has_its_picture(self, real_data):
        folder = real_data / "nmnist"
        names = [
            {path.relative_to(folder / kind).with_suffix("").as_posix() for path in (folder / kind).glob("*/*/*.*")}
            for kind in ("N-MNIST", "MNIST_png")
        ]
        assert names[0] == names[1]
        assert len(names[0]) == 650

    @pytest.mark.parametrize(
        ("name", "num_images", "num_grey", "widths", "heights"),
        [
            ("BACKGROUND_Google", 40, 5, (144, 1280), (144, 1071)),
            ("Faces_easy", 40, 0, (254, 290), (283, 348)),
            ("car_side", 40, 40, (300, 300), (197, 197)),
            ("ketch", 40, 1, (192, 300), (167, 300)),
        ],
    )
    def test_caltech_101_classes(self, real_data, name, num_images, num_grey, widths, heights):
        # DATASETS 9.4.
        paths = sorted((real_data / "caltech101/101_ObjectCategories" / name).glob("*.jpg"))
        images = [read_image(path) for path in paths]
        assert len(images) == num_images
        assert {image.shape[2] for image in images} == {3}
        modes = [Image.open(io.BytesIO(path.read_bytes())).mode for path in paths]
        assert modes.count("L") == num_grey
        for mode, image in zip(modes, images, strict=True):
            if mode == "L":
                assert (image[..., :1] == image).all()
        assert (min(i.shape[1] for i in images), max(i.shape[1] for i in images)) == widths
        assert (min(i.shape[0] for i in images), max(i.shape[0] for i in images)) == heights


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_refused_not_clipped(mode):
    kind = "PNG" if mode == "I;16" else "TIFF"
    image = Image.new(mode, (3, 2), 200)
    with pytest.raises(ImageError, match=r"expected 8 bits a channel; convert it$"):
        decode_image(encoded(image, kind))


def test_a_format_that_is_not_listed_is_no_image():
    with pytest.raises(ImageError, match=r"^x: no image that Pillow can read"):
        decode_image(encoded(Image.new("RGB", (4, 4)), "TGA"), place="x")


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
    @pytest.mark.parametrize(("height", "width", "scale"), [(640, 800, 4), (642, 802, 2), (641, 800, 1)])
    def test_a_turned_image_is_reduced_where_whole_pixels_result(self, orientation, height, width, scale):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = photograph(height, width)
        decoded = decode_scaled(encoded(picture, exif=exif), TO_48)
        plain = decode_scaled(encoded(picture), TO_48)
        assert decoded.scale == (plain.scale if orientation == 1 else scale)
        assert decoded.pixels.shape[:2] == tuple(-(-side // decoded.scale) for side in (decoded.height, decoded.width))
        assert (decoded.height, decoded.width) == ((width, height) if orientation > 4 else (height, width))
        if decoded.scale == plain.scale:
            np.testing.assert_array_equal(decoded.pixels, turned(plain.pixels, orientation))

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
            frame_of_pixels(image.pixels, image.extent, ImageTarget(48, 48), "value")
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
        found = frame_of_pixels(image.pixels, image.extent, ImageTarget(48, 48), "value").astype(int)
        full = image_frame(decode_image(data), ImageTarget(48, 48), "value")
        assert abs(found - full).mean() < 0.6
        assert abs(found - full).max() <= 16


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
        plain = decode_plain_jpeg(data, smallest)
        assert plain is not None
        other = decode_by_pillow(data, smallest, path.name)
        assert plain[1:] == other[1:]
        np.testing.assert_array_equal(plain.pixels, other.pixels)
