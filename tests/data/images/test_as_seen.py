from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures import encoded, photograph, png_chunk, png_file, turned
from PIL import Image

from tmkt_data.errors import ImageError
from tmkt_data.images.as_seen import exif_orientation, may_be_turned
from tmkt_data.images.decode import decode_image, decode_plain_jpeg, decode_scaled

RGB = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)


def exif(orientation, order="<", count=1, kind=3):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entries = [
        struct.pack(order + "HHIHH", 0x0100, 3, 1, 7, 0),
        struct.pack(order + "HHIHH", 0x0112, kind, count, orientation, 0),
    ]
    return b"Exif\0\0" + head + struct.pack(order + "H", 2) + b"".join(entries) + bytes(4)


class TestOrientation:
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_pixels_lie_as_a_viewer_shows_them(self, kind, orientation):
        options = {"lossless": True} if kind == "WEBP" else {}
        mark = Image.Exif()
        mark[0x0112] = orientation
        plain = decode_image(encoded(Image.fromarray(RGB), kind, **options))
        decoded = decode_image(encoded(Image.fromarray(RGB), kind, exif=mark, **options))
        np.testing.assert_array_equal(decoded, turned(plain, orientation))

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_both_byte_orders_are_read(self, order, orientation):
        assert exif_orientation(exif(orientation, order)) == orientation

    @pytest.mark.parametrize("stated", [0, 9, 255])
    def test_another_number_is_upright(self, stated):
        assert exif_orientation(exif(stated)) == 1

    @pytest.mark.parametrize(
        "block", [b"", b"II", b"Exif\0\0", b"XX*\0" + bytes(20), exif(6)[:-30], exif(6, kind=4), exif(6, count=2)]
    )
    def test_a_damaged_block_is_upright(self, block):
        assert exif_orientation(block) == 1
        picture = photograph(60, 80)
        marked = encoded(picture, exif=block if block.startswith(b"Exif") else b"Exif\0\0" + block)
        np.testing.assert_array_equal(decode_image(marked), decode_image(encoded(picture)))

    def test_a_png_may_state_it_after_its_pixels(self):
        chunk = png_chunk(b"eXIf", exif(6)[6:])
        decoded = decode_scaled(png_file(4, 1, color=0, rows=bytes([0, 1, 2, 3, 4]), extra=chunk), None)
        assert (decoded.height, decoded.width) == (4, 1)
        assert decoded.pixels[:, 0, 0].tolist() == [1, 2, 3, 4]

    def test_only_jpegs_to_turn_leave_the_fast_way(self):
        picture = photograph(60, 80)
        upright, sideways = encoded(picture, exif=exif(1)), encoded(picture, exif=exif(6, ">"))
        assert decode_plain_jpeg(upright, None) is not None
        assert decode_plain_jpeg(sideways, None) is None
        assert may_be_turned(np.frombuffer(sideways, np.uint8))


class TestTransparency:
    def test_parts_are_laid_over_white(self):
        alpha = np.linspace(0, 255, RGB.shape[0] * RGB.shape[1]).astype(np.uint8).reshape(RGB.shape[:2])
        decoded = decode_image(encoded(Image.fromarray(np.dstack([RGB, alpha])), "PNG"))
        share = alpha[..., None] / 255
        assert np.abs(decoded - (RGB * share + 255 * (1 - share))).max() <= 1

    def test_a_black_shape_on_transparent_black_is_seen(self):
        alpha = np.zeros((8, 8), np.uint8)
        alpha[2:5, 3:6] = 255
        decoded = decode_image(encoded(Image.fromarray(np.dstack([np.zeros((8, 8, 3), np.uint8), alpha])), "PNG"))
        np.testing.assert_array_equal(decoded[..., 0], 255 - alpha)

    def test_a_white_shape_is_laid_over_black(self):
        alpha = np.zeros((8, 8), np.uint8)
        alpha[2:5, 3:6] = 255
        decoded = decode_image(
            encoded(Image.fromarray(np.dstack([np.full((8, 8, 3), 255, np.uint8), alpha])), "WEBP", lossless=True)
        )
        np.testing.assert_array_equal(decoded[..., 0], alpha)

    def test_opaque_pixels_stay(self):
        opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
        np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(opaque), "PNG")), RGB)

    def test_a_transparent_palette_color(self):
        image = Image.new("P", (2, 1))
        image.putpalette([200, 100, 50, 1, 2, 3])
        image.putpixel((1, 0), 1)
        assert decode_image(encoded(image, "GIF", transparency=0)).tolist() == [[[255, 255, 255], [1, 2, 3]]]

    def test_a_transparent_color_of_gray(self):
        gray = encoded(Image.fromarray(np.array([[7, 90]], np.uint8)), "PNG", transparency=7)
        assert decode_image(gray)[0, :, 0].tolist() == [255, 90]

    def test_gray_with_alpha(self):
        pixels = np.array([[[10, 255], [10, 0]]], np.uint8)
        assert decode_image(encoded(Image.fromarray(pixels, "LA"), "PNG"))[0, :, 0].tolist() == [10, 255]


class TestDepth:
    @pytest.mark.parametrize(("color", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
    def test_a_png_of_16_bits_is_refused(self, color, samples):
        with pytest.raises(ImageError, match=r"^image bytes: .*8 bits a channel.*; convert it$"):
            decode_image(png_file(4, 1, depth=16, color=color, rows=bytes(1 + 8 * samples)))

    @pytest.mark.parametrize("kind", [b"P5", b"P6"])
    def test_a_ppm_of_more_than_255_levels_is_refused(self, kind):
        with pytest.raises(ImageError, match=r"^here: .*8 bits a channel"):
            decode_image(kind + b" 2 1 1023\n" + bytes(12), place="here")

    def test_a_tiff_of_16_bits_is_refused(self):
        fields = {256: 1, 257: 1, 258: 16, 259: 1, 262: 2, 273: 122, 277: 3, 278: 1, 279: 6}
        entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in fields.items())
        with pytest.raises(ImageError, match="8 bits a channel"):
            decode_image(b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(10))

    def test_a_bmp_of_16_bits_a_pixel_has_few_a_channel(self):
        head = struct.pack("<2sIHHI", b"BM", 58, 0, 0, 54) + struct.pack(
            "<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0
        )
        assert decode_image(io.BytesIO(head + struct.pack("<HH", 0x7FFF, 0)).getvalue())[0, :, 0].tolist() == [255, 0]
