"""Diagnose a dataset: what is present, missing or damaged, and what to do next."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tmkt_data.datasets.catalogue import Catalogue, some
from tmkt_data.datasets.completeness import compare, torn_pairs
from tmkt_data.datasets.image_reader import Archives, read_pixels
from tmkt_data.datasets.recording_reader import OpenedRecording, RecordingReader
from tmkt_data.datasets.registry import default_spec
from tmkt_data.datasets.source_table import Source
from tmkt_data.datasets.suspicions import RecordingTimes, suspicions
from tmkt_data.errors import CatalogueError, EventError, ImageError, counted
from tmkt_data.events.formats.aedat4 import num_of_other_streams
from tmkt_data.events.formats.atis import BYTES_PER_EVENT
from tmkt_data.events.slices import slice_faults, unread_streams
from tmkt_data.events.time_bins import bin_edges
from tmkt_data.files import decode_text, file_digest, is_refused, read_bytes
from tmkt_data.sample_ids import normal_name
from tmkt_data.sources.misplaced import find_misplaced
from tmkt_data.spec import PrepareSpec
from tmkt_data.storage.member_files import asked_ahead

MAX_NAMED = 10
_SKIP = "--skip-bad"
_REFUSED = "; that is no fault of the file: check the disk, permissions and limits"
_MAX_LIST_BYTES = 1 << 28


@dataclass
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        name: The dataset.
        recordings: Recordings listed.
        images: Images listed.
        twins: Recordings whose twin image is present.
        expected: Recordings in the complete dataset; 0 if unknown.
        expected_images: Images in the complete dataset; 0 if unknown.
        missing_recordings: Number of missing recordings.
        missing_images: Number of missing images.
        misplaced: Samples in the wrong place or with a duplicate number, one line each.
        unexpected: Samples that are not part of the dataset, one line per side.
        notes: What the catalogue excluded or lacks.
        problems: Files that are damaged or empty, one line each.
        next_command: What to run next.
        is_decoded: Whether every file was decoded, and times and polarities of recordings looked at; see `decode_all`.
    """

    name: str
    recordings: int = 0
    images: int = 0
    twins: int = 0
    expected: int = 0
    expected_images: int = 0
    missing_recordings: int = 0
    missing_images: int = 0
    misplaced: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    next_command: str = ""
    is_decoded: bool = False

    @property
    def can_go_on(self) -> bool:
        """Whether `next_command` leaves out what is damaged; files to be made readable first are not left out."""
        return not self.problems or self.next_command.endswith(_SKIP)

    @property
    def is_complete(self) -> bool:
        """Whether both sides have exactly the declared samples and nothing is damaged."""
        return (
            not (self.problems or self.misplaced or self.unexpected or self.missing_recordings or self.missing_images)
            and self.recordings == (self.expected or self.recordings)
            and self.images == (self.expected_images or self.images)
        )


def diagnose(catalogue: Catalogue, options: Sequence[str], folders: Sequence[Path] = ()) -> Diagnosis:
    """Check every file of a catalogue without decoding it, and compare both sides with the declared samples.

    Args:
        catalogue: The dataset.
        options: Command-line options that it was opened with, such as `["--root", "data"]`.
        folders: Where to search for missing files.
    """
    declared = catalogue.declared
    found = Diagnosis(
        name=catalogue.name,
        recordings=len(catalogue.recordings),
        images=len(catalogue.images),
        twins=catalogue.num_twins,
        expected=catalogue.expected,
        expected_images=len(declared.images) or declared.num_images,
        notes=[*catalogue.notes, *catalogue.unmatched_notes()],
    )
    found.missing_recordings = _compare_side(catalogue, "recording", folders, found)
    found.missing_images = _compare_side(catalogue, "image", folders, found)
    if not declared.has_classes:
        pairs = torn_pairs(*([s.id for s in side] for side in (catalogue.recordings, catalogue.images)))
        found.misplaced += [f"recording {one}: its image is {other}; one of them is misplaced" for one, other in pairs]
    for side, sources in (("recording", catalogue.recordings), ("image", catalogue.images)):
        found.problems += [f"{side} {source.id}: {why}" for source in sources if (why := _suspicion(source))]
    unpaired = ["--allow-unpaired"] if catalogue.unpaired_classes() else []
    skip = [_SKIP] if found.problems else []
    found.next_command = shlex.join(["tmkt-data", "prepare", catalogue.name, *options, *unpaired, *skip])
    return found


def _compare_side(catalogue: Catalogue, side: str, folders: Sequence[Path], found: Diagnosis) -> int:
    """Compare one side with the declared samples; return the number missing."""
    sources = catalogue.recordings if side == "recording" else catalogue.images
    declared = catalogue.declared.recordings if side == "recording" else catalogue.declared.images
    difference = compare((s.id for s in sources), declared, has_classes=catalogue.declared.has_classes)
    found.misplaced += [
        f"{side}s {' and '.join(ids)} have the same number; all but one are misplaced" for ids in difference.twice
    ]
    if not difference.missing and not difference.unexpected:
        return 0
    strange = set(difference.unexpected)
    listed = {source.path for source in sources if source.id not in strange}
    suffixes = {source.path.suffix.lower() for source in sources}
    elsewhere = list(find_misplaced(catalogue.name, folders, difference.missing, listed, suffixes))
    for path, ids in elsewhere:
        known = f"{side} {ids[0]}" if len(ids) == 1 else f"one of {len(ids)} missing {side}s ({some(ids)})"
        found.misplaced.append(f"{_below(path, folders)} seems to be {known}; move it there")
    moved = {path for path, _ in elsewhere}
    rest = [source.id for source in sources if source.id in strange and source.path not in moved]
    if rest:
        found.unexpected.append(f"{counted(len(rest), side)} not part of the dataset: {some(rest)}")
    return len(difference.missing)


