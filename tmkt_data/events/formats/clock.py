"""Clocks of few bits: where the time of a recording has gone round, and how often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLACK_US = 20_000
"""By how much events may come late: around a wrap here, and from one piece to the next in `pieces`."""


class Clock:
    """Unwraps the times of one recording, which may come in pieces.

    A step back of more than half the range begins a new round. Two things are none: an event in the last 20 ms of a
    round that comes late, among the first 20 ms of the next, is counted to its own round; and a single event that lies
    far ahead of both its neighbors is damaged, which is no reason to move all that follow.

    Args:
        range_us: Where the clock begins anew: 2 to the power of its bits.

    Attributes:
        num_wraps: Rounds that have begun since the first event.

    Example:
        >>> import numpy as np
        >>> clock = Clock(1 << 23)
        >>> clock.unwrap(np.array([8_388_600, 4])).tolist(), clock.unwrap(np.array([9])).tolist(), clock.num_wraps
        ([8388600, 8388612], [8388617], 1)
    """

    def __init__(self, range_us: int) -> None:
        self._range = range_us
        self._last: NDArray[np.int64] = np.empty(0, np.int64)
        self.num_wraps = 0

    def unwrap(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the next times as if the clock had no end.

        Args:
            t: Times as the clock shows them, shape (N,), int64, 0 to `range_us` - 1, in the order of the file.

        Returns:
            Times, shape (N,), int64; `t` itself where no round has begun.
        """
        num_seen = len(self._last)
        times = np.concatenate([self._last, t])
        self._last = times[-2:].copy()
        begins = times[1:] < times[:-1] - self._range // 2
        if not len(t) or not (self.num_wraps or begins.any()):
            return t
        ahead = times[1:] > times[:-1] + self._range // 2
        late = ahead & (times[:-1] < SLACK_US) & (times[1:] >= self._range - SLACK_US)
        begins[1:] &= ~((ahead & ~late)[:-1] & (times[2:] >= times[:-2]))
        turns = np.zeros(len(times), np.int8)
        turns[1:] = begins.astype(np.int8) - late
        rounds = self.num_wraps + np.cumsum(turns[num_seen:], dtype=np.int64)
        rounds -= np.minimum(np.minimum.accumulate(rounds), 0)
        self.num_wraps = int(rounds[-1])
        unwrapped: NDArray[np.int64] = t + rounds * self._range
        return unwrapped
