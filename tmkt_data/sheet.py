"""Drawing of contact sheets: a grid laid out in whole pixels, cells enlarged without smoothing."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tmkt_data.frame_colors import BOTH, OFF, ON, Color

PAPER: Color = (255, 255, 255)
INK: Color = (27, 29, 32)
SOFT: Color = (99, 104, 110)
RULE: Color = (217, 220, 224)
IMAGE_EDGE: Color = (230, 159, 0)
EVENT_EDGE: Color = (126, 75, 178)

MAX_WIDTH = 2000
MARGIN = 36
GUTTER = 64
LABEL_WIDTH = 116
GAP = 6
ROW_GAP = 12
MIN_CELL = 56
PICTURE = 144
MIN_GRID = 440
EDGE = 2
TITLE_SIZE, NAME_SIZE, TEXT_SIZE, SMALL_SIZE, TINY_SIZE = 30, 18, 15, 13, 11
LINE, TEXT_LINE = 22, 20
KEY_ROW = 26
ACTIVITY = 40
HEADING = 40
"""Height of the step numbers and times above the cells."""

Box = tuple[int, int, int, int]


class Key(NamedTuple):
    """One entry of the legend: a filled or outlined square, or the marker."""

    kind: Literal["fill", "edge", "marker"]
    color: Color | None
    text: str


class SheetRow(NamedTuple):
    """One row of cells.

    Attributes:
        label: What it shows.
        detail: How, in smaller type.
        cells: Colors, shape (columns, H, W, 3), uint8.
        is_event: Per column, whether the cell comes from the event side; None draws no colored edges.
        marker: Number of columns before the replacement point; None draws no marker.
        marker_text: What stands at the marker.
    """

    label: str
    detail: str
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
        activity: ON and OFF events of each step shown.
        rows: Rows of cells, top to bottom.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    picture: NDArray[np.uint8] | None
    steps: tuple[int, ...]
    times_ms: tuple[tuple[float, float], ...]
    activity: tuple[NDArray[np.float64], NDArray[np.float64]]
    rows: tuple[SheetRow, ...]


class Sheet(NamedTuple):
    """All that a contact sheet shows; every group has the same rows and columns."""

    title: str
    facts: tuple[tuple[str, ...], ...]
    keys: tuple[Key, ...]
    groups: tuple[SheetGroup, ...]
    note: str
