import io

import numpy as np
import pytest
from PIL import Image

from tmkt_train.report.figures.drawing import About
from tmkt_train.report.figures.maps import confusion_map, heat_map, strip, strip_sheet

ABOUT = About("map", "a map")


def test_strip_sheet_holds_the_frames_enlarged():
    frames = np.zeros((1, 2, 36, 36, 3), np.float32)
    frames[0, 1, :, :, 0] = 2.0
    frames[0, 1, 0, 0] = np.nan
    sheet = strip_sheet(frames)
    assert sheet.shape == (72, 2 * 72 + 2, 4)
    assert sheet[0, 0].tolist() == [0, 0, 0, 255]
    assert sheet[0, 72].tolist() == [0, 0, 0, 0]
    assert sheet[71, 145].tolist() == [255, 0, 0, 255]
    assert sheet[0, 74].tolist() == [0, 0, 0, 255]


def test_strip_in_a_page_is_one_picture_of_its_own_pixels():
    frames = np.random.default_rng(0).random((4, 3, 5, 5, 3), np.float32)
    text = strip(ABOUT, frames, ["image", "frames", "events", "mixed"]).svg("strip")
    assert text.count("<image") == 1
    assert text.count("data:image/png;base64,") == 1
    for words in (">mixed<", ">3<"):
        assert words in text


@pytest.mark.parametrize("num_classes", [1, 2, 20, 21, 101, 300])
def test_confusion_matrix_of_any_size_is_small(num_classes):
    hits = np.eye(num_classes, dtype=np.int64)
    counts = 8 * hits + (num_classes > 1) * np.roll(hits, 1, axis=1)
    names = [f"a class of a rather long name {i}" for i in range(num_classes)]
    drawing = confusion_map(ABOUT, counts, names)
    text = drawing.svg("map")
    assert len(text) < 30_000 + 150 * num_classes
    assert (">8<" in text) == (num_classes <= 20)
    assert ("a class…" in text) == (num_classes <= 20)
    # Hits and errors have different colors, and there is one path for each shade.
    assert text.count("stroke: var(--event)") == 1
    assert text.count("stroke: var(--image)") == (num_classes > 1)
    with Image.open(io.BytesIO(drawing.saved("png")[0])) as picture:
        assert picture.width == 920


def test_heat_map_has_numbers_where_they_fit():
    few, many = (np.full((2, n), 0.25) for n in (12, 24))
    assert heat_map(ABOUT, few, ["a", "b"], 1.0).svg("m").count(">.25<") == 24
    text = heat_map(ABOUT, many, ["a", "b"], 1.0).svg("m")
    assert ">.25<" not in text
    assert ">20<" in text
