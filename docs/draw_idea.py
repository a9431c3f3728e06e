"""Draw docs/images/idea.png, the method in one picture, from a cache of the embedded dataset.

tmkt-data prepare digits --time-bins 6 --out digits.h5
python docs/draw_idea.py digits.h5
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.colors import event_colors, gray_colors
from tmkt_data.preview.sheet import EVENT_EDGE, IMAGE_EDGE, INK, SOFT

FIGURE = Path(__file__).parent / "images" / "idea.png"
SAMPLE, POINT = 700, 4
WIDTH, HEIGHT, CELL, GAP, LEFT = 1060, 580, 104, 8, 20


def rgb(color: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(level / 255 for level in color)


def text(axes: Any, x: float, y: float, words: str, **style: Any) -> None:
    axes.text(x, y, words, **{"fontsize": 14, "color": rgb(INK), "va": "center", **style})


def row(axes: Any, top: float, title: str, cells: NDArray[np.uint8], edges: list[tuple[int, int, int]]) -> None:
    """Draw the steps of a sequence below its title."""
    text(axes, LEFT, top, title, fontsize=19)
    for step, (cell, edge) in enumerate(zip(cells, edges, strict=True)):
        left, low = LEFT + step * (CELL + GAP), top + 24
        axes.imshow(cell, extent=(left, left + CELL, low + CELL, low), interpolation="nearest", zorder=1)
        axes.add_patch(Rectangle((left, low), CELL, CELL, fill=False, edgecolor=rgb(edge), linewidth=3, zorder=2))


def main() -> int:
    """Draw it; returns the exit status."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    frames = PairedFrames(sys.argv[1])
    batch = frames.read([SAMPLE])
    events, image = event_colors(batch.events[0]), gray_colors(batch.image[0].mean(axis=1))
    num_steps, label = len(events), frames.class_names[int(batch.labels[0])]
    mixed = np.concatenate([image[: POINT - 1], events[POINT - 1 :]])
    figure = plt.figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    edges = [IMAGE_EDGE] * (POINT - 1) + [EVENT_EDGE] * (num_steps - POINT + 1)
    tops = (30, 200, 370)
    row(axes, tops[0], f"An image of class {label}", image, [IMAGE_EDGE] * num_steps)
    row(axes, tops[1], f"An event recording of class {label}", events, [EVENT_EDGE] * num_steps)
    row(axes, tops[2], "Mixed: first the image, then the recording", mixed, edges)
    end = LEFT + num_steps * (CELL + GAP) - GAP
    switch = LEFT + (POINT - 1) * (CELL + GAP) - GAP / 2
    axes.plot([switch, switch], [tops[2] + 16, tops[2] + 60 + CELL], color=rgb(INK), linewidth=2, zorder=3)
    text(axes, switch, tops[2] + 76 + CELL, f"replacement point t* = {POINT}", ha="center")
    for step in range(num_steps):
        middle = LEFT + step * (CELL + GAP) + CELL / 2
        text(axes, middle, tops[2] + 44 + CELL, f"{step + 1}", ha="center", color=rgb(SOFT))
    text(axes, end, tops[2] + 74 + CELL, "time step", ha="right", color=rgb(SOFT))
    low, high, left = 240, 520, end + 74
    axes.add_patch(
        FancyBboxPatch(
            (left, low),
            260,
            high - low,
            boxstyle="round,pad=0,rounding_size=12",
            facecolor="#f5f6f7",
            edgecolor=rgb(SOFT),
        )
    )
    text(axes, left + 130, low + 56, "one spiking\nnetwork", ha="center", fontsize=19)
    text(
        axes,
        left + 130,
        low + 176,
        "learns the class from\nboth sequences, and\nwhich side each step\nis from",
        ha="center",
        color=rgb(SOFT),
    )
    for top in (tops[1] + 24 + CELL / 2, tops[2] + 24 + CELL / 2):
        axes.add_patch(
            FancyArrowPatch(
                (end + 10, top),
                (left - 6, min(max(top, low + 50), high - 60)),
                arrowstyle="-|>",
                mutation_scale=22,
                color=rgb(INK),
                linewidth=2,
            )
        )
    axes.add_patch(
        FancyArrowPatch(
            (left + 130, low - 4),
            (left + 130, low - 70),
            arrowstyle="-|>",
            mutation_scale=22,
            color=rgb(INK),
            linewidth=2,
        )
    )
    text(axes, left + 130, low - 92, f"class {label}", ha="center", fontsize=19)
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="auto")
    axes.axis("off")
    figure.savefig(FIGURE, dpi=100)
    with Image.open(FIGURE) as picture:
        picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            FIGURE, optimize=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
