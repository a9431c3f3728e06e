"""From a source of a catalogue to the events or the pixels that are to be counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.catalogue import Catalogue, Source
from tmkt_data.encode import Placement
from tmkt_data.errors import EventError, ImageError, SpecError
from tmkt_data.event_filters import OUTSIDE, canvas_size, filter_events, orient_events, place_events
from tmkt_data.events import Events, SensorSize, Window
from tmkt_data.io.files import read_bytes
from tmkt_data.io.image_archives import read_archive
from tmkt_data.io.images import decode_image
from tmkt_data.io.read import decode_recording, recognize
from tmkt_data.io.slices import SliceReader, cut_window, slices_path
from tmkt_data.orientation import swaps_axes
from tmkt_data.random_keys import Purpose, draw_key, sample_uid
from tmkt_data.simulate.recording import NMNIST_SETTINGS, simulate_recording
from tmkt_data.spec import PrepareSpec

Archives = dict[Path, NDArray[np.uint8]]


def apply_overrides(catalogue: Catalogue, spec: PrepareSpec) -> Catalogue:
    """Return the catalogue with the sensor size and the unit of time that the spec gives.

    Raises:
        SpecError: A sensor size for a dataset whose recordings are cut to a window or simulated.
    """
    if spec.time_unit is not None:
        catalogue = dataclasses.replace(catalogue, reading=catalogue.reading._replace(unit=spec.time_unit))
    if spec.sensor_size is None:
        return catalogue
    if catalogue.window is not None or catalogue.kind == "simulated":
        raise SpecError(f"sensor_size: {catalogue.name} has one that cannot be changed; leave --sensor-size out")
    size = SensorSize(*spec.sensor_size)
    whole = catalogue.placement == Placement(0, 0, *catalogue.sensor_size)
    placement = Placement(0, 0, *size) if whole else catalogue.placement
    return dataclasses.replace(catalogue, sensor_size=size, placement=placement)


def canvas_of(catalogue: Catalogue, spec: PrepareSpec) -> tuple[SensorSize, Placement]:
    """Return the canvas that recordings are turned to, and where images lie on it."""
    size, place = canvas_size(catalogue.sensor_size, spec.orientation), catalogue.placement
    if swaps_axes(spec.orientation):
        place = Placement(place.y_first, place.x_first, place.height, place.width)
    return size, place


class RecordingReader:
    """Reads the recordings of a catalogue as a spec wants them: decoded, shifted, turned, filtered.

    Args:
        catalogue: Where the recordings are from.
        spec: The choices.
    """

    def __init__(self, catalogue: Catalogue, spec: PrepareSpec) -> None:
        self._catalogue, self._spec = catalogue, spec
        self._slices = SliceReader(catalogue.window or Window(0, 0, catalogue.sensor_size))
        self._archives: Archives = {}

    def read(self, source: Source) -> tuple[Events, bytes]:
        """Return the events, and the bytes that make the recording what it is: its file, or its events in a larger one.

        Raises:
            EventError: A recording that cannot be read, is none of this sensor, or has no event left.
        """
        catalogue, spec, place = self._catalogue, self._spec, source.path.name
        shift = (source.shift[0] + spec.shift_x, source.shift[1] + spec.shift_y)
        match catalogue.kind:
            case "slices":
                events = self._slices.read(source.path, source.item)
                data = events.to_array().tobytes()
            case "simulated":
                events = self._simulate(source)
                data = events.to_array().tobytes()
            case "files":
                data = read_bytes(source.path)
                events = self._decode(data, source.path, whole=shift != (0, 0))
        events = place_events(events, catalogue.sensor_size, shift)
        require_plausible(events, catalogue.sensor_size, place)
        events = orient_events(
            events, spec.orientation, inverted=spec.polarity == "inverted", time_offset_us=spec.time_offset_us
        )
        num_before = len(events)
        events = filter_events(events, spec)
        if not len(events):
            raise EventError(
                f"{place}: none of {num_before} events is left after {', '.join(spec.filters)}, expected some; "
                "filter less"
            )
        return events, data

    def _decode(self, data: bytes, path: Path, *, whole: bool) -> Events:
        size = self._catalogue.sensor_size
        if recognize(data, path) == "atis":
            return decode_recording(data, path, self._catalogue.reading._replace(sensor_size=None if whole else size))
        events = decode_recording(data, path, self._catalogue.reading._replace(sensor_size=None))
        if self._catalogue.window is not None:
            return cut_window(events.to_array(), self._catalogue.window, path.name)
        declared = events.sensor_size
        if declared is not None and declared != size and not whole:
            raise EventError(
                f"{path.name}: declares a sensor of {declared.width} x {declared.height}, expected {size.width} x "
                f"{size.height} like the others; give --sensor-size, or prepare it apart"
            )
        return events

    def _simulate(self, source: Source) -> Events:
        image = archive_of(source.path, self._archives)[source.item]
        key = int(draw_key(0, 0, sample_uid(source.id), 0, Purpose.SIMULATE))
        return simulate_recording(image, key=key, settings=NMNIST_SETTINGS)


def require_plausible(events: Events, sensor_size: SensorSize, place: str) -> None:
    """Refuse bytes that decode but are no recording of this sensor: real ones have no stray event and rising times.

    Raises:
        EventError: Most events lie outside the sensor, there is none, or time steps back again and again.
    """
    num_outside = events.num_dropped.get(OUTSIDE, 0)
    num_events = len(events) + num_outside
    if 2 * num_outside > num_events or not len(events):
        raise EventError(
            f"{place}: {num_outside} of {num_events} events lie outside the {sensor_size.width} x "
            f"{sensor_size.height} sensor; it is damaged or of another dataset, fetch it again"
        )
    if 10 * events.num_inversions > len(events):
        raise EventError(
            f"{place}: time steps back {events.num_inversions} times in {len(events)} events; it is damaged, "
            "fetch it again"
        )


def read_pixels(source: Source, archives: Archives) -> tuple[NDArray[np.uint8], bytes]:
    """Return the pixels of an image, shape (h, w, 3), and the bytes that make it what it is.

    Args:
        source: Image.
        archives: Archives read so far, by path; a new one is added.

    Raises:
        ImageError: An image that cannot be read.
    """
    data = source_bytes(source, archives)
    if source.item < 0:
        return decode_image(data, place=source.path.name), data
    image = archive_of(source.path, archives)[source.item]
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2), data


def source_bytes(source: Source, archives: Archives) -> bytes:
    """Return the bytes that make a source what it is: its file, or its image in an archive; errors as `read_pixels`."""
    if source.item < 0:
        return read_bytes(source.path, error=ImageError)
    return bytes(archive_of(source.path, archives)[source.item].tobytes())


def archive_of(path: Path, archives: Archives) -> NDArray[np.uint8]:
    """Return the images of an archive, read once; errors as `read_archive`."""
    if path not in archives:
        archives[path] = read_archive(path)
    return archives[path]


def files_beside(source: Source, kind: str) -> list[Path]:
    """Return the files that a recording depends on beside its own: the csv of the slices."""
    return [slices_path(source.path)] if kind == "slices" else []
