"""What a figure of an experiment shows, before it is drawn: panels of lines through means with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tmkt_train.experiments.table import spread


@dataclass(frozen=True)
class Point:
    """Some values at one place.

    Attributes:
        x: The place.
        values: The values, one or more.
    """

    x: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return spread(self.values).mean or 0.0

    @property
    def sd(self) -> float | None:
        """Standard deviation over n - 1; None of one value."""
        return spread(self.values).sd


@dataclass(frozen=True)
class Line:
    """The points of one name, in the order of their places."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        x_title: Title of the x axis.
        y_title: Title of the y axis, with its unit.
        lines: What is drawn.
        ticks: Places along x that are marked, with their names; None leaves them to the axis.
        is_log: Whether x is logarithmic.
        is_whole: Whether x takes whole numbers only.
        is_joined: Whether the means of a line are joined.
        shows_values: Whether each value is a dot, beside the mean; otherwise the spread is a bar.
    """

    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...] | None = None
    is_log: bool = False
    is_whole: bool = False
    is_joined: bool = True
    shows_values: bool = False

    @property
    def places(self) -> list[float]:
        """All places of points, in order."""
        return sorted({point.x for line in self.lines for point in line.points})

    @property
    def covered(self) -> list[float]:
        """All values that the y axis must cover."""
        points = [point for line in self.lines for point in line.points]
        if self.shows_values:
            return [value for point in points for value in point.values]
        return [point.mean + sign * (point.sd or 0.0) for point in points for sign in (-1, 1)]


def short_labels(names: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Name recipes in few letters: by their method where that tells them apart, else without their common beginning.

    Args:
        names: Names of recipes.
        methods: Method of each.

    Example:
        >>> short_labels(["a_kt", "a"], ["kt", "tmkt"]), short_labels(["a_b", "a_b_no_x"], ["tmkt", "tmkt"])
        (['kt', 'tmkt'], ['a_b', 'no_x'])
    """
    if len(set(methods)) == len(methods):
        return list(methods)
    words = [name.split("_") for name in names]
    common = 0
    while all(len(parts) > common and parts[common] == words[0][common] for parts in words):
        common += 1
    return ["_".join(parts[common:]) or name for parts, name in zip(words, names, strict=True)]
