"""Find files of a dataset outside their expected folder or class."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tmkt_data.storage.member_files import scan
from tmkt_data.storage.member_list import split_member

MAX_FILES = 1_000_000
_PATTERNS: dict[str, re.Pattern[str]] = {
    "ncaltech101": re.compile(r"(?P<number>image_\d{4})"),
    "caltech101-twins": re.compile(r"(?P<number>image_\d{4})"),
    "nmnist": re.compile(r"(?P<number>\d{5})"),
    "digits": re.compile(r"(?P<number>\d{5})"),
    "cepdvs": re.compile(r"(?P<number>\d+)"),
    "cifar10dvs": re.compile(r"cifar10_(?P<name>[a-z]+)_(?P<number>\d{1,3})"),
    "nomniglot": re.compile(r"(?P<name>\d{4})(_(?P<number>\d{2}))?"),
}
"""What a lower-case file stem reveals about the sample id."""
_DIGITS = {"cepdvs": 5, "cifar10dvs": 4}


class Misplaced(NamedTuple):
    """A file that may be a missing sample.

    Attributes:
        path: Path of the file.
        ids: Candidate missing ids.
    """

    path: Path
    ids: tuple[str, ...]


def find_misplaced(
    dataset: str, folders: Sequence[Path], missing: Sequence[str], listed: set[Path], suffixes: set[str]
) -> Iterator[Misplaced]:
    """Search for missing samples among the files that are not listed.

    Args:
        dataset: Name of the dataset.
        folders: Folders to search recursively; links are not followed.
        missing: Missing ids; without classes if the dataset numbers samples across them.
        listed: Files that are in the right place.
        suffixes: File suffixes of that side, in lower case.

    Yields:
        Files named like missing samples: of the class of their folder (ignoring case) if that one is missing, else of
        any class.
    """
    pattern = _PATTERNS.get(dataset)
    if pattern is None or not missing:
        return
    by_number: dict[str, list[str]] = {}
    for sample in missing:
        by_number.setdefault(sample.rpartition("/")[2], []).append(sample)
    for path in _files_below(folders):
        match = pattern.fullmatch(path.stem.lower())
        if match is None or path in listed or path.suffix.lower() not in suffixes:
            continue
        ids = _ids_of(dataset, path, match.groupdict(), by_number)
        if ids:
            yield Misplaced(path, tuple(ids))


def _files_below(folders: Sequence[Path]) -> Iterator[Path]:
    left = MAX_FILES
    seen: set[str] = set()
    for folder in folders:
        for at, names, files in walk(folder):
            if at in seen:
                continue
            seen.add(at)
            names[:] = sorted((name for name in names if not name.startswith(".")), key=os.fsencode)
            for name in sorted(files, key=os.fsencode):
                left -= 1
                if left < 0:
                    return
                yield Path(at, name)


def walk(folder: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does, below a list of members, too."""
    if split_member(folder, or_list=True) is None:
        yield from os.walk(folder)
        return
    with scan(folder) as found:
        entries = list(found)
    names = [entry.name for entry in entries if entry.is_dir()]
    yield os.fspath(folder), names, [entry.name for entry in entries if entry.is_file()]
    for name in names:
        yield from walk(os.path.join(folder, name))  # noqa: PTH118 - once a folder


def _ids_of(dataset: str, path: Path, said: dict[str, str | None], by_number: dict[str, list[str]]) -> list[str]:
    """Return the missing ids that match a file, by its name and then by its folder."""
    number, name = said["number"], said.get("name")
    if number is None:
        return [sample for samples in by_number.values() for sample in samples if sample.startswith(f"{name}/")]
    if dataset == "nmnist":
        part = "test" if "test" in (folder.lower() for folder in path.parts) else "train"
        number = f"{part}-{number}"
    if dataset in _DIGITS:
        number = f"{int(number):0{_DIGITS[dataset]}d}"
    ids = by_number.get(number, [])
    wanted = name if name is not None else path.parent.name.lower()
    of_class = [sample for sample in ids if sample.partition("/")[0].lower() == wanted]
    return of_class if of_class or name is not None else ids
