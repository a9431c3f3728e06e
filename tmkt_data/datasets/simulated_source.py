"""Record the images of a plan with a simulated camera: in threads, resumed, the same bytes each time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.folder_settings import SETTINGS_NAME
from tmkt_data.datasets.simulated import LOCK, MADE_WITH, ImageToRecord, SimulationPlan, files_below, is_temporary
from tmkt_data.errors import EventError, ImageError, SpecError, TmktError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.write import write_events
from tmkt_data.files import read_bytes, write_bytes
from tmkt_data.images.decode import decode_scaled
from tmkt_data.images.frames import ImageTarget, Placement, frame_of_pixels
from tmkt_data.locks import locked_folder
from tmkt_data.random_keys import sample_uid
from tmkt_data.simulate.camera import SimulatedCamera


class Recorded(NamedTuple):
    """What became of one image.

    Attributes:
        id: Sample id.
        num_events: Events of its recording; None where it was complete before.
        has_contrast: Whether the image has more than one gray value.
        problem: Why there is no recording; empty where there is one.
    """

    id: str
    num_events: int | None = None
    has_contrast: bool = True
    problem: str = ""


def simulate_folder(plan: SimulationPlan, workers: int = 1, *, skip_bad: bool = False) -> Iterator[Recorded]:
    """Record the images, yielding what became of each, in their order.

    Recordings whose image is unchanged are kept, so that an interrupted run resumes. Files are written atomically, and
    have the same bytes for any number of workers. `tmkt.toml` is written at the end, where no image failed.

    Args:
        plan: What to record.
        workers: Number of threads, 1 or more.
        skip_bad: Write `tmkt.toml` also where images failed.

    Raises:
        TmktError: The disk is full or not writable, or another process is writing there.
    """
    camera = SimulatedCamera(plan.camera.settings, plan.camera.sensor_size, plan.camera.seed)
    below = sorted({str(path.parent.relative_to(plan.out)) for image in plan.images for path in image[2:]})
    num_failed = 0
    with locked_folder(plan.out, LOCK, below), ThreadPoolExecutor(workers, "simulate") as pool:
        for path in filter(is_temporary, files_below(plan.out)):
            with suppress(OSError):
                path.unlink()
        write_bytes(plan.out / MADE_WITH, plan.camera.text().encode())
        waiting: deque[Future[Recorded]] = deque()
        images = iter(plan.images)
        try:
            while True:
                while len(waiting) < 2 * workers and (image := next(images, None)) is not None:
                    waiting.append(pool.submit(_record, image, camera))
                if not waiting:
                    break
                recorded = waiting.popleft().result()
                num_failed += bool(recorded.problem)
                yield recorded
        finally:
            for future in waiting:
                future.cancel()
        if not num_failed or skip_bad:
            width, height = plan.camera.sensor_size
            write_bytes(plan.out / SETTINGS_NAME, f"sensor_size = [{width}, {height}]\n".encode())


def light_of(data: bytes, size: SensorSize, place: str) -> NDArray[np.uint8]:
    """Return an image as the sensor sees it at rest: luminance, scaled to fit the sensor, aspect kept.

    Args:
        data: Bytes of the image file.
        size: Width and height of the sensor.
        place: Prefix of error messages.

    Returns:
        Shape (h, w), uint8; h or w is that of the sensor.

    Raises:
        ImageError: It cannot be read, see `decode_image`.
    """
    placement = Placement(0, 0, *size)
    image = decode_scaled(data, ImageTarget(*size[::-1], size, placement).smallest_pixels, place=place)
    _, _, width, height = placement.box_of(image.width, image.height)
    return frame_of_pixels(image.pixels, image.extent, ImageTarget(height, width), "luminance")


def _record(image: ImageToRecord, camera: SimulatedCamera) -> Recorded:
    """Record one image; a problem with the image is returned, one with the disk raised."""
    try:
        data = read_bytes(image.source, error=ImageError)
        light = light_of(data, camera.size, f"{image.id}{image.source.suffix}")
        has_contrast = bool(light.min() < light.max())
        if image.recording.is_file() and image.copy.is_file() and image.copy.read_bytes() == data:
            return Recorded(image.id, has_contrast=has_contrast)
        events = camera.record(light, sample_uid(image.id), image.id)
    except (ImageError, SpecError) as problem:
        return Recorded(image.id, problem=str(problem))
    if not len(events) and image.recording.suffix != ".npz":
        why = "fires no pixel" if has_contrast else "has no contrast, and there is no noise"
        nothing = f"{image.id}: the image {why}: no events, which only .npz holds; leave it out or write .npz"
        return Recorded(image.id, 0, has_contrast, nothing)
    try:
        write_events(image.recording, events)
    except EventError as broken:
        raise TmktError(str(broken)) from broken
    write_bytes(image.copy, data)
    return Recorded(image.id, len(events), has_contrast)
