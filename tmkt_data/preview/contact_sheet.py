"""Contact sheets: the pairs of a cache, step by step, in one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.errors import PairingError, SpecError
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.files import write_bytes
from tmkt_data.images.encode import poisson_frames
from tmkt_data.pairs.image_side import ImageSide
from tmkt_data.pairs.paired_frames import PairedBatch, PairedFrames
from tmkt_data.preview.colors import BOTH, OFF, ON, event_colors, gray_colors, polarities
from tmkt_data.preview.drawing import INK
from tmkt_data.preview.image_rows import ShownImage, encoder_rows, image_colors, image_sides
from tmkt_data.preview.sheet import EVENT_EDGE, IMAGE_EDGE, Key, Sheet, SheetGroup, SheetRow
from tmkt_data.random_keys import Purpose, draw_key, uniform

MAX_COLUMNS = 30


def build_sheet(
    frames: PairedFrames,
    *,
    positions: Sequence[int] | None = None,
    num_samples: int = 4,
    replacement: int | None = None,
    encoders: bool = False,
) -> Sheet:
    """Build a contact sheet of pairs: image, image spikes, event frames and a mixed sequence.

    The image spikes are a Poisson draw for any encoder of `frames`; the mixed sequence shows what `frames` returns,
    image frames before the replacement point and event frames from it on.

    Args:
        frames: Pairs of one split, set to the epoch to show.
        positions: Indices in the split to show; None spaces `num_samples` evenly over it.
        num_samples: Maximum number of pairs to show if no positions are given.
        replacement: First event step t* of all mixed sequences, 1 to T, or T + 1 for none; None draws one per pair
            from seed, epoch and sample, distinct if there are enough steps.
        encoders: Whether to show each image by every encoder, below the recording that was made of it.

    Returns:
        The sheet for `draw_sheet`, at most about 2000 pixels wide. Equal arguments give equal pixels.

    Raises:
        SpecError: No samples, an index out of range, or a replacement point outside 1 to T + 1.
        CacheError: A frame was modified after it was written.

    Example:
        >>> sheet = build_sheet(PairedFrames("digits.h5"), num_samples=2)  # doctest: +SKIP
        >>> write_preview(Path("digits.png"), draw_sheet(sheet))  # doctest: +SKIP
    """
    chosen = _choose_positions(len(frames), positions, num_samples)
    num_time_bins = frames.num_time_bins
    if replacement is not None and not 1 <= replacement <= num_time_bins + 1:
        raise SpecError(f"replacement point: found {replacement}, expected 1 to {num_time_bins + 1}")
    if replacement is None:
        points = preview_points(frames.seed, frames.epoch, frames.uids[chosen], num_time_bins)
    else:
        points = np.full(len(chosen), replacement, np.int64)
    steps = np.unique(np.linspace(0, num_time_bins - 1, min(num_time_bins, MAX_COLUMNS)).round().astype(np.int64))
    batch = frames.read(chosen)
    groups = [_group(frames, batch, at, int(points[at]), steps) for at in range(len(chosen))]
    if encoders:
        sides = image_sides(frames)
        images = [ShownImage(int(batch.image_indices[at]), frames.uids[chosen[at]]) for at in range(len(chosen))]
        more = [encoder_rows(frames, sides, image, steps) if sides else () for image in images]
        groups = [group._replace(rows=(*group.rows, *rows)) for group, rows in zip(groups, more, strict=True)]
    return Sheet(
        title=frames.dataset,
        facts=_sheet_facts(frames),
        keys=_color_keys(frames),
        groups=tuple(groups),
        notes=_notes(frames, len(steps)),
    )


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


def preview_points(seed: int, epoch: int, uids: NDArray[np.uint64], num_time_bins: int) -> NDArray[np.int64]:
    """Draw a replacement point for each sample of a sheet, distinct if there are enough steps.

    Unlike in training, each side shows at least a fifth of the steps if there are several; a single step is an event
    step. Each sample takes the first free point of its own keyed order.

    Args:
        seed: Seed of the pairs.
        epoch: Epoch of the pairs.
        uids: Hashes of the sample ids, shape (B,), uint64.
        num_time_bins: Number of time bins, T.

    Returns:
        First event step of each sample, shape (B,), int64.

    Example:
        >>> sorted(preview_points(0, 0, np.arange(7, dtype=np.uint64), 10).tolist())
        [3, 4, 5, 6, 7, 8, 9]
    """
    least = max(1, num_time_bins // 5)
    candidates = np.arange(1 + least, num_time_bins + 2 - least) if num_time_bins > 1 else np.ones(1, np.int64)
    points: list[int] = []
    free: set[int] = set()
    for uid in uids:
        free = free or set(candidates.tolist())
        order = np.argsort(uniform(seed, epoch, uid, 0, Purpose.MIX, candidates), kind="stable")
        point = next(value for value in candidates[order].tolist() if value in free)
        free.discard(point)
        points.append(point)
    return np.array(points, np.int64)


def _choose_positions(num_recordings: int, positions: Sequence[int] | None, num_samples: int) -> NDArray[np.int64]:
    if positions is None:
        if num_samples < 1:
            raise SpecError(f"samples of a preview: found {num_samples}, expected 1 or more")
        count = min(num_samples, num_recordings)
        return (2 * np.arange(count) + 1) * num_recordings // (2 * count)
    chosen = np.array(list(positions), np.int64)
    outside = chosen[(chosen < 0) | (chosen >= num_recordings)]
    if not len(chosen) or len(outside):
        found = f"{outside[0]}" if len(outside) else "none"
        raise SpecError(f"positions of a preview: found {found}, expected one or more of 0 to {num_recordings - 1}")
    return chosen


def _group(frames: PairedFrames, batch: PairedBatch, at: int, point: int, steps: NDArray[np.int64]) -> SheetGroup:
    position, image_row = int(batch.indices[at]), int(batch.image_indices[at])
    events = event_colors(batch.events[at])
    rows = [SheetRow("event frames", ("counts" if frames.num_channels == 2 else "voxel grid",), events[steps])]
    picture = None
    if image_row >= 0:
        levels = frames.cache.image_frames(batch.image_indices[at : at + 1])[0]
        picture = gray_colors(levels.astype(np.float32) / np.float32(255))
        spikes = gray_colors(_spikes(frames, batch, at, levels).mean(axis=1))
        rows.insert(0, SheetRow("image spikes", ("Poisson draw",), spikes[steps]))
        shown = image_colors(_image_side(frames), batch.image[at])
        rows.append(_mixed_row(frames, shown, events, point, steps))
    off, on = polarities(frames.cache.event_frames(frames.rows[position : position + 1])[0])
    return SheetGroup(
        name=frames.ids[position],
        facts=_sample_facts(frames, position, image_row),
        picture=picture,
        steps=tuple(int(step) + 1 for step in steps),
        times_ms=tuple(map(_step_times_ms(frames, position).__getitem__, steps)),
        activity=(on.sum(axis=(1, 2))[steps], off.sum(axis=(1, 2))[steps]),
        counts_events=frames.num_channels == 2 and frames.spec.resize == "sum",
        rows=tuple(rows),
    )


def _mixed_row(
    frames: PairedFrames, image: NDArray[np.uint8], events: NDArray[np.uint8], point: int, steps: NDArray[np.int64]
) -> SheetRow:
    is_event = np.arange(1, frames.num_time_bins + 1) >= point
    return SheetRow(
        label="mixed",
        details=(_shown_side(frames), "then events"),
        cells=np.where(is_event[:, None, None, None], events, image)[steps],
        is_event=tuple(is_event[steps].tolist()),
        marker=int((~is_event[steps]).sum()),
        marker_text=f"t* = {point}" if point <= frames.num_time_bins else "no event step",
    )


def _image_side(frames: PairedFrames) -> ImageSide:
    if frames.image_side is None:
        raise PairingError("preview: found pairing 'none', expected images")
    return frames.image_side


def _shown_side(frames: PairedFrames) -> str:
    if _image_side(frames).imitates_events:
        return f"image {frames.encoder},"
    return "image spikes," if _shows_spikes(frames) else "image repeated,"


def _shows_spikes(frames: PairedFrames) -> bool:
    return frames.encoder == "poisson" or (frames.encoder == "baked" and frames.spec.bake == "poisson")


def _spikes(frames: PairedFrames, batch: PairedBatch, at: int, levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Poisson frames of a sample: existing ones, or as drawn by encoder `poisson`."""
    if _shows_spikes(frames):
        return np.asarray(batch.image[at], np.float32)
    key = draw_key(frames.seed, frames.epoch, frames.uids[batch.indices[at]], 0, Purpose.POISSON)
    return poisson_frames(levels, frames.num_time_bins, frames.num_channels, key=np.uint64(key))


