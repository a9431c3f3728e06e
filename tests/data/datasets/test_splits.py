from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data.datasets.ncaltech101 import NUM_RECORDINGS
from tmkt_data.datasets.splits import (
    SPLIT_CODES,
    SPLIT_RULES,
    SplitCode,
    SplitRule,
    split_digest,
    split_images,
    split_recordings,
)
from tmkt_data.errors import SpecError


def ncaltech() -> tuple[list[str], np.ndarray]:
    pairs = [
        (f"{name}/image_{number:04d}", label)
        for label, (name, count) in enumerate(NUM_RECORDINGS.items())
        for number in range(1, count + 1)
    ]
    pairs.sort(key=lambda pair: pair[0].encode())
    return [pair[0] for pair in pairs], np.array([pair[1] for pair in pairs])


def count(codes: np.ndarray) -> tuple[int, int, int]:
    return tuple(int((codes == code).sum()) for code in (SplitCode.TRAIN, SplitCode.VAL, SplitCode.TEST))


def split(ids, labels, protocol="twin-disjoint", layout="prefix", parts=None, **options):
    return split_recordings(ids, labels, parts or [""] * len(ids), SplitRule(protocol, layout, **options))


def test_ncaltech101_has_the_published_counts():
    ids, labels = ncaltech()
    assert len(ids) == 8709
    assert len(NUM_RECORDINGS) == 101
    assert list(NUM_RECORDINGS) == sorted(NUM_RECORDINGS, key=str.encode)
    assert count(split(ids, labels, "kt-paper")) == (7839, 0, 870)
    assert count(split(ids, labels)) == (6968, 871, 870)


def test_both_protocols_share_the_test_split_of_ncaltech101():
    ids, labels = ncaltech()
    first, second = split(ids, labels, "kt-paper"), split(ids, labels)
    np.testing.assert_array_equal(first == SplitCode.TEST, second == SplitCode.TEST)


@pytest.mark.parametrize(("num", "train"), [(35, 32), (45, 40), (55, 50), (65, 58), (75, 68), (85, 76), (435, 392)])
def test_halves_round_to_even(num, train):
    ids = [f"c/image_{number:04d}" for number in range(num)]
    codes = split(ids, np.zeros(num, np.int64), "kt-paper")
    assert count(codes) == (train, 0, num - train)
    assert (codes[:train] == SplitCode.TRAIN).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2**40))
def test_drawn_splits_are_stratified_and_depend_on_no_other_class(counts, seed):
    ids = [f"{label}/{number:03d}" for label, num in enumerate(counts) for number in range(num)]
    labels = np.array([label for label, num in enumerate(counts) for _ in range(num)])
    codes = split(ids, labels, layout="drawn", seed=seed)
    for label, num in enumerate(counts):
        train, val, test = count(codes[labels == label])
        expected = round(0.1 * num) or int(num >= 3)
        assert (val, test) == (min(expected, num - test), expected)
        assert train >= 1 or num < 3
    first = labels == 0
    alone = split([i for i, keep in zip(ids, first, strict=True) if keep], labels[first], layout="drawn", seed=seed)
    np.testing.assert_array_equal(codes[first], alone)


def test_removing_a_sample_of_a_drawn_split_moves_at_most_the_boundary():
    ids = [f"c/{number:03d}" for number in range(100)]
    labels = np.zeros(100, np.int64)
    codes = split(ids, labels, layout="drawn")
    fewer = split(ids[:-1], labels[:-1], layout="drawn")
    assert (codes[:-1] != fewer).sum() <= 2


def test_another_seed_draws_another_split():
    ids = [f"c/{number:03d}" for number in range(100)]
    labels = np.zeros(100, np.int64)
    assert (split(ids, labels, layout="drawn") != split(ids, labels, layout="drawn", seed=1)).any()


def test_the_own_test_part_is_the_test_split_even_where_a_class_has_none():
    ids = [f"{label}/{part}-{number}" for label in range(2) for part in ("test", "train") for number in range(10)]
    parts = [sample.split("/")[1].split("-")[0] for sample in ids]
    parts = ["train" if sample.startswith("1/") else part for sample, part in zip(ids, parts, strict=True)]
    labels = np.array([int(sample[0]) for sample in ids])
    for protocol in ("twin-disjoint", "kt-paper"):
        codes = split(ids, labels, protocol, layout="drawn", parts=parts)
        np.testing.assert_array_equal(codes == SplitCode.TEST, [part == "test" for part in parts])


def test_a_given_test_share_overrides_own_parts_and_laid_down_splits():
    ids = [f"c/{number:03d}" for number in range(100)]
    parts = ["test"] * 5 + ["train"] * 95
    codes = split(ids, np.zeros(100, np.int64), parts=parts, layout="prefix", test_share=0.4, val_share=0.2)
    assert count(codes) == (40, 20, 40)


