import numpy as np

from tmkt_train.report.classes import switch_step, worst_confusions

NUM_STEPS = 4


def test_switch_step_reads_the_mixed_row():
    rng = np.random.default_rng(1)
    image, events = rng.random((2, NUM_STEPS, 3, 3, 3), np.float32)
    for t in range(1, NUM_STEPS + 2):
        mixed = np.concatenate([image[: t - 1], events[t - 1 :]])
        assert switch_step(np.stack([image, image, events, mixed])) == t
    back = np.concatenate([events[:1], image[1:]])
    assert switch_step(np.stack([image, image, events, back])) is None
    assert switch_step(np.stack([image, image, image, image])) is None


def test_worst_confusions_are_sorted_and_leave_out_hits():
    counts = np.array([[5, 1, 0], [3, 5, 1], [0, 0, 5]])
    assert worst_confusions(counts, 5) == [(1, 0, 3), (0, 1, 1), (1, 2, 1)]
