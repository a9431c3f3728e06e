from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.errors import SpecError
from tmkt_data.pairs.subsets import draw_classes, draw_images, keep_images, keep_recordings

ROWS = np.arange(12)
LABELS = np.repeat([0, 1, 2], [6, 4, 2])
IDS = tuple(f"c{label}/{number:02d}" for number, label in enumerate(LABELS))


def kept(rows=ROWS, seed=0, **options) -> list[int]:
    return keep_recordings(rows, LABELS, IDS, seed=seed, **options).tolist()


def test_subsets_are_those_of_before():
    # A recipe with the same seed trains on the same recordings.
    assert kept(per_class=2) == [3, 4, 7, 9, 10, 11]
    assert kept(per_class=3) == [0, 3, 4, 6, 7, 9, 10, 11]
    assert kept(per_class=2, seed=1) == [0, 2, 8, 9, 10, 11]
    assert kept(share=0.5) == [0, 3, 4, 7, 9, 10]
    assert keep_images(ROWS, LABELS, IDS, seed=0, share=0.5).tolist() == [0, 3, 5, 6, 8, 11]
    assert draw_images(ROWS, LABELS, IDS, np.array([1, 3, 0]), seed=0).tolist() == [1, 6, 7, 9]
    assert draw_classes(10, 3, seed=0).tolist() == [1, 6, 9]
    assert draw_classes(5, 3, seed=1).tolist() == [0, 1, 2]


def test_without_options_every_recording_is_kept():
    assert kept() == kept(share=1.0) == ROWS.tolist()


def test_of_each_class_at_least_one_is_kept():
    assert np.bincount(LABELS[kept(share=0.01)]).tolist() == [1, 1, 1]
    # round(0.4 * n) of 6, 4 and 2.
    assert np.bincount(LABELS[kept(share=0.4)]).tolist() == [2, 2, 1]


def test_only_given_rows_are_kept():
    assert kept(ROWS[6:], per_class=2) == [7, 9, 10, 11]
    assert kept(ROWS[6:], share=0.5) == [7, 9, 10]
    assert kept(ROWS[:0], per_class=2) == kept(ROWS[:0], share=0.5) == []


def test_a_row_is_kept_whoever_else_is_there():
    few = set(kept(per_class=1))
    assert few & set(ROWS[6:].tolist()) == set(kept(ROWS[6:], per_class=1))


def test_no_class_is_held_out():
    assert draw_classes(10, 0, seed=0).tolist() == draw_classes(1, 0, seed=0).tolist() == []
    assert len(draw_classes(10, 8, seed=0)) == 8


@pytest.mark.parametrize(("num_classes", "count", "most"), [(10, 9, 8), (10, -1, 8), (2, 1, 0)])
def test_two_classes_have_to_be_left(num_classes, count, most):
    with pytest.raises(SpecError, match=rf"^held-out classes: found {count} of {num_classes}, expected 0 to {most}$"):
        draw_classes(num_classes, count, seed=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"per_class": 0}, r"^recordings per class: found 0, expected 1 or more, or None for all$"),
        (
            {"per_class": 2, "share": 0.5},
            r"^event share: found 0\.5 with 2 recordings per class; give only one of them$",
        ),
        ({"share": 0.0}, r"^event share: found 0\.0, expected above 0 and at most 1$"),
        ({"share": 1.5}, r"^event share: found 1\.5, expected above 0 and at most 1$"),
    ],
)
def test_values_out_of_range_are_one_line(options, text):
    with pytest.raises(SpecError, match=text):
        kept(**options)
    assert len(kept(per_class=1)) == 3


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01])
def test_a_share_of_images_is_above_0_and_at_most_1(share):
    with pytest.raises(SpecError, match=rf"^image share: found {share}, expected above 0 and at most 1$"):
        keep_images(ROWS, LABELS, IDS, seed=0, share=share)
