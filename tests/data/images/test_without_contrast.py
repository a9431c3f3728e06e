"""Images without contrast are told by the checksums of their frames, wherever they lie on them."""

from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.events.events import SensorSize
from tmkt_data.files import checksum
from tmkt_data.images.frames import ImageTarget, Placement, frame_of_pixels, image_frame
from tmkt_data.images.without_contrast import are_without_contrast

PLACES = [
    (None, None),
    (SensorSize(240, 180), Placement(3, 3, 227, 167)),
    (SensorSize(34, 34), Placement(3, 3, 28, 28)),
    (SensorSize(64, 48), Placement(-3, -5, 70, 58)),
]
SIZES = [(100, 200), (200, 100), (151, 150), (28, 28)]


def found_in(pictures, target, decode, channel="value"):
    frames = [
        image_frame(rgb, target, channel)
        if decode == "full"
        else frame_of_pixels(rgb, (float(rgb.shape[0]), float(rgb.shape[1])), target, channel)
        for rgb in pictures
    ]
    sizes = np.array([rgb.shape[:2] for rgb in pictures])
    checksums = np.array([checksum(frame) for frame in frames], np.uint64)
    return are_without_contrast(checksums, sizes, target, decode).tolist()


@pytest.mark.parametrize("decode", ["full", "scaled"])
@pytest.mark.parametrize("side", [17, 48])
@pytest.mark.parametrize(("sensor", "placement"), PLACES)
def test_one_color_is_found_and_everything_else_is_not(sensor, placement, side, decode):
    target = ImageTarget(side, side, sensor, placement)
    colors = [(0, 0, 0), (255, 255, 255), (1, 1, 1), (200, 100, 50)]
    flat = [np.full((*size, 3), color, np.uint8) for size in SIZES for color in colors]
    halves = []
    for rgb in flat:
        halves.append(rgb.copy())
        halves[-1][len(rgb) // 2 :] ^= 16
    assert found_in(flat, target, decode) == [True] * len(flat)
    assert found_in(halves, target, decode) == [False] * len(halves)
    assert found_in([*halves[:3], *flat[:3]], target, decode) == [False] * 3 + [True] * 3


def test_gray_values_alone_count():
    """Of red and green, the larger one is 255 everywhere."""
    rgb = np.zeros((48, 48, 3), np.uint8)
    rgb[:, :24, 0] = rgb[:, 24:, 1] = 255
    target = ImageTarget(48, 48)
    assert found_in([rgb], target, "full") == [True]
    assert found_in([rgb], target, "full", "luminance") == [False]


def test_no_images():
    none = np.zeros(0, np.uint64)
    for sensor, placement in PLACES:
        target = ImageTarget(8, 8, sensor, placement)
        assert not len(are_without_contrast(none, np.zeros((0, 2), np.int64), target, "full"))
