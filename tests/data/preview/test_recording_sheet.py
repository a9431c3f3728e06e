"""The picture of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.events.events import validate_events
from tmkt_data.preview.colors import GROUND
from tmkt_data.preview.recording_sheet import draw_recording


def record_of(rows):
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    return validate_events(t.astype(np.int64), x, y, p.astype(bool))


def test_the_picture_shows_the_extent_and_every_event_color():
    picture = draw_recording(record_of([(0, 200, 100, True), (9, 210, 130, False)]), "two.bin")
    colors = {color for _, color in picture.getcolors(1 << 20)}
    assert picture.mode == "RGB"
    assert {(0, 114, 178), (213, 94, 0)} <= colors
    draw_recording(record_of([(0, 65535, 65535, True), (9, 0, 0, False)]), "wide")


def areas(picture):
    """Widths and heights of what is drawn on the ground of events, from the top."""
    ground = (np.asarray(picture) == GROUND).all(axis=-1)
    rows = np.flatnonzero(np.diff(ground.any(axis=1).astype(int), prepend=0, append=0)).reshape(-1, 2)
    for top, bottom in rows.tolist():
        columns = ground[top:bottom].any(axis=0).astype(int)
        for left, right in np.flatnonzero(np.diff(columns, prepend=0, append=0)).reshape(-1, 2).tolist():
            yield right - left, bottom - top


@pytest.mark.parametrize(
    ("sensor", "whole", "frame"),
    [
        ((1280, 720), (640, 360), (320, 180)),
        ((720, 1280), (240, 427), (180, 320)),
        ((346, 260), (692, 520), (346, 260)),
        ((34, 34), (340, 340), (272, 272)),
    ],
    ids=lambda size: "x".join(map(str, size)),
)
def test_frames_use_the_page_and_have_the_shape_of_the_sensor(sensor, whole, frame):
    last = (sensor[0] - 1, sensor[1] - 1)
    middle = [(step, sensor[0] // 2, sensor[1] // 2, True) for step in range(1, 100)]
    drawn = list(areas(draw_recording(record_of([(0, 0, 0, True), *middle, (100, *last, False)]), "sensor")))
    assert drawn == [whole, *[frame] * 10]


@pytest.mark.parametrize(("x", "y"), [(65535, 65535), (65535, 0), (0, 65535), (0, 0)])
def test_no_extent_makes_a_page_too_large(x, y):
    picture = draw_recording(record_of([(0, x, y, True), (9, 0, 0, False)]), "extent")
    assert max(picture.size) <= 2016
