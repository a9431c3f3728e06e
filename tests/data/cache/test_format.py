from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest

from tmkt_data.cache import format as cache_format
from tmkt_data.cache.format import (
    ContentDigest,
    FrameArray,
    LeadingBlock,
    content_digest,
    decode_leading_block,
    encode_leading_block,
    frame_arrays,
    table_text,
    text_table,
)
from tmkt_data.errors import CacheError
from tmkt_data.spec import PrepareSpec

BLOCK = LeadingBlock(3, 123_456, "ab" * 32, "cd" * 32)
TEXT = (
    f"tmkt-cache 3\ndigest {'cd' * 32}\nbytes 123456\npieces {'ab' * 32}\n"
    "An HDF5 file follows this block; read it with tmkt-data inspect, or with any HDF5 library.\n"
).encode()


def padded(text: bytes) -> bytes:
    """Return a leading block with a right checksum."""
    return (text + b"crc32 %08x\n" % zlib.crc32(text)).ljust(511) + b"\n"


def test_leading_block_is_512_bytes_of_text():
    assert encode_leading_block(BLOCK) == padded(TEXT)
    assert len(padded(TEXT)) == 512 == cache_format.LEADING_BYTES
    assert decode_leading_block(padded(TEXT), "x.h5") == BLOCK
    assert decode_leading_block(padded(TEXT) + b"what follows", "x.h5") == BLOCK


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a tmkt cache; make one with tmkt-data prepare"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "not a tmkt cache; make one with tmkt-data prepare"),
        (padded(TEXT)[:511], "the first 512 bytes are damaged or truncated; prepare it again"),
        (padded(TEXT.replace(b"bytes 123456", b"bytes 12345x")), "the first 512 bytes are damaged or truncated; "),
        (
            padded(TEXT.replace(b"tmkt-cache 3", b"tmkt-cache 2")),
            "cache format 2, this tmkt reads format 3; prepare it",
        ),
        (
            padded(TEXT.replace(b"tmkt-cache 3", b"tmkt-cache 4")),
            "cache format 4, this tmkt reads format 3; prepare it",
        ),
        (padded(TEXT.replace(b"An HDF5", b"An HDF6")), "the first 512 bytes are damaged; prepare it again"),
    ],
)
def test_what_is_wrong_with_a_leading_block_is_said(data, text):
    with pytest.raises(CacheError) as found:
        decode_leading_block(data, "x.h5")
    assert str(found.value).startswith(f"x.h5: {text}")


def test_every_bit_of_the_leading_block_counts():
    whole = padded(TEXT)
    for place in range(8 * len(whole)):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(CacheError):
            decode_leading_block(bytes(data), "x.h5")


def test_sizes_of_an_array_of_frames():
    array = FrameArray("events/frames", (7, 10, 2, 16, 16), np.dtype("<f2"))
    assert (array.side, array.kind) == ("events", "frames")
    assert array.row_bytes == 10 * 2 * 16 * 16 * 2
    assert array.num_bytes == 7 * array.row_bytes
    assert array.with_rows(3) == FrameArray("events/frames", (3, 10, 2, 16, 16), np.dtype("<f2"))


@pytest.mark.parametrize(
    ("options", "events", "spikes"),
    [
        ({"resize": "sum"}, ((5, 4, 2, 16, 16), "|u1"), None),
        ({"resize": "bilinear"}, ((5, 4, 2, 16, 16), "<f2"), None),
        ({"resize": "sum", "representation": "voxel"}, ((5, 4, 1, 16, 16), "<f4"), None),
        ({"resize": "sum", "bake": "poisson"}, ((5, 4, 2, 16, 16), "|u1"), (3, 4, 2, 16, 16)),
    ],
)
def test_frames_of_a_cache(options, events, spikes):
    expected = [("events/frames", *events), ("images/frames", (3, 16, 16), "|u1")]
    expected += [] if spikes is None else [("images/spikes", spikes, "|u1")]
    arrays = frame_arrays(PrepareSpec(time_bins=4, size=16, **options), 5, 3)
    assert [(array.name, array.shape, array.dtype.str) for array in arrays] == expected


def test_content_digest_is_that_of_names_types_shapes_and_bytes():
    label, start = np.array([[1, 2], [3, 4]], "<u8"), np.arange(3, dtype="<i4")
    listing = b"a=1\0b=2\0events/label:<u8:(2, 2)\0" + label.tobytes() + b"z:<i4:(3,)\0" + start.tobytes()
    header = {"b": "2", "a": "1", "tool_version": "9"}
    assert content_digest(header, {"z": start, "events/label": label}) == hashlib.sha256(listing).hexdigest()
    assert content_digest(header, {"z": start, "events/label": label}) == content_digest(
        header | {"tool_version": "10"}, {"events/label": label, "z": start}
    )


@pytest.mark.parametrize(
    "other",
    [
        np.arange(6, dtype="<i4").reshape(2, 3),
        np.arange(6, dtype="<u4").reshape(3, 2),
        np.arange(6, dtype="<i4").astype(">i4").reshape(3, 2),
        np.arange(6, dtype="<i4").view("<i2").reshape(3, 4),
        np.asfortranarray(np.arange(6, dtype="<i4").reshape(3, 2)[::-1]),
    ],
)
def test_the_same_bytes_of_another_type_or_shape_have_another_digest(other):
    def digest(table):
        made = ContentDigest({})
        made.add("t", table)
        return made.hexdigest()

    table = np.arange(6, dtype="<i4").reshape(3, 2)
    assert digest(table) == digest(np.asfortranarray(table))
    assert digest(table) != digest(other)


def test_text_of_a_table():
    names = ("", "a/ü", "aeroplane")
    assert text_table(names).dtype.str == "|S9"
    assert table_text(text_table(names)) == names
