"""Write a tree in the layout and byte formats of CEP-DVS, of any size: python tests/tools/make_cepdvs_tree.py TREE.

The layout is that of two public readers (DATASETS section 4); no original file was at hand. Recordings are random.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from tmkt_data.datasets.cepdvs import CLASS_NAMES

PER_CLASS = 500


def main() -> None:
    """Write a tree from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--per-class", type=int, default=PER_CLASS)
    parser.add_argument("--events-per-recording", type=int, default=20_000)
    given = parser.parse_args()
    print(make_tree(given.tree, per_class=given.per_class, num_events=given.events_per_recording), "samples")


def make_tree(root: Path, *, per_class: int = PER_CLASS, num_events: int = 20_000, seed: int = 0) -> int:
    """Write `per_class` samples of each of the 20 classes, in blocks along the index; return how many."""
    rng = np.random.default_rng(seed)
    events, images = root / "data" / "MAT" / "img", root / "data" / "img"
    events.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    rows = ["number    class"]
    for label, name in enumerate(CLASS_NAMES):
        for _ in range(per_class):
            number = len(rows) - 1
            rows.append(f"{number}    {name}" if number % 2 else f"{number} a b c {name}")
            (events / f"{number:05d}.mat").write_bytes(recording_bytes(rng, num_events, label))
            picture = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(picture).save(images / f"{number:05d}.jpg")
    (root / "pathFile.csv").write_text("\n".join(rows) + "\n")
    return len(rows) - 1


def recording_bytes(rng: np.random.Generator, num_events: int, label: int = 0) -> bytes:
    """Return the bytes of one recording: events about a place that depends on the class."""
    x = np.clip(rng.normal(40 + 8 * label, 15, num_events), 0, 239).astype(np.float64)
    columns = {
        "x": np.floor(x),
        "y": rng.integers(0, 180, num_events).astype(np.float64),
        "ts": np.sort(rng.integers(0, 1_500_000, num_events)).astype(np.float64),
        "p": rng.choice([-1.0, 1.0], num_events),
    }
    buffer = io.BytesIO()
    savemat(buffer, {name: column[:, None] for name, column in columns.items()}, do_compression=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
