"""Exported files hold the cache in the splits of a protocol; the libraries that they are for read them back."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile

import numpy as np
import pytest
import trees
from click.testing import CliRunner
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.splits import SPLIT_CODES
from tmkt_data.errors import SpecError
from tmkt_data.export.export import export_cache
from tmkt_data.export.parts import Part


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = trees.write_nmnist(tmp_path_factory.mktemp("root"), per_digit=8, test_per_digit=3, digits=2)
    # One recording counts above a byte in a cell.
    trees.random_recording(next((root / "N-MNIST").rglob("*.bin")), np.random.default_rng(0), 34, 34, 40_000)
    return Cache(build("nmnist", root, root / "a.h5", size=4, time_bins=4))


def export(cache, out, export_format, **options):
    steps = list(export_cache(cache.info.path, out, export_format, **options))
    assert steps[-1][0] == steps[-1][1] == cache.info.num_recordings + cache.info.num_images
    return out


def expected(cache, side, split):
    rows = np.flatnonzero(cache.splits(side, "twin-disjoint") == SPLIT_CODES[split])
    ids = cache.event_ids if side == "events" else cache.image_ids
    arrays = cache.event_frames(rows) if side == "events" else cache.image_frames(rows)
    labels = cache.tables[f"{side}/label"][rows].tolist()
    return [ids[row] for row in rows], labels, arrays


def members(paths):
    for path in paths:
        with tarfile.open(path) as archive:
            yield from ((member.name, archive.extractfile(member).read()) for member in archive)


@pytest.mark.parametrize("side", ["events", "images"])
@pytest.mark.parametrize("split", SPLIT_CODES)
def test_shards_hold_the_split(cache, tmp_path, side, split):
    out = export(cache, tmp_path / "out", "webdataset", shard_bytes=300)
    stored_bytes = {"events": 2 * 4 * 2 * 4 * 4, "images": 4 * 4}
    paths = sorted(out.glob(f"{side}-{split}-*.tar"))
    found = list(members(paths))
    ids, labels, arrays = expected(cache, side, split)
    per_shard = max(1, 300 // stored_bytes[side])
    assert len(paths) == -(-len(ids) // per_shard)
    stored = [np.load(io.BytesIO(data), allow_pickle=False) for name, data in found if name.endswith(".npy")]
    np.testing.assert_array_equal(np.stack(stored), arrays)
    about = [json.loads(data) for name, data in found if name.endswith(".json")]
    assert [(one["id"], one["label"]) for one in about] == list(zip(ids, labels, strict=True))
    assert [int(data) for name, data in found if name.endswith(".cls")] == labels
    # Members of a sample share what comes before the first dot, and no other sample has it.
    keys = [name.partition(".")[0] for name, _ in found]
    assert keys == [key for key in dict.fromkeys(keys) for _ in range(3)]


def test_counts_above_a_byte_are_exact(cache, tmp_path):
    out = export(cache, tmp_path / "out", "webdataset")
    stored = [np.load(io.BytesIO(data)) for name, data in members(out.glob("events-*.tar")) if name.endswith(".npy")]
    assert {array.dtype for array in stored} == {np.dtype(np.uint16)}
    assert max(array.sum() for array in stored) == 40_000


def test_large_frames_are_read_and_written_a_few_at_a_time():
    # 128 of them have more values than 32-bit offsets reach, and take 11 GB as float32.
    large = Part("events", "train", np.arange(500), np.dtype(np.uint8), (10, 2, 1024, 1024))
    assert large.rows_within(1 << 26, 128) == 3
    assert large.rows_within(1 << 26, 128, np.dtype(np.float32)) == 1
    assert large._replace(shape=(10, 2, 34, 34)).rows_within(1 << 26, 128) == 128


@pytest.mark.parametrize("export_format", ["webdataset", "parquet"])
def test_the_same_cache_gives_the_same_bytes(cache, tmp_path, export_format):
    first, second = (export(cache, tmp_path / name, export_format, shard_bytes=900) for name in "ab")
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_datasets_loads_the_columns_with_their_types(cache, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    out = export(cache, tmp_path / "out", "parquet", shard_bytes=900)
    for side, column in (("events", "frames"), ("images", "intensity")):
        loaded = datasets.load_dataset(str(out), side, cache_dir=str(tmp_path / "cache"))
        assert set(loaded) == {"train", "validation", "test"}
        for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
            ids, labels, arrays = expected(cache, side, split)
            part = loaded[name]
            assert part.features["label"].names == list(cache.class_names)
            assert tuple(part.features[column].shape) == arrays.shape[1:]
            assert (part["id"][:], part["label"][:]) == (ids, labels)
            np.testing.assert_array_equal(np.stack(part.with_format("numpy")[column][:]), arrays)


def test_croissant_names_every_file_with_its_checksum(cache, tmp_path):
    out = export(cache, tmp_path / "out", "parquet", shard_bytes=900)
    metadata = json.loads((out / "croissant.json").read_text())
    sums = {one["contentUrl"]: one["sha256"] for one in metadata["distribution"]}
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.parquet")}
    assert [one["name"] for one in metadata["recordSet"]] == [
        f"{side}-{split}" for side in ("events", "images") for split in SPLIT_CODES
    ]


def test_the_card_comes_last_and_names_splits_and_digest(cache, tmp_path):
    steps = export_cache(cache.info.path, tmp_path / "out", "webdataset")
    next(steps)
    steps.close()
    assert not (tmp_path / "out" / "README.md").exists()
    card = (export(cache, tmp_path / "whole", "webdataset") / "README.md").read_text()
    assert cache.info.digest in card
    assert "  - split: validation\n    path: events-val-*.tar\n" in card


def test_bad_input_is_one_line(cache, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    run = CliRunner().invoke
    path = str(cache.info.path)
    result = run(main, ["export", path, str(tmp_path / "full")])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith("full: not empty, expected a new folder; delete it, or give another")
    result = run(main, ["export", path, str(tmp_path / "x"), "--format", "zarr"])
    assert "format: found 'zarr', expected one of webdataset, parquet" in result.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SpecError, match=r"needs pyarrow; pip install 'tmkt\[parquet\]'"):
        next(export_cache(cache.info.path, tmp_path / "x", "parquet"))
    assert not (tmp_path / "x").exists()
    result = run(main, ["export", path, str(tmp_path / "x"), "--protocol", "mine"])
    assert result.exit_code == 1
    assert "found protocol 'mine'" in result.stderr
