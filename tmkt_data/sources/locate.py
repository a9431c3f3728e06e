"""Find a dataset in a folder, its parents, an archive or a folder of archives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tmkt_data.cache.format import refuse_cache
from tmkt_data.datasets.catalogue import Catalogue, as_spelled, some
from tmkt_data.datasets.folder_settings import SETTINGS_NAME
from tmkt_data.datasets.info import MissingDataError
from tmkt_data.datasets.registry import open_catalogue
from tmkt_data.errors import CatalogueError, counted, printable
from tmkt_data.sources.archives import is_archive
from tmkt_data.sources.foreign import ForeignPlaces, Place, Say
from tmkt_data.sources.unpacked import remove_unused, require_whole
from tmkt_data.sources.urls import known_file
from tmkt_data.spec import ClassSet, Side
from tmkt_data.storage.member_files import is_file, scan

MAX_DEPTH = 2
MAX_FOLDERS = 40
MAX_ARCHIVES = 40


class Sources(NamedTuple):
    """A dataset that was found.

    Attributes:
        catalogue: Its samples.
        bases: Folders of its sides; relative to them, file names are the same wherever the dataset is stored.
    """

    catalogue: Catalogue
    bases: tuple[Path, ...]


class Locations(NamedTuple):
    """Where to look for a dataset: folders, archives, or URLs of object stores as text, see `stores.is_url`.

    Attributes:
        root: Folder or archive that contains both sides, or a folder up to two levels above.
        events: The same for recordings only.
        images: The same for images only.
    """

    root: Path | str | None = None
    events: Path | str | None = None
    images: Path | str | None = None


@contextmanager
def find_sources(
    name: str,
    given: Locations,
    class_set: ClassSet = "all",
    *,
    unpack_to: Path,
    unpack: bool = False,
    say: Say = lambda _: None,
) -> Iterator[Sources]:
    """Find a dataset in folders, in archives, or below a parent folder.

    If a folder contains archives of one side and files of the other, both are used. While the block runs, no other
    process removes what the archives were unpacked into.

    Args:
        name: Name of the dataset.
        given: Where to search.
        class_set: See `open_catalogue`.
        unpack_to: Folder that archives are unpacked into, or the lists of their members are written to; what is there
            of the same archives is reused.
        unpack: Whether to unpack archives that could be read in place.
        say: Called with messages about unpacking and where data was found.

    Yields:
        The dataset.

    Raises:
        CatalogueError: The dataset is not found, several folders of one's own are, an archive cannot be unpacked, or
            files are gone from the folder that it was unpacked into.
    """
    with ExitStack() as held:
        foreign = ForeignPlaces(name, unpack_to, is_unpacked=unpack, say=say, held=held)
        finder = _Finder(name, class_set, foreign, say)
        sides: tuple[Side, ...] = ("", "recordings", "images")
        spelled = (as_spelled(path) if isinstance(path, Path) else path for path in given)
        places = [finder.places(path, side) for path, side in zip(spelled, sides, strict=True)]
        found = finder.find(*places)
        folders = [place.folder for side in places for place in side if place.is_foreign]
        unpacked = [folder for folder in folders if folder.is_dir()]
        for folder in unpacked:
            # Checked after the files were listed: those that go later are missed when they are read.
            require_whole(folder)
        if found is not None:
            foreign.require_small(found.catalogue)
            for hint in finder.hints:
                say(f"note: {hint}")
            yield found
            return
    finder.remove_useless(unpacked)
    raise finder.missing()


class _Finder:
    """Tries folders until one contains the dataset, and records why the others do not."""

    def __init__(self, name: str, class_set: ClassSet, foreign: ForeignPlaces, say: Say) -> None:
        self._name, self._class_set, self._foreign, self._say = name, class_set, foreign, say
        self._failures: list[MissingDataError] = []
        self.hints: list[str] = []

    def places(self, path: Path | str | None, side: Side) -> list[Place]:
        """Return the folders to search for a path: itself, and its unpacked archives.

        Args:
            path: Folder, archive or URL; None if not given.
            side: Side that it should contain; `""` for both.
        """
        if path is None:
            return []
        if isinstance(path, str):
            return [self._foreign.store(path)]
        if path.is_file():
            refuse_cache(path, "the files of a dataset")
            if not is_archive(path):
                raise CatalogueError(
                    f"{path}: a file, expected a folder, a zip or a tar; give the folder that contains it"
                )
            return [self._foreign.archives([path])]
        archives = sorted(p for p in path.iterdir() if is_archive(p) and p.is_file()) if path.is_dir() else []
        if not archives or self._is_held(Place(path), side):
            return [Place(path)]
        known = self._known(archives)
        chosen = known or (archives if not any(True for _ in folders_below(path, 1)) else [])
        chosen = chosen if len(chosen) <= MAX_ARCHIVES else []
        ignored = [archive.name for archive in archives if archive not in chosen]
        if ignored:
            self._hint(
                f"not searched: {counted(len(ignored), 'archive')} in {printable(str(path))} ({some(ignored)}); "
                "give one with --root, --events or --images"
            )
        return [Place(path), self._foreign.archives(chosen)] if chosen else [Place(path)]

    def _known(self, archives: Sequence[Path]) -> list[Path]:
        """Return the archives with a known name; only the first of those with equal published digests."""
        chosen: dict[str, Path] = {}
        for archive in archives:
            known = known_file(self._name, archive.name)
            if known is not None:
                chosen.setdefault(known.published[1] or archive.name, archive)
        return list(chosen.values())

    def find(self, roots: list[Place], events: list[Place], images: list[Place]) -> Sources | None:
        """Try the places, then the folders below them, for both sides together and for each alone."""
        maybe: list[Sequence[Place | None]] = [side or [None] for side in (roots, events, images)]
        for root, event_place, image_place in product(*maybe):
            found = self._open(root, event_place, image_place)
            if found is not None:
                return found
        below = [place for root in roots for place in self._below(root)]
        if self._name == "folder" and roots:
            _require_one(roots[0].folder, [place.folder for place in below])
        for root, event_place, image_place in product(below, maybe[1], maybe[2]):
            found = self._open(root, event_place, image_place)
            if found is not None:
                self._say(f"found in {root.folder}")
                return found
        return self._find_sides([*roots, *below], roots, events, images)

    def _find_sides(
        self, anywhere: list[Place], roots: list[Place], events: list[Place], images: list[Place]
    ) -> Sources | None:
        event_places = [*events, *(place for given in events for place in self._below(given))] or anywhere
        image_places = [*images, *(place for given in images for place in self._below(given))] or anywhere
        candidates: Sequence[Place | None] = roots or [None]
        for root in candidates:
            with_events = [place for place in event_places if self._holds("recordings", root, place, None)]
            with_images = [place for place in image_places if self._holds("images", root, None, place)]
            for event_place, image_place in product(with_events, with_images):
                found = self._open(root, event_place, image_place)
                if found is not None:
                    self._say(f"found recordings in {event_place.folder} and images in {image_place.folder}")
                    return found
        return None

    def _open(self, root: Place | None, events: Place | None, images: Place | None) -> Sources | None:
        try:
            return self._opened(root, events, images)
        except MissingDataError as missing:
            self._failures.append(missing)
            return None

    def _opened(self, root: Place | None, events: Place | None, images: Place | None) -> Sources:
        given = [place for place in (root, events, images) if place is not None]
        catalogue = open_catalogue(
            self._name,
            root.folder if root is not None else None,
            events.folder if events is not None else None,
            images.folder if images is not None else None,
            self._class_set,
            is_foreign=any(place.is_foreign for place in given),
        )
        return Sources(catalogue, tuple(place.folder for place in given))

    def _holds(self, side: Side, root: Place | None, events: Place | None, images: Place | None) -> bool:
        try:
            self._opened(root, events, images)
        except MissingDataError as missing:
            return missing.found == side
        except CatalogueError:
            return False
        return True

    def _is_held(self, place: Place, side: Side) -> bool:
        match side:
            case "recordings":
                return self._holds(side, None, place, None)
            case "images":
                return self._holds(side, None, None, place)
            case "":
                return self._open(place, None, None) is not None

    def _below(self, place: Place) -> list[Place]:
        found = list(folders_below(place.folder, limit=MAX_FOLDERS + 1))
        if len(found) > MAX_FOLDERS:
            self._hint(
                f"{printable(str(place.folder))} has more than the {MAX_FOLDERS} folders that were searched; "
                "give the folder of the dataset itself"
            )
        return [Place(folder, place.is_foreign) for folder in found[:MAX_FOLDERS]]

    def _hint(self, line: str) -> None:
        if line not in self.hints:
            self.hints.append(line)

    def missing(self) -> MissingDataError:
        """Return the closest failure, with notes on what was not searched."""
        nearest = next((failure for failure in self._failures if failure.found), self._failures[0])
        return MissingDataError(*nearest.lines, *(f"  note: {hint}" for hint in self.hints), found=nearest.found)

    def remove_useless(self, folders: Iterable[Path]) -> None:
        """Remove unpacked folders without any data of the dataset, unless others use them."""
        for folder in folders:
            if not any(self._holds_any(place) for place in (folder, *folders_below(folder))) and remove_unused(folder):
                self._hint(f"{printable(str(folder))}: unpacked, has no data of the dataset, removed")

    def _holds_any(self, folder: Path) -> bool:
        try:
            open_catalogue(self._name, folder, is_foreign=True)
        except MissingDataError as missing:
            return missing.found != ""
        except CatalogueError:
            return True
        return True


def _require_one(root: Path, below: Sequence[Path]) -> None:
    """Refuse to choose between folders of one's own, which are different datasets.

    Raises:
        CatalogueError: There are several.
    """
    own = [folder for folder in below if is_file(folder / SETTINGS_NAME)]
    outer = [folder for folder in own if not any(other in folder.parents for other in own)]
    if len(outer) > 1:
        names = some(
            [str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder) for folder in outer]
        )
        raise CatalogueError(
            f"{printable(str(root))}: found {len(outer)} folders with {SETTINGS_NAME} ({names}), expected one; give "
            "the one to use with --root"
        )


def folders_below(folder: Path, depth: int = MAX_DEPTH, *, limit: int = MAX_FOLDERS) -> Iterator[Path]:
    """Yield the subfolders of a folder breadth-first, without following links.

    Args:
        folder: Where to start.
        depth: Maximum depth.
        limit: Maximum number of folders.
    """
    level = [folder]
    left = limit
    for _ in range(depth):
        below: list[Path] = []
        for parent in level:
            try:
                with scan(parent) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            below += [parent / name for name in sorted(names, key=os.fsencode) if not name.startswith(".")]
        yield from below[:left]
        left -= len(below)
        if left <= 0:
            return
        level = below
