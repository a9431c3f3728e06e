"""The digest of a cache file: SHA-256 over the SHA-256s of its pieces, which are hashed in any order, in threads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from tmkt_data.cache.format import LEADING_BYTES

PIECE_BYTES = 1 << 20
_THREADS = min(4, os.cpu_count() or 1)


class PieceDigests:
    """Digests of the pieces of a file that is being written; pieces are counted from the end of the leading block."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def note(self, data: memoryview, at: int) -> None:
        """Hash the pieces that lie entirely in bytes that are written at offset `at`; forget those that lie partly."""
        first, last = at - LEADING_BYTES, at - LEADING_BYTES + len(data)
        whole = range(-(-first // PIECE_BYTES), last // PIECE_BYTES)
        found = {
            piece: hashlib.sha256(data[piece * PIECE_BYTES - first : (piece + 1) * PIECE_BYTES - first]).digest()
            for piece in whole
        }
        with self._lock:
            for piece in range(first // PIECE_BYTES, -(-last // PIECE_BYTES)):
                self._digests.pop(piece, None)
            self._digests |= found

    def total(self, handle: IO[bytes], *, threads: int = _THREADS) -> str:
        """Return the digest of a file, 64 hexadecimal digits; pieces whose digest is not known are read.

        Args:
            handle: The file, opened unbuffered.
            threads: Number of threads that hash.

        Raises:
            OSError: It cannot be read.
        """
        for _ in self.fill(handle, threads=threads):
            pass
        return hashlib.sha256(b"".join(digest for _, digest in sorted(self._digests.items()))).hexdigest()

    def fill(self, handle: IO[bytes], *, threads: int = _THREADS) -> Iterator[int]:
        """Read and hash the pieces whose digest is not known, yielding how many are done; errors as `total`."""
        missing = [piece for piece in range(num_pieces(handle)) if piece not in self._digests]
        done = len(self._digests)
        lock = threading.Lock()

        def digest_of(piece: int) -> bytes:
            # One file position for all threads, as not every system can read at a given offset.
            with lock:
                handle.seek(LEADING_BYTES + piece * PIECE_BYTES)
                data = handle.read(PIECE_BYTES)
            return hashlib.sha256(data).digest()

        pool = ThreadPoolExecutor(threads)
        try:
            for piece, digest in zip(missing, pool.map(digest_of, missing), strict=True):
                self._digests[piece] = digest
                done += 1
                yield done
        finally:
            # A caller that stops early need not wait for the rest of a large file.
            pool.shutdown(wait=True, cancel_futures=True)


def num_pieces(handle: IO[bytes]) -> int:
    """Return the number of pieces of an open file."""
    return -(-(os.fstat(handle.fileno()).st_size - LEADING_BYTES) // PIECE_BYTES)
