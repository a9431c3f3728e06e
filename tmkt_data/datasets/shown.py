"""Images in front of a camera, and the simulated recordings of the datasets that have no others."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tmkt_data.events.events import Events, SensorSize, Window
from tmkt_data.events.filters import place_events
from tmkt_data.images.decode import DecodedImage
from tmkt_data.images.frames import ImageTarget, Placement, frame_of_pixels
from tmkt_data.simulate.camera import CAMERA_VERSION, CameraSettings, SimulatedCamera
from tmkt_data.simulate.paths import Path
from tmkt_data.simulate.pixels import PixelModel

NMNIST_CAMERA = CameraSettings(
    PixelModel(
        threshold_on=0.238,
        threshold_off=0.255,
        toe=0.2,
        negative=True,
        blur=1,
        time_constant_us=500,
        leak_hz=0.0,
        shot_hz=1.48,
    ),
    Path(scale=0.8),
)
"""Fitted to 24 recordings of N-MNIST by `tmkt-data simulate --like` (inferred); see docs/simulator.md."""
NCALTECH101_CAMERA = CameraSettings(
    PixelModel(
        threshold_on=0.184,
        threshold_off=0.133,
        toe=0.5,
        blur=0,
        time_constant_us=1000,
        leak_hz=0.04,
        shot_hz=0.04,
    ),
    Path(scale=0.9),
)
"""Fitted in the same way to the one real recording of N-Caltech101 at hand, Faces_easy/image_0001 (inferred)."""
_SEED = 0
"""Seed of the pixels of either sensor."""


def lay_on_sensor(
    image: DecodedImage, size: SensorSize, placement: Placement
) -> tuple[NDArray[np.uint8], Window | None]:
    """Return an image as it lies on a sensor, its edges continued to all sides.

    Args:
        image: The image.
        size: Width and height of the sensor.
        placement: Where images lie on it. One that begins beyond the corner of the sensor was recorded by a larger
            sensor, and the recording was cropped to a window.

    Returns:
        The luminance that the whole sensor sees, shape (H, W), uint8, and the window; None where nothing was cropped.

    Example:
        >>> white = DecodedImage.of(np.full((28, 28), 255, np.uint8))
        >>> light, window = lay_on_sensor(white, SensorSize(34, 34), Placement(3, 3, 28, 28))
        >>> light.shape, window
        ((34, 34), None)
    """
    left, top, right, bottom = placement.box_of(image.width, image.height)
    light = frame_of_pixels(image.pixels, image.extent, ImageTarget(bottom - top, right - left), "luminance")
    light = light[: size.height - top, : size.width - left]
    beyond_x, beyond_y = max(0, -left), max(0, -top)
    before = max(0, top), max(0, left)
    after = (
        size.height + beyond_y - before[0] - light.shape[0],
        size.width + beyond_x - before[1] - light.shape[1],
    )
    padded = np.ascontiguousarray(np.pad(light, tuple(zip(before, after, strict=True)), mode="edge"))
    if not (beyond_x or beyond_y):
        return padded, None
    width, height = (right + left if left < 0 else size.width), (bottom + top if top < 0 else size.height)
    # A picture thinner than what was cropped keeps a row or column.
    return padded, Window(
        beyond_x, beyond_y, SensorSize(max(1, min(width, size.width)), max(1, min(height, size.height)))
    )


def record_shown(camera: CameraSettings, seen: tuple[NDArray[np.uint8], Window | None], uid: int) -> Events:
    """Simulate the recording of an image: a pure function of camera, image and sample.

    Args:
        camera: The camera, such as `NMNIST_CAMERA`.
        seen: The image as `lay_on_sensor` returns it.
        uid: Hash of the sample id, see `sample_uid`; draws the noise.

    Returns:
        Events sorted by time, of the window where there is one.
    """
    light, window = seen
    events = _camera(camera, SensorSize(*light.shape[::-1])).record(light, uid)
    return events if window is None else place_events(events, window.size, (-window.x_first, -window.y_first))


def camera_identity(camera: CameraSettings) -> str:
    """Return everything that recordings depend on beside their image and sample, as JSON."""
    return json.dumps([CAMERA_VERSION, _SEED, dataclasses.asdict(camera)], sort_keys=True)


@cache
def _camera(settings: CameraSettings, size: SensorSize) -> SimulatedCamera:
    return SimulatedCamera(settings, size, _SEED)
