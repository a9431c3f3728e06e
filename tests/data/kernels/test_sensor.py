"""The sensor model of the simulator; what it records is tested with `simulate_recording`."""

from __future__ import annotations

import numpy as np

from tmkt_data.kernels.sensor import sense_changes


def test_writes_no_more_than_there_is_room_for():
    num_steps, side = 20, 6
    brightness = np.random.default_rng(1).normal(0.0, 1.0, (side, side))
    steps = np.linspace(0.0, 3.0, num_steps + 1), np.linspace(0.0, 1.5, num_steps + 1)
    behavior = (1_000.0, 1.0, 0.0, 0.1, 100.0)
    threshold, keys = np.full(side * side, 0.1), np.arange(side * side, dtype=np.uint64)
    pixels = threshold, threshold, np.zeros(side * side), keys

    def run(room: int):
        # One guard element behind the room that the kernel is told of.
        out = [np.full(room + 1, fill, kind) for fill, kind in ((-7, "i8"), (999, "u2"), (999, "u2"), (0, "?"))]
        t, x, y, p = (column[:room] for column in out)
        return sense_changes(brightness, steps, (side, side), behavior, pixels, (t, x, y, p)), out

    count, whole = run(10_000)
    assert 100 < count < 10_000
    for room in (0, 1, count // 2, count):
        needed, cut = run(room)
        assert needed == count
        assert cut[0][room] == -7
        assert cut[1][room] == cut[2][room] == 999
        for short, full in zip(cut, whole, strict=True):
            assert (short[:room] == full[:room]).all()
