"""Named split rules over stems, shared by both sides: holding out a recording holds out its image too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose, uids_of, uniform
from tmkt_data.sample_ids import Ids, bytes_of, encode_id, rows_of, texts_of
from tmkt_data.spec import Protocol, SplitLayout

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
MIN_STEMS_TO_HOLD_OUT = 3
SPLIT_RULES = 2
"""Version of the rules below; a new version changes the cache key of the same options."""
LAST_DRAWERS = {"kt-paper": (15, 15, 20), "twin-disjoint": (13, 15, 20)}
"""Last drawer of train, val and test in N-Omniglot."""


class SplitCode(IntEnum):
    """Stored code of a split; the numbers are part of the cache format."""

    UNUSED = 0
    TRAIN = 1
    VAL = 2
    TEST = 3


SPLIT_CODES: dict[str, SplitCode] = {"train": SplitCode.TRAIN, "val": SplitCode.VAL, "test": SplitCode.TEST}


class SplitRule(NamedTuple):
    """How a dataset is split.

    Attributes:
        protocol: Name of the rule.
        layout: Fixed layout of the splits, `prefix`, `block` or `drawer`; or `drawn`.
        seed: Seed of drawn splits.
        val_share: Validation share in drawn splits.
        test_share: Test share in drawn splits; None uses the published test split, or 0.1 without one.
    """

    protocol: Protocol
    layout: SplitLayout
    seed: int = 0
    val_share: float = 0.1
    test_share: float | None = None


def split_recordings(
    ids: Ids,
    labels: NDArray[Any],
    parts: Sequence[str] | NDArray[np.str_],
    rule: SplitRule,
    only: frozenset[int] | None = None,
) -> NDArray[np.uint8]:
    """Assign each recording to train, val or test.

    For each class with n stems in bytewise order:

    - `kt-paper`: the first round(0.9 n) are train, the others test, without validation; a published test split is used
      if there is one. Model selection on this test split is optimistic.
    - `twin-disjoint`, fixed layouts: the test split of `kt-paper`; the last round(0.1 n) of its train split are val.
    - layout `block`, CEP-DVS: the first round(0.5 n) are train, the next n - round(0.8 n) test; of the samples that KT
      does not use, the first round(0.1 n) are val in `twin-disjoint`.
    - layout `drawer`, N-Omniglot: drawers 1 to 15 are train, 16 to 20 test; `twin-disjoint` uses 14 and 15 as val.
    - `twin-disjoint`, drawn: round(test_share n) test and round(val_share m) val by keyed draws, where m = n minus the
      published test split; at least one each if a class has three stems or more. A published validation split is val;
      `kt-paper` trains on it.
    - `test_share`, if given, draws the same test split for both protocols; under `kt-paper` the others are train.

    Args:
        ids: Sample ids, sorted bytewise.
        labels: Class of each, shape (N,), integers.
        parts: Published split of each sample: `"train"`, `"val"`, `"test"` or `""`.
        rule: The rule and its parameters.
        only: Classes to split, in a time that the others hardly add to; None for all.

    Returns:
        `SplitCode` of each recording, shape (N,), uint8; of classes that are not split, `TRAIN`. A recording depends
        only on its own class.

    Raises:
        SpecError: Unknown protocol or layout, shares out of range, ids that are not sorted, not one label and part for
            each, or a stem that is not a drawer number under `drawer`.

    Source: He et al., AAAI 2024 (`kt-paper`); rounding half to even as in Python, as there.
    """
    protocol, layout, seed, val_share, test_share = rule
    _require_rule(rule)
    with_val = protocol == "twin-disjoint"
    if layout == "drawer" and test_share is None:
        return _by_drawer(ids, protocol)
    codes = np.full(len(ids), SplitCode.TRAIN, np.uint8)
    names = bytes_of(ids)
    if not len(names) == len(labels) == len(parts):
        raise SpecError(
            f"splits: found {len(names)} ids, {len(labels)} labels and {len(parts)} parts, expected one each"
        )
    _require_sorted(names)
    own_test, own_val = (np.asarray(parts, str) == part for part in ("test", "val"))
    has_own_test = bool(own_test.any())
    for rows in _rows_of_classes(labels, only):
        if test_share is not None:
            codes[rows] = _drawn(uids_of(names[rows]), None, seed, val_share if with_val else 0.0, test_share)
        elif layout == "block":
            codes[rows] = _block(len(rows), with_val=with_val)
        elif layout == "drawn" and with_val:
            own = own_test[rows] if has_own_test else None
            codes[rows] = _drawn(uids_of(names[rows]), own, seed, 0.0 if own_val.any() else val_share, 0.1)
            codes[rows[own_val[rows]]] = SplitCode.VAL
        else:
            own = own_test[rows] if has_own_test and not with_val else None
            codes[rows] = _prefix(len(rows), own, with_val=with_val)
    return codes


def _require_sorted(names: NDArray[np.bytes_]) -> None:
    if (names[1:] < names[:-1]).any():
        raise SpecError("splits: found ids that are not sorted bytewise, which the rules go by; sort them first")


def _require_rule(rule: SplitRule) -> None:
    if rule.protocol not in PROTOCOLS:
        raise SpecError(f"protocol: found {rule.protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    if rule.layout not in get_args(SplitLayout):
        raise SpecError(f"split layout: found {rule.layout!r}, expected one of {', '.join(get_args(SplitLayout))}")
    shares = (rule.val_share, rule.test_share or 0.0)
    if not (min(shares) >= 0 and sum(shares) <= 1):
        raise SpecError(f"splits: found shares {shares[0]} of val and {shares[1]} of test, expected a sum of 0 to 1")


def _rows_of_classes(labels: NDArray[Any], only: frozenset[int] | None) -> Iterator[NDArray[np.intp]]:
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(np.asarray(labels)[order], return_index=True)
    for label, first, end in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=False):
        if only is None or label in only:
            yield order[first:end]


def _prefix(count: int, own_test: NDArray[np.bool_] | None, *, with_val: bool) -> NDArray[np.uint8]:
    codes = np.full(count, SplitCode.TRAIN, np.uint8)
    if own_test is not None:
        codes[own_test] = SplitCode.TEST
        return codes
    num_train = round(0.9 * count)
    codes[num_train:] = SplitCode.TEST
    if with_val:
        codes[num_train - round(0.1 * count) : num_train] = SplitCode.VAL
    return codes


def _block(count: int, *, with_val: bool) -> NDArray[np.uint8]:
    codes = np.full(count, SplitCode.UNUSED, np.uint8)
    num_train, num_test = round(0.5 * count), count - round(0.8 * count)
    codes[:num_train] = SplitCode.TRAIN
    codes[num_train : num_train + num_test] = SplitCode.TEST
    if with_val:
        codes[num_train + num_test :][: round(0.1 * count)] = SplitCode.VAL
    return codes


def _by_drawer(ids: Ids, protocol: Protocol) -> NDArray[np.uint8]:
    drawers = np.fromiter(map(_drawer, texts_of(ids)), np.int64, len(ids))
    last_train, last_val, last_test = LAST_DRAWERS[protocol]
    codes = np.full(len(ids), SplitCode.UNUSED, np.uint8)
    codes[drawers <= last_test] = SplitCode.TEST
    codes[drawers <= last_val] = SplitCode.VAL
    codes[drawers <= last_train] = SplitCode.TRAIN
    return codes


def _drawer(sample: str) -> int:
    stem = sample.rpartition("/")[2]
    if not stem.isdecimal():
        raise SpecError(f"splits by drawer: found {sample!r}, expected the number of a drawer as the stem")
    return int(stem)


def _drawn(
    uids: NDArray[np.uint64],
    own_test: NDArray[np.bool_] | None,
    seed: int,
    val_share: float,
    test_share: float,
) -> NDArray[np.uint8]:
    codes = np.full(len(uids), SplitCode.TRAIN, np.uint8)
    order = np.argsort(uniform(seed, 0, uids, 0, Purpose.SPLIT, 1), kind="stable")
    if own_test is not None:
        codes[own_test] = SplitCode.TEST
        rest = order[~own_test[order]]
        num_val = _share_of(len(rest), val_share)
    else:
        num_test = _share_of(len(order), test_share)
        codes[order[:num_test]] = SplitCode.TEST
        rest = order[num_test:]
        num_val = _share_of(len(order), val_share)
    codes[rest[:num_val]] = SplitCode.VAL
    return codes


def _share_of(count: int, share: float) -> int:
    if share <= 0:
        return 0
    least = 1 if count >= MIN_STEMS_TO_HOLD_OUT else 0
    return max(least, round(share * count))


def split_images(image_ids: Ids, recording_ids: Ids, recording_codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Assign each image the split of its twin recording; images without a twin are train.

    Args:
        image_ids: Ids of the images.
        recording_ids: Ids of the recordings, sorted bytewise.
        recording_codes: `SplitCode` of each recording.

    Returns:
        `SplitCode` of each image, shape (M,), uint8.

    Raises:
        SpecError: The recordings are not sorted, so that some would not be found and their images be train; or they
            have not one code each.
    """
    recordings = bytes_of(recording_ids)
    _require_sorted(recordings)
    if len(recordings) != len(recording_codes):
        raise SpecError(f"splits: found {len(recordings)} ids and {len(recording_codes)} codes, expected one each")
    rows = rows_of(bytes_of(image_ids), recordings)
    codes = np.full(len(rows), SplitCode.TRAIN, np.uint8)
    codes[rows >= 0] = recording_codes[rows[rows >= 0]]
    return codes


def split_digest(ids: Ids, codes: NDArray[np.uint8]) -> str:
    """Return a digest of the split of each id, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for sample, code in zip(texts_of(ids), codes.tolist(), strict=True):
        digest.update(encode_id(f"{sample}\t{code}\n"))
    return digest.hexdigest()[:16]
