"""Datasets of tonic by the names of their classes, from files that lie on disk; the one module that imports tonic."""

from __future__ import annotations

import difflib
import inspect
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tmkt_data.errors import CatalogueError, EventError, SpecError, TmktError, printable
from tmkt_data.pairs.tonic import EventDataset
from tmkt_data.spec import TONIC_PREFIX

OF_TMKT = {
    "NMNIST": "nmnist",
    "NCALTECH101": "ncaltech101",
    "CIFAR10DVS": "cifar10dvs",
    "DVSGesture": "dvsgesture",
}
"""Classes of tonic whose dataset tmkt reads itself, with its published splits."""


def open_tonic(name: str, folder: Path | None, say: Callable[[str], None] = lambda _: None) -> EventDataset:
    """Open a dataset of tonic without downloading anything.

    Args:
        name: Name of the class in `tonic.datasets`, in any case.
        folder: Where tonic stores datasets, its `save_to`, or the folder of this dataset in it.
        say: Called with notes: what is taken of the dataset, and that tonic takes it for incomplete.

    Returns:
        The dataset as the class makes it from its folder alone: the training part where there are two.

    Raises:
        SpecError: There is no such class, or it needs more than a folder.
        CatalogueError: tonic is not installed, there are no files of the dataset, or tonic cannot open them.
    """
    kind = _class_of(name)
    name = kind.__name__
    if folder is None:
        raise CatalogueError(
            f"{TONIC_PREFIX}{name}: no folder given, expected the one that holds {name}; give it with --root"
        )
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
    save_to = whole.parent if whole.name == name and not (whole / name).is_dir() else whole
    try:
        dataset: EventDataset = _guarded(kind, say)(str(save_to))
    except TmktError:
        raise
    except Exception as broken:
        raise CatalogueError(f"{save_to / name}: tonic cannot open it ({_text(broken)}); check the folder") from broken
    if "train" in inspect.signature(kind).parameters:
        other = f"; tmkt-data prepare {OF_TMKT[name]} has its published splits" if name in OF_TMKT else ""
        say(f"note: the training part of {name} in tonic; splits are drawn from it{other}")
    return dataset


def _class_of(name: str) -> Any:
    try:
        from tonic import datasets
        from tonic.dataset import Dataset
    except ImportError as missing:
        raise CatalogueError(
            f"{TONIC_PREFIX}{name}: needs the package tonic; install it with: pip install 'tmkt[tonic]'"
        ) from missing
    kinds = {
        each: kind for each, kind in vars(datasets).items() if isinstance(kind, type) and issubclass(kind, Dataset)
    }
    close = next((each for each in kinds if each.lower() == name.lower()), None)
    if close is None:
        near = difflib.get_close_matches(name.upper(), kinds, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SpecError(f"{TONIC_PREFIX}NAME: found {name!r}, expected one of {', '.join(sorted(kinds))}{hint}")
    _, *others = inspect.signature(kinds[close]).parameters.values()
    needed = [each.name for each in others if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if needed:
        raise SpecError(
            f"{TONIC_PREFIX}{close}: needs {' and '.join(needed)}, which the command line does not have; make it in "
            "Python and give it to tmkt_data.from_tonic"
        )
    return kinds[close]


def _guarded(kind: Any, say: Callable[[str], None]) -> Any:
    """Return a class of tonic that downloads nothing, and whose errors are lines."""
    name = kind.__name__

    class Guarded(kind):  # type: ignore[misc]
        def download(self) -> None:
            place = Path(self.location_on_system)
            if place.is_dir() and any(path.is_file() for path in place.rglob("*")):
                say(f"note: tonic takes {place} for incomplete, or misses the archive; what is there is used")
                return
            call = f"import tonic; tonic.datasets.{name}({str(place.parent)!r})"
            raise CatalogueError(
                f"{place}: nothing there, expected {name} as tonic stores it; tmkt does not download it, tonic does: "
                f"python -c {shlex.quote(call)}"
            )

        def __getitem__(self, index: int) -> Any:
            try:
                return super().__getitem__(index)
            except Exception as broken:
                raise EventError(f"{name}[{index}]: tonic cannot read it ({_text(broken)}); check its file") from broken

    # tonic calls the folder of a dataset as its class.
    Guarded.__name__ = name
    return Guarded


def _text(broken: Exception) -> str:
    return printable(f"{type(broken).__name__}: {broken}".splitlines()[0][:200])
