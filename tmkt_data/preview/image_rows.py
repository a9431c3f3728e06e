"""Rows of a contact sheet that show one image by every encoder, beside the recording that was made of it."""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.cameras import camera_of
from tmkt_data.pairs.image_side import GainRows, ImageSide
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.colors import event_colors, gray_colors
from tmkt_data.preview.sheet import SheetRow
from tmkt_data.simulate.saccade import DrawnKeys
from tmkt_data.spec import Encoder

_DETAILS: dict[Encoder, tuple[str, ...]] = {
    "repeat": ("intensity",),
    "poisson": ("spikes",),
    "baked": ("stored",),
    "gradient": ("edges", "(inferred)"),
    "saccade": ("camera path", "(inferred)"),
    "microsaccade": ("random path", "(inferred)"),
}


class ShownImage(NamedTuple):
    """An image in a sheet.

    Attributes:
        row: Its row in the cache.
        uid: Hash of the id of the recording it is paired with, for random draws.
    """

    row: int
    uid: np.uint64


def image_sides(frames: PairedFrames) -> tuple[ImageSide, ...]:
    """Return one side for each encoder that the cache serves; with pairing `none`, no side."""
    cache, found = frames.cache, []
    if frames.image_side is None:
        return ()
    for encoder in get_args(Encoder):
        is_served = {"baked": cache.has_spikes, "saccade": _knows_path(frames)}.get(encoder, True)
        if is_served:
            measured = GainRows(frames.rows, frames.pools.rows if len(frames.pools.rows) else frames.twins)
            found.append(ImageSide(cache, encoder, frames.scale, measured))
    return tuple(found)


def _knows_path(frames: PairedFrames) -> bool:
    return camera_of(frames.dataset) is not None and frames.spec.orientation == "as-is"


def encoder_rows(
    frames: PairedFrames, sides: tuple[ImageSide, ...], image: ShownImage, steps: NDArray[np.int64]
) -> tuple[SheetRow, ...]:
    """Return the event frames of the recording of an image, then one row for each encoder.

    Args:
        frames: The pairs, set to the epoch to show.
        sides: See `image_sides`.
        image: The image.
        steps: Time steps to show, from 0.
    """
    rows: list[SheetRow] = []
    own = np.flatnonzero(frames.cache.tables["events/twin"] == image.row)
    if len(own):
        events = frames.cache.event_frames(own[:1])[0]
        rows.append(SheetRow("own recording", ("event frames",), event_colors(events)[steps]))
    keys = DrawnKeys(frames.seed, frames.epoch, np.array([image.uid]), np.zeros(1, np.int64))
    for side in sides:
        shown = side.frames(np.array([image.row]), keys)[0]
        rows.append(SheetRow(side.encoder, _DETAILS[side.encoder], image_colors(side, shown)[steps]))
    return tuple(rows)


def image_colors(side: ImageSide, shown: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the colors of image frames, shape (T, H, W, 3): of events where they imitate them, otherwise gray."""
    return event_colors(shown) if side.imitates_events else gray_colors(shown.mean(axis=1))
