"""Write a tree in the layout and formats of N-Omniglot and Omniglot: python tests/tools/make_nomniglot_tree.py TREE.

The layout is that of the published code (DATASETS section 5); no original recording was at hand. AEDAT4 is written by
faery. Each drawing is a short random stroke, and its recording follows the stroke.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import faery
import numpy as np
from PIL import Image

NUM_DRAWERS = 20
START_US = 1_600_000_000_000_000


def main() -> None:
    """Write a tree from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--characters", type=int, default=1623)
    parser.add_argument("--events-per-drawer", type=int, default=2_000)
    given = parser.parse_args()
    characters = range(1, given.characters + 1)
    print(make_tree(given.tree, characters, num_events=given.events_per_drawer), "samples")


def make_tree(root: Path, characters: range | list[int], *, num_events: int = 2_000, seed: int = 0) -> int:
    """Write all 20 drawers of some characters, 1 to 1623; return the number of samples."""
    for number in characters:
        rng = np.random.default_rng([seed, number])
        part = "background" if number <= 964 else "evaluation"
        folder = Path("Alphabet_(made)") / f"character{number:04d}"
        events, images = root / f"dvs_{part}" / folder, root / "omniglot-py" / f"images_{part}" / folder
        events.mkdir(parents=True, exist_ok=True)
        images.mkdir(parents=True, exist_ok=True)
        strokes = [_stroke(np.random.default_rng([seed, number, 1]), rng) for _ in range(NUM_DRAWERS)]
        for drawer, stroke in enumerate(strokes, start=1):
            _draw(stroke).save(images / f"{number:04d}_{drawer:02d}.png")
        write_recording(events / f"{number:04d}.aedat4", strokes, rng, num_events)
    return NUM_DRAWERS * len(characters)


def _stroke(shape: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    """Return 200 points of a stroke in [0.1, 0.9], one shape a character and a little noise a drawer."""
    corners = shape.uniform(0.15, 0.85, (5, 2)) + rng.normal(0, 0.02, (5, 2))
    at = np.linspace(0, 4, 200)
    return np.clip(np.stack([np.interp(at, np.arange(5), corners[:, axis]) for axis in (0, 1)], 1), 0.1, 0.9)


def _draw(stroke: np.ndarray) -> Image.Image:
    page = np.full((105, 105), 255, np.uint8)
    for x, y in np.rint(stroke * 104).astype(int):
        page[y - 1 : y + 2, x - 1 : x + 2] = 0
    return Image.fromarray(page).convert("1")


def write_recording(path: Path, strokes: list[np.ndarray], rng: np.random.Generator, num_events: int) -> None:
    """Write the drawers of one character one after the other, 4 s each, and the csv with their times."""
    rows, pieces = ["index,Start_Timestamp,End_Timestamp"], []
    for index, stroke in enumerate(strokes):
        start = START_US + index * 5_000_000
        t = np.sort(rng.choice(4_000_000, num_events, replace=False)) + start
        points = stroke[np.minimum((t - start) * 200 // 4_000_000, 199)]
        piece = np.zeros(num_events, faery.EVENTS_DTYPE)
        piece["t"] = t
        piece["x"] = np.clip(54 + points[:, 0] * 249 + rng.normal(0, 3, num_events), 0, 345)
        piece["y"] = np.clip(4 + points[:, 1] * 249 + rng.normal(0, 3, num_events), 0, 259)
        piece["on"] = rng.random(num_events) < 0.5
        pieces.append(piece)
        rows.append(f"{index},{t[0]},{t[-1] + 1}")
    faery.events_stream_from_array(np.concatenate(pieces), dimensions=(346, 260)).to_file(str(path))
    path.with_suffix(".csv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
