"""The digest of a file is that of its pieces, in whatever order and however often they were written."""

import hashlib

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
