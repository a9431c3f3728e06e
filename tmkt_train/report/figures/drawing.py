"""Figures that are drawn on request, as SVG for a page, or as PDF and PNG for papers and slides."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tmkt_train.report.figures.fonts import REDUCED, families
from tmkt_train.report.figures.svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

WIDTH, HEIGHT = 331.2, 194.4
"""Default size of a figure, points."""

_STYLE = Path(__file__).parents[1] / "report.mplstyle"
_METADATA = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
_GROUNDS = {"svg": "none", "pdf": "none", "png": "white"}
# The settings of matplotlib are global.
_LOCK = threading.Lock()


class About(NamedTuple):
    """Name of a figure: its file name without suffix, of letters, digits and hyphens; summary; addition to the caption.

    The summary, for screen readers, is one sentence with the content and the main numbers.
    """

    name: str
    summary: str
    note: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn on request, on an empty one of a size in points; the same drawing gives the same bytes."""

    about: About
    draw: Callable[[FigureBase], None]
    size: tuple[float, float] = (WIDTH, HEIGHT)

    def svg(self, name: str) -> str:
        """Return it as an SVG element for a page; its ids start with `name`."""
        return self.inline(self.saved("svg")[0], name)

    def inline(self, svg: bytes, name: str) -> str:
        """Return what `saved` gave for "svg" as an element for a page; its ids start with `name`."""
        return inline_svg(svg.decode(), name, self.about.summary)

    def saved(self, *formats: str) -> list[bytes]:
        """Return it as files in the given formats, of "svg", "pdf" and "png"."""
        # Importing matplotlib takes a second. pyplot is avoided: it keeps figures and needs a display.
        import matplotlib.style
        from matplotlib.figure import Figure

        files, family = [], {"font.family": families()}
        with _LOCK, warnings.catch_warnings(), matplotlib.style.context(["default", _STYLE, family]):
            # Class names may have characters that the font lacks; a browser has them.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure = Figure(figsize=(self.size[0] / 72, self.size[1] / 72))
            self.draw(figure)
            for kind in formats:
                data = io.BytesIO()
                figure.savefig(data, format=kind, metadata=_METADATA[kind], facecolor=_GROUNDS[kind])
                # The reduced font is on no other machine.
                files.append(
                    data.getvalue().replace(f"'{REDUCED}', ".encode(), b"") if kind == "svg" else data.getvalue()
                )
        return files


def side_by_side(name: str, drawings: Sequence[Drawing], num_columns: int = 3) -> Drawing:
    """Arrange drawings of equal size in a grid."""
    columns = min(num_columns, len(drawings))
    rows = -(-len(drawings) // columns)
    width, height = drawings[0].size

    def draw(figure: FigureBase) -> None:
        cells = figure.subfigures(rows, columns, squeeze=False)
        for cell, drawing in zip(cells.flat, drawings, strict=False):
            drawing.draw(cell)

    return Drawing(About(name, ""), draw, (columns * width, rows * height))