@pytest.mark.parametrize("layout", ["prefix", "drawn", "block", "drawer"])
def test_a_given_test_share_gives_both_protocols_one_test_part(layout):
    ids = [f"c/{number:03d}" for number in range(100)]
    ours, paper = (
        split(ids, np.zeros(100, np.int64), protocol, layout=layout, test_share=0.3)
        for protocol in ("twin-disjoint", "kt-paper")
    )
    np.testing.assert_array_equal(ours == SplitCode.TEST, paper == SplitCode.TEST)
    assert count(paper) == (70, 0, 30)
    assert count(ours) == (60, 10, 30)


def test_an_image_follows_its_recording_and_may_train_without_one():
    codes = np.array([SplitCode.TRAIN, SplitCode.VAL, SplitCode.TEST], np.uint8)
    images = split_images(["a/1", "a/2", "a/3", "a/4"], ["a/1", "a/2", "a/3"], codes)
    assert images.tolist() == [SplitCode.TRAIN, SplitCode.VAL, SplitCode.TEST, SplitCode.TRAIN]


def test_the_digest_names_who_is_where():
    codes = np.array([1, 2], np.uint8)
    assert split_digest(["a", "b"], codes) != split_digest(["b", "a"], codes)
    assert split_digest(["a", "b"], codes) != split_digest(["a", "b"], codes[::-1])


def test_a_digest_needs_a_split_for_each_id():
    for ids, codes in ((["a"], [1, 2]), (["a", "b"], [1])):
        with pytest.raises(ValueError, match="zip"):
            split_digest(ids, np.array(codes, np.uint8))


def test_an_unknown_protocol_is_one_line():
    with pytest.raises(SpecError, match=r"^protocol: found 'kt', expected one of twin-disjoint, kt-paper$"):
        split(["a"], np.zeros(1, np.int64), "kt")


def test_numbers_of_splits_are_part_of_the_cache_format():
    assert {code.name: int(code) for code in SplitCode} == {"UNUSED": 0, "TRAIN": 1, "VAL": 2, "TEST": 3}
    assert SPLIT_CODES == {"train": 1, "val": 2, "test": 3}
    assert SPLIT_RULES == 2


def in_order(num: int, layout: str, protocol: str = "twin-disjoint", **options) -> str:
    """Split `num` samples of one class, 01 and so on; U, T, V and E are unused, train, val and test."""
    ids = [f"c/{number:02d}" for number in range(1, num + 1)]
    codes = split(ids, np.zeros(num, np.int64), protocol, layout, **options)
    return "".join("UTVE"[code] for code in codes)


@pytest.mark.parametrize(
    ("num", "layout", "kt_paper", "twin_disjoint"),
    [
        (20, "prefix", "TTTTTTTTTTTTTTTTTTEE", "TTTTTTTTTTTTTTTTVVEE"),
        # 0.9 n = 13.5 and 0.1 n = 1.5: halves go to the even number.
        (15, "prefix", "TTTTTTTTTTTTTTE", "TTTTTTTTTTTTVVE"),
        (20, "block", "TTTTTTTTTTEEEEUUUUUU", "TTTTTTTTTTEEEEVVUUUU"),
        (22, "drawer", "TTTTTTTTTTTTTTTEEEEEUU", "TTTTTTTTTTTTTVVEEEEEUU"),
    ],
)
def test_fixed_layouts_sample_by_sample(num, layout, kt_paper, twin_disjoint):
    assert in_order(num, layout, "kt-paper") == kt_paper
    assert in_order(num, layout) == twin_disjoint


def test_drawn_splits_are_those_of_before():
    # Whoever changes a draw raises SPLIT_RULES: a cache of before has other splits under the same options.
    assert in_order(10, "drawn") == "TEVTTTTTTT"
    assert in_order(10, "drawn", seed=1) == "TTTTTEVTTT"
    assert in_order(10, "drawn", seed=2, val_share=0.2, test_share=0.3) == "TTETTTEVVE"
    assert in_order(10, "drawn", "kt-paper", test_share=0.3) == "TEETETTTTT"


