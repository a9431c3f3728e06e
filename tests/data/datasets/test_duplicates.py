"""Content that is in two splits under two names: found, counted, refused or kept together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data.datasets.duplicates import Duplicates, SideContents, equal_rows, find_duplicates, keep_together
from tmkt_data.datasets.splits import SplitCode

TRAIN, VAL, TEST, UNUSED = SplitCode.TRAIN, SplitCode.VAL, SplitCode.TEST, SplitCode.UNUSED
NO_SIDE = SideContents(np.zeros(0, "S1"), np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint8))


def side(digests, codes, sizes=None):
    ids = np.array([f"a/{row:03d}" for row in range(len(codes))], "S5")
    sizes = np.full(len(codes), 5) if sizes is None else np.array(sizes)
    return SideContents(ids, sizes, np.array(digests, np.uint64), np.array(codes, np.uint8))


def same(one, other):
    return [rows.tolist() for rows in one] == other


def test_equal_content_is_of_equal_size_and_digest():
    assert same(equal_rows(np.array([5, 5, 6, 5, 6]), np.array([1, 2, 1, 1, 1], np.uint64)), [[0, 3], [2, 4]])
    assert not equal_rows(np.zeros(0, np.int64), np.zeros(0, np.uint64))
    assert not equal_rows(np.arange(4), np.zeros(4, np.uint64))


def test_samples_of_val_and_test_with_a_copy_in_an_earlier_split_are_counted_once():
    events = side([1, 1, 1, 2, 2, 3, 3, 4, 4], [TEST, TRAIN, TEST, VAL, TEST, TRAIN, TRAIN, UNUSED, TEST])
    images = side([7, 7], [TRAIN, VAL])
    found = find_duplicates(events, images)
    assert found == Duplicates(
        recordings=3,
        images=1,
        examples=("recording a/000 (test) = a/001 (train)", "recording a/004 (test) = a/003 (val)"),
        repeated_recordings=9,
        repeated_images=2,
    )
    assert found.text == (
        "3 recordings and 1 image of val or test have the content of one in another split, such as recording a/000 "
        "(test) = a/001 (train), recording a/004 (test) = a/003 (val)"
    )
    one = find_duplicates(NO_SIDE, images)
    assert one.text == (
        "1 image of val or test has the content of one in another split, such as image a/001 (val) = a/000 (train)"
    )
    assert not find_duplicates(NO_SIDE, NO_SIDE).text


def moved(events, images, twins, published=False):
    is_published = np.full(len(events.ids), published)
    return [codes.tolist() for codes in keep_together(events, images, np.array(twins), is_published=is_published)]


def test_copies_go_to_the_split_of_the_first_with_their_twins():
    events = side([1, 2, 1, 3], [VAL, TRAIN, TEST, TEST])
    images = side([5, 6, 7, 8], events.codes)
    assert moved(events, images, [0, 1, 2, 3]) == [[VAL, TRAIN, VAL, TEST]] * 2


def test_equal_images_move_their_recordings_and_images_without_one():
    events = side([1, 2, 3], [TEST, TRAIN, TRAIN])
    images = side([5, 5, 7, 5], [TEST, TRAIN, TRAIN, TRAIN])
    assert moved(events, images, [0, 1, 2]) == [[TEST, TEST, TRAIN], [TEST, TEST, TRAIN, TEST]]


def test_published_test_samples_stay_and_what_no_split_uses_stays_so():
    events = side([1, 1, 1, 2], [TRAIN, TEST, UNUSED, UNUSED])
    assert moved(events, NO_SIDE, [-1] * 4, published=True)[0] == [TEST, TEST, UNUSED, UNUSED]
    assert moved(events, NO_SIDE, [-1] * 4)[0] == [TRAIN, TRAIN, UNUSED, UNUSED]


@given(data=st.data())
def test_nothing_crosses_afterwards_and_nothing_else_moves(data):
    num = data.draw(st.integers(0, 12))
    digests, codes = (data.draw(st.lists(st.integers(0, 3), min_size=num, max_size=num)) for _ in range(2))
    events = side([*digests], codes)
    twins = np.array(data.draw(st.permutations(range(num))), np.int64)
    image_codes = np.zeros(num, np.uint8)
    image_codes[twins] = codes
    images = side(data.draw(st.lists(st.integers(0, 30), min_size=num, max_size=num)), image_codes)
    is_published = np.array(data.draw(st.lists(st.booleans(), min_size=num, max_size=num)), bool)
    new = keep_together(events, images, twins, is_published=is_published)
    # Samples outside every split are not linked by what they hold.
    if UNUSED not in codes:
        assert not find_duplicates(events._replace(codes=new[0]), images._replace(codes=new[1])).text
        assert (new[1][twins] == new[0]).all()
    alone = np.ones(num, bool)
    for rows in equal_rows(events.sizes, events.digests):
        alone[rows] = False
    linked = {row for rows in equal_rows(images.sizes, images.digests) for row in rows.tolist()}
    alone &= np.array([image not in linked for image in twins.tolist()], bool)
    assert (new[0][alone] == events.codes[alone]).all()


@pytest.mark.parametrize("num", [0, 1])
def test_without_duplicates_all_stays(num):
    events = side([1] * num, [TEST] * num)
    assert moved(events, NO_SIDE, [-1] * num)[0] == [TEST] * num
