from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.errors import PairingError
from tmkt_data.pairs.pools import ImagePools, draw_same_class, require_images, require_twins


def pools(allowed=None) -> ImagePools:
    labels = np.array([0, 1, 0, 2, 1, 0])
    return ImagePools.of(labels, np.flatnonzero(np.ones(6, bool) if allowed is None else np.array(allowed)), 4)


def draw(count: int, label: int = 0, **options) -> np.ndarray:
    settings = {"seed": 0, "epoch": 0} | options
    uids = np.arange(count, dtype=np.uint64)
    return draw_same_class(pools(), np.full(count, label), uids, np.zeros(count, np.int64), **settings)


def test_pools_group_allowed_rows_by_class():
    assert pools().rows.tolist() == [0, 2, 5, 1, 4, 3]
    assert pools().sizes().tolist() == [3, 2, 1, 0]
    assert pools([True, False, True, False, False, False]).rows.tolist() == [0, 2]


def test_a_draw_never_leaves_the_pool_of_its_class_and_reaches_all_of_it():
    assert set(draw(2000).tolist()) == {0, 2, 5}
    assert set(draw(2000, label=1).tolist()) == {1, 4}


def test_draws_are_uniform():
    counts = np.bincount(draw(30_000), minlength=6)[[0, 2, 5]]
    assert (np.abs(counts - 10_000) < 4 * np.sqrt(30_000 * 2 / 9)).all()


def test_a_draw_depends_on_its_own_words_only():
    whole = draw(100)
    np.testing.assert_array_equal(whole[:10], draw(10))
    assert (whole != draw(100, epoch=1)).any()
    assert (whole != draw(100, seed=1)).any()
    again = draw_same_class(
        pools(), np.zeros(100, np.int64), np.arange(100, dtype=np.uint64), np.ones(100, np.int64), seed=0, epoch=0
    )
    assert (whole != again).any()


def test_a_class_without_images_is_named():
    with pytest.raises(PairingError, match=r"^x.h5: train has recordings of d but no images of that class"):
        require_images(pools(), np.array([0, 3]), ("a", "b", "c", "d"), place="x.h5", split="train")
    require_images(pools(), np.array([0, 1, 2]), ("a", "b", "c", "d"), place="x.h5", split="train")


def test_a_recording_without_twin_is_named():
    with pytest.raises(PairingError, match=r"1 of 2 recordings of val have no twin image, such as a/2; use pairing"):
        require_twins(np.array([4, -1]), ["a/1", "a/2"], place="x.h5", split="val")
