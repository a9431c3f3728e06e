"""Whole numbers and labels that callers give to datasets of pairs: refused where NumPy would round or broadcast."""

from __future__ import annotations

from operator import index as as_index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tmkt_data.errors import SpecError

MAX_COUNTER = 2**63 - 1
"""Largest seed or epoch."""


def require_counter(name: str, value: Any) -> int:
    """Return a seed or an epoch as an `int`.

    Raises:
        SpecError: It is not a whole number from 0 to 2**63 - 1.
    """
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_COUNTER:
        raise SpecError(
            f"{name}: found {_shown(value)}, expected {'a whole number from ' * (number is None)}0 to 2**63 - 1"
        )
    return number


def require_count(name: str, value: Any) -> int:
    """Return a number of samples as an `int`.

    Raises:
        SpecError: It is not a whole number.
    """
    number = _whole(value)
    if number is None:
        raise SpecError(f"{name}: found {_shown(value)}, expected a whole number")
    return number


def require_labels(labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Return labels of classes to keep, shape (N,), int64.

    Raises:
        SpecError: They are not whole numbers, such as a mask, or not labels of the dataset.
    """
    given = np.atleast_1d(np.asarray(labels))
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise SpecError(f"keep_classes: found values of type {given.dtype}, expected labels, whole numbers")
    if given.size and (given.min() < 0 or given.max() >= num_classes):
        raise SpecError(
            f"keep_classes: found {given.min()} to {given.max()}, expected labels of 0 to {num_classes - 1}"
        )
    return given.astype(np.int64)


def sample_at(given: Any, num_samples: int) -> tuple[int, int]:
    """Return the position and the occurrence of a sample, from a position or a tuple of both.

    Raises:
        IndexError: One of them is out of range or not a whole number.
    """
    pair = given if isinstance(given, tuple) else (given, 0)
    numbers = [_whole(number) for number in pair]
    if len(pair) != 2 or None in numbers:
        raise IndexError(f"index {_shown(given)}, expected a whole number, a slice, or a tuple of index and occurrence")
    at, occurrence = (number for number in numbers if number is not None)
    if not -num_samples <= at < num_samples:
        raise IndexError(f"index {at}, expected {-num_samples} to {num_samples - 1}")
    if not 0 <= occurrence <= MAX_COUNTER:
        raise IndexError(f"occurrence {occurrence}, expected 0 to 2**63 - 1")
    return at % num_samples, occurrence


def samples_at(
    indices: ArrayLike, occurrences: ArrayLike | None, num_samples: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions and occurrences of a batch, both of shape (B,).

    Raises:
        IndexError: The indices are not a sequence of whole numbers in the range, or the occurrences not one number of
            0 or more for each.
    """
    positions = _whole_numbers("indices", indices)
    if len(positions) and (positions.min() < 0 or positions.max() >= num_samples):
        raise IndexError(f"indices {positions.min()} to {positions.max()}, expected 0 to {num_samples - 1}")
    if occurrences is None:
        return positions.astype(np.int64), np.zeros(len(positions), np.int64)
    repeats = _whole_numbers("occurrences", occurrences)
    if repeats.shape != positions.shape:
        raise IndexError(f"occurrences of shape {repeats.shape}, expected one for each index, {positions.shape}")
    if len(repeats) and (repeats.min() < 0 or repeats.max() > MAX_COUNTER):
        raise IndexError(f"occurrences {repeats.min()} to {repeats.max()}, expected 0 to 2**63 - 1")
    return positions.astype(np.int64), repeats.astype(np.int64)


def _whole_numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    given = np.asarray(values)
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise IndexError(f"{name} of type {given.dtype}, expected whole numbers")
    if given.ndim != 1:
        raise IndexError(f"{name} of shape {given.shape}, expected a sequence, shape (B,)")
    return given


def _whole(value: Any) -> int | None:
    """Return a whole number of any type, also a tensor without axes, as an `int`; None for anything else."""
    try:
        return as_index(value)
    except TypeError:
        return None


def _shown(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."
