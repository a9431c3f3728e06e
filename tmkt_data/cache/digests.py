"""Digest of a cache file: SHA-256 over the SHA-256 of its pieces, hashed in any order by several threads."""

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
    """Digests of the pieces of a file being written, numbered from the end of the leading block."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def note(self, data: memoryview, at: int) -> None:
        """Hash the pieces fully covered by a write at offset `at`; discard the digests of partly covered ones."""
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
        """Return the digest of a file, 64 hexadecimal digits, reading pieces without a known digest.

        Args:
            handle: The file, opened unbuffered.
            threads: Number of hashing threads.

        Raises:
            OSError: The file cannot be read.
        """
        for _ in self.fill(handle, threads=threads):
            pass
        return hashlib.sha256(b"".join(digest for _, digest in sorted(self._digests.items()))).hexdigest()

    def fill(self, handle: IO[bytes], *, threads: int = _THREADS) -> Iterator[int]:
        """Read and hash pieces without a known digest, yielding the number done; errors as in `total`."""
        missing = [piece for piece in range(num_pieces(handle)) if piece not in self._digests]
        done = len(self._digests)
        lock = threading.Lock()

        def digest_of(piece: int) -> bytes:
            # All threads share one file position: not every system supports reading at an offset.
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
            # A caller that stops early does not wait for the rest of a large file.
            pool.shutdown(wait=True, cancel_futures=True)


def num_pieces(handle: IO[bytes]) -> int:
    """Return the number of pieces of an open file."""
    return -(-(os.fstat(handle.fileno()).st_size - LEADING_BYTES) // PIECE_BYTES)
