"""Read the recordings of a catalogue: decoded, shifted, rotated and filtered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.image_reader import Archives, read_pixels
from tmkt_data.datasets.shown import NMNIST_CAMERA, lay_on_sensor, record_shown
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import EventError, SpecError
from tmkt_data.events.events import OUTSIDE, Events, SensorSize, Window
from tmkt_data.events.filters import (
    EventFilter,
    canvas_size,
    filter_events,
    orient_events,
    pixel_counts,
    place_events,
    swaps_axes,
)
from tmkt_data.events.formats.atis import ATIS_SIZE
from tmkt_data.events.read import decode_recording, recognize
from tmkt_data.events.slices import SliceReader, cut_window, slices_path
from tmkt_data.events.stream import checksum_of, is_large, read_pieces
from tmkt_data.events.summary import RecordingFacts, dropped_text
from tmkt_data.events.time_range import cut_time, robust_range
from tmkt_data.files import checksum, read_bytes
from tmkt_data.images.frames import Placement
from tmkt_data.random_keys import sample_uid
from tmkt_data.spec import PrepareSpec


def apply_overrides(catalogue: Catalogue, spec: PrepareSpec) -> Catalogue:
    """Return the catalogue with sensor size and time unit overridden by the spec.

    Raises:
        SpecError: The sensor size is given for a dataset whose recordings are cropped or simulated.
    """
    if spec.time_unit is not None:
        catalogue = dataclasses.replace(catalogue, reading=catalogue.reading._replace(unit=spec.time_unit))
    if spec.sensor_size is None:
        return catalogue
    if catalogue.window is not None or catalogue.kind == "simulated":
        raise SpecError(f"sensor_size: that of {catalogue.name} cannot be changed; omit --sensor-size")
    size = SensorSize(*spec.sensor_size)
    whole = catalogue.placement == Placement(0, 0, *catalogue.sensor_size)
    placement = Placement(0, 0, *size) if whole else catalogue.placement
    return dataclasses.replace(catalogue, sensor_size=size, placement=placement)


def canvas_of(catalogue: Catalogue, spec: PrepareSpec) -> tuple[SensorSize, Placement]:
    """Return the canvas after rotation, and the placement of images on it."""
    size, place = canvas_size(catalogue.sensor_size, spec.orientation), catalogue.placement
    if swaps_axes(spec.orientation):
        place = Placement(place.y_first, place.x_first, place.height, place.width)
    return size, place


class OpenedRecording(NamedTuple):
    """A recording decoded according to a spec.

    Attributes:
        facts: Counts and time span.
        pieces: Returns a new iterator over its events in time order; a small file yields one piece.
        num_bytes: Size of its source bytes: its file, or its events in a larger file.
        checksum: Checksum of the source bytes.
    """

    facts: RecordingFacts
    pieces: Callable[[], Iterator[Events]]
    num_bytes: int
    checksum: int


class RecordingReader:
    """Reads the recordings of a catalogue according to a spec: decoded, shifted, rotated, filtered.

    Args:
        catalogue: The dataset.
        spec: The options.
    """

    def __init__(self, catalogue: Catalogue, spec: PrepareSpec) -> None:
        self._catalogue, self._spec = catalogue, spec
        self._slices = SliceReader(catalogue.window or Window(0, 0, catalogue.sensor_size))
        self._archives: Archives = {}

    def open(self, source: Source) -> OpenedRecording:
        """Open a recording and collect its facts.

        Raises:
            EventError: The recording cannot be read, does not fit this sensor, or has no events left.
        """
        is_file = self._catalogue.kind == "files" and self._catalogue.window is None
        if is_file and is_large(source.path):
            recording = self._open_large(source)
        else:
            events, data = self._whole(source)
            require_plausible(RecordingFacts.of([events]), self._catalogue.sensor_size, source.path.name)
            events = filter_events(self._turned(events), self._spec)
            recording = OpenedRecording(RecordingFacts.of([events]), lambda: iter((events,)), len(data), checksum(data))
        if not recording.facts.num_kept:
            raise EventError(
                f"{source.path.name}: none of {recording.facts.num_read} events is left after "
                f"{', '.join(self._spec.filters)}, expected some; filter less"
            )
        return recording if self._spec.time_range == "whole" else _without_strays(recording)

    def checksum_of(self, source: Source) -> int:
        """Return the checksum of the source bytes of a recording in a larger file.

        Raises:
            EventError: The recording cannot be read.
        """
        return checksum(self._whole(source)[1])

    def _open_large(self, source: Source) -> OpenedRecording:
        spec = self._spec
        size = canvas_size(self._catalogue.sensor_size, spec.orientation)
        facts = RecordingFacts()
        counts = np.zeros((size.height, size.width), np.int64)
        for events in self._pieces(source):
            facts.add(events)
            if spec.hot_pixels:
                counts += pixel_counts(events, size)
        require_plausible(facts, self._catalogue.sensor_size, source.path.name)

        def pieces() -> Iterator[Events]:
            if not spec.filters:
                return self._pieces(source)
            return map(EventFilter(spec, size, counts).apply, self._pieces(source))

        if spec.filters:
            facts = RecordingFacts.of(pieces())
        return OpenedRecording(facts, pieces, source.path.stat().st_size, checksum_of(source.path))

    def _pieces(self, source: Source) -> Iterator[Events]:
        size, shift = self._catalogue.sensor_size, self._shift(source)
        given = self._catalogue.reading._replace(sensor_size=None)
        for events in read_pieces(source.path, given):
            # ATIS files declare no size, so the limit of their event record is returned.
            if events.sensor_size != ATIS_SIZE:
                self._require_declared(events, source.path.name)
            yield self._turned(place_events(events, size, shift))

    def _shift(self, source: Source) -> tuple[int, int]:
        return source.shift[0] + self._spec.shift_x, source.shift[1] + self._spec.shift_y

    def _turned(self, events: Events) -> Events:
        spec = self._spec
        inverted = spec.polarity == "inverted"
        return orient_events(events, spec.orientation, inverted=inverted, time_offset_us=spec.time_offset_us)

    def _whole(self, source: Source) -> tuple[Events, bytes]:
        """Return the events on the sensor, and the source bytes of the recording."""
        shift = self._shift(source)
        match self._catalogue.kind:
            case "slices":
                events = self._slices.read(source.path, source.item)
                data = events.to_array().tobytes()
            case "simulated":
                events = self._simulate(source)
                data = events.to_array().tobytes()
            case "files":
                data = read_bytes(source.path)
                events = self._decode(data, source.path, shift)
        return place_events(events, self._catalogue.sensor_size, shift), data

    def _decode(self, data: bytes, path: Path, shift: tuple[int, int]) -> Events:
        size = self._catalogue.sensor_size
        if recognize(data, path) == "atis":
            given = self._catalogue.reading._replace(sensor_size=size if shift == (0, 0) else None)
            return decode_recording(data, path, given)
        events = decode_recording(data, path, self._catalogue.reading._replace(sensor_size=None))
        if self._catalogue.window is not None:
            return cut_window(events.to_array(), self._catalogue.window, path.name)
        self._require_declared(events, path.name)
        return events

    def _require_declared(self, events: Events, place: str) -> None:
        declared, size = events.sensor_size, self._catalogue.sensor_size
        if declared is not None and declared != size:
            raise EventError(
                f"{place}: declares a sensor of {declared.width} x {declared.height}, expected {size.width} x "
                f"{size.height}; where all do, give --sensor-size {declared.width}x{declared.height}, else leave it "
                "out with --skip-bad"
            )

    def _simulate(self, source: Source) -> Events:
        image, _ = read_pixels(source, self._archives)
        seen = lay_on_sensor(image, self._catalogue.sensor_size, self._catalogue.placement)
        return record_shown(NMNIST_CAMERA, seen, sample_uid(source.id))


def _without_strays(recording: OpenedRecording) -> OpenedRecording:
    bounds = robust_range(recording.pieces(), recording.facts.num_kept)
    if bounds is None:
        return recording

    def pieces() -> Iterator[Events]:
        return (cut_time(events, bounds) for events in recording.pieces())

    return recording._replace(facts=RecordingFacts.of(pieces()), pieces=pieces)


def require_plausible(facts: RecordingFacts, sensor_size: SensorSize, place: str) -> None:
    """Refuse data that decodes but cannot be a recording of this sensor.

    Raises:
        EventError: Most events lie outside the sensor, there are none, or timestamps decrease too often.
    """
    num_outside = facts.num_dropped.get(OUTSIDE, 0)
    num_events = facts.num_kept + num_outside
    if not num_events:
        dropped = dropped_text(facts.num_dropped)
        raise EventError(
            f"{place}: no events{f' among {facts.num_read:,} words ({dropped})' if dropped else ''}, expected one or "
            "more; leave the file out"
        )
    if 2 * num_outside > num_events or not facts.num_kept:
        raise EventError(
            f"{place}: {num_outside} of {num_events} events lie outside the {sensor_size.width} x "
            f"{sensor_size.height} sensor; it is damaged or of another dataset, fetch it again"
        )
    if 10 * facts.num_inversions > facts.num_kept:
        raise EventError(
            f"{place}: time steps back {facts.num_inversions} times in {facts.num_kept} events; it is damaged, "
            "fetch it again"
        )


def files_beside(source: Source, kind: str) -> list[Path]:
    """Return the files that a recording depends on besides its own: the CSV of its slices."""
    return [slices_path(source.path)] if kind == "slices" else []
