"""Animations: pairs of a cache, one picture for each time step, as WebP or GIF."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tmkt_data.errors import SpecError
from tmkt_data.files import write_bytes
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.colors import BOTH, GROUND, OFF, ON
from tmkt_data.preview.contact_sheet import pair_rows, shown_points, step_times_ms
from tmkt_data.preview.sheet import (
    EVENT_EDGE,
    FACT,
    IMAGE_EDGE,
    INK,
    NAME,
    NOTE,
    PAPER,
    RULE,
    draw_page,
    framed_cell,
    time_labels,
    write_lines,
)
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.spec import ANIMATION_SUFFIXES

CELL, GAP, MAX_STEPS, MAX_COLORS = 144, 14, 100, 256
"""Least width of a cell and the gap between two, in pixels; the most steps shown; the most colors of a GIF."""
FLAT_COLORS = (PAPER, INK, RULE, GROUND, ON, OFF, BOTH, IMAGE_EDGE, EVENT_EDGE)
"""Colors of areas, which a GIF keeps exactly."""
_CELLS_TOP, _BAR = 74, 8


class ShownPair(NamedTuple):
    """What an animation shows of a pair.

    Attributes:
        name: Sample id.
        detail: Class, and the encoder of the image.
        sides: Title and colors of each side, the mixed sequence last, shape (T, H, W, 3), uint8.
        point: First event step of the mixed sequence, 1 to T + 1; None without an image.
        times: Start of each step.
        unit: Unit of the times.
    """

    name: str
    detail: str
    sides: list[tuple[str, NDArray[np.uint8]]]
    point: int | None
    times: list[str]
    unit: str


def animate_pairs(frames: PairedFrames, *, num_samples: int = 4) -> list[Image.Image]:
    """Draw pairs once for each time step: the image side, the event side and a mixed sequence of both.

    Args:
        frames: Pairs of one split, set to the epoch to show.
        num_samples: Maximum number of pairs, evenly spaced over the split.

    Returns:
        RGB pictures of one size, one for each step; of more than 100 steps, 100 evenly chosen ones. Equal arguments
        give equal pixels.

    Raises:
        SpecError: No samples.
        CacheError: A frame was modified after it was written.
    """
    if num_samples < 1:
        raise SpecError(f"samples of an animation: found {num_samples}, expected 1 or more")
    chosen = evenly_spaced(len(frames), num_samples).tolist()
    points = shown_points(len(chosen), frames.num_time_bins)
    pairs = [_shown_pair(frames, *one) for one in zip(chosen, points, strict=True)]
    steps = evenly_spaced(frames.num_time_bins, MAX_STEPS).tolist()
    is_mixed = frames.image_side is not None
    keys = ["ON events", "OFF events"] + ["both"] * (frames.num_channels == 2)
    keys += ["image step", "event step"] if is_mixed else []
    notes = ["event colors scaled to each recording"]
    if len(steps) < frames.num_time_bins:
        notes.insert(0, f"{len(steps)} of {frames.num_time_bins} steps, evenly chosen")
    title = f"{frames.dataset}, {frames.split}"
    return [draw_page((title,), keys, [_group(pair, step) for pair in pairs], notes) for step in steps]


def write_animation(path: Path, pictures: Sequence[Image.Image], *, duration_ms: int = 200) -> int:
    """Write pictures as an endless animation, WebP without loss or GIF, atomically; return its size in bytes.

    Args:
        path: File to write; its suffix chooses the format, `.webp` or `.gif`.
        pictures: One for each step, of one size.
        duration_ms: Time that each is shown; a GIF counts hundredths of a second.

    Raises:
        SpecError: Another suffix, or a duration that is not 20 to 10,000 ms.
        TmktError: The disk is full or the folder is not writable.
    """
    check_animation(path, duration_ms)
    buffer = io.BytesIO()
    if path.suffix.lower() == ".gif":
        shown = list(_of_one_palette(pictures))
        shown[0].save(buffer, "GIF", save_all=True, append_images=shown[1:], duration=duration_ms, loop=0)
    else:
        first, *rest = pictures
        first.save(
            buffer, "WEBP", save_all=True, append_images=rest, duration=duration_ms, loop=0, lossless=True, quality=60
        )
    write_bytes(path, buffer.getvalue())
    return len(buffer.getvalue())


def check_animation(path: Path, duration_ms: int) -> None:
    """Check what `write_animation` is asked for, before anything is drawn.

    Raises:
        SpecError: The suffix is none of an animation, or the duration is not 20 to 10,000 ms.
    """
    if path.suffix.lower() not in ANIMATION_SUFFIXES:
        raise SpecError(f"{path}: found suffix {path.suffix!r}, expected {' or '.join(map(repr, ANIMATION_SUFFIXES))}")
    if not 20 <= duration_ms <= 10_000:
        raise SpecError(f"duration of a step: found {duration_ms} ms, expected 20 to 10000")


def _shown_pair(frames: PairedFrames, position: int, point: int) -> ShownPair:
    rows = {row.label: row.cells for row in pair_rows(frames, position, frames.num_time_bins + 1)}
    sides, events = [("events", rows["event frames"])], rows["event frames"]
    detail = f"class {frames.class_names[int(frames.labels[position])]}"
    if "mixed" in rows:
        image = rows["mixed"]
        mixed = np.concatenate([image[: point - 1], events[point - 1 :]])
        sides = [("image", image), *sides, (f"mixed, t* = {point}", mixed)]
        detail += f"  ·  image by encoder {frames.encoder}"
    return ShownPair(
        frames.ids[position],
        detail,
        sides,
        point if "mixed" in rows else None,
        *time_labels(step_times_ms(frames, position)),
    )


def _group(pair: ShownPair, step: int) -> Image.Image:
    """Draw a pair at one step: its sides beside each other, and how far the sequence is."""
    num_steps, frame = pair.sides[0][1].shape[:2]
    cell = -(-CELL // frame) * frame if frame < CELL else CELL
    pitch = cell + 4 + GAP
    width = len(pair.sides) * pitch - GAP if len(pair.sides) > 1 else 3 * pitch - GAP
    strip = Image.new("RGB", (width, _CELLS_TOP + cell + 54), PAPER)
    write_lines(strip, (0, 0), [pair.name], NAME, width)
    write_lines(strip, (0, 26), [pair.detail], NOTE, width)
    for column, (title, colors) in enumerate(pair.sides):
        is_mixed = pair.point is not None and column == len(pair.sides) - 1
        write_lines(strip, (column * pitch, 52), [title], FACT, pitch)
        edge = _side_color(pair.point, step) if is_mixed else RULE
        strip.paste(framed_cell(colors[step], cell, edge), (column * pitch, _CELLS_TOP))
    top = _CELLS_TOP + cell + 12
    _draw_progress(strip, pair.point, (step, num_steps), top)
    text = f"step {step + 1} of {num_steps}, from {pair.times[step]} {pair.unit}"
    write_lines(strip, (0, top + _BAR + 6), [text], FACT, width)
    return strip


def _draw_progress(strip: Image.Image, point: int | None, at: tuple[int, int], top: int) -> None:
    """Draw a bar of all steps, those until this one in the color of the side that the mixed sequence takes."""
    (step, num_steps), draw = at, ImageDraw.Draw(strip)
    edges = np.rint(np.linspace(0, strip.width, num_steps + 1)).astype(int).tolist()
    gap = 2 if strip.width >= 4 * num_steps else 0
    for number in range(num_steps):
        color = RULE if number > step else INK if point is None else _side_color(point, number)
        right = max(edges[number], edges[number + 1] - 1 - gap)
        draw.rectangle((edges[number], top, right, top + _BAR - 1), fill=color)


def _side_color(point: int | None, step: int) -> tuple[int, int, int]:
    return EVENT_EDGE if point is not None and step + 1 >= point else IMAGE_EDGE


def _of_one_palette(pictures: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """Yield pictures in the colors of one palette, so that what stands still does not flicker."""
    pages = [np.asarray(picture).astype(np.int64) @ [1 << 16, 1 << 8, 1] for picture in pictures]
    found = np.unique(np.concatenate([np.unique(page) for page in pages]))
    colors = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1).astype(np.uint8)
    palette = colors
    if len(colors) > MAX_COLORS:
        median = Image.fromarray(colors[None]).quantize(MAX_COLORS - len(FLAT_COLORS), Image.Quantize.MEDIANCUT)
        others = np.array(median.getpalette() or [], np.uint8).reshape(-1, 3)
        palette = np.concatenate([np.array(FLAT_COLORS, np.uint8), others])
    nearest = _nearest(colors, palette)
    for page in pages:
        shown = Image.fromarray(nearest[np.searchsorted(found, page)])
        shown.putpalette(palette.tobytes())
        yield shown


def _nearest(colors: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the index in a palette of the color that is nearest to each, shape (N,)."""
    wide, entries = colors.astype(np.float32), palette.astype(np.float32)
    distances = (entries**2).sum(axis=1) - 2 * wide @ entries.T
    nearest: NDArray[np.uint8] = distances.argmin(axis=1).astype(np.uint8)
    return nearest
