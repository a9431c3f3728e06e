"""The image side of pairs: stored intensities to frames, by the encoder that a reader chose."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.cameras import Camera, CameraView, FrameLayout, camera_for, with_background, with_threshold
from tmkt_data.errors import SpecError
from tmkt_data.images.encode import CountTable, count_table, poisson_counts, poisson_frames, repeat_frames
from tmkt_data.images.log_intensity import (
    Motion,
    change_response,
    gradient_response,
    gray_levels,
    stored_changes,
    unit_response,
)
from tmkt_data.pairs.event_scale import scale_events
from tmkt_data.random_keys import Purpose, draw_key
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.simulate.saccade import NO_KEYS, DrawnKeys
from tmkt_data.spec import Bake, Encoder, EventScale

Value = TypeVar("Value", np.float32, np.int16)

IMITATORS: tuple[Encoder | Bake, ...] = ("gradient", "gradient-poisson", "saccade", "microsaccade")
"""Encoders whose frames are in the units of event frames."""
_DRAWN: tuple[Encoder, ...] = ("gradient-poisson", "microsaccade")
_ALONG_A_PATH: tuple[Encoder, ...] = ("saccade", "microsaccade")
MAX_SAMPLES = 200
"""Recordings, and images, that a gain is measured on at most."""
_BLOCK = 32


class GainRows(NamedTuple):
    """Rows of the cache that the gain of an encoder is measured on: recordings and images, int64."""

    events: NDArray[np.int64]
    images: NDArray[np.int64]


def served_sides(
    cache: Cache, scale: EventScale, measured: GainRows, camera: Camera | None = None
) -> tuple[list[ImageSide], list[str]]:
    """Return a side for each encoder that a cache serves, and why others are missing.

    Nothing is said of `baked` if the cache has no baked frames. The arguments are those of `ImageSide`.
    """
    sides: list[ImageSide] = []
    missing: list[str] = []
    for encoder in get_args(Encoder):
        if encoder == "baked" and not cache.has_spikes:
            continue
        try:
            side = ImageSide(cache, encoder, scale, measured, camera)
            if encoder == "gradient-poisson":
                # Only its gain says whether its counts are too large to draw.
                _ = side.response
            sides.append(side)
        except SpecError as unknown:
            missing.append(str(unknown))
    return sides, missing


class ImageSide:
    """Frames of the images of a cache.

    Encoders `gradient`, `saccade` and `microsaccade` are in the units of event frames: changes of log intensity times
    one gain, which makes their mean that of the event frames, then the event scale. With a threshold of the camera they
    are whole counts instead, one event for each threshold in a change. For `gradient-poisson`, the gradient times the
    gain, or over the threshold, is the mean of a Poisson count that every time bin, channel and cell draws. They are a
    choice of this project (inferred).

    Background activity of the camera comes on top of `saccade` and `microsaccade`: Poisson counts of the same mean in
    every cell, channel and time bin, each as much as one event. Source: noise events as a Poisson process of each
    pixel, Hu et al., v2e, CVPRW 2021.

    Args:
        cache: The cache.
        encoder: How an image becomes a sequence.
        scale: Event scale, applied to encoders that imitate events.
        measured: What the gain is measured on, at most `MAX_SAMPLES` of each, evenly spaced.
        camera: Camera of encoders `saccade` and `microsaccade`; None: that of the dataset.

    Raises:
        CacheError: The cache has no baked frames.
        SpecError: The camera path of the dataset is unknown, or threshold or background rate are out of range.
    """

    def __init__(
        self, cache: Cache, encoder: Encoder, scale: EventScale, measured: GainRows, camera: Camera | None = None
    ) -> None:
        self.cache, self.encoder, self.scale = cache, encoder, scale
        self.measured = measured
        if encoder == "baked" and not cache.has_spikes:
            cache.image_spikes(np.zeros(0, np.int64))
        dataset = cache.info.dataset
        camera = camera_for(encoder, dataset, cache.spec) if camera is None else camera
        camera = with_background(with_threshold(camera, camera.threshold), camera.background_rate)
        self._view = CameraView(camera, FrameLayout.of(cache.spec, cache.info.facts))

    @property
    def imitates_events(self) -> bool:
        """Whether frames are in the units of event frames; otherwise they are intensities or spikes, 0 to 1."""
        return (self.cache.spec.bake if self.encoder == "baked" else self.encoder) in IMITATORS

    @property
    def is_drawn(self) -> bool:
        """Whether frames in the units of events are drawn anew for every sample and epoch."""
        return self.encoder in _DRAWN or self._has_background

    @property
    def is_moved(self) -> bool:
        """Whether `motion` and the stored intensities say all about the changes of an image."""
        return self.encoder in _ALONG_A_PATH and not self._has_background

    @property
    def levels(self) -> NDArray[np.float32]:
        """Log intensity of each gray value as the camera saw it, shape (256,), float32."""
        return gray_levels(self._view.camera.is_negative)

    def motion(self, rows: NDArray[np.int64], keys: DrawnKeys) -> Motion:
        """Return how the images of some rows move, in cells of `Cache.finest_frames`; arguments as in `frames`."""
        words = keys if self.encoder == "microsaccade" else NO_KEYS
        return self._view.motion(self._sizes(rows), self.cache.spec.image_scale, words)

    @property
    def _has_background(self) -> bool:
        return self.encoder in _ALONG_A_PATH and self._view.camera.background_rate > 0

    def frames(self, rows: NDArray[np.int64], keys: DrawnKeys) -> NDArray[np.float32]:
        """Return frames, shape (B, T, C, H, W), float32; a read-only view over T and C where they repeat.

        Args:
            rows: Images, rows of the cache, shape (B,).
            keys: What random encoders draw by.

        Raises:
            CacheError: A frame was modified after it was written.
        """
        cache, spec = self.cache, self.cache.spec
        match self.encoder:
            case "baked":
                spikes = cache.image_spikes(rows)
                if self.imitates_events:
                    return self._of_whole_samples(self.response[spikes])
                return spikes.astype(np.float32) / np.float32(255 if spec.bake == "repeat" else 1)
            case "repeat":
                return repeat_frames(cache.image_frames(rows), spec.time_bins, spec.num_channels)
            case "poisson":
                words = np.atleast_1d(draw_key(*keys, Purpose.POISSON))
                return poisson_frames(cache.image_frames(rows), spec.time_bins, spec.num_channels, key=words)
            case "gradient":
                still = self._of_whole_samples(self._encoded(rows, keys, self.response))
                return np.broadcast_to(still, (len(rows), spec.time_bins, spec.num_channels, *still.shape[3:]))
            case "gradient-poisson":
                return self._of_whole_samples(self._drawn(rows, keys, self.response))
            case "saccade" | "microsaccade" if self._has_background:
                return self._of_whole_samples(self.response[self.changes(rows, keys) + np.int32(self.zero)])
            case "saccade" | "microsaccade":
                return self._of_whole_samples(self._encoded(rows, keys, self.response))

    def changes(self, rows: NDArray[np.int64], keys: DrawnKeys) -> NDArray[np.int16] | NDArray[np.int32]:
        """Return what `response` is looked up by, minus `zero`: shape (B, T, C, H, W), or (B, 1, 1, H, W) repeated.

        Raises:
            CacheError: A frame was modified after it was written.
        """
        if self.encoder == "gradient-poisson":
            return self._drawn(rows, keys, np.arange(len(self.response), dtype=np.int16))
        changes = self._encoded(rows, keys, change_response(self.cache.spec.num_channels))
        return self._with_background(changes, keys) if self._has_background and len(keys.uids) else changes

    @property
    def zero(self) -> int:
        """Index of no change in `response`."""
        is_signed = self.cache.spec.num_channels == 1 and self.encoder not in ("baked", "gradient-poisson")
        return len(self.response) // 2 if is_signed else 0

    @cached_property
    def response(self) -> NDArray[np.float32]:
        """Value of a frame for each change of log intensity, with gain and the event scale of single cells.

        Indexed by what `changes` returns, plus `zero`, or by a baked byte. For `gradient-poisson`, of each count;
        with background activity, of the changes with each number of its events in turn.
        """
        counts = self._counts()
        match self.scale:
            case "max" | "step-max":
                return counts
            case "binary":
                # Less than half an event is none.
                np.copyto(counts, np.abs(counts) >= 0.5)
                return counts
            case _:
                scale_events(counts.reshape(1, 1, 1, 1, -1), self.scale)
                return counts

    def _counts(self) -> NDArray[np.float32]:
        """Return the events that each index of `response` stands for."""
        if self.encoder == "gradient-poisson":
            return np.arange(self._table.max_count + 1, dtype=np.float32)
        changes = stored_changes() if self.encoder == "baked" else unit_response(self.cache.spec.num_channels)
        threshold = self._view.camera.threshold
        counts: NDArray[np.float32] = (
            changes * np.float32(self.gain) if threshold is None else np.trunc(changes / np.float32(threshold))
        )
        if not self._has_background:
            return counts
        most = self._background.max_count
        events = np.arange(-most if self.cache.spec.num_channels == 1 else 0, most + 1, dtype=np.float32)
        return (counts + events[:, None]).reshape(-1)

    @cached_property
    def _table(self) -> CountTable:
        """Limits of Poisson counts whose means are the events of each gradient."""
        gradients = unit_response(2)[: len(gradient_response())].astype(np.float64)
        threshold = self._view.camera.threshold
        return count_table(gradients * self.gain if threshold is None else gradients / threshold)

    @cached_property
    def gain(self) -> float:
        """Events for a change of log intensity by 1: the mean of event frames over that of the changes.

        1 where one of them is 0, such as images without contrast.
        """
        cache = self.cache
        events = _mean_magnitude(cache.event_frames(part) for part in _blocks(self.measured.events))
        changes = _mean_magnitude(self._unit_frames(part) for part in _blocks(self.measured.images))
        return events / changes if events and changes else 1.0

    def _unit_frames(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return frames whose values are the changes themselves."""
        if self.encoder == "baked":
            return stored_changes()[self.cache.image_spikes(rows)]
        return self._encoded(rows, NO_KEYS, unit_response(self.cache.spec.num_channels))

    def _encoded(self, rows: NDArray[np.int64], keys: DrawnKeys, response: NDArray[Value]) -> NDArray[Value]:
        """Look up a response for the changes of images; microsaccades without keys follow the camera's path."""
        cache, sizes = self.cache, self._sizes(rows)
        intensities = cache.finest_frames(rows) if self.encoder in _ALONG_A_PATH else cache.image_frames(rows)
        if self.encoder in ("gradient", "gradient-poisson"):
            return self._view.edges(intensities, sizes, response)[:, None, None]
        return self._view.changes(intensities, sizes, response, keys if self.encoder == "microsaccade" else NO_KEYS)

    def _sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack([self.cache.tables[f"images/{side}_px"][rows] for side in ("height", "width")], axis=1)

    def _drawn(self, rows: NDArray[np.int64], keys: DrawnKeys, values: NDArray[Value]) -> NDArray[Value]:
        """Draw a Poisson count for every time bin, channel and cell, and look up its value."""
        spec = self.cache.spec
        gradients = self._encoded(rows, keys, gradient_response())[:, 0, 0]
        words = np.atleast_1d(draw_key(*keys, Purpose.POISSON))
        drawn = poisson_counts(gradients, self._table, spec.time_bins * spec.num_channels, words, values)
        return drawn.reshape(len(rows), spec.time_bins, spec.num_channels, *gradients.shape[-2:])

    def _with_background(self, changes: NDArray[np.int16], keys: DrawnKeys) -> NDArray[np.int32]:
        """Draw background activity; each of its events moves on to the next copy of the changes in `response`."""
        num_samples, num_bins, num_channels, height, width = changes.shape
        step = len(unit_response(num_channels))
        drawn = poisson_counts(
            np.zeros((num_samples, height, width), np.int16),
            self._background,
            num_bins * 2,
            np.atleast_1d(draw_key(*keys, Purpose.BACKGROUND)),
            np.arange(self._background.max_count + 1, dtype=np.int16),
        ).reshape(num_samples, num_bins, 2, height, width)
        events = drawn if num_channels == 2 else drawn[:, :, 1:] - drawn[:, :, :1]
        return changes + events.astype(np.int32) * np.int32(step)

    @cached_property
    def _background(self) -> CountTable:
        return count_table(np.array([self._view.camera.background_rate]))

    def _of_whole_samples(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the event scales that need all cells of a sample, in place."""
        return scale_events(frames, self.scale) if self.scale in ("max", "step-max") else frames


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield blocks of at most `MAX_SAMPLES` rows, evenly spaced over all of them."""
    chosen = rows[evenly_spaced(len(rows), MAX_SAMPLES)]
    for first in range(0, len(chosen), _BLOCK):
        yield chosen[first : first + _BLOCK]


def _mean_magnitude(blocks: Iterator[NDArray[np.float32]]) -> float:
    """Return the mean magnitude over blocks of equal frames, 0 where there are none."""
    total, count = 0.0, 0
    for frames in blocks:
        total += float(np.abs(frames).sum(dtype=np.float64))
        count += frames.size
    return total / count if count else 0.0
