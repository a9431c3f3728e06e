"""Near-duplicates: other sizes, crops and encodings of one photograph in different splits."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
import trees
from conftest import build
from PIL import Image

from tmkt_data import PairedFrames
from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.pairs.near_duplicates import LEAST_CORRELATION, MOST_BITS, difference_hashes, find_near_duplicates
from tmkt_data.pairs.report import report_pairs


def naive_hash(image):
    height, width = image.shape
    rows, columns = (np.arange(cells + 1) * size // cells for size, cells in ((height, 8), (width, 9)))
    means = np.array(
        [[image[top:end, left:right].mean() for left, right in pairwise(columns)] for top, end in pairwise(rows)]
    )
    return means[:, 1:] > means[:, :-1]


@pytest.mark.parametrize("shape", [(48, 48), (34, 34), (28, 28), (30, 41)])
def test_a_hash_says_whether_cells_are_brighter_than_their_left_neighbors(shape):
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    bits = np.unpackbits(difference_hashes(images).view(np.uint8).reshape(5, 8), axis=1).reshape(5, 8, 8)
    assert all((bits[at] == naive_hash(images[at])).all() for at in range(5))
    assert difference_hashes(np.full((1, 8, 8), 9, np.uint8)).tolist() == [0]


def naive_pairs(cache):
    """Images of val and test with their best near-duplicate in an earlier split, by comparing all with all."""
    images = cache.image_frames(np.arange(cache.info.num_images))
    codes = cache.splits("images", "twin-disjoint")
    digests = cache.tables["images/source_xxh3"]
    hashes = [naive_hash(image) for image in images]
    found = set()
    for row in np.flatnonzero(codes > SplitCode.TRAIN).tolist():
        for other in np.flatnonzero((codes < codes[row]) & (codes > 0) & (digests != digests[row])).tolist():
            num_bits = (hashes[row] != hashes[other]).sum()
            alike = np.corrcoef(images[row].ravel(), images[other].ravel())[0, 1]
            if num_bits <= MOST_BITS and alike >= LEAST_CORRELATION:
                found.add(cache.image_ids[row])
    return found


def test_a_photograph_saved_again_is_found_and_an_equal_file_is_not_counted_here(tmp_path):
    own = {f"a/{at:02d}": at for at in range(20)}
    root = trees.write_folder(tmp_path / "own", own, own)
    cache = Cache(build("folder", root, tmp_path / "a.h5", size=24, time_bins=2))
    assert find_near_duplicates(cache, "twin-disjoint").num_images == 0
    codes = cache.splits("images", "twin-disjoint")
    test, train = (int(np.flatnonzero(codes == code)[0]) for code in (SplitCode.TEST, SplitCode.TRAIN))
    picture = trees.scene(train)
    Image.fromarray((picture * 0.9).astype(np.uint8)).save(root / "images" / f"a/{test:02d}.png")
    cache = Cache(build("folder", root, tmp_path / "b.h5", size=24, time_bins=2))
    near = find_near_duplicates(cache, "twin-disjoint")
    assert (near.num_images, near.num_compared) == (1, 4)
    assert near.examples[0].startswith(f"a/{test:02d} (test) ~ a/{train:02d} (train), 1.000")
    assert naive_pairs(cache) == {f"a/{test:02d}"}
    report = report_pairs(PairedFrames(cache), thorough=True)
    assert report.near_duplicates == near
    assert report.to_dict()["near_duplicates"]["num_images"] == 1
    assert report_pairs(PairedFrames(cache)).near_duplicates is None
    (root / "images" / f"a/{test:02d}.png").write_bytes((root / "images" / f"a/{train:02d}.png").read_bytes())
    cache = Cache(build("folder", root, tmp_path / "c.h5", size=24, time_bins=2, duplicates="keep"))
    assert find_near_duplicates(cache, "twin-disjoint").num_images == 0
    assert report_pairs(PairedFrames(cache)).duplicates.images == 1


def test_those_of_real_photographs_are_those_of_comparing_all_with_all(real_data, tmp_path):
    folder = real_data / "caltech51" / "101_ObjectCategories"
    if not folder.is_dir():
        pytest.skip("no photographs of caltech51")
    names = [
        f"{name}/{path.stem}" for name in ("llama", "lotus", "gerenuk") for path in sorted((folder / name).iterdir())
    ]
    root = trees.write_folder(tmp_path / "own", {name: at for at, name in enumerate(names)}, {})
    for name in ("llama", "lotus", "gerenuk"):
        shutil.copytree(folder / name, root / "images" / name)
    options = {"size": 48, "time_bins": 2, "canvas": "tight", "val_share": 0.2, "test_share": 0.3}
    cache = Cache(build("folder", root, tmp_path / "a.h5", **options))
    near = find_near_duplicates(cache, "twin-disjoint")
    assert near.num_images == len(naive_pairs(cache)) >= 1
    assert near.examples[0].endswith(("1.000", "0.999"))
