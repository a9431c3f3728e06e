"""Print how far the image frames of each encoder are from the recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tmkt_data.cli.console import say
from tmkt_data.errors import counted

if TYPE_CHECKING:
    from tmkt_data.pairs.encoder_distance import Activity, EncoderComparison
    from tmkt_data.pairs.paired_frames import PairedFrames

_COLUMNS = ("own", "same class", "others", "own best", "rate", "below 0.5", "ON", "profile off by")


def print_encoders(comparison: EncoderComparison) -> None:
    """Print one line for the recordings and one for each encoder."""
    click.secho(
        f"\nimage encoders: correlation of {counted(comparison.num_recordings, 'recording')} with "
        f"{counted(comparison.num_images, 'image')}, over steps, channels and cells, at scale log1p",
        bold=True,
    )
    say(_line("", _COLUMNS))
    say(_line("recordings", ("", "", "", "", *_activity(comparison.events), "")))
    for found in comparison.encoders:
        correlations = (_figure(value) for value in (found.own, found.same_class, found.other_class))
        best = _figure(found.own_is_best, ".0%")
        say(
            _line(
                found.encoder, (*correlations, best, *_activity(found.activity), format(found.profile_distance, ".0%"))
            )
        )
    say("  gradient, gradient-poisson, saccade and microsaccade are a choice of this project (inferred)")
    for text in comparison.notes:
        say(f"  left out: {text}")
    for text in comparison.warnings:
        say(f"warning: {text}")


def print_motion(frames: PairedFrames, as_json: bool) -> None:
    """Fit the path and the polarity of the camera, and print them as TOML, or everything found as JSON."""
    import json

    from tmkt_data.pairs.motion import fit_motion

    found = fit_motion(frames)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.to_toml(), nl=as_json)


def _line(name: str, cells: tuple[str, ...]) -> str:
    widths = (max(8, len(title)) + 2 for title in _COLUMNS)
    return f"  {name:<16}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _activity(activity: Activity) -> tuple[str, str, str]:
    return f"{activity.rate:.3f}", f"{activity.empty_share:.0%}", _figure(activity.on_share, ".0%")


def _figure(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
