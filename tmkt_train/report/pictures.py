"""Pictures of arrays: the confusion matrix as SVG, sample strips as one embedded PNG each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_train.report.charts import WIDTH, drawing, label
from tmkt_train.report.html import Html, element, joined

_CHAR_PX = 6.5
_LEVELS = 12
_GAP_PX = 2
_GAP_COLOR = (128, 128, 128, 110)
_LEAST_CELL_PX = 72


def confusion_matrix(counts: NDArray[np.int64], names: Sequence[str], *, summary: str) -> Html:
    """Draw a confusion matrix with its numbers; shade is the share of the row.

    Args:
        counts: Shape (K, K); rows are true classes, columns predicted ones.
        names: Names of the classes, K of them.
        summary: The matrix in one sentence.

    Returns:
        The drawing; hits in one color, errors in another.
    """
    shares = _row_shares(counts)
    shown = [n if len(n) <= 14 else n[:13] + "…" for n in names]
    longest = _CHAR_PX * max(map(len, shown))
    left = 30 + longest
    cell = (WIDTH - left - 6) / len(counts)
    is_upright = longest > cell - 4
    top = 26 + (longest if is_upright else 12)
    side = cell * len(counts) - 1
    pieces = [element("rect", x=left, y=top, width=side, height=side, class_="ground")]
    for (i, j), value in np.ndenumerate(counts):
        x, y, share = left + j * cell, top + i * cell, float(shares[i, j])
        if not value:
            continue
        kind = "hit" if i == j else "miss"
        pieces.append(
            element(
                "g",
                element("title", f"true {names[i]}, predicted {names[j]}: {value}"),
                element("rect", x=x, y=y, width=cell - 1, height=cell - 1, fill_opacity=_shade(share)),
                label(
                    x + (cell - 1) / 2,
                    y + cell / 2 + 4,
                    str(value),
                    anchor="middle",
                    class_="on-dark" if share > 0.55 else None,
                ),
                class_=kind,
            )
        )
    for i, name in enumerate(shown):
        middle = cell * (i + 0.5)
        pieces.append(label(left - 6, top + middle + 4, name, anchor="end"))
        pieces.append(_column_name(left + middle, top - 6, name, is_upright=is_upright))
    bottom = top + cell * len(counts)
    titles = _matrix_titles(left, top, bottom)
    return drawing(bottom + 6, summary, *pieces, titles)


def confusion_map(counts: NDArray[np.int64], *, summary: str) -> Html:
    """Draw the confusion matrix of many classes as a heat map; shade is the share of the row.

    Args:
        counts: Shape (K, K); rows are true classes, columns predicted ones.
        summary: The matrix in one sentence.

    Returns:
        The drawing; one path per shade, so that it stays small.
    """
    shares = _row_shares(counts)
    left, top = 52.0, 40.0
    side = WIDTH - left - 8
    cell = side / len(counts)
    levels = np.ceil(shares * _LEVELS).astype(int)
    paths = []
    for kind, mask in (("hit", np.eye(len(counts), dtype=bool)), ("miss", ~np.eye(len(counts), dtype=bool))):
        for level in range(1, _LEVELS + 1):
            cells = np.argwhere(mask & (levels == level))
            if len(cells):
                strokes = "".join(f"M{j} {i}h1v1h-1z" for i, j in cells)
                paths.append(element("path", d=strokes, class_=kind, fill_opacity=_shade(level / _LEVELS, 0.3)))
    ticks = range(0, len(counts), 10 if len(counts) <= 120 else 10 ** (len(str(len(counts))) - 1))
    pieces = [
        element("rect", x=left, y=top, width=side, height=side, class_="ground"),
        element("g", *paths, transform=f"translate({left:.1f} {top:.1f}) scale({cell:.5f})"),
        *(label(left - 6, top + cell * (i + 0.5) + 4, str(i), anchor="end") for i in ticks),
        *(label(left + cell * (i + 0.5), top - 6, str(i), anchor="middle") for i in ticks),
        _matrix_titles(left, top, top + side),
    ]
    return drawing(top + side + 8, summary, *pieces)


def _row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _shade(share: float, faintest: float = 0.14) -> float:
    """Keep single errors visible: the faintest shade is well above nothing."""
    return faintest + (1 - faintest) * share


def _column_name(x: float, y: float, name: str, *, is_upright: bool) -> Html:
    if not is_upright:
        return label(x, y, name, anchor="middle")
    return element("text", name, x=x + 4, y=y, transform=f"rotate(-90 {x + 4:.1f} {y:.1f})")


def _matrix_titles(left: float, top: float, bottom: float) -> Html:
    middle = (top + bottom) / 2
    side = element("text", "true class", x=12, y=middle, text_anchor="middle", class_="title")
    return joined(
        [
            label((left + WIDTH) / 2, 12, "predicted class", anchor="middle", class_="title"),
            element("g", side, transform=f"rotate(-90 12 {middle:.1f})"),
        ]
    )


def strip_png(frames: NDArray[np.float32]) -> bytes:
    """Lay frames out in a grid and give them as PNG, enlarged by whole steps, the gaps half transparent.

    Args:
        frames: Shape (R, T, H, W, 3), in [0, 1]; what lies outside or is no number is clipped to it.

    Returns:
        The file, color with alpha.
    """
    num_rows, num_steps, height, width, _ = frames.shape
    factor = max(1, -(-_LEAST_CELL_PX // max(height, width)))
    pixels = np.round(np.clip(np.nan_to_num(frames), 0, 1) * 255).astype(np.uint8)
    large = pixels.repeat(factor, axis=2).repeat(factor, axis=3)
    tall, wide = height * factor + _GAP_PX, width * factor + _GAP_PX
    sheet = np.full((num_rows * tall - _GAP_PX, num_steps * wide - _GAP_PX, 4), _GAP_COLOR, np.uint8)
    for (row, step), _ in np.ndenumerate(np.empty((num_rows, num_steps))):
        y, x = row * tall, step * wide
        sheet[y : y + height * factor, x : x + width * factor, :3] = large[row, step]
        sheet[y : y + height * factor, x : x + width * factor, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def strip(frames: NDArray[np.float32], row_names: Sequence[str], *, summary: str) -> Html:
    """Show the frames of one sample: rows by kind, columns by time step.

    Args:
        frames: Shape (R, T, H, W, 3), in [0, 1].
        row_names: Names of the rows, R of them.
        summary: What the picture shows.

    Returns:
        The picture with the names of its rows and the numbers of its steps.
    """
    data = base64.b64encode(strip_png(frames)).decode("ascii")
    steps = (element("span", str(i + 1)) for i in range(frames.shape[1]))
    return element(
        "div",
        element("div", *(element("span", n) for n in row_names), class_="rows", aria_hidden="true"),
        element("div", *steps, class_="steps", aria_hidden="true"),
        element("img", src=f"data:image/png;base64,{data}", alt=summary),
        class_="strip",
    )


def switch_step(frames: NDArray[np.float32]) -> int | None:
    """Find the first step, from 1, at which the mixed row shows the event frame; T + 1 where none does.

    Args:
        frames: Shape (4, T, H, W, 3); rows image, image frames, events, mixed.

    Returns:
        The step; None where the rows do not tell, as a mixed frame equals both or neither.
    """
    of_image = np.abs(frames[3] - frames[1]).max(axis=(1, 2, 3)) < 1e-3
    of_events = np.abs(frames[3] - frames[2]).max(axis=(1, 2, 3)) < 1e-3
    if (of_image == of_events).any():
        return None
    first = int(of_events.argmax()) if of_events.any() else len(of_events)
    return first + 1 if of_events[first:].all() else None
