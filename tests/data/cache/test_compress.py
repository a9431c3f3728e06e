"""A compressed cache has the content, the digest and the samples of the one it was made of."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import build

from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.format import FrameArray, row_pieces
from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.cache.verify import verify_cache
from tmkt_data.cli.main import main
from tmkt_data.errors import CacheError
from tmkt_data.pairs.paired_frames import PairedFrames


def compress(path: Path, out: Path, *, undo: bool = False) -> Path:
    for _ in compress_cache(path, out, undo=undo):
        pass
    return out


@pytest.fixture(scope="module")
def compressed(nmnist_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compress(nmnist_cache, tmp_path_factory.mktemp("compressed") / "small.h5")


@pytest.mark.parametrize("choices", [{}, {"resize": "bilinear", "canvas": "tight"}, {"bake": "poisson"}])
def test_there_and_back_is_the_same_file(nmnist_root, tmp_path, choices):
    path = build("nmnist", nmnist_root, tmp_path / "a.h5", **choices)
    # A source that is changed between the two is still newer than the cache.
    os.utime(path, (10**9, 10**9))
    small = compress(path, tmp_path / "small.h5")
    back = compress(small, tmp_path / "back.h5", undo=True)
    assert small.stat().st_size < path.stat().st_size / 2
    assert read_cache_info(small).digest == read_cache_info(path).digest
    assert back.read_bytes() == path.read_bytes()
    assert small.stat().st_mtime == back.stat().st_mtime == 10**9
    assert small.read_bytes() == compress(path, tmp_path / "again.h5").read_bytes()
    one, other = Cache(path), Cache(small)
    rows = np.array([5, 3, 3, 59, 0])
    np.testing.assert_array_equal(one.event_frames(rows), other.event_frames(rows))
    np.testing.assert_array_equal(one.image_frames(rows), other.image_frames(rows))
    if choices.get("bake"):
        np.testing.assert_array_equal(one.image_spikes(rows), other.image_spikes(rows))
    assert list(verify_cache(small))[-1][0] == small.stat().st_size


def test_large_rows_are_handled_a_few_at_a_time():
    large = FrameArray("events/frames", (5, 10, 2, 1024, 1024), np.dtype(np.uint8))
    assert [rows.tolist() for rows in row_pieces(large, 256)] == [[0, 1, 2], [3, 4]]
    assert [len(rows) for rows in row_pieces(large._replace(shape=(600, 10, 2, 34, 34)), 256)] == [256, 256, 88]


def test_samples_are_the_same(nmnist_cache, compressed):
    one, other = (PairedFrames(path, "train", encoder="poisson", seed=3) for path in (nmnist_cache, compressed))
    for left, right in zip(one.read([4, 1, 1]), other.read([4, 1, 1]), strict=True):
        np.testing.assert_array_equal(left, right)


def _sum(frames: PairedFrames) -> float:
    return float(frames[2].events.sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_reads_in_other_processes(compressed, method):
    frames = PairedFrames(compressed, "train")
    here = _sum(frames)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_sum, [frames, frames]) == [here, here]
    assert _sum(frames) == here


def test_a_damaged_row_is_named(compressed, tmp_path):
    with h5py.File(compressed) as file:
        where = file["events/frames"].id.get_chunk_info(7)
    data = bytearray(compressed.read_bytes())
    for at in range(where.byte_offset + 6, where.byte_offset + where.size):
        data[at] ^= 0x55
    (tmp_path / "bad.h5").write_bytes(data)
    cache = Cache(tmp_path / "bad.h5")
    assert cache.event_frames([6]).any()
    with pytest.raises(CacheError, match=r"^bad\.h5: row 7 of events/frames (cannot be read|was changed)"):
        cache.event_frames([7])
    with pytest.raises(CacheError, match="row 7 of events/frames"):
        compress(tmp_path / "bad.h5", tmp_path / "back.h5", undo=True)
    assert not (tmp_path / "back.h5").exists()


def test_a_missing_library_is_one_line(compressed, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(CacheError, match=r"compressed caches need hdf5plugin; pip install 'tmkt\[hdf5\]'$"):
        Cache(compressed)


def test_other_pieces_are_refused(nmnist_cache, tmp_path):
    path = tmp_path / "odd.h5"
    path.write_bytes(nmnist_cache.read_bytes())
    with h5py.File(path, "r+") as file:
        frames = file["events/frames"][:]
        del file["events/frames"]
        file.create_dataset("events/frames", data=frames, chunks=(5, *frames.shape[1:]), compression="gzip")
    data = bytearray(path.read_bytes())
    from tmkt_data.cache.format import LEADING_BYTES, decode_leading_block, encode_leading_block

    block = decode_leading_block(bytes(data[:LEADING_BYTES]), "x")._replace(num_bytes=len(data))
    data[:LEADING_BYTES] = encode_leading_block(block)
    path.write_bytes(data)
    with pytest.raises(CacheError, match=r"odd\.h5: events/frames has chunks of \(5, 10, 2, 34, 34\)"):
        Cache(path)


def test_the_command_says_what_it_saved(nmnist_cache, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(nmnist_cache.read_bytes())
    done = CliRunner().invoke(main, ["compress", str(path)])
    assert done.exit_code == 0, done.output
    assert "a.zstd.h5: " in done.output
    assert "ratio" in done.output
    again = CliRunner().invoke(main, ["compress", str(path)])
    assert again.exit_code == 1
    assert "a.zstd.h5: already exists; remove it or give another --out" in again.output
    back = CliRunner().invoke(main, ["compress", str(tmp_path / "a.zstd.h5"), "--undo"])
    assert back.exit_code == 0, back.output
    assert (tmp_path / "a.plain.h5").read_bytes() == path.read_bytes()


def test_what_a_killed_run_left_is_removed_and_two_do_not_write_one_file(nmnist_cache, tmp_path):
    out = tmp_path / "small.h5"
    code = (
        "import os, signal, sys\nfrom tmkt_data.cache.compress import compress_cache\n"
        "steps = compress_cache(sys.argv[1], sys.argv[2])\nnext(steps)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(nmnist_cache), str(out)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    writing = compress_cache(nmnist_cache, out)
    next(writing)
    with pytest.raises(CacheError, match=r"small\.h5: another process is writing it; wait for it to end"):
        compress(nmnist_cache, out)
    for _ in writing:
        pass
    assert list(tmp_path.iterdir()) == [out]
    assert read_cache_info(out).digest == read_cache_info(nmnist_cache).digest


@pytest.mark.parametrize("storage", ["contiguous", "compressed"])
def test_a_lock_on_the_file_is_no_damage(nmnist_cache, compressed, tmp_path, storage):
    path = Path(shutil.copy(nmnist_cache if storage == "contiguous" else compressed, tmp_path / "a.h5"))
    command = [sys.executable, "-m", "tmkt_data", "verify", str(path)]
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        # With this variable HDF5 asks for its lock, whatever it is told.
        asking = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
        refused = subprocess.run(command, capture_output=True, text=True, check=False, env=asking)
    assert refused.returncode == 1
    assert "cannot be read ([Errno 11]" in refused.stderr
    assert "damaged" not in refused.stderr


def test_others_in_the_process_may_have_the_file_open(compressed):
    rows = np.arange(3)
    for locking in (None, False):
        with h5py.File(compressed, "r", locking=locking) as file:
            cache = Cache(compressed)
            np.testing.assert_array_equal(cache.event_frames(rows), file["events/frames"][:3])
        del cache
    held = Cache(compressed)
    held.event_frames(rows)
    with h5py.File(compressed, "r") as file:
        assert file["events/frames"].shape[0] > 3
