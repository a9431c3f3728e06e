"""Viewer: pairs of a cache in one HTML file, which needs no network."""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError, counted
from tmkt_data.files import write_bytes
from tmkt_data.pairs.image_side import ImageSide, served_sides
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.colors import BOTH, GROUND, OFF, ON, Color, gray_colors, polarity_levels
from tmkt_data.preview.contact_sheet import DETAILS, sample_facts, sheet_facts, step_times_ms
from tmkt_data.preview.sheet import EVENT_EDGE, IMAGE_EDGE, MAX_COLUMNS, time_labels
from tmkt_data.sample_ids import evenly_spaced
from tmkt_data.simulate.saccade import DrawnKeys

MAX_BYTES = 25_000_000
"""Largest page; browsers open it at once, and mail takes it."""
LIGHT: dict[str, Color] = {
    "ground": GROUND, "on": ON, "off": OFF, "both": BOTH, "image": IMAGE_EDGE, "event": EVENT_EDGE,
}  # fmt: skip
DARK: dict[str, Color] = {
    "ground": (30, 32, 36), "on": (86, 180, 233), "off": (240, 128, 48), "both": (240, 228, 250),
    "image": (230, 159, 0), "event": (178, 136, 224),
}  # fmt: skip
"""Colors on a dark ground; the hues of events are those on the light one."""


def write_viewer(path: Path, frames: PairedFrames, *, num_samples: int = 12) -> int:
    """Write the page of `viewer_page` atomically; return its size in bytes.

    Raises:
        SpecError: The name does not end in `.html`; or as `viewer_page`.
        CacheError: A frame was modified after it was written.
        TmktError: The disk is full or the folder is not writable.
    """
    check_viewer(path)
    page = viewer_page(frames, num_samples=num_samples).encode()
    write_bytes(path, page)
    return len(page)


def check_viewer(path: Path) -> None:
    """Check the name of a page before it is made.

    Raises:
        SpecError: It does not end in `.html`.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"{path}: found suffix {path.suffix!r}, expected '.html'; a viewer is a page for a browser")


def viewer_page(frames: PairedFrames, *, num_samples: int = 12) -> str:
    """Return a page that shows pairs step by step, by every encoder of the cache, mixed at any ratio.

    All it needs is in it: frames as compressed bytes, style and script. Equal arguments give equal text.

    Args:
        frames: Pairs of one split, set to the epoch to show.
        num_samples: Maximum number of pairs, evenly spaced over the split.

    Raises:
        SpecError: No samples, or a page of more than 25 MB.
        CacheError: A frame was modified after it was written.
    """
    if num_samples < 1:
        raise SpecError(f"samples of a viewer: found {num_samples}, expected 1 or more")
    chosen = evenly_spaced(len(frames), num_samples).tolist()
    paired = frames.image_side
    sides, missing = (
        ([], []) if paired is None else served_sides(frames.cache, frames.scale, paired.measured, frames.camera)
    )
    pairs: list[dict[str, Any]] = []
    size = 0
    for pair in _pairs(frames, chosen, sides):
        size += len(pair["events"]) + sum(map(len, pair["images"].values()))
        if size > MAX_BYTES:
            raise SpecError(
                f"viewer: {counted(len(chosen), 'sample')} of {counted(frames.num_time_bins, 'step')} and "
                f"{frames.spec.size} x {frames.spec.size} cells take more than {MAX_BYTES / 1e6:.0f} MB; "
                + (f"{len(pairs)} fit, give --samples {len(pairs)}" if pairs else "prepare fewer or smaller frames")
            )
        pairs.append(pair)
    told = {
        "numSteps": frames.num_time_bins, "height": frames.size[0], "width": frames.size[1],
        "film": evenly_spaced(frames.num_time_bins, MAX_COLUMNS).tolist(),
        "palettes": {"light": LIGHT, "dark": DARK},
        "hasBoth": frames.num_channels == 2,
        "encoders": [
            {"name": side.encoder, "detail": " ".join(DETAILS[side.encoder]), "isGray": not side.imitates_events}
            for side in sides
        ],
        "encoder": frames.encoder, "facts": sheet_facts(frames), "missing": missing, "pairs": pairs,
    }  # fmt: skip
    parts = {
        part: resources.files(__package__).joinpath(f"viewer.{part}").read_text("utf-8")
        for part in ("html", "css", "js")
    }
    title = html.escape(f"{frames.dataset}, {frames.split}")
    return Template(parts["html"]).substitute(title=title, style=parts["css"], script=parts["js"], data=_embedded(told))


def _pairs(frames: PairedFrames, chosen: Sequence[int], sides: Sequence[ImageSide]) -> Iterator[dict[str, Any]]:
    for position in chosen:
        batch = frames.read([position])
        keys = DrawnKeys(frames.seed, frames.epoch, frames.uids[[position]], np.zeros(1, np.int64))
        times, unit = time_labels(step_times_ms(frames, position))
        yield {
            "id": frames.ids[position],
            "class": frames.class_names[int(frames.labels[position])],
            "facts": sample_facts(frames, position),
            "times": times,
            "unit": unit,
            "events": _packed(_levels(batch.events[0])),
            "images": {side.encoder: _packed(_shown(side, batch.image_index, keys)) for side in sides},
        }


def _shown(side: ImageSide, rows: NDArray[np.int64], keys: DrawnKeys) -> NDArray[np.uint8]:
    """Return the bytes of an image side, shape (T, P, H, W): gray, P is 1, or OFF and ON; one step if all are equal."""
    frames = side.frames(rows, keys)[0]
    levels = _levels(frames) if side.imitates_events else gray_colors(frames.mean(axis=1))[:, None, ..., 0]
    return levels[:1] if (levels == levels[:1]).all() else levels


def _levels(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the strength of OFF and ON colors, shape (T, 2, H, W), 0 to 255."""
    return np.rint(polarity_levels(frames).swapaxes(0, 1) * 255).astype(np.uint8)


def _packed(levels: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()


def _embedded(told: dict[str, Any]) -> str:
    """Return JSON that no name in it can end or comment out within a page."""
    text = json.dumps(told, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
