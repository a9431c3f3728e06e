"""Contact sheets: the pairs of a cache, step by step, in one picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.errors import SpecError, counted
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.files import write_bytes
from tmkt_data.pairs.image_side import ImageSide, served_sides
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.colors import event_colors, gray_colors, polarities
from tmkt_data.preview.sheet import LEGEND, Grid, Row, draw_group, draw_page
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.simulate.saccade import DrawnKeys
from tmkt_data.spec import Encoder

DETAILS: dict[Encoder, tuple[str, ...]] = {
    "repeat": ("intensity",),
    "poisson": ("spikes",),
    "baked": ("stored",),
    "gradient": ("edges", "(inferred)"),
    "gradient-poisson": ("drawn edges", "(inferred)"),
    "saccade": ("camera path", "(inferred)"),
    "microsaccade": ("random path", "(inferred)"),
}


def draw_pairs(frames: PairedFrames, *, num_samples: int = 4, encoders: bool = False) -> Image.Image:
    """Draw a contact sheet of pairs: image, image spikes, event frames and a mixed sequence.

    Args:
        frames: Pairs of one split, set to the epoch to show.
        num_samples: Maximum number of pairs, evenly spaced over the split.
        encoders: Whether to show each image by every encoder, below the recording that was made of it.

    Returns:
        An RGB picture, at most 2016 pixels wide. Equal arguments give equal pixels.

    Raises:
        SpecError: No samples.
        CacheError: A frame was modified after it was written.
    """
    if num_samples < 1:
        raise SpecError(f"samples of a preview: found {num_samples}, expected 1 or more")
    chosen = evenly_spaced(len(frames), num_samples).tolist()
    grid = Grid(frames.num_time_bins, frames.spec.size)
    paired = frames.image_side
    sides = served_sides(frames.cache, frames.scale, paired.measured, frames.camera)[0] if encoders and paired else []
    groups = []
    for position, point in zip(chosen, shown_points(len(chosen), frames.num_time_bins), strict=True):
        rows = list(pair_rows(frames, position, point, sides))
        picture = None if paired is None else rows.pop(0)
        groups.append(draw_group([*_head(frames, position, picture, grid), *map(grid.row, rows)]))
    keys = [key for key in LEGEND if frames.num_channels == 2 or key != "both"]
    notes = ["times after the first event", "event colors scaled to each recording"]
    if paired is None:
        keys = [key for key in keys if "step" not in key]
    elif frames.num_channels == 2:
        notes.append("image spikes: white where both channels spike, gray where one does")
    if len(grid.steps) < frames.num_time_bins:
        notes.insert(0, f"{len(grid.steps)} of {frames.num_time_bins} steps, evenly chosen")
    return draw_page((frames.dataset, *sheet_facts(frames)), keys, groups, notes)


def write_preview(path: Path, image: Image.Image) -> None:
    """Write a picture as PNG atomically; equal pictures give equal bytes.

    Raises:
        SpecError: The name does not end in `.png`.
        TmktError: The disk is full or the folder is not writable.
    """
    if path.suffix.lower() != ".png":
        raise SpecError(f"{path}: found suffix {path.suffix!r}, expected '.png'; a preview is a PNG picture")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def shown_points(num_samples: int, num_time_bins: int) -> list[int]:
    """Spread the replacement points of a sheet: each side has a fifth of the steps or more, if there are several.

    Example:
        >>> shown_points(4, num_time_bins=10), shown_points(1, num_time_bins=1)
        ([4, 5, 7, 8], [1])
    """
    least = max(1, num_time_bins // 5)
    points = np.linspace(least + 1, num_time_bins + 1 - least, num_samples + 2)[1:-1]
    return [min(round(point), num_time_bins) for point in points]


def pair_rows(frames: PairedFrames, position: int, point: int, sides: Sequence[ImageSide] = ()) -> Iterator[Row]:
    """Yield the rows of a pair: its image, of one cell, then those of all time steps.

    The image spikes are a Poisson draw for any encoder of `frames`; the mixed sequence shows what `frames` returns,
    image frames before the replacement point and event frames from it on. If there are `sides`, the recording that was
    made of the image follows, and the image by their encoders. With pairing `none` there is no image.

    Raises:
        CacheError: A frame was modified after it was written.
    """
    batch, cache, paired = frames.read([position]), frames.cache, frames.image_side
    events = event_colors(batch.events[0])
    event_row = Row("event frames", ["counts" if frames.num_channels == 2 else "voxel grid"], events)
    if paired is None:
        yield event_row
        return
    keys = DrawnKeys(frames.seed, frames.epoch, frames.uids[[position]], np.zeros(1, np.int64))

    def encoded(side: ImageSide) -> NDArray[np.uint8]:
        shown = side.frames(batch.image_index, keys)[0]
        return event_colors(shown) if side.imitates_events else gray_colors(shown.mean(axis=1))

    shown, levels = encoded(paired), cache.image_frames(batch.image_index)
    yield Row("image", ["intensity"], gray_colors(levels.astype(np.float32) / np.float32(255)))
    drawn = ImageSide(cache, "poisson", frames.scale, paired.measured)
    has_spikes = paired.encoder == "baked" and cache.spec.bake == "poisson"
    yield Row("image spikes", ["Poisson draw"], shown if has_spikes else encoded(drawn))
    yield event_row
    mixed = np.concatenate([shown[: point - 1], events[point - 1 :]])
    yield Row("mixed", [f"image {paired.encoder},", "then events"], mixed, point)
    if sides:
        own = np.flatnonzero(cache.tables["events/twin"] == batch.image_index[0])[:1]
        for recording in cache.event_frames(own):
            yield Row("own recording", ["event frames"], event_colors(recording))
        for side in sides:
            yield Row(side.encoder, DETAILS[side.encoder], encoded(side))


def sheet_facts(frames: PairedFrames) -> list[str]:
    """Return the lines below the title: which pairs they are, and how their frames were made."""
    spec = frames.spec
    pairing = {"none": "no images", "twin": "each with its twin", "same-class": "same-class images"}[frames.pairing]
    split = f"{frames.protocol} split, {frames.split}"
    size = f"{spec.size} x {spec.size} cells, {spec.canvas} canvas, resize {spec.resize}"
    values = "voxel grid" if spec.representation == "voxel" else f"counts, scale {frames.scale}"
    encoder = f"image {spec.image_channel}, encoder {frames.encoder}"
    lines = (
        (
            split,
            f"{len(frames):,} recording{'s' * (len(frames) != 1)}",
            pairing,
            f"seed {frames.seed}, epoch {frames.epoch}",
        ),
        (f"{counted(spec.time_bins, 'time bin')}, {spec.bin_rule}", size),
        (values, encoder, f"cache {frames.cache_digest[:12]}"),
    )
    return ["  ·  ".join(line) for line in lines]


def sample_facts(frames: PairedFrames, position: int) -> list[tuple[str, str]]:
    """Return label and value of the lines beside the image of a pair."""
    facts = [("class", frames.class_names[int(frames.labels[position])])]
    if frames.image_side is not None:
        image = int(frames.read([position]).image_index[0])
        is_twin = image == int(frames.twins[position])
        facts.append(("image", frames.cache.image_ids[image]))
        facts.append(("", "its twin: the image recorded" if is_twin else "same class, not its twin"))
    kept, read, first_us, last_us = _measures(frames, position)
    facts.append(("events", f"{kept:,} kept" + (f" of {read:,}" if read != kept else "")))
    return [*facts, ("span", f"{(last_us - first_us) / 1000:,.1f} ms")]


def step_times_ms(frames: PairedFrames, position: int) -> NDArray[np.float64]:
    """Return the start of each step, or its point in a voxel grid, in ms after the first event, shape (T,)."""
    *_, first_us, last_us = _measures(frames, position)
    if frames.spec.representation == "voxel":
        return np.linspace(0, (last_us - first_us) / 1000, frames.num_time_bins)
    return (bin_edges(first_us, last_us, frames.num_time_bins, frames.spec.bin_rule)[:-1] - first_us) / 1000


def _measures(frames: PairedFrames, position: int) -> list[int]:
    tables, row = frames.cache.tables, frames.rows[position]
    return [int(tables[f"events/{name}"][row]) for name in ("num_kept", "num_read", "t_first_us", "t_last_us")]


def _head(frames: PairedFrames, position: int, picture: Row | None, grid: Grid) -> list[Image.Image]:
    events = frames.cache.event_frames(frames.rows[[position]])[0]
    extent = "up to {}" if frames.num_channels == 2 and frames.spec.resize == "sum" else "relative"
    return [
        grid.intro(frames.ids[position], sample_facts(frames, position), picture),
        grid.heading(step_times_ms(frames, position), polarities(events).sum(axis=(2, 3)), extent),
    ]