def _step_times_ms(frames: PairedFrames, position: int) -> list[tuple[float, float]]:
    """Return start and end of each step, in ms after the first event; equal for points of a voxel grid."""
    first, last = (int(_table(frames, position, f"t_{end}_us")) for end in ("first", "last"))
    if frames.spec.representation == "voxel":
        edges = np.linspace(0, last - first, frames.num_time_bins).repeat(2)
        return list(zip((edges[::2] / 1000).tolist(), (edges[1::2] / 1000).tolist(), strict=True))
    return list(
        pairwise(((bin_edges(first, last, frames.num_time_bins, frames.spec.bin_rule) - first) / 1000).tolist())
    )


def _table(frames: PairedFrames, position: int, name: str) -> int:
    return int(frames.cache.tables[f"events/{name}"][frames.rows[position]])


def _sample_facts(frames: PairedFrames, position: int, image_row: int) -> tuple[tuple[str, str], ...]:
    kept, read = _table(frames, position, "num_kept"), _table(frames, position, "num_read")
    span_us = _table(frames, position, "t_last_us") - _table(frames, position, "t_first_us")
    facts = [("class", frames.class_names[int(frames.labels[position])])]
    if image_row >= 0:
        is_twin = image_row == int(frames.twins[position])
        facts.append(("image", frames.cache.image_ids[image_row]))
        facts.append(("", "its twin: the image recorded" if is_twin else "same class, not its twin"))
    facts.append(("events", f"{kept:,} kept" + (f" of {read:,}" if read != kept else "")))
    return (*facts, ("span", f"{span_us / 1000:,.1f} ms"))


