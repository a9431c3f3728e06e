from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.errors import PairingError, SpecError
from tmkt_data.pairs.pools import ImagePools, choose_images, draw_same_class, require_images, require_twins


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


def test_every_class_without_images_counts_and_five_are_named():
    labels, names = np.arange(8), tuple("abcdefgh")
    none = ImagePools.of(np.zeros(1, np.int64), np.array([0]), 8)
    with pytest.raises(PairingError) as found:
        require_images(none, labels, names, place="x.h5", split="val")
    assert str(found.value) == (
        "x.h5: val has recordings of b, c, d, e, f and 2 more but no images of that class; "
        "add images and prepare again, or train event-only"
    )
    with pytest.raises(PairingError, match=r"^x.h5: val has recordings of b, c, d, e, f but no images of that class; "):
        require_images(none, labels[:6], names, place="x.h5", split="val")
    with pytest.raises(PairingError, match=r"^x.h5: val has recordings of b, c, d, e, f and 1 more but no images of "):
        require_images(none, labels[:7], names, place="x.h5", split="val")


def test_a_twin_in_row_0_is_a_twin():
    require_twins(np.array([0, 4]), ["a/1", "a/2"], place="x.h5", split="val")


def test_draws_are_those_of_before():
    # A recipe with the same seed shows each recording the same images.
    assert draw(12).tolist() == [2, 2, 0, 2, 5, 2, 0, 0, 2, 5, 5, 0]
    assert draw(12, seed=3, epoch=2).tolist() == [5, 2, 2, 2, 2, 0, 2, 0, 0, 2, 2, 5]


CHOICE = {"labels": np.repeat([0, 1, 2], [4, 3, 2]), "ids": tuple(f"c/{number}" for number in range(9)), "seed": 0}


def chosen(pool: str, classes=(0, 1, 2), **options) -> list[int]:
    in_split = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1], bool)
    return choose_images(pool, in_split, **(CHOICE | options), classes=np.array(classes)).tolist()


def test_pool_of_the_split_and_of_all():
    assert chosen("split") == [0, 1, 4, 8]
    assert chosen("all") == list(range(9))
    assert chosen("all", classes=(0, 2)) == [0, 1, 2, 3, 7, 8]


def test_pool_of_an_unsorted_listing_has_as_many_of_each_class_as_the_split():
    drawn = [chosen("shuffled-prefix", seed=seed) for seed in range(20)]
    assert all(np.bincount(CHOICE["labels"][rows]).tolist() == [2, 1, 1] for rows in drawn)
    assert {row for rows in drawn for row in rows} == set(range(9))
    assert all(CHOICE["labels"][row] != 1 for row in chosen("shuffled-prefix", classes=(0, 2)))


def test_of_a_class_that_the_split_lacks_an_unsorted_listing_gives_none():
    for missing in (0, 1, 2):
        in_split = CHOICE["labels"] != missing
        rows = choose_images("shuffled-prefix", in_split, **CHOICE, classes=np.arange(3))
        assert rows.tolist() == np.flatnonzero(in_split).tolist()


def test_a_dataset_of_one_class_and_one_without_images_have_pools():
    one = {"labels": np.zeros(3, np.int64), "ids": ("c/0", "c/1", "c/2"), "seed": 0, "classes": np.array([0])}
    assert choose_images("shuffled-prefix", np.zeros(3, bool), **one).tolist() == []
    assert choose_images("shuffled-prefix", np.ones(3, bool), **one).tolist() == [0, 1, 2]
    none = one | {"labels": np.zeros(0, np.int64), "ids": ()}
    assert choose_images("shuffled-prefix", np.zeros(0, bool), **none).tolist() == []


def test_an_unknown_pool_is_one_line():
    with pytest.raises(SpecError, match=r"^image pool: found 'some', expected one of split, all, shuffled-prefix$"):
        chosen("some")
