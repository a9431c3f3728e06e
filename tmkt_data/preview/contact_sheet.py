"""Contact sheets: what the pairs of a cache look like, step by step, as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.errors import SpecError
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.files import write_bytes
from tmkt_data.images.encode import poisson_frames
from tmkt_data.pairs.paired_frames import PairedBatch, PairedFrames
from tmkt_data.preview.colors import BOTH, OFF, ON, event_colors, gray_colors, polarities
from tmkt_data.preview.drawing import INK
from tmkt_data.preview.sheet import EVENT_EDGE, IMAGE_EDGE, Key, Sheet, SheetGroup, SheetRow
from tmkt_data.random_keys import Purpose, draw_key, uniform

MAX_COLUMNS = 30
DIGEST_DIGITS = 12


def build_sheet(
    frames: PairedFrames,
    *,
    positions: Sequence[int] | None = None,
    num_samples: int = 4,
    replacement: int | None = None,
) -> Sheet:
    """Gather what a contact sheet of pairs shows: image, image spikes, event frames and a mixed sequence.

    The image spikes are a Poisson draw whatever the encoder of `frames`; the mixed sequence shows what `frames`
    returns, image frames before the replacement point and event frames from it on.

    Args:
        frames: Pairs of one split, in the epoch to be shown.
        positions: Positions in the split to show; None spreads `num_samples` evenly over it.
        num_samples: How many pairs to show at most when no positions are given.
        replacement: First event step t* of all mixed sequences, 1 to T, or T + 1 for none; None draws one for each
            pair, a function of seed, epoch and sample and different as long as the steps suffice.

    Returns:
        The sheet; `draw_sheet` makes a picture of it, at most about 2000 pixels wide. Equal arguments, equal pixels.

    Raises:
        SpecError: No sample, a position outside the split, or a replacement point outside 1 to T + 1.
        CacheError: A frame was altered since it was written.

    Example:
        >>> sheet = build_sheet(PairedFrames("digits.h5"), num_samples=2)  # doctest: +SKIP
        >>> write_preview(Path("digits.png"), draw_sheet(sheet))  # doctest: +SKIP
    """
    chosen = _choose_positions(len(frames), positions, num_samples)
    num_steps = frames.num_steps
    if replacement is not None and not 1 <= replacement <= num_steps + 1:
        raise SpecError(f"replacement point: found {replacement}, expected 1 to {num_steps + 1}")
    if replacement is None:
        points = preview_points(frames.seed, frames.epoch, frames.uids[chosen], num_steps)
    else:
        points = np.full(len(chosen), replacement, np.int64)
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, MAX_COLUMNS)).round().astype(np.int64))
    batch = frames.read(chosen)
    return Sheet(
        title=frames.dataset,
        facts=_sheet_facts(frames),
        keys=_color_keys(frames),
        groups=tuple(_group(frames, batch, at, int(points[at]), steps) for at in range(len(chosen))),
        notes=_notes(frames, len(steps)),
    )


def write_preview(path: Path, image: Image.Image) -> None:
    """Write a picture as PNG, whole or not at all; the same picture gives the same bytes.

    Raises:
        SpecError: The name does not end in `.png`.
        TmktError: The disk is full or the folder cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise SpecError(f"{path}: found suffix {path.suffix!r}, expected '.png'; a preview is a PNG picture")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def preview_points(seed: int, epoch: int, uids: NDArray[np.uint64], num_steps: int) -> NDArray[np.int64]:
    """Draw a replacement point for each sample of a sheet, different ones as long as the steps suffice.

    Unlike in training, both sides show at least a fifth of the steps where there are several; a single step is an
    event step. Each sample takes the first point of its own keyed order that is not taken yet.

    Args:
        seed: Seed of the pairs.
        epoch: Epoch of the pairs.
        uids: Numbers of the samples, shape (B,), uint64.
        num_steps: Time steps, T.

    Returns:
        First event step of each sample, shape (B,), int64.

    Example:
        >>> sorted(preview_points(0, 0, np.arange(7, dtype=np.uint64), 10).tolist())
        [3, 4, 5, 6, 7, 8, 9]
    """
    least = max(1, num_steps // 5)
    candidates = np.arange(1 + least, num_steps + 2 - least) if num_steps > 1 else np.ones(1, np.int64)
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
    shown_events = event_colors(batch.events[at])
    unit = "counts" if frames.num_channels == 2 else "voxel grid"
    rows = [SheetRow("event frames", (unit,), shown_events[steps])]
    picture = None
    if image_row >= 0:
        levels = frames.cache.image_frames(batch.image_indices[at : at + 1])[0]
        picture = gray_colors(levels.astype(np.float32) / np.float32(255))
        spikes = gray_colors(_spikes(frames, batch, at, levels).mean(axis=1))
        rows.insert(0, SheetRow("image spikes", ("Poisson draw",), spikes[steps]))
        rows.append(_mixed_row(frames, gray_colors(batch.image[at].mean(axis=1)), shown_events, point, steps))
    starts, ends = _step_times_ms(frames, position)
    off, on = polarities(frames.cache.event_frames(frames.rows[position : position + 1])[0])
    return SheetGroup(
        name=frames.ids[position],
        facts=_sample_facts(frames, position, image_row),
        picture=picture,
        steps=tuple(int(step) + 1 for step in steps),
        times_ms=tuple((float(starts[step]), float(ends[step])) for step in steps),
        activity=(on.sum(axis=(1, 2))[steps], off.sum(axis=(1, 2))[steps]),
        counts_events=frames.num_channels == 2 and frames.spec.resize == "sum",
        rows=tuple(rows),
    )


def _mixed_row(
    frames: PairedFrames, image: NDArray[np.uint8], events: NDArray[np.uint8], point: int, steps: NDArray[np.int64]
) -> SheetRow:
    is_event = np.arange(1, frames.num_steps + 1) >= point
    return SheetRow(
        label="mixed",
        details=("image spikes," if _shows_spikes(frames) else "image repeated,", "then events"),
        cells=np.where(is_event[:, None, None, None], events, image)[steps],
        is_event=tuple(is_event[steps].tolist()),
        marker=int((~is_event[steps]).sum()),
        marker_text=f"t* = {point}" if point <= frames.num_steps else "no event step",
    )


def _shows_spikes(frames: PairedFrames) -> bool:
    return frames.encoder == "poisson" or (frames.encoder == "baked" and frames.spec.bake == "poisson")


def _spikes(frames: PairedFrames, batch: PairedBatch, at: int, levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Poisson frames of a sample: those it has, or those that encoder `poisson` would draw."""
    if _shows_spikes(frames):
        return np.asarray(batch.image[at], np.float32)
    key = draw_key(frames.seed, frames.epoch, frames.uids[batch.indices[at]], 0, Purpose.POISSON)
    return poisson_frames(levels, frames.num_steps, frames.num_channels, key=np.uint64(key))


def _step_times_ms(frames: PairedFrames, position: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return from when to when each step lasts, milliseconds after the first event.

    A voxel grid spreads an event over the two nearest steps; its steps are points in time, both values the same.
    """
    first, last = _extent_us(frames, position)
    if frames.spec.representation == "voxel":
        centers = np.linspace(0, last - first, frames.num_steps) / 1000
        return centers, centers
    edges = (bin_edges(first, last, frames.num_steps, frames.spec.bin_rule) - first) / 1000
    return edges[:-1], edges[1:]


def _extent_us(frames: PairedFrames, position: int) -> tuple[int, int]:
    row = frames.rows[position]
    tables = frames.cache.tables
    return int(tables["events/t_first_us"][row]), int(tables["events/t_last_us"][row])


def _sample_facts(frames: PairedFrames, position: int, image_row: int) -> tuple[tuple[str, str], ...]:
    row = frames.rows[position]
    first, last = _extent_us(frames, position)
    kept, read = (int(frames.cache.tables[f"events/{name}"][row]) for name in ("num_kept", "num_read"))
    name = frames.class_names[int(frames.labels[position])]
    facts = [("class", f"{name}")]
    if image_row >= 0:
        is_twin = image_row == int(frames.twins[position])
        facts.append(("image", frames.cache.image_ids[image_row]))
        facts.append(("", "its twin: the image recorded" if is_twin else "same class, not its twin"))
    facts.append(("events", f"{kept:,} kept" + (f" of {read:,}" if read != kept else "")))
    facts.append(("span", f"{(last - first) / 1000:,.1f} ms"))
    return tuple(facts)


def _sheet_facts(frames: PairedFrames) -> tuple[tuple[str, ...], ...]:
    spec = frames.spec
    pairing = {"none": "no images", "twin": "each with its twin", "same-class": "same-class images"}[frames.pairing]
    who = (
        f"{frames.protocol} split, {frames.split}",
        _counted(len(frames), "recording"),
        pairing,
        f"seed {frames.seed}, epoch {frames.epoch}",
    )
    what = (
        f"{_counted(spec.time_bins, 'time bin')}, {spec.bin_rule}",
        f"{spec.size} x {spec.size} cells, {spec.canvas} canvas, resize {spec.resize}",
        "voxel grid" if spec.representation == "voxel" else f"counts, scale {frames.scale}",
        f"image {spec.image_channel}, encoder {frames.encoder}",
        f"cache {frames.cache_digest[:DIGEST_DIGITS]}",
    )
    return who, what


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _color_keys(frames: PairedFrames) -> tuple[Key, ...]:
    events: tuple[Key, ...] = (Key("fill", ON, "ON events"), Key("fill", OFF, "OFF events"))
    if frames.num_channels == 2:
        events += (Key("fill", BOTH, "both"),)
    if frames.pairing == "none":
        return events
    edges = (Key("edge", IMAGE_EDGE, "image step"), Key("edge", EVENT_EDGE, "event step"))
    return (*events, *edges, Key("marker", INK, "replacement point t*, the first event step"))


def _notes(frames: PairedFrames, num_shown: int) -> tuple[str, ...]:
    steps = f"{num_shown} of {frames.num_steps} steps, evenly chosen" if num_shown < frames.num_steps else ""
    spikes = "image spikes: white where both channels spike, gray where one does"
    notes = (
        steps,
        "times after the first event",
        "event colors scaled to each recording",
        spikes if frames.pairing != "none" and frames.num_channels == 2 else "",
    )
    return tuple(note for note in notes if note)
