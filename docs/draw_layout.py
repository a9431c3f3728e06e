"""Draw docs/images/layout.svg, the folders of both packages and who imports whom: python docs/draw_layout.py.

Rows are the layers that import-linter enforces, read from pyproject.toml; arrows are the imports of today.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import NamedTuple

import grimp
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

DOCS = FilePath(__file__).resolve().parent
PICTURE = DOCS / "images" / "layout.svg"
WIDTH, ARCS, LINE, GAP, CHARS = 21.0, 9.0, 0.44, 0.3, 118
CURVE = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
INK, FAINT, PAPER = "#1f2933", "#7b8794", "#ffffff"
COLORS = {"tmkt_train": "#e8eefc", "tmkt_data": "#e6f4ee"}


class Box(NamedTuple):
    """A folder or a file of a package's root, where it is drawn, and the lines of text in it."""

    x: float
    top: float
    width: float
    height: float
    lines: list[str]


def layers_of(package: str) -> list[list[str]]:
    """Return the layers of a package from top to bottom, each a list of folders or files."""
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and contract["containers"] == [package]:
            return [re.split(r"\s*[:|]\s*", layer) for layer in contract["layers"]]
    raise LookupError(f"pyproject.toml: no layers contract for {package}")


def files_of(package: str, part: str) -> list[str]:
    """Return the modules of a folder, those of its subfolders behind its name; nothing for a file."""
    folder = DOCS.parent / package / part
    own = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    inner = sorted(path for path in folder.glob("*/") if (path / "__init__.py").exists())
    return [*own, *(f"{path.name}/ ({len(list(path.rglob('*.py'))) - 1})" for path in inner)]


def place(package: str, top: float) -> tuple[dict[str, Box], float]:
    """Place the boxes of a package below `top`; return them and where they end."""
    boxes: dict[str, Box] = {}
    for layer in layers_of(package):
        texts = {part: textwrap.wrap(", ".join(files_of(package, part)), CHARS // len(layer) - 3) for part in layer}
        height = LINE * (1.6 + max(len(lines) for lines in texts.values()))
        width = (WIDTH - GAP * (len(layer) - 1)) / len(layer)
        for at, part in enumerate(layer):
            boxes[part] = Box(at * (width + GAP), top, width, height, texts[part])
        top -= height + GAP
    return boxes, top


def imports_of(package: str) -> dict[tuple[str, str], int]:
    """Return how many imports lead from one part to another, by the two parts."""
    graph = grimp.build_graph(package, cache_dir=None)
    counts: dict[tuple[str, str], int] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = module.split(".")[1:2], imported.split(".")[1:2]
            if here and there and here != there:
                counts[here[0], there[0]] = counts.get((here[0], there[0]), 0) + 1
    return counts


def draw() -> Figure:
    """Draw both packages, the training above the data."""
    train, middle = place("tmkt_train", 0.0)
    data, bottom = place("tmkt_data", middle - 1.2)
    figure = Figure(figsize=(10, 10 * (1.2 - bottom) / (WIDTH + ARCS + 1)), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, WIDTH + ARCS + 0.5), ylim=(bottom, 1.2))
    axes.set_axis_off()
    for package, boxes, top in (("tmkt_train", train, 0.0), ("tmkt_data", data, middle - 1.2)):
        axes.text(0, top + 0.4, package, fontsize=13, weight="bold", color=INK)
        for part, box in boxes.items():
            draw_box(axes, part, box, COLORS[package])
        for arrow in arrows(boxes, imports_of(package)):
            axes.add_patch(arrow)
    return figure


def draw_box(axes: mpl.axes.Axes, part: str, box: Box, color: str) -> None:
    """Draw one folder with its files."""
    shape = FancyBboxPatch(
        (box.x, box.top - box.height), box.width, box.height, boxstyle="round,pad=0,rounding_size=0.18",
        facecolor=color, edgecolor=FAINT, linewidth=0.7, zorder=2,
    )  # fmt: skip
    axes.add_patch(shape)
    is_folder = bool(box.lines)
    axes.text(box.x + 0.3, box.top - LINE * 0.95, f"{part}/" if is_folder else f"{part}.py", fontsize=9,
              weight="bold", color=INK, va="center", zorder=3)  # fmt: skip
    for at, line in enumerate(box.lines):
        axes.text(box.x + 0.3, box.top - LINE * (1.95 + at), line, fontsize=7.5, color=INK, va="center", zorder=3)


def arrows(boxes: dict[str, Box], counts: dict[tuple[str, str], int]) -> Iterator[FancyArrowPatch]:
    """Yield an arc from each row to each row below that it imports from, the wider the more imports lead there."""
    rows = {box.top: box for box in boxes.values()}
    pairs: dict[tuple[float, float], int] = {}
    for (here, there), count in counts.items():
        ends = (boxes[here].top, boxes[there].top) if {here, there} <= boxes.keys() else (0.0, 0.0)
        if ends[0] != ends[1]:
            pairs[ends] = pairs.get(ends, 0) + count
    longest = max(start - end for start, end in pairs)
    for top, box in rows.items():
        leaving = sorted((pair for pair in pairs if pair[0] == top), key=lambda pair: pair[1])
        for at, pair in enumerate(leaving):
            arriving = sorted((other for other in pairs if other[1] == pair[1]), key=lambda other: -other[0])
            target = rows[pair[1]]
            start = top - box.height * (0.5 + 0.45 * (len(leaving) - at) / (len(leaving) + 1))
            end = target.top - target.height * (0.05 + 0.45 * (arriving.index(pair) + 1) / (len(arriving) + 1))
            out = ARCS * 1.3 * ((pair[0] - pair[1]) / longest) ** 0.7
            way = Path([(WIDTH, start), (WIDTH + out, start), (WIDTH + out, end), (WIDTH + 0.05, end)], CURVE)
            yield FancyArrowPatch(
                path=way, arrowstyle="-|>", mutation_scale=5, edgecolor=FAINT, facecolor="none",
                linewidth=0.4 + min(pairs[pair], 60) / 30,
            )  # fmt: skip


if __name__ == "__main__":
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "tmkt", "font.family": "sans-serif"}
    draw().savefig(PICTURE, metadata={"Date": None, "Creator": None})
    print(PICTURE)
