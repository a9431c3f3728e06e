"""Command `tmkt-data preview`: pairs as a contact sheet, an animation, or a page to look through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tmkt_data.cli.console import megabytes, pair_options, say
from tmkt_data.cli.paths import CACHE, FILE
from tmkt_data.cli.reporting import put_json

_SHEET_SAMPLES, _PAGE_SAMPLES = 4, 12
"""Samples without `--samples`: in a picture, and in a page, which shows one at a time."""


def _targets(function: Callable[..., None]) -> Callable[..., None]:
    options = [
        click.option("--out", type=FILE, help="PNG to write.  [default: next to the cache, if nothing else is asked]"),
        click.option("--animate", type=FILE, help="Animation to write, .webp or .gif: each pair step by step."),
        click.option("--html", type=FILE, help="Page to write: look through pairs, steps, encoders and mix ratios."),
        click.option("--duration", default=200, show_default=True, metavar="MS", help="Time of an animated step."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("file", type=CACHE)
@_targets
@click.option(
    "--samples",
    type=click.IntRange(1, 32),
    help=f"Samples to show.  [default: {_SHEET_SAMPLES}; {_PAGE_SAMPLES} in a page]",
)
@click.option("--encoders", is_flag=True, help="PNG: show each image by every encoder, below its own recording.")
@pair_options
def preview(file: Path, samples: int | None, encoders: bool, **given: Any) -> None:
    """Draw pairs step by step: image, spikes, event frames and a mixed sequence.

    One picture, an animation, or a page for a browser; the page needs no network.
    """
    from tmkt_data.pairs.paired_frames import PairedFrames
    from tmkt_data.preview.animation import animate_pairs, check_animation, write_animation
    from tmkt_data.preview.contact_sheet import draw_pairs, write_preview
    from tmkt_data.preview.viewer import check_viewer, write_viewer

    out, animate, html, duration = (given.pop(name) for name in ("out", "animate", "html", "duration"))
    if animate is not None:
        check_animation(animate, duration)
    if html is not None:
        check_viewer(html)
    frames = PairedFrames(file, **given)
    if out is not None or (animate is None and html is None):
        path = out if out is not None else file.with_suffix(".png")
        sheet = draw_pairs(frames, num_samples=samples or _SHEET_SAMPLES, encoders=encoders)
        write_preview(path, sheet)
        put_json({"picture": path, "width": sheet.width, "height": sheet.height})
        say(f"wrote {path} ({sheet.width} x {sheet.height})")
    if animate is not None:
        pictures = animate_pairs(frames, num_samples=samples or _SHEET_SAMPLES)
        size = write_animation(animate, pictures, duration_ms=duration)
        shown = f"{pictures[0].width} x {pictures[0].height}, {len(pictures)} steps of {duration} ms"
        put_json({"animation": animate, "animation_bytes": size})
        say(f"wrote {animate} ({shown}, {megabytes(size)})")
    if html is not None:
        size = write_viewer(html, frames, num_samples=samples or _PAGE_SAMPLES)
        put_json({"page": html, "page_bytes": size})
        say(f"wrote {html} ({megabytes(size)}); open it in a browser")
