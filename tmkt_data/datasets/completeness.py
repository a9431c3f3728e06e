"""Compare the samples of a dataset with what its publishers declare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

_SHOWN = 5


def completeness(found: Collection[str], expected: Sequence[str], side: str) -> str | None:
    """Describe which samples are missing.

    Args:
        found: Ids present, such as `"airplanes/image_0001"`.
        expected: Ids of the complete dataset, grouped by class.
        side: Noun for the samples, such as `"recordings"`.

    Returns:
        Text such as `"8628 of 8709 recordings; missing: airplanes/image_0007, ibis (all 80)"`; None if complete.

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
    """Describe how many samples are present when their names are unknown; None if complete."""
    return None if found == expected else f"{found} of {expected} {side} are here"


def notes_of(*notes: str | None) -> Iterable[str]:
    """Return the notes that are not None."""
    return [note for note in notes if note is not None]


class Declared(NamedTuple):
    """The ids of the complete dataset, as far as they are known.

    Attributes:
        recordings: Ids such as `"ant/image_0001"`, grouped by class; empty if only their number is known.
        images: The same for the images.
        num_images: Number of images in the complete dataset if their ids are unknown; 0 if that is unknown too.
        has_classes: Whether the ids name the class. If not, they are what follows it, such as `"train-00001"`: MNIST
            numbers images across classes.
    """

    recordings: Sequence[str] = ()
    images: Sequence[str] = ()
    num_images: int = 0
    has_classes: bool = True


NOTHING_DECLARED = Declared()


class Difference(NamedTuple):
    """How one side differs from what is declared.

    Attributes:
        missing: Declared ids that were not found, in the order of the declaration.
        unexpected: Ids found but not declared.
        twice: Groups of ids with one number in several classes.
    """

    missing: list[str]
    unexpected: list[str]
    twice: list[tuple[str, ...]]


def compare(found: Iterable[str], declared: Collection[str], *, has_classes: bool) -> Difference:
    """Compare the ids of one side with the declared ones.

    Example:
        >>> compare(["3/train-1", "5/train-1", "5/train-9"], ["train-1", "train-2"], has_classes=False)
        Difference(missing=['train-2'], unexpected=['5/train-9'], twice=[('3/train-1', '5/train-1')])
    """
    if not declared:
        return Difference([], [], [])
    by_key: dict[str, list[str]] = {}
    for sample in found:
        by_key.setdefault(sample if has_classes else number_of(sample), []).append(sample)
    known = set(declared)
    return Difference(
        [key for key in declared if key not in by_key],
        [sample for key, samples in by_key.items() if key not in known for sample in samples],
        [tuple(samples) for samples in by_key.values() if len(samples) > 1],
    )


def torn_pairs(recordings: Iterable[str], images: Iterable[str]) -> list[tuple[str, str]]:
    """Return recordings and images of one number but different classes; ids look like `"5/train-00001"`."""
    class_of = {number_of(sample): sample for sample in images}
    pairs = ((sample, class_of.get(number_of(sample), sample)) for sample in recordings)
    return [(recording, image) for recording, image in pairs if recording != image]


def number_of(sample: str) -> str:
    """Return the part of an id after its class."""
    return sample.partition("/")[2]


def contiguous_ids(ids: Iterable[str]) -> tuple[str, ...]:
    """Return the ids from 0001 to the largest of each class, for ids such as `"ant/image_0007"`."""
    largest: dict[str, int] = {}
    for sample in ids:
        name, _, stem = sample.partition("/")
        largest[name] = max(largest.get(name, 0), int(stem.rpartition("_")[2]))
    return tuple(f"{name}/image_{number:04d}" for name, last in largest.items() for number in range(1, last + 1))
