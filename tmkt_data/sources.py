"""From what the user gives, a folder, its parent, an archive or a folder of archives, to a catalogue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.downloads import check_known, known_file
from tmkt_data.datasets.info import MissingDataError
from tmkt_data.datasets.open import open_catalogue
from tmkt_data.errors import CatalogueError
from tmkt_data.io.archives import is_archive, unpack_archives
from tmkt_data.spec import ClassSet

MAX_DEPTH = 2
MAX_FOLDERS = 40
MAX_ARCHIVES = 40
Say = Callable[[str], None]


def open_sources(
    name: str,
    root: Path | None,
    events: Path | None,
    images: Path | None,
    class_set: ClassSet = "all",
    *,
    unpack_to: Path,
    say: Say = lambda _: None,
) -> Catalogue:
    """List a dataset from folders, from archives, or from the folder above.

    Args:
        name: Name of the dataset.
        root: Folder or archive that holds both sides; or a folder that holds it, up to two levels above.
        events: The same for the recordings alone.
        images: The same for the images alone.
        class_set: See `open_catalogue`.
        unpack_to: Folder that archives are unpacked into; what is there already is used again.
        say: Is told what is unpacked and where data was found.

    Raises:
        CatalogueError: Nothing of the dataset is there, or an archive that cannot be unpacked.
    """
    root, events, images = (_unpacked(name, path, unpack_to, say) for path in (root, events, images))
    try:
        return open_catalogue(name, root, events, images, class_set)
    except MissingDataError as missing:
        found = _search(name, root, events, images, class_set, say)
        if found is None:
            raise missing
        return found


def _search(
    name: str, root: Path | None, events: Path | None, images: Path | None, class_set: ClassSet, say: Say
) -> Catalogue | None:
    roots = [] if root is None else list(folders_below(root))
    for folder in roots:
        try:
            found = open_catalogue(name, folder, events, images, class_set)
        except MissingDataError:
            continue
        say(f"found in {folder}")
        return found
    sides = (
        roots if events is None else [events, *folders_below(events)],
        roots if images is None else [images, *folders_below(images)],
    )
    for event_folder, image_folder in product(*sides):
        try:
            found = open_catalogue(name, root, event_folder, image_folder, class_set)
        except CatalogueError:
            continue
        say(f"found recordings in {event_folder} and images in {image_folder}")
        return found
    return None


def folders_below(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Yield the folders in a folder, nearest first, at most 40 of them; links are not followed.

    Args:
        folder: Where to begin.
        depth: How far down.
    """
    level = [folder]
    left = MAX_FOLDERS
    for _ in range(depth):
        below: list[Path] = []
        for parent in level:
            try:
                with os.scandir(parent) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            below += [parent / name for name in sorted(names, key=os.fsencode) if not name.startswith(".")]
        yield from below[:left]
        left -= len(below)
        if left <= 0:
            return
        level = below


def _unpacked(name: str, path: Path | None, unpack_to: Path, say: Say) -> Path | None:
    """Return the folder that a path stands for: itself, or what its archives were unpacked to."""
    if path is None:
        return None
    if path.is_file():
        if not is_archive(path):
            raise CatalogueError(f"{path}: a file, expected a folder, a zip or a tar; give the folder that holds it")
        return _unpack_all(name, [path], unpack_to, say)
    archives = sorted(p for p in path.iterdir() if is_archive(p) and p.is_file()) if path.is_dir() else []
    known = [archive for archive in archives if known_file(name, archive.name)]
    chosen = known or (archives if not any(True for _ in folders_below(path, 1)) else [])
    if not 0 < len(chosen) <= MAX_ARCHIVES:
        return path
    try:
        open_catalogue(name, path)
    except MissingDataError:
        return _unpack_all(name, chosen, unpack_to, say)
    return path


def _unpack_all(name: str, archives: list[Path], unpack_to: Path, say: Say) -> Path:
    digest = hashlib.sha256()
    for archive in archives:
        status = archive.stat()
        digest.update(f"{archive.absolute()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    target = unpack_to / f"{name}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    folders: dict[Path, str] = {}
    for archive in archives:
        known, md5 = known_file(name, archive.name), check_known(name, archive)
        folders[archive] = known.folder if known is not None else "."
        say(f"unpacking {archive} to {target}" + (f" (md5 {md5}, as published)" if md5 else ""))
    for _ in unpack_archives(folders, target):
        pass
    return target
