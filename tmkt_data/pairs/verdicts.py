"""What the tables of a cache say against training on it: empty splits, leaks by copies, names that miss each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache, CacheInfo
from tmkt_data.datasets.catalogue import some
from tmkt_data.datasets.duplicates import duplicates_in
from tmkt_data.datasets.look_alikes import difference, look_alikes
from tmkt_data.datasets.splits import SPLIT_CODES
from tmkt_data.errors import counted
from tmkt_data.events.events import SensorSize
from tmkt_data.images.frames import ImageTarget, Placement
from tmkt_data.images.without_contrast import are_without_contrast
from tmkt_data.sample_ids import texts_of
from tmkt_data.spec import PrepareSpec, Protocol, Severity

CONTRAST_TABLES = ("images/id", "images/frames_xxh3", "images/height_px", "images/width_px")
"""HDF5 paths of the tables that tell which images have no contrast."""
MOSTLY = 2 / 3
"""Share of the recordings of a class whose names must be in another class for the two to look swapped."""


@dataclass(frozen=True)
class Verdict:
    """What figures mean, on one line.

    Attributes:
        severity: `error`: results on these pairs are wrong; `warning`: something to know before training.
        text: What was found, and what to do.
    """

    severity: Severity
    text: str


class CacheTables(NamedTuple):
    """What of a cache the verdicts are made from.

    Attributes:
        tables: Its tables by HDF5 path, at least those of `table_names`.
        class_names: Names of the classes, indexed by label.
        spec: Options that it was prepared with.
    """

    tables: Mapping[str, NDArray[Any]]
    class_names: Sequence[str]
    spec: PrepareSpec

    @classmethod
    def of(cls, cache: Cache) -> CacheTables:
        """Return those of an open cache."""
        return cls(cache.tables, cache.class_names, cache.spec)


def table_names(protocol: Protocol) -> list[str]:
    """Return the HDF5 paths of the tables that verdicts on a protocol need."""
    names = ("id", "source_bytes", "source_xxh3", f"split/{protocol}")
    return [f"{side}/{name}" for side in ("events", "images") for name in names] + [
        *("events/label", "events/twin", "images/label")
    ]


def table_verdicts(cache: CacheTables, protocol: Protocol) -> tuple[Verdict, ...]:
    """Return what the tables of a cache say against its splits and names; frames are not read.

    Args:
        cache: The tables.
        protocol: The split rule to look at.
    """
    found = duplicates_in(cache.tables, protocol)
    copies = [Verdict("warning", f"{found.text}; accuracy on them is no test")] if found.text else []
    return (*_name_verdicts(cache), *copies, *_split_verdicts(cache, protocol), *_pool_verdicts(cache, protocol))


def contrast_verdicts(tables: Mapping[str, NDArray[Any]], info: CacheInfo) -> tuple[Verdict, ...]:
    """Return whether there are images without contrast; frames are not read.

    Args:
        tables: Tables of a cache, at least those of `CONTRAST_TABLES`.
        info: Its metadata.
    """
    side, facts = info.spec.size, info.facts
    target = ImageTarget(side, side)
    if info.spec.canvas == "fixed":
        target = target._replace(
            sensor_size=SensorSize(*facts["sensor_size"]), placement=Placement(*facts["placement"])
        )
    ids, checksums, *sizes = (tables[name] for name in CONTRAST_TABLES)
    flat = are_without_contrast(checksums, np.stack(sizes, axis=1), target, info.spec.image_decode)
    if not flat.any():
        return ()
    names = list(texts_of(ids[flat]))
    return (
        Verdict(
            "warning",
            f"{counted(len(names), 'image')} without contrast, of one gray value ({some(names)}): nothing can be "
            "learned from their content, and encoders gradient and saccade make empty frames of them; check these "
            "files",
        ),
    )


def classes_without_images(cache: CacheTables, protocol: Protocol) -> list[str]:
    """Return the classes that the training split has recordings of, but no images; only `event-only` trains on them."""
    here = [
        np.bincount(
            cache.tables[f"{side}/label"][cache.tables[f"{side}/split/{protocol}"] == SPLIT_CODES["train"]],
            minlength=len(cache.class_names),
        )
        for side in ("events", "images")
    ]
    return [cache.class_names[label] for label in np.flatnonzero((here[0] > 0) & (here[1] == 0)).tolist()]


def _pool_verdicts(cache: CacheTables, protocol: Protocol) -> Iterator[Verdict]:
    missing = classes_without_images(cache, protocol)
    if missing:
        yield Verdict(
            "warning",
            f"train has recordings of {counted(len(missing), 'class')} ({some(missing)}), but no images of them: only "
            "event-only training takes this cache; add images and prepare again, or train with "
            "--set method.name=event-only",
        )


def _split_verdicts(cache: CacheTables, protocol: Protocol) -> Iterator[Verdict]:
    codes, labels = cache.tables[f"events/split/{protocol}"], cache.tables["events/label"]
    num_classes = len(cache.class_names)
    wanted = _wanted(cache.spec, protocol)
    empty = [name for name in wanted if not (codes == SPLIT_CODES[name]).any()]
    if empty:
        uses = {"train": "train on", "val": "select an epoch by", "test": "test on"}
        text = f"{' and '.join(empty)} {'has' if len(empty) == 1 else 'have'} no recording in {protocol}"
        lost = " or ".join(uses[name] for name in empty)
        yield Verdict("warning", f"{text}; there is nothing to {lost}, add recordings or use larger shares")
    sizes = np.bincount(labels[codes > 0], minlength=num_classes)
    for name in [name for name in wanted if name not in empty]:
        has = np.bincount(labels[codes == SPLIT_CODES[name]], minlength=num_classes) > 0
        missing = np.flatnonzero((sizes > 1) & ~has).tolist()
        if missing:
            names = some([cache.class_names[label] for label in missing])
            yield Verdict("warning", f"{name} has no recording of {counted(len(missing), 'class')} ({names})")
    single = np.flatnonzero(sizes == 1).tolist()
    if single:
        names = some([cache.class_names[label] for label in single])
        text = f"{counted(len(single), 'class')} of 1 recording ({names})"
        yield Verdict("warning", f"{text}: a class is learned and tested only if it is in every split; add recordings")


def _wanted(spec: PrepareSpec, protocol: Protocol) -> list[str]:
    """Return the splits that are to have recordings."""
    no_val = protocol == "kt-paper" or spec.val_share == 0
    left_out = {name for name, is_out in (("val", no_val), ("test", spec.test_share == 0)) if is_out}
    return [name for name in SPLIT_CODES if name not in left_out]


def _name_verdicts(cache: CacheTables) -> Iterator[Verdict]:
    twins, event_ids, image_ids = (cache.tables[name] for name in ("events/twin", "events/id", "images/id"))
    is_free = np.ones(len(image_ids), bool)
    is_free[twins[twins >= 0]] = False
    if not (twins < 0).any() or not is_free.any():
        return
    recordings, images = list(texts_of(event_ids[twins < 0])), list(texts_of(image_ids[is_free]))
    alike = list(look_alikes(recordings, images))
    if alike:
        yield Verdict(
            "error",
            f"{counted(len(alike), 'recording')} without a twin, but an image looks as if it was, and may be drawn "
            f"while its recording is held out: {difference(*alike[0])}; rename one of them and prepare again",
        )
    sizes = dict(zip(cache.class_names, np.bincount(cache.tables["events/label"], minlength=1).tolist(), strict=False))
    for one, other, num in _moved_classes(recordings, images):
        if num >= max(2, MOSTLY * sizes.get(one, 0)):
            yield Verdict(
                "error",
                f"the images of class {one} look misplaced: {num} of its recordings have no image of their name in it, "
                f"but in class {other}; are two class folders of one side swapped?",
            )


def _moved_classes(recordings: Sequence[str], images: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Yield classes whose recordings have their stems in one other class, that class, and the number of them."""
    class_of_stem: dict[str, str] = {}
    for name, _, stem in (sample.partition("/") for sample in images):
        # A stem of several classes says nothing.
        class_of_stem[stem] = name if class_of_stem.get(stem, name) == name else ""
    found = Counter((name, class_of_stem.get(stem, "")) for name, _, stem in (s.partition("/") for s in recordings))
    for (name, other), num in sorted(found.items()):
        if other not in ("", name):
            yield name, other, num
