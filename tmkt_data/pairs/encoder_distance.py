"""Distance between the two sides of pairs for every image encoder, measured before any training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.pairs.event_scale import scale_events
from tmkt_data.pairs.image_side import GainRows, ImageSide, served_sides
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.simulate.saccade import DrawnKeys
from tmkt_data.spec import Encoder

MAX_RECORDINGS = 60
MAX_IMAGES = 60
"""Images that recordings are compared with at least, if there are as many: their twins, then others."""
_ALMOST_NONE = 0.5


@dataclass(frozen=True)
class Activity:
    """Activity of frames, at event scale `raw`.

    Attributes:
        rate: Mean magnitude of a cell in one time bin: events, or intensity.
        empty_share: Share of cells and bins below 0.5, half an event.
        on_share: Share of ON in the magnitude of all cells; None without any.
        profile: Share of each time bin in the magnitude of all cells, T numbers; zeros without any.
    """

    rate: float
    empty_share: float
    on_share: float | None
    profile: tuple[float, ...]


@dataclass(frozen=True)
class EncoderDistance:
    """Distance of one encoder's image frames from event frames.

    Correlations are over all bins, channels and cells, at event scale `log1p`; a frame without contrast counts as 0.
    A value is None if there was nothing to compare.

    Attributes:
        encoder: The encoder.
        own: Mean correlation of recordings with their own twin.
        same_class: With other images of the same class.
        other_class: With images of other classes.
        own_is_best: Share of recordings whose twin correlates more than all other images compared.
        own_swapped: As `own`, with ON and OFF of the image frames swapped; None for intensities and spikes.
        profile_distance: Share of the activity that would have to move to other bins to match the recordings, 0 to 1.
        activity: Activity of the image frames.
    """

    encoder: Encoder
    own: float
    same_class: float | None
    other_class: float | None
    own_is_best: float | None
    own_swapped: float | None
    profile_distance: float
    activity: Activity


@dataclass(frozen=True)
class EncoderComparison:
    """Distance between the sides for each encoder.

    Attributes:
        num_recordings: Recordings compared, of the split, evenly spaced over those with a twin.
        num_images: Images compared with each.
        events: Activity of the recordings.
        encoders: One entry for each encoder that the cache serves.
        notes: What was left out.
        warnings: What looks wrong.
    """

    num_recordings: int
    num_images: int
    events: Activity
    encoders: tuple[EncoderDistance, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return dataclasses.asdict(self)


def compare_encoders(frames: PairedFrames) -> EncoderComparison | None:
    """Compare recordings of a split with their twins and with other images, by every encoder.

    Args:
        frames: Pairs of one split, of any encoder and event scale; recordings of other splits are not read.

    Returns:
        The comparison; None if no recording has a twin.

    Raises:
        CacheError: A frame was modified after it was written.
    """
    cache = frames.cache
    with_twin = np.flatnonzero(frames.twins >= 0)
    if not len(with_twin):
        return None
    chosen = with_twin[evenly_spaced(len(with_twin), MAX_RECORDINGS)]
    images = _images(frames, frames.twins[chosen])
    events = cache.event_frames(frames.rows[chosen])
    recordings = _Recordings(events, np.searchsorted(images, frames.twins[chosen]), frames.labels[chosen])
    sides, notes = served_sides(cache, "raw", GainRows(frames.rows[chosen], frames.twins[chosen]), frames.camera)
    found = [_distance(frames, side, images, recordings) for side in sides]
    return EncoderComparison(
        num_recordings=len(chosen),
        num_images=len(images),
        events=_activity(events),
        encoders=tuple(found),
        notes=tuple(notes),
        warnings=tuple(_polarity_warnings(found)),
    )


@dataclass(frozen=True)
class _Recordings:
    """Recordings compared: their frames, (N, T, C, H, W), and the place of the twin and the label of each, (N,)."""

    frames: NDArray[np.float32]
    twins: NDArray[np.int64]
    labels: NDArray[np.int64]


def _images(frames: PairedFrames, twins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the twins and, up to `MAX_IMAGES`, other images that the split may use, ascending."""
    own = np.unique(twins)
    others = np.setdiff1d(frames.pools.rows, own)
    missing = min(MAX_IMAGES - len(own), len(others))
    return np.union1d(own, others[evenly_spaced(len(others), missing)]) if missing > 0 else own


def _distance(
    frames: PairedFrames, side: ImageSide, images: NDArray[np.int64], recordings: _Recordings
) -> EncoderDistance:
    keys = DrawnKeys(frames.seed, 0, images.astype(np.uint64), np.zeros(len(images), np.int64))
    shown = side.frames(images, keys)
    activity, of_events = _activity(shown[np.unique(recordings.twins)]), _activity(recordings.frames)
    # Only counts are scaled: intensities and spikes are read as they are at any event scale.
    values = scale_events(shown.copy(), "log1p") if side.imitates_events else np.array(shown)
    counts = scale_events(recordings.frames.copy(), "log1p")
    scores = _correlations(counts, values)
    at = np.arange(len(scores))
    own = scores[at, recordings.twins]
    is_other = np.ones(scores.shape, bool)
    is_other[at, recordings.twins] = False
    is_class = frames.cache.tables["images/label"][images] == recordings.labels[:, None]
    best_other = np.where(is_other, scores, -np.inf).max(axis=1)
    swapped = None
    if side.imitates_events:
        other_way = values[:, :, ::-1] if frames.num_channels == 2 else -values
        swapped = float(_correlations(counts, other_way)[at, recordings.twins].mean())
    return EncoderDistance(
        encoder=side.encoder,
        own=float(own.mean()),
        same_class=_mean(scores[is_other & is_class]),
        other_class=_mean(scores[is_other & ~is_class]),
        own_is_best=float((own > best_other).mean()) if is_other.any() else None,
        own_swapped=swapped,
        profile_distance=float(np.abs(np.subtract(activity.profile, of_events.profile)).sum() / 2),
        activity=activity,
    )


def _correlations(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Pearson correlation of each of N arrays with each of M, shape (N, M); 0 where one is constant."""
    sides = [np.reshape(frames, (len(frames), -1)).astype(np.float64) for frames in (one, other)]
    sides = [side - side.mean(axis=1, keepdims=True) for side in sides]
    norms = [np.linalg.norm(side, axis=1) for side in sides]
    scale = norms[0][:, None] * norms[1]
    return np.asarray(np.divide(sides[0] @ sides[1].T, scale, out=np.zeros_like(scale), where=scale > 0), np.float64)


def _activity(frames: NDArray[np.float32]) -> Activity:
    size = np.abs(frames)
    total = float(size.sum(dtype=np.float64))
    profile = size.sum(axis=(0, 2, 3, 4), dtype=np.float64) / (total or 1.0)
    on = size[:, :, 1] if frames.shape[2] == 2 else np.where(frames > 0, size, 0)
    return Activity(
        rate=total / frames.size,
        empty_share=float((size < _ALMOST_NONE).mean()),
        on_share=float(on.sum(dtype=np.float64)) / total if total else None,
        profile=tuple(profile.tolist()),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _polarity_warnings(found: list[EncoderDistance]) -> Iterator[str]:
    for distance in found:
        swapped = distance.own_swapped
        if distance.encoder == "saccade" and swapped is not None and swapped > distance.own:
            yield (
                f"encoder saccade: polarity looks inverted: its frames correlate {swapped:.2f} with the recordings "
                f"when ON and OFF are swapped, {distance.own:.2f} as they are; the camera is not that of the published "
                "recordings; use 'microsaccade' or 'gradient'"
            )
