"""Clocks of few bits: where the time of a recording wraps, and how often."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SLACK_US = 20_000
"""How late an event may come: around a wrap here, and from one piece to the next in `stream`."""


class Clock:
    """Unwrap the times of one recording, which may come in pieces.

    A step back of more than half the range is a wrap, with two exceptions. A late event of the last 20 ms before a
    wrap, among the first 20 ms after it, belongs before the wrap. A single event far ahead of both its neighbors is
    damaged, and the step back from it is no wrap.

    Args:
        range_us: Where the clock wraps: 2 to the power of its bits.

    Attributes:
        num_wraps: Number of wraps so far.
        num_new_wraps: By how much the last call of `unwrap` changed it.

    Example:
        >>> import numpy as np
        >>> clock = Clock(1 << 23)
        >>> clock.unwrap(np.array([8_388_600, 4])).tolist(), clock.unwrap(np.array([9])).tolist(), clock.num_wraps
        ([8388600, 8388612], [8388617], 1)
    """

    def __init__(self, range_us: int) -> None:
        self._range = range_us
        self._last: NDArray[np.int64] = np.empty(0, np.int64)
        self.num_wraps = self.num_new_wraps = 0

    def unwrap(self, t: NDArray[Any], least: int = 0) -> NDArray[Any]:
        """Unwrap the next times.

        Args:
            t: Times as the clock shows them, shape (N,), int64 or integers of 32 bits, `least` to
                `least + range_us - 1`, in the order of the file.
            least: The smallest time that the clock shows, the same in all calls.

        Returns:
            Times, shape (N,), int64; `t` itself, of its own type, where the clock has not wrapped so far.
        """
        self.num_new_wraps = 0
        if len(t) and not self.num_wraps and self._is_within_half(t):
            self._last = np.concatenate([self._last, t[-2:]])[-2:]
            return t
        num_seen = len(self._last)
        times = np.concatenate([self._last, t])
        self._last = times[-2:].copy()
        begins = times[1:] < times[:-1] - self._range // 2
        if not len(t) or not (self.num_wraps or begins.any()):
            return t
        ahead = times[1:] > times[:-1] + self._range // 2
        late = ahead & (times[:-1] < least + SLACK_US) & (times[1:] >= least + self._range - SLACK_US)
        begins[1:] &= ~((ahead & ~late)[:-1] & (times[2:] >= times[:-2]))
        turns = np.zeros(len(times), np.int8)
        turns[1:] = begins.astype(np.int8) - late
        wraps = self.num_wraps + np.cumsum(turns[num_seen:], dtype=np.int64)
        wraps -= np.minimum(np.minimum.accumulate(wraps), 0)
        self.num_new_wraps = int(wraps[-1]) - self.num_wraps
        self.num_wraps = int(wraps[-1])
        unwrapped: NDArray[np.int64] = t.astype(np.int64, copy=False) + wraps * self._range
        return unwrapped

    def _is_within_half(self, t: NDArray[Any]) -> bool:
        """Return whether the next times and the last ones lie too close for a wrap."""
        ends: list[int] = [int(t.min()), int(t.max()), *self._last.tolist()]
        return max(ends) - min(ends) <= self._range // 2


WORD_RANGE = 1 << 32
"""Where times that are integers of 32 bits wrap, in their unit: signed ones from the largest to the smallest."""


def unwrap_words(t: NDArray[Any], clock: Clock) -> NDArray[Any]:
    """Unwrap times that are integers of 32 bits; times of another type are returned as they are.

    Args:
        t: Times, shape (N,), in the order of the file.
        clock: Clock of `WORD_RANGE`; updated.

    Returns:
        Times, shape (N,), int64 where the clock has wrapped.

    Example:
        >>> import numpy as np
        >>> unwrap_words(np.array([2**31 - 2, -(2**31) + 3], np.int32), Clock(WORD_RANGE)).tolist()
        [2147483646, 2147483651]
    """
    if t.dtype.kind not in "iu" or t.dtype.itemsize != 4:
        return t
    return clock.unwrap(t, int(np.iinfo(t.dtype).min))
