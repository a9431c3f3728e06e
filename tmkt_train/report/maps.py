"""Maps of values over two indices, and clouds of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tmkt_train.report.axis import linear_axis
from tmkt_train.report.charts import WIDTH, drawing, frame, label
from tmkt_train.report.html import Html, element

_CHAR_PX = 6.5
_CELL_PX = 22.0
_FAINTEST = 0.06
_MOST_WRITTEN = 12
"""Columns up to which every cell has its number."""


def heat_map(
    values: NDArray[np.float64],
    row_names: Sequence[str],
    *,
    x_title: str,
    high: float,
    summary: str,
    color: str = "event",
) -> Html:
    """Draw values from 0 up as shades, a row each, columns counted from 1.

    Args:
        values: Shape (rows, columns); what is above `high` is as dark as that.
        row_names: Name of each row.
        x_title: What the columns are.
        high: Value of the darkest shade, above 0.
        summary: The map in one sentence.
        color: Class of its color.
    """
    num_rows, num_columns = values.shape
    left = min(150.0, 12 + _CHAR_PX * max((len(name) for name in row_names), default=0))
    top, width = 8.0, (WIDTH - left - 4) / num_columns
    cells: list[Html] = []
    for i in range(num_rows):
        y = top + i * _CELL_PX
        cells.append(label(left - 7, y + _CELL_PX / 2 + 4, _fitted(row_names[i], left), anchor="end"))
        for j in range(num_columns):
            share = float(np.clip(values[i, j] / high, 0, 1))
            opacity = f"{_FAINTEST + (1 - _FAINTEST) * share:.3f}"
            x = left + j * width
            cells.append(
                element(
                    "rect",
                    x=x + 0.5,
                    y=y + 0.5,
                    width=width - 1,
                    height=_CELL_PX - 1,
                    class_=f"cell {color}",
                    fill_opacity=opacity,
                )
            )
            if num_columns <= _MOST_WRITTEN:
                text = f"{values[i, j]:.2f}".replace("0.", ".", 1)
                shade = "on-dark" if share > 0.55 else "in-cell"
                cells.append(label(x + width / 2, y + _CELL_PX / 2 + 4, text, anchor="middle", class_=shade))
    bottom = top + num_rows * _CELL_PX
    every = 1 if num_columns <= 20 else 10
    ticks = (
        label(left + (j + 0.5) * width, bottom + 15, str(j + 1), anchor="middle")
        for j in range(num_columns)
        if (j + 1) % every == 0
    )
    title = label((left + WIDTH) / 2, bottom + 32, x_title, anchor="middle", class_="title")
    return drawing(bottom + 38, summary, *cells, *ticks, title)


def scatter(clouds: Sequence[tuple[str, NDArray[np.float64]]], *, x_title: str, y_title: str, summary: str) -> Html:
    """Draw clouds of points, each in its color.

    Args:
        clouds: Class of the color and points, shape (N, 2), of each cloud.
        x_title: What the first coordinate is.
        y_title: What the second is.
        summary: The drawing in one sentence.
    """
    height, left = 330.0, 46.0
    points = np.concatenate([cloud for _, cloud in clouds])
    x_axis = linear_axis(points[:, 0].tolist(), (left, WIDTH - 10))
    y_axis = linear_axis(points[:, 1].tolist(), (height - 40, 26.0))
    marks = (
        element(
            "g",
            *(element("circle", cx=x_axis(float(x)), cy=y_axis(float(y)), r=3.2) for x, y in cloud),
            class_=f"cloud {color}",
        )
        for color, cloud in clouds
    )
    return drawing(height, summary, frame(x_axis, y_axis, x_title, y_title), *marks)


def _fitted(name: str, room_px: float) -> str:
    most = int((room_px - 10) / _CHAR_PX)
    return name if len(name) <= most else f"…{name[-(most - 1) :]}"
