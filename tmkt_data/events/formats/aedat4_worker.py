"""What the process does that reads AEDAT4 files for `aedat4`, with the package `aedat`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.formats.worker import Answer, limit_memory, serve_answers

_PIECE_BYTES = 2 << 30
"""Limit of the columns of a piece."""
_COLUMNS = (("t", "t", np.int64), ("x", "x", np.uint16), ("y", "y", np.uint16), ("p", "on", np.bool_))


def serve() -> None:
    """Answer questions until the input ends."""
    import aedat  # noqa: F401 - loaded before the first question, whose time is limited

    serve_answers(_answers)


def _answers(path: Path, question: list[Any]) -> Iterator[Answer | None]:
    """Yield the events of a stream, or of the first one that has some, all at once or in pieces and None at the end.

    Each answer also tells number, size and number of events of every event stream, and which was chosen; events are
    counted only where there are several streams.
    """
    num_events, stream = question
    limit_memory(path, 1 << 40 if num_events is None else _PIECE_BYTES)
    try:
        yield from _read(path, num_events, stream)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, EventError):
        raise
    except BaseException as broken:
        # On damaged files aedat raises RuntimeError and others, and panics, which do not derive from Exception.
        raise EventError(f"{path.name}: no readable AEDAT4 file ({broken}); fetch it again") from broken


def _read(path: Path, num_events: int | None, stream: int | None) -> Iterator[Answer | None]:
    import aedat

    decoder = aedat.Decoder(str(path))
    streams = {n: about for n, about in sorted(decoder.id_to_stream().items()) if about["type"] == "events"}
    if stream is not None and stream not in streams:
        known = " or ".join(map(str, streams)) or "none"
        raise EventError(
            f"{path.name}: stream: found {stream}, expected {known}, the event streams of the file; give one of them "
            "(--stream)"
        )
    counts: Counter[int] = Counter()
    if len(streams) > 1:
        for packet in decoder:
            if packet["stream_id"] in streams:
                counts[packet["stream_id"]] += len(packet["events"])
        decoder = aedat.Decoder(str(path))
    chosen = next((n for n in streams if counts[n] or len(streams) == 1), None) if stream is None else stream
    held: list[NDArray[Any]] = []
    num_held = 0
    about = [[n, streams[n]["width"], streams[n]["height"], counts[n]] for n in streams], chosen
    for packet in decoder:
        if chosen is None or packet["stream_id"] != chosen:
            continue
        held.append(packet["events"])
        num_held += len(packet["events"])
        if num_events is not None and num_held >= num_events:
            yield Answer(_joined(held), list(about))
            held, num_held = [], 0
    if num_events is None or num_held:
        yield Answer(_joined(held), list(about))
    if num_events is not None:
        yield None


def _joined(packets: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name: np.concatenate([np.empty(0, dtype), *(packet[field].astype(dtype) for packet in packets)])
        for name, field, dtype in _COLUMNS
    }