def _sheet_facts(frames: PairedFrames) -> tuple[tuple[str, ...], ...]:
    spec = frames.spec
    pairing = {"none": "no images", "twin": "each with its twin", "same-class": "same-class images"}[frames.pairing]
    who = (
        f"{frames.protocol} split, {frames.split}",
        f"{len(frames):,} recording{'s' * (len(frames) != 1)}",
        pairing,
        f"seed {frames.seed}, epoch {frames.epoch}",
    )
    what = (
        f"{spec.time_bins:,} time bin{'s' * (spec.time_bins != 1)}, {spec.bin_rule}",
        f"{spec.size} x {spec.size} cells, {spec.canvas} canvas, resize {spec.resize}",
        "voxel grid" if spec.representation == "voxel" else f"counts, scale {frames.scale}",
        f"image {spec.image_channel}, encoder {frames.encoder}",
        f"cache {frames.cache_digest[:12]}",
    )
    return who, what


def _color_keys(frames: PairedFrames) -> tuple[Key, ...]:
    keys = [Key("fill", ON, "ON events"), Key("fill", OFF, "OFF events")]
    keys += [Key("fill", BOTH, "both")] if frames.num_channels == 2 else []
    if frames.pairing != "none":
        keys += [Key("edge", IMAGE_EDGE, "image step"), Key("edge", EVENT_EDGE, "event step")]
        keys.append(Key("marker", INK, "replacement point t*, the first event step"))
    return tuple(keys)


def _notes(frames: PairedFrames, num_shown: int) -> tuple[str, ...]:
    steps = f"{num_shown} of {frames.num_time_bins} steps, evenly chosen" if num_shown < frames.num_time_bins else ""
    has_two_channels = frames.pairing != "none" and frames.num_channels == 2
    spikes = "image spikes: white where both channels spike, gray where one does" if has_two_channels else ""
    notes = (steps, "times after the first event", "event colors scaled to each recording", spikes)
    return tuple(note for note in notes if note)