@pytest.mark.parametrize(("num", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_three_stems_are_the_least_to_hold_out_of(num, expected):
    ids = [f"c/{number}" for number in range(num)]
    assert count(split(ids, np.zeros(num, np.int64), layout="drawn")) == expected


@pytest.mark.parametrize(
    ("parts", "kt_paper", "twin_disjoint"),
    [
        # The share of val is of what is not in the published test split: round(0.25 * 8).
        (["test"] * 2 + ["train"] * 8, "EETTTTTTTT", (6, 2, 2)),
        # A published val split is val, and nothing else is.
        (["test"] * 2 + ["val"] * 3 + ["train"] * 5, "EETTTTTTTT", "EEVVVTTTTT"),
    ],
)
def test_published_splits(parts, kt_paper, twin_disjoint):
    assert in_order(10, "drawn", "kt-paper", parts=parts) == kt_paper
    assert in_order(10, "prefix", "kt-paper", parts=parts) == kt_paper
    ours = in_order(10, "drawn", parts=parts, val_share=0.25)
    assert ours[:2] == "EE"
    counts = tuple(ours.count(letter) for letter in "TVE")
    assert twin_disjoint in (counts, ours)
    # Fixed layouts hold out the same samples for both protocols, whatever is published.
    assert in_order(10, "prefix", parts=parts) == "TTTTTTTTVE"


def test_a_validation_share_of_nothing_holds_nothing_out():
    assert in_order(10, "drawn", val_share=0.0).count("V") == 0


@pytest.mark.parametrize("layout", ["drawn", "prefix", "block", "drawer"])
def test_no_recordings_have_no_splits(layout):
    assert split([], np.zeros(0, np.int64), layout=layout).tolist() == []


def test_a_drawer_that_is_no_number_is_one_line():
    with pytest.raises(
        SpecError, match=r"^splits by drawer: found 'c/a1', expected the number of a drawer as the stem$"
    ):
        split(["c/a1"], np.zeros(1, np.int64), layout="drawer")


def test_the_digest_is_that_of_the_listing():
    listing = "a\t1\nb\t2\n"
    expected = hashlib.sha256(listing.encode()).hexdigest()[:16]
    assert split_digest(["a", "b"], np.array([1, 2], np.uint8)) == expected


@pytest.mark.parametrize("protocol", ["kt-paper", "twin-disjoint"])
@pytest.mark.parametrize("layout", ["prefix", "block", "drawn"])
@pytest.mark.parametrize("parts", [[""] * 60, ["train", "val", "test"] * 20, ["train", "train", "test"] * 20])
def test_some_classes_alone_are_split_as_with_all(protocol, layout, parts):
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 7, 60))
    ids = [f"{label}/{number:03d}" for number, label in enumerate(labels.tolist())]
    for share in (None, 0.3):
        rule = SplitRule(protocol, layout, 3, 0.2, share)
        whole = split_recordings(ids, labels, parts, rule)
        some = split_recordings(ids, labels, parts, rule, frozenset({2, 5}))
        wanted = np.isin(labels, (2, 5))
        np.testing.assert_array_equal(some[wanted], whole[wanted])
        assert (some[~wanted] == SplitCode.TRAIN).all()


IDS = ["a/1", "a/2", "a/3", "a/4"]


@pytest.mark.parametrize(
    ("ids", "labels", "rule", "message"),
    [
        (["a/1", "a/2", "a/4", "a/3"], [0] * 4, {}, "found ids that are not sorted bytewise"),
        (IDS, [0] * 3, {}, "found 4 ids, 3 labels and 4 parts"),
        (IDS, [0] * 4, {"val_share": 0.6, "test_share": 0.6}, "found shares 0.6 of val and 0.6 of test"),
        (IDS, [0] * 4, {"val_share": -0.1}, "found shares -0.1 of val"),
    ],
)
def test_what_would_split_otherwise_than_said_is_refused(ids, labels, rule, message):
    with pytest.raises(SpecError, match=f"^splits: {message}"):
        split_recordings(ids, np.array(labels), [""] * 4, SplitRule("twin-disjoint", "drawn", **rule))


def test_images_of_recordings_out_of_order_do_not_become_train():
    codes = np.array([SplitCode.TEST, SplitCode.VAL], np.uint8)
    assert split_images(["a/2", "a/1"], ["a/1", "a/2"], codes).tolist() == [SplitCode.VAL, SplitCode.TEST]
    with pytest.raises(SpecError, match=r"^splits: found ids that are not sorted bytewise"):
        split_images(["a/1", "a/2"], ["a/2", "a/1"], codes)
    with pytest.raises(SpecError, match=r"^splits: found 2 ids and 1 codes, expected one each$"):
        split_images(["a/1"], ["a/1", "a/2"], codes[:1])


def test_equal_ids_and_shares_that_leave_nothing_are_split():
    rule = SplitRule("twin-disjoint", "drawn", val_share=0.5, test_share=0.5)
    codes = split_recordings(["a/1", "a/1", "a/2", "a/3"], np.zeros(4, int), [""] * 4, rule)
    assert sorted(codes.tolist()) == [SplitCode.VAL] * 2 + [SplitCode.TEST] * 2


def test_an_unknown_layout_is_not_taken_for_another():
    with pytest.raises(
        SpecError, match=r"^split layout: found 'blocks', expected one of prefix, drawn, block, drawer$"
    ):
        split_recordings(IDS, np.zeros(4, int), [""] * 4, SplitRule("twin-disjoint", "blocks"))
