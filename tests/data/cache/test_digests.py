"""The digest of a file is that of its pieces, in whatever order and however often they were written."""

import hashlib
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.cache import digests as pieces
from tmkt_data.cache.format import LEADING_BYTES

PIECE = 16
WRITES = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 60)), max_size=12)


@settings(deadline=None)
@given(size=st.integers(0, 200), writes=WRITES, threads=st.integers(1, 3))
def test_pieces_that_were_noted_and_pieces_that_are_read_make_one_digest(size, writes, threads, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", PIECE)
        check(size, writes, threads, tmp_path_factory.mktemp("pieces") / "file")


def check(size, writes, threads, path):
    rng = np.random.default_rng(size)
    data = bytearray(rng.bytes(LEADING_BYTES + size))
    digests = pieces.PieceDigests()
    for at, count in writes:
        new = rng.bytes(min(count, max(0, size - at)))
        data[LEADING_BYTES + at : LEADING_BYTES + at + len(new)] = new
        if new:
            digests.note(memoryview(new), LEADING_BYTES + at)
    path.write_bytes(data)
    behind = bytes(data[LEADING_BYTES:])
    each = [hashlib.sha256(behind[at : at + PIECE]).digest() for at in range(0, size, PIECE)]
    with path.open("rb", buffering=0) as handle:
        assert pieces.num_pieces(handle) == len(each)
        assert digests.total(handle, threads=threads) == hashlib.sha256(b"".join(each)).hexdigest()


def of_pieces(data: bytes, size: int) -> str:
    each = [hashlib.sha256(data[at : at + size]).digest() for at in range(0, len(data), size)]
    return hashlib.sha256(b"".join(each)).hexdigest()


def test_a_piece_is_a_mebibyte(tmp_path):
    data = np.random.default_rng(0).bytes(5 << 19)
    (tmp_path / "file").write_bytes(bytes(512) + data)
    with (tmp_path / "file").open("rb", buffering=0) as handle:
        assert pieces.PieceDigests().total(handle) == of_pieces(data, 1_048_576)


def known(writes, tmp_path, monkeypatch) -> set[int]:
    """Return which of four pieces are not read again after writes of (offset, bytes)."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", PIECE)
    data, found = np.random.default_rng(0).bytes(4 * PIECE), set()
    for piece in range(4):
        digests = pieces.PieceDigests()
        for at, count in writes:
            digests.note(memoryview(data)[at : at + count], LEADING_BYTES + at)
        changed = bytearray(data)
        changed[piece * PIECE + 3] ^= 1
        (tmp_path / "file").write_bytes(bytes(LEADING_BYTES) + changed)
        with (tmp_path / "file").open("rb", buffering=0) as handle:
            if digests.total(handle) == of_pieces(data, PIECE):
                found.add(piece)
    return found


@pytest.mark.parametrize(
    ("at", "count", "pieces_of_it"),
    [
        (0, 64, {0, 1, 2, 3}),
        (16, 32, {1, 2}),
        (16, 16, {1}),
        (5, 42, {1}),
        (5, 43, {1, 2}),
        (17, 30, set()),
        (0, 15, set()),
    ],
)
def test_pieces_that_a_write_covers_are_those_of_the_write(at, count, pieces_of_it, tmp_path, monkeypatch):
    assert known([(at, count)], tmp_path, monkeypatch) == pieces_of_it


@pytest.mark.parametrize(
    ("at", "count", "rest"),
    [
        (20, 4, {0, 2, 3}),
        (16, 8, {0, 2, 3}),
        (24, 8, {0, 2, 3}),
        (31, 2, {0, 3}),
        (0, 1, {1, 2, 3}),
        (63, 1, {0, 1, 2}),
    ],
)
def test_a_later_write_forgets_the_pieces_that_it_covers_in_part(at, count, rest, tmp_path, monkeypatch):
    assert known([(0, 64), (at, count)], tmp_path, monkeypatch) == rest


def test_the_number_of_pieces_that_are_done_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", PIECE)
    data = bytes(5 * PIECE)
    (tmp_path / "file").write_bytes(bytes(LEADING_BYTES) + data)
    digests = pieces.PieceDigests()
    digests.note(memoryview(data)[: 2 * PIECE], LEADING_BYTES)
    with (tmp_path / "file").open("rb", buffering=0) as handle:
        assert list(digests.fill(handle, threads=2)) == [3, 4, 5]
        assert list(digests.fill(handle)) == []


class SlowDisk:
    """A file of which each read takes 0.2 s; counts the reads."""

    def __init__(self, handle):
        self.handle, self.num_reads = handle, 0

    def fileno(self):
        return self.handle.fileno()

    def seek(self, at):
        return self.handle.seek(at)

    def read(self, count):
        self.num_reads += 1
        time.sleep(0.2)
        return self.handle.read(count)


def test_who_stops_early_waits_for_no_more_than_is_being_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", PIECE)
    (tmp_path / "file").write_bytes(bytes(LEADING_BYTES + 500 * PIECE))
    before = threading.active_count()
    with (tmp_path / "file").open("rb", buffering=0) as handle:
        disk = SlowDisk(handle)
        done = pieces.PieceDigests().fill(disk, threads=2)
        assert next(done) == 1
        done.close()
        assert threading.active_count() == before
        assert disk.num_reads < 10
