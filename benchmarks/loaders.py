"""Loaders of pairs: batches read in one piece beside a plain `DataLoader`, with and without reading items together.

    python benchmarks/loaders.py
    python benchmarks/loaders.py --per-class 60 --batch 120 --repeats 9 --json loaders.json

Each figure is one pass over the training recordings of `digits`, a sample of both sides, [10, 2, 34, 34] each, in this
process; medians, and ratios inside each repeat.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from made_digits import made_digits
from timing import Case, measure, write_json

from tmkt_data import default_spec


def contenders(cache: Path, batch_size: int) -> tuple[Case, int]:
    """Return one pass of each loader, by name, and the samples of a pass."""
    from torch.utils.data import DataLoader

    from tmkt_data import PairedFrames
    from tmkt_data.pairs.samples import PairedSample
    from tmkt_data.torch import pair_loader

    frames = PairedFrames(cache, "train", scale="log1p")

    class Single:
        """The same samples, without `__getitems__`."""

        def __len__(self) -> int:
            return len(frames)

        def __getitem__(self, index: int) -> PairedSample:
            return frames[index]

    def passes(loader: DataLoader[Any]) -> Any:
        return lambda: [None for _ in loader][-1]

    single: Any = Single()
    return {
        "pair_loader": passes(pair_loader(frames, batch_size)),
        "DataLoader, items read together": passes(DataLoader(frames, batch_size, shuffle=True)),
        "DataLoader, item by item": passes(DataLoader(single, batch_size, shuffle=True)),
    }, len(frames)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=60, help="digits of each class (default 60)")
    parser.add_argument("--batch", type=int, default=120, help="samples of a batch (default 120)")
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each figure (default 9)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case, count = contenders(made_digits(Path(folder), given.per_class, default_spec("digits")), given.batch)
        rows = measure(f"a pair, batches of {given.batch}", case, given.repeats, "a sample", count)
    write_json(given.json, {"loaders": rows}, ("torch",))


if __name__ == "__main__":
    main()