def _below(path: Path, folders: Sequence[Path]) -> str:
    """Return a path relative to the nearest of the folders."""
    inside = [folder for folder in folders if path.is_relative_to(folder)]
    return str(path.relative_to(max(inside, key=lambda folder: len(folder.parts)))) if inside else str(path)


def _suspicion(source: Source) -> str:
    if source.num_bytes == 0:
        return f"{source.path.name} is empty; fetch it again"
    if source.file.endswith((".bin", ".bs2")) and source.item < 0 and source.num_bytes % BYTES_PER_EVENT:
        return f"{source.path.name} has {source.num_bytes} bytes, not a multiple of the event size; fetch it again"
    return ""


def decode_all(catalogue: Catalogue, found: Diagnosis) -> Iterator[int]:
    """Decode every recording and image; failures are added to the problems, what looks wrong to the notes.

    Yields:
        Number of samples checked so far.
    """
    if catalogue.kind == "slices":
        for path in sorted({source.path for source in catalogue.recordings}, key=os.fsencode):
            # An unreadable CSV is reported with its samples.
            with contextlib.suppress(EventError):
                found.notes += [*unread_streams(path), *slice_faults(path)]
    spec = default_spec(catalogue.name)
    reader = RecordingReader(catalogue, spec)
    read: list[tuple[Source, tuple[int, ...]]] = []
    archives: Archives = {}
    known = {problem.partition(":")[0] for problem in found.problems}
    done, must_fix = 0, False
    for side, sources in (("recording", catalogue.recordings), ("image", catalogue.images)):
        with asked_ahead([source.file if source.item < 0 else "" for source in sources]) as ask:
            for at, source in enumerate(sources):
                ask(at)
                try:
                    if side == "recording":
                        read.append((source, _times_of(reader.open(source), spec)))
                    else:
                        read_pixels(source, archives)
                except (EventError, ImageError) as broken:
                    if f"{side} {source.id}" not in known:
                        found.problems.append(f"{side} {source.id}: {broken}{_REFUSED if is_refused(broken) else ''}")
                        must_fix |= is_refused(broken) or _needs_option(catalogue, broken)
                done += 1
                yield done
        if side == "recording" and read:
            times = RecordingTimes(*np.array([numbers for _, numbers in read], np.int64).T)
            found.notes += suspicions([source for source, _ in read], times, catalogue, spec)
    found.is_decoded = True
    found.next_command = found.next_command.removesuffix(f" {_SKIP}")
    if found.problems and not must_fix:
        found.next_command += f" {_SKIP}"


def _needs_option(catalogue: Catalogue, broken: Exception) -> bool:
    """Return whether a setting of the folder would make a file readable, so that leaving it out is the wrong advice."""
    return catalogue.name == "folder" and re.search(r"(\(|check )--\w", str(broken)) is not None


def _times_of(recording: OpenedRecording, spec: PrepareSpec) -> tuple[int, ...]:
    """Return the numbers of a recording in `RecordingTimes`."""
    facts = recording.facts
    edges = bin_edges(facts.t_first, facts.t_last, spec.time_bins, spec.bin_rule)
    per_bin = sum(np.diff(np.searchsorted(events.t, edges)) for events in recording.pieces())
    num_others = num_of_other_streams(facts.num_dropped)
    return facts.t_last - facts.t_first, facts.num_kept, int(np.max(per_bin)), facts.polarities, num_others


def list_digests(catalogue: Catalogue, folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the path and the SHA-256 of each file of a catalogue, sorted by path.

    Args:
        catalogue: The dataset.
        folders: Folders of its sides; paths are relative to the nearest, so they do not depend on where the dataset
            is stored.

    Raises:
        CatalogueError: A file cannot be read.
    """
    unsorted = ((_below(Path(file), folders), file) for file in files_of(catalogue))
    named = sorted(unsorted, key=lambda pair: os.fsencode(pair[0]))
    with asked_ahead([file for _, file in named]) as ask:
        for at, (name, file) in enumerate(named):
            ask(at)
            yield name, file_digest(Path(file), "sha256", error=CatalogueError)


def files_of(catalogue: Catalogue) -> set[str]:
    """Return the files of both sides, without duplicates."""
    return {source.file for side in (catalogue.recordings, catalogue.images) for source in side}


def format_digests(digests: Mapping[str, str]) -> str:
    """Format digests like `sha256sum`, so that `sha256sum -c` can check them."""
    return "".join(f"{digest}  {path}\n" for path, digest in digests.items())


def read_digests(path: Path) -> dict[str, str]:
    """Read a list in the format of `sha256sum`.

    Raises:
        CatalogueError: The file cannot be read, or a line is malformed.
    """
    data = read_bytes(path, limit=_MAX_LIST_BYTES, error=CatalogueError)
    text = decode_text(data, errors="surrogateescape")
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        digest, gap, name = line[:64], line[64:66], line[66:]
        if gap not in ("  ", " *") or not name or any(letter not in "0123456789abcdef" for letter in digest):
            raise CatalogueError(f"{path.name}, row {number}: found {line[:80]!r}, expected a SHA-256 and a path")
        found[name] = digest
    return found


def compare_digests(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Return one line per kind of difference between two lists; none if they agree."""
    here, there = ({normal_name(name): digest for name, digest in side.items()} for side in (here, there))
    kinds = {
        "changed": [name for name in there if name in here and here[name] != there[name]],
        "missing": [name for name in there if name not in here],
        "new": [name for name in here if name not in there],
    }
    return [f"{counted(len(names), 'file')} {kind}: {some(names)}" for kind, names in kinds.items() if names]
