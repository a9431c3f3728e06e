"""Annotations in the layout that `Read_annotation.m` reads (DATASETS [S]); no original was at hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data.datasets.annotations import annotation_path, read_annotation
from tmkt_data.errors import EventError

BOX = [(-3, 4), (50, 4), (50, 60), (-3, 60), (-3, 4)]


def encode(box, contour):
    out = b""
    for points in (box, contour):
        out += np.array([2, len(points)], "<i2").tobytes() + np.array(points, "<i2").tobytes()
    return out


@given(st.lists(st.tuples(st.integers(-500, 500), st.integers(-500, 500)), max_size=30))
def test_box_and_contour_come_back(tmp_path_factory, contour):
    path = tmp_path_factory.mktemp("a") / "annotation_0001.bin"
    path.write_bytes(encode(BOX, contour))
    found = read_annotation(path)
    assert found.box.tolist() == [list(point) for point in BOX[:4]]
    assert found.contour.tolist() == [list(point) for point in contour]


WHOLE = encode(BOX, BOX)
DAMAGED = [
    b"",
    b"\x02",
    b"\x02\x00\x05\x00",
    WHOLE[:-1],
    WHOLE + b"ab",
    encode(BOX[:2], BOX),
    b"\x03" + WHOLE[1:],
    WHOLE[:24],
]


@pytest.mark.parametrize("data", DAMAGED)
def test_damaged_annotations_are_one_line(tmp_path, data):
    path = tmp_path / "annotation_0001.bin"
    path.write_bytes(data)
    with pytest.raises(EventError, match=r"^annotation_0001\.bin: [^\n]*$"):
        read_annotation(path)


def test_the_file_of_a_recording():
    assert annotation_path(Path("a"), "airplanes/image_0012") == Path("a/airplanes/annotation_0012.bin")
