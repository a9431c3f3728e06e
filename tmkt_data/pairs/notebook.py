"""How a dataset looks in a notebook: what it is, and the first pairs step by step."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.pairs.samples import PairedSample

_ON, _OFF = np.array([0, 114, 178]), np.array([213, 94, 0])
"""As in previews: blue and vermilion of Okabe and Ito, which color-blind readers tell apart."""
_TILE = 68
_GAP = 2


def describe(title: str, samples: Sequence[PairedSample], class_names: Sequence[str]) -> str:
    """Return HTML: a title, and for each sample its class, the image and the events, a tile for each time step.

    Args:
        title: The dataset in a line.
        samples: Samples with frames of shape (T, C, H, W).
        class_names: Names of the classes, indexed by label.
    """
    rows = []
    for sample in samples:
        name = html.escape(class_names[sample.label])
        pictures = "<br>".join(
            _picture(frames, text) for frames, text in ((sample.image, "image"), (sample.events, "events"))
        )
        rows.append(f'<tr><td style="text-align:left">{name}</td><td style="text-align:left">{pictures}</td></tr>')
    return f"<p><code>{html.escape(title)}</code></p><table>{''.join(rows)}</table>"


def _picture(frames: NDArray[np.float32], text: str) -> str:
    tiles = _gray(frames) if text == "image" and frames.min() >= 0 and frames.max() <= 1 else _signed(frames)
    side = _TILE // max(1, *tiles.shape[1:3]) or 1
    large = tiles.repeat(side, axis=1).repeat(side, axis=2)
    padded = np.pad(large, [(0, 0), (0, 0), (0, _GAP), (0, 0)], constant_values=255)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(padded, axis=1)).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{text}, {len(frames)} time steps" src="data:image/png;base64,{data}">'


def _gray(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = np.rint(frames.mean(axis=1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def _signed(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Color OFF and ON on white, the strongest cell in full color."""
    off, on = (
        (frames[:, 0], frames[:, 1])
        if frames.shape[1] == 2
        else (np.maximum(-frames[:, 0], 0), np.maximum(frames[:, 0], 0))
    )
    top = max(float(off.max()), float(on.max())) or 1.0
    strength = np.sqrt(np.stack([off, on], axis=-1) / top)
    ink = strength[..., :1] * (255 - _OFF) + strength[..., 1:] * (255 - _ON)
    return np.asarray(np.clip(255 - ink, 0, 255), np.uint8)
