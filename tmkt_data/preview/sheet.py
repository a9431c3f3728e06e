"""What a contact sheet shows, and where: a grid laid out in whole pixels."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.preview.colors import Color

IMAGE_EDGE: Color = (230, 159, 0)
EVENT_EDGE: Color = (126, 75, 178)

MAX_WIDTH = 2016
MARGIN = 36
GUTTER = 64
LABEL_WIDTH = 112
MIN_CELL = 56
PICTURE = 144
MAX_FILL = 112
"""Largest cell that few steps are drawn with, where a frame fits in it."""
MIN_GRID = 424
LINE_HEIGHT = 20
NAME_HEIGHT = 30
INTRO_GAP = 18
HEADING_HEIGHT = 42
"""Step numbers and times above the cells."""
ACTIVITY_HEIGHT = 48
"""Bars of events per step, and the space below them."""
MARKER_HEIGHT = 22
GROUP_GAP = 36

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, right and bottom exclusive."""


class Key(NamedTuple):
    """One entry of the legend: a filled or outlined square, or the marker."""

    kind: Literal["fill", "edge", "marker"]
    color: Color
    text: str


class SheetRow(NamedTuple):
    """One row of cells.

    Attributes:
        label: What it shows.
        details: How, line by line in smaller type.
        cells: Colors, shape (columns, H, W, 3), uint8.
        is_event: Per column, whether the cell comes from the event side; None draws no colored edges.
        marker: Number of columns before the replacement point; None draws no marker.
        marker_text: What stands at the marker.
    """

    label: str
    details: tuple[str, ...]
    cells: NDArray[np.uint8]
    is_event: tuple[bool, ...] | None = None
    marker: int | None = None
    marker_text: str = ""


class SheetGroup(NamedTuple):
    """One pair.

    Attributes:
        name: Id of the recording.
        facts: Label and value of each line beside the picture.
        picture: Colors of the image, shape (H, W, 3), uint8; None without one.
        steps: Number of each step shown, from 1.
        times_ms: From when to when each of them lasts.
        activity: ON and OFF events of each step shown, each of shape (columns,).
        counts_events: Whether these are numbers of events, not sums that a resize has weighted.
        rows: Rows of cells, top to bottom.
        picture_label: What the picture shows, and how.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    picture: NDArray[np.uint8] | None
    steps: tuple[int, ...]
    times_ms: tuple[tuple[float, float], ...]
    activity: tuple[NDArray[np.float64], NDArray[np.float64]]
    counts_events: bool
    rows: tuple[SheetRow, ...]
    picture_label: tuple[str, str] = ("image", "intensity")


class Sheet(NamedTuple):
    """All that a contact sheet shows; every group has the same rows and columns.

    Attributes:
        title: First line, large.
        facts: Lines below it, each in parts that are kept whole.
        keys: The legend.
        groups: The pairs.
        notes: Parts of the last line, small.
    """

    title: str
    facts: tuple[tuple[str, ...], ...]
    keys: tuple[Key, ...]
    groups: tuple[SheetGroup, ...]
    notes: tuple[str, ...]


class SheetLayout(NamedTuple):
    """Where everything below the head of a sheet lies, relative to the top of the first group.

    Attributes:
        num_columns: Columns of groups side by side.
        num_lines: Lines of groups.
        num_cells: Columns of cells in a group.
        num_rows: Rows of cells in a group.
        cell: Width and height of a cell.
        gap: Pixels between two columns of cells.
        picture: Width and height of the picture; 0 without one.
        intro: Height of the picture and the facts.
        has_marker: Whether there is a mixed row, which needs space below.
    """

    num_columns: int
    num_lines: int
    num_cells: int
    num_rows: int
    cell: int
    gap: int
    picture: int
    intro: int
    has_marker: bool

    @property
    def row_gap(self) -> int:
        """Pixels between two rows of cells."""
        return 2 * self.gap

    @property
    def grid_width(self) -> int:
        """Width of the cells of a group."""
        return self.num_cells * (self.cell + self.gap) - self.gap

    @property
    def body_width(self) -> int:
        """Width of a group right of its row labels; a narrow grid leaves room for the facts."""
        return max(self.grid_width, MIN_GRID)

    @property
    def group_width(self) -> int:
        """Width of a group with its row labels."""
        return LABEL_WIDTH + self.body_width

    @property
    def group_height(self) -> int:
        """Height of a group."""
        head = self.intro + INTRO_GAP + HEADING_HEIGHT + ACTIVITY_HEIGHT
        cells = self.num_rows * (self.cell + self.row_gap) - self.row_gap
        return head + cells + (MARKER_HEIGHT if self.has_marker else 0)

    @property
    def width(self) -> int:
        """Width of the sheet."""
        return 2 * MARGIN + self.num_columns * (self.group_width + GUTTER) - GUTTER

    @property
    def height(self) -> int:
        """Height of all groups."""
        return self.num_lines * (self.group_height + GROUP_GAP) - GROUP_GAP

    def group_corner(self, group: int) -> tuple[int, int]:
        """Return the left and the top of a group, its row labels included."""
        line, column = divmod(group, self.num_columns)
        return MARGIN + column * (self.group_width + GUTTER), line * (self.group_height + GROUP_GAP)

    def heading_top(self, group: int) -> int:
        """Return the top of the step numbers of a group."""
        return self.group_corner(group)[1] + self.intro + INTRO_GAP

    def cell_box(self, group: int, row: int, column: int) -> Box:
        """Return where a cell lies."""
        left = self.group_corner(group)[0] + LABEL_WIDTH + column * (self.cell + self.gap)
        top = self.heading_top(group) + HEADING_HEIGHT + ACTIVITY_HEIGHT + row * (self.cell + self.row_gap)
        return left, top, left + self.cell, top + self.cell

    def picture_box(self, group: int) -> Box:
        """Return where the picture of a group lies."""
        left, top = self.group_corner(group)
        left += LABEL_WIDTH
        return left, top, left + self.picture, top + self.picture


def lay_out(sheet: Sheet) -> SheetLayout:
    """Choose sizes so that cells are whole multiples of a frame and the sheet stays about 2000 pixels wide.

    Few steps are drawn larger; a frame that is too wide even at its own size is shrunk. Groups stand side by side
    where they fit, at most as many as there are lines of them.
    """
    group = sheet.groups[0]
    num_cells, size = group.rows[0].cells.shape[0], group.rows[0].cells.shape[1]
    gap = 6 if num_cells <= 20 else 5
    room = (MAX_WIDTH - 2 * MARGIN - LABEL_WIDTH + gap) // num_cells - gap
    fill = min(MAX_FILL, (MIN_GRID + gap) // num_cells - gap)
    cell = min(max(-(-MIN_CELL // size), fill // size), room // size) * size or room
    picture = 0
    if group.picture is not None:
        picture = max(1, round(PICTURE / size)) * size if size <= 2 * PICTURE else PICTURE
    num_facts = max(len(one.facts) for one in sheet.groups)
    has_marker = any(row.marker is not None for row in group.rows)
    intro = max(picture, NAME_HEIGHT + num_facts * LINE_HEIGHT)
    layout = SheetLayout(1, 1, num_cells, len(group.rows), cell, gap, picture, intro, has_marker)
    fitting = (MAX_WIDTH - 2 * MARGIN + GUTTER) // (layout.group_width + GUTTER)
    num_columns = max(1, min(fitting, math.ceil(math.sqrt(len(sheet.groups)))))
    return layout._replace(num_columns=num_columns, num_lines=-(-len(sheet.groups) // num_columns))
