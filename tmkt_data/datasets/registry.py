"""Open the catalogue of any dataset by name."""

from __future__ import annotations

import difflib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tmkt_data.datasets import (
    caltech_twins,
    cepdvs,
    cifar10dvs,
    digits,
    dvsgesture,
    esimagenet,
    fashion,
    folder,
    ncaltech101,
    nmnist,
    nomniglot,
)
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.info import DatasetInfo
from tmkt_data.errors import CatalogueError, SpecError, counted
from tmkt_data.spec import ClassSet, PrepareSpec

if TYPE_CHECKING:
    from tmkt_data.cache.reader import CacheInfo

DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        digits.INFO,
        nmnist.INFO,
        ncaltech101.INFO,
        caltech_twins.INFO,
        cepdvs.INFO,
        nomniglot.INFO,
        cifar10dvs.INFO,
        dvsgesture.INFO,
        esimagenet.INFO,
        fashion.INFO,
        folder.INFO,
    )
}

MADE_IN = {"digits": "digits-source", "caltech101-twins": "caltech101-twins-source"}
"""Folders below the cache directory for recordings that tmkt simulates."""
_IMAGE_SIDES = {
    "mnist": ("nmnist",),
    "caltech101": ("ncaltech101", "caltech101-twins"),
    "cifar10": ("cifar10dvs",),
    "cifar100": ("cepdvs",),
    "omniglot": ("nomniglot",),
    "imagenet": ("esimagenet",),
}


def dataset_info(name: str) -> DatasetInfo:
    """Return the facts about a dataset.

    Raises:
        SpecError: There is no dataset of that name.
    """
    if name in _IMAGE_SIDES:
        sets = _IMAGE_SIDES[name]
        raise SpecError(
            f"dataset: {name!r} is the image side of {' and '.join(sets)}, not a dataset of its own; give its folder "
            f"or archive to one of them: tmkt-data prepare {sets[0]} --images DIR"
        )
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see tmkt-data datasets"
        raise SpecError(f"dataset: found {name!r}, expected one of {', '.join(DATASETS)}; {hint}")
    return DATASETS[name]


def is_recorded_as_now(info: CacheInfo) -> bool:
    """Return whether the recordings of a cache are those of its dataset today: real, or of today's simulated camera."""
    known = DATASETS.get(info.dataset)
    if known is None or not known.recorded_with:
        return True
    return bool(info.facts.get("recorded_with") == json.loads(known.recorded_with))


def default_spec(name: str) -> PrepareSpec:
    """Return the default options of `tmkt-data prepare NAME`; errors as in `dataset_info`."""
    info = dataset_info(name)
    return PrepareSpec(size=info.size, canvas=info.canvas, time_bins=info.time_bins, image_decode=info.image_decode)


def open_catalogue(
    name: str,
    root: str | Path | None = None,
    events: str | Path | None = None,
    images: str | Path | None = None,
    class_set: ClassSet = "all",
    *,
    is_foreign: bool = False,
) -> Catalogue:
    """List a dataset by name.

    Args:
        name: Name of the dataset, a key of `DATASETS`.
        root: Folder that contains both sides.
        events: Folder of the recordings, if outside `root`; for `caltech101-twins`, of the simulated recordings.
        images: Folder of the images, if outside `root`.
        class_set: `objects` excludes the background class of N-Caltech101; other datasets have none.
        is_foreign: Whether the files were unpacked from an archive; their settings may not point outside it.

    Raises:
        CatalogueError: Data is missing.
        SpecError: Unknown name, or a class set that the dataset does not have.
    """
    info = dataset_info(name)
    root, events, images = (None if path is None else Path(path) for path in (root, events, images))
    if class_set != "all" and info.name != "ncaltech101":
        raise SpecError(f"class set: found {class_set!r}, {name} has only 'all'; omit --class-set")
    match info.name:
        case "nmnist":
            return nmnist.open_nmnist(root, events, images)
        case "ncaltech101":
            return ncaltech101.open_ncaltech101(root, events, images, class_set)
        case "cepdvs":
            return cepdvs.open_cepdvs(root, events, images)
        case "nomniglot":
            return nomniglot.open_nomniglot(root, events, images)
        case "cifar10dvs":
            return cifar10dvs.open_cifar10dvs(root, events, images)
        case "dvsgesture":
            return dvsgesture.open_dvsgesture(root, events, images)
        case "esimagenet":
            return esimagenet.open_esimagenet(root, events, images)
        case "fashion":
            return fashion.open_fashion(root, events, images)
        case "folder":
            return folder.open_folder(root, events, images, is_foreign=is_foreign)
        case "caltech101-twins":
            if events is None:
                raise SpecError(
                    "caltech101-twins: found no folder of simulated recordings; make them with "
                    "tmkt_data.datasets.caltech_twins_source.write_twins, as tmkt-data prepare does"
                )
            return caltech_twins.open_caltech_twins(root, events, images)
        case _:
            if events is not None or images is not None or root is None:
                raise SpecError("digits: is generated by tmkt; omit --events and --images")
            return digits.open_digits(root)


def open_made(name: str, root: Path | None, images: Path | None, below: Path) -> tuple[Catalogue, Path]:
    """List `digits` or `caltech101-twins` from recordings simulated earlier by `tmkt-data prepare`.

    Args:
        name: One of the two, a key of `MADE_IN`.
        root: As given to `tmkt-data prepare`.
        images: Folder of the photographs, if outside `root`.
        below: The cache directory.

    Returns:
        The catalogue, and the folder of its recordings.

    Raises:
        CatalogueError: The recordings are not simulated yet, or the photographs are missing.
    """
    again = shlex.join(
        ["tmkt-data", "prepare", name, *(["--root", str(root)] if root is not None else [])]
        + (["--images", str(images)] if images is not None else [])
    )
    if name == "digits":
        folder = root if root is not None else below / MADE_IN[name]
        if not (folder / "N-MNIST").is_dir():
            raise CatalogueError(f"digits: not generated yet, found nothing in {folder}; next: {again}")
        return open_catalogue(name, folder, None, images), folder
    from tmkt_data.datasets.caltech_twins_source import twins_folder

    _, photographs, _ = caltech_twins.list_photographs(root, images)
    folder = twins_folder(photographs, below / MADE_IN[name])
    if not folder.is_dir():
        raise CatalogueError(
            f"{name}: recordings of {counted(len(photographs), 'photograph')} are not simulated yet; next: {again}"
        )
    return open_catalogue(name, root, folder, images), folder
