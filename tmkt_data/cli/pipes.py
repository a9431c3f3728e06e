"""Standard output and error whose reader may leave before the end, as `| head` does."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Pipe(io.FileIO):
    """A file descriptor that drops what is written once nobody reads it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(memoryview(data).cast("B"))


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Drop output that nobody reads any more: the command goes on, and exits as it would have.

    Streams that were replaced, as tests do, are left as they are.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _tolerant(sys.stdout, sys.__stdout__), _tolerant(sys.stderr, sys.__stderr__)
    try:
        yield
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper) and not stream.closed:
                    stream.flush()
        finally:
            sys.stdout, sys.stderr = before


def _tolerant(stream: Any, original: Any) -> Any:
    if stream is None or stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering,
    )  # fmt: skip
