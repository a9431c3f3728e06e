"""Print what an event recording holds, and draw it with characters.

    python examples/inspect_recording.py FILE.bin [--steps 3]

Needs NumPy and tmkt_data only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tmkt_data import load_events
from tmkt_data.events.frames import FrameSpec, event_frames

SHADES = " .:-=+*#%@"


def main() -> None:
    """Read one recording, print its counts, then draw its count frames step by step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=3, help="time bins to draw (default 3)")
    given = parser.parse_args()

    events = load_events(given.file)
    x_min, y_min, x_max, y_max = events.extent
    print(f"{given.file.name}: {len(events)} of {events.num_read} events kept, dropped {events.num_dropped or 'none'}")
    print(f"  x {x_min} to {x_max}, y {y_min} to {y_max}, {int(events.p.sum())} ON, {int((~events.p).sum())} OFF")
    print(f"  t {events.t[0]} to {events.t[-1]} us, {events.num_inversions} steps back in time")

    # `tight` scales the extent of the events to the frame, so no sensor size is needed.
    result = event_frames(events, FrameSpec(num_bins=given.steps, height=16, width=32), canvas="tight")
    for step, frame in enumerate(result.frames, start=1):
        print(f"step {step}: {int(frame[0].sum())} OFF, {int(frame[1].sum())} ON")
        print(draw(frame.sum(axis=0)))


def draw(counts: np.ndarray) -> str:
    """Draw counts of shape (H, W) with one character a cell, darker for more events."""
    shade = counts * (len(SHADES) - 1) // max(1, counts.max())
    return "\n".join("".join(SHADES[level] for level in row) for row in shade)


if __name__ == "__main__":
    main()
