"""The picture of a recording."""

from __future__ import annotations

import numpy as np

from tmkt_data.events.events import validate_events
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
