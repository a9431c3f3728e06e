"""The random draws of some samples as one integer table, small enough to copy to a GPU for a whole epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PairedFrames
from tmkt_data.pairs.image_side import ImageSide
from tmkt_data.random_keys import Purpose, draw_key
from tmkt_data.simulate.saccade import DrawnKeys
from tmkt_train.data.augmentation import crop_offsets, draw_degrees, draw_flips
from tmkt_train.data.moved import motion_columns
from tmkt_train.data.sampling import DrawKeys

if TYPE_CHECKING:
    from tmkt_train.recipe.schema import TrainTable

EVENT, IMAGE, LABEL, ROWS, COLUMNS, MIRRORED, SINE, COSINE, KEY_LOW, KEY_HIGH = range(10)
"""Columns of `SamplePlan.table`: places in the store, class, shifts in cells, bits of float64, words of the key."""
NUM_COLUMNS = KEY_HIGH + 1


_BLOCK = 1 << 14
"""Samples whose paths are drawn at a time."""


class SamplePlan(NamedTuple):
    """All random draws of some samples.

    To replay a CUDA graph for other samples, copy their rows into the table that it was captured with.

    Attributes:
        table: One row per sample, shape (B, NUM_COLUMNS), int64; for images that are moved on the device, more columns
            with their motions, see `moved.motion_columns`.
        moves: Whether event frames are cropped, mirrored or rotated.
        rotates: Whether they are rotated.
        with_image: Whether the samples have images.
    """

    table: Tensor
    moves: bool = False
    rotates: bool = False
    with_image: bool = False

    def part(self, samples: slice) -> SamplePlan:
        """Return the plan of some of the samples; a view."""
        return self._replace(table=self.table[samples])


class Images(NamedTuple):
    """Images of N samples: places in the store, and rows of the cache, each of shape (N,)."""

    places: NDArray[np.int64]
    rows: NDArray[np.int64]


def draw_plan(
    frames: PairedFrames,
    places: tuple[NDArray[np.int64], Images | None],
    labels: NDArray[np.int64],
    keys: DrawKeys,
    train: TrainTable | None,
) -> SamplePlan:
    """Make all random draws of N samples.

    Args:
        frames: Their split; its epoch is set.
        places: Places of their recordings in the store, shape (N,), and their images.
        labels: Their classes, shape (N,).
        keys: Their keys.
        train: Augmentation; None for none.

    Returns:
        The plan, on the CPU.
    """
    table = np.zeros((len(labels), NUM_COLUMNS), np.int64)
    table[:, EVENT], table[:, LABEL] = places[0], labels
    if places[1] is not None:
        table[:, IMAGE] = places[1].places
        if frames.encoder == "poisson":
            words = draw_key(frames.seed, frames.epoch, keys.uids, keys.occurrences, Purpose.POISSON)
            table[:, KEY_LOW], table[:, KEY_HIGH] = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
        if frames.image_side is not None and frames.image_side.is_moved:
            drawn = DrawnKeys(frames.seed, frames.epoch, keys.uids, keys.occurrences)
            table = np.concatenate([table, _motions(frames.image_side, places[1].rows, drawn)], axis=1)
    if train is None:
        return SamplePlan(torch.from_numpy(table), with_image=places[1] is not None)
    if train.crop_padding:
        table[:, [ROWS, COLUMNS]] = crop_offsets(keys, train.crop_padding) - train.crop_padding
    if train.flip:
        table[:, MIRRORED] = draw_flips(keys)
    if train.rotation:
        # One angle at a time, as `rotate_frames` does, so that sine and cosine round in the same way.
        angles = list(np.deg2rad(draw_degrees(keys, train.rotation)))
        table[:, SINE] = np.array([np.sin(angle) for angle in angles], np.float64).view(np.int64)
        table[:, COSINE] = np.array([np.cos(angle) for angle in angles], np.float64).view(np.int64)
    return SamplePlan(
        torch.from_numpy(table),
        moves=bool(train.crop_padding or train.flip or train.rotation),
        rotates=train.rotation > 0,
        with_image=places[1] is not None,
    )


def _motions(side: ImageSide, rows: NDArray[np.int64], keys: DrawnKeys) -> NDArray[np.int64]:
    """Draw the paths of images block by block, which bounds the memory for an epoch of many samples."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, max(len(rows), 1), _BLOCK)]
    return np.concatenate(
        [
            motion_columns(side.motion(rows[at], keys._replace(uids=keys.uids[at], occurrences=keys.occurrences[at])))
            for at in blocks
        ]
    )
