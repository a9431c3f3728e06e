"""What of a published list is there: one line that counts, and names what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

_SHOWN = 5


def completeness(found: Collection[str], expected: Sequence[str], side: str) -> str | None:
    """Say what is missing.

    Args:
        found: Ids that are there, such as `"airplanes/image_0001"`.
        expected: Ids of the complete set, by class.
        side: What they are, such as `"recordings"`.

    Returns:
        Such as `"8628 of 8709 recordings; missing: airplanes/image_0007, ibis (all 80)"`; None where all are there.

    Example:
        >>> completeness({"a/1"}, ["a/1", "a/2", "b/1", "b/2"], "recordings")
        '1 of 4 recordings; missing: a/2, b (all 2)'
    """
    held = set(found)
    names: list[str] = []
    num_missing = 0
    for name, group in groupby(expected, key=lambda sample: sample.partition("/")[0]):
        ids = list(group)
        missing = [sample for sample in ids if sample not in held]
        num_missing += len(missing)
        names += [f"{name} (all {len(ids)})"] if len(missing) == len(ids) > 1 else missing
    if not num_missing:
        return None
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(expected) - num_missing} of {len(expected)} {side}; missing: {', '.join(names[:_SHOWN])}{more}"


def count_note(found: int, expected: int, side: str) -> str | None:
    """Say how many of a set are there, where no list of names is known; None where it is complete."""
    return None if found == expected else f"{found} of {expected} {side} are here"


def notes_of(*notes: str | None) -> Iterable[str]:
    """Return the notes that say something."""
    return [note for note in notes if note is not None]
