"""The words that decide Poisson spikes, one after the other on standard output, for a test of random numbers.

    python benchmarks/random_stream.py | dieharder -a -g 200
    python benchmarks/random_stream.py 1 | dieharder -a -g 200     # another seed

Words come as they are used: for one sample after the other, its 20 frames of 48 x 48, the counters of each in order.
"""

from __future__ import annotations

import sys

import numba
import numpy as np

from tmkt_data.kernels.poisson import random_words
from tmkt_data.random_keys import Purpose, draw_key

FRAMES, COUNTERS, SAMPLES = 20, 48 * 48 // 8, 64


@numba.njit
def fill(keys: np.ndarray, out: np.ndarray) -> None:
    """Write the words of some samples, shape (B, F, counters, 4), uint32."""
    for sample in range(out.shape[0]):
        low, high = np.uint32(keys[sample] & np.uint64(0xFFFFFFFF)), np.uint32(keys[sample] >> np.uint64(32))
        for frame in range(out.shape[1]):
            for counter in range(out.shape[2]):
                words = random_words(np.uint32(counter), np.uint32(frame), low, high)
                for k in range(4):
                    out[sample, frame, counter, k] = words[k]


def main() -> None:
    """Write until nobody reads any more."""
    out = np.empty((SAMPLES, FRAMES, COUNTERS, 4), np.uint32)
    seed, first = int(sys.argv[1]) if len(sys.argv) > 1 else 0, 0
    try:
        while True:
            samples = np.arange(first, first + SAMPLES, dtype=np.uint64)
            fill(draw_key(seed, 0, samples, 0, Purpose.POISSON), out)
            sys.stdout.buffer.write(out.data)
            first += SAMPLES
    except BrokenPipeError:
        sys.stderr.close()


if __name__ == "__main__":
    main()
