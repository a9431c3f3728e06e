"""What of a dataset is there, what is missing or damaged, and what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tmkt_data.datasets.catalogue import Catalogue, Source, some
from tmkt_data.datasets.open import default_spec
from tmkt_data.errors import CatalogueError, EventError, ImageError
from tmkt_data.io.archives import file_digest
from tmkt_data.io.atis import BYTES_PER_EVENT
from tmkt_data.io.files import read_bytes
from tmkt_data.source_reader import Archives, RecordingReader, read_pixels

MAX_NAMED = 10
_MAX_LIST_BYTES = 1 << 28


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        name: The dataset.
        recordings: Recordings listed.
        images: Images listed.
        twins: Recordings whose own image is there.
        expected: Recordings of the complete set; 0 where unknown.
        notes: What the catalogue left out or misses.
        problems: Files that are damaged or empty, one line each.
        next_command: What to run next.
    """

    name: str
    recordings: int = 0
    images: int = 0
    twins: int = 0
    expected: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    next_command: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing and nothing is damaged."""
        return not self.problems and (not self.expected or self.recordings == self.expected)


def diagnose(catalogue: Catalogue, options: Sequence[str]) -> Diagnosis:
    """Look at every file of a catalogue without decoding it.

    Args:
        catalogue: The dataset.
        options: What it was opened with on the command line, such as `["--root", "data"]`.
    """
    found = Diagnosis(
        name=catalogue.name,
        recordings=len(catalogue.recordings),
        images=len(catalogue.images),
        twins=catalogue.num_twins,
        expected=catalogue.expected,
        notes=[*catalogue.notes, *catalogue.unmatched_notes()],
    )
    for side, sources in (("recording", catalogue.recordings), ("image", catalogue.images)):
        found.problems += [f"{side} {source.id}: {why}" for source in sources if (why := _suspicion(source))]
    unpaired = ["--allow-unpaired"] if catalogue.unpaired_classes() else []
    skip = ["--skip-bad"] if found.problems else []
    found.next_command = shlex.join(["tmkt-data", "prepare", catalogue.name, *options, *unpaired, *skip])
    return found


def _suspicion(source: Source) -> str:
    if source.num_bytes == 0:
        return f"{source.path.name} is empty; fetch it again"
    if source.path.suffix in (".bin", ".bs2") and source.item < 0 and source.num_bytes % BYTES_PER_EVENT:
        return f"{source.path.name} has {source.num_bytes} bytes, no whole number of events; fetch it again"
    return ""


def decode_all(catalogue: Catalogue, found: Diagnosis) -> Iterator[int]:
    """Decode every recording and image; what cannot be decoded is added to the problems.

    Yields:
        Samples looked at so far.
    """
    reader = RecordingReader(catalogue, default_spec(catalogue.name))
    archives: Archives = {}
    known = {problem.partition(":")[0] for problem in found.problems}
    done = 0
    for side, sources in (("recording", catalogue.recordings), ("image", catalogue.images)):
        for source in sources:
            try:
                if side == "recording":
                    reader.open(source)
                else:
                    read_pixels(source, archives)
            except (EventError, ImageError) as broken:
                if f"{side} {source.id}" not in known:
                    found.problems.append(f"{side} {source.id}: {broken}")
            done += 1
            yield done


def list_digests(catalogue: Catalogue, base: Path) -> Iterator[tuple[str, str]]:
    """Yield the path below `base` and the SHA-256 of each file of a catalogue, sorted by path.

    Raises:
        CatalogueError: A file that cannot be read.
    """
    paths = sorted({source.path for source in (*catalogue.recordings, *catalogue.images)}, key=os.fsencode)
    for path in paths:
        yield os.path.relpath(path, base), file_digest(path, "sha256")


def format_digests(digests: Mapping[str, str]) -> str:
    """Return digests as `sha256sum` writes them, so that `sha256sum -c` checks them too."""
    return "".join(f"{digest}  {path}\n" for path, digest in digests.items())


def read_digests(path: Path) -> dict[str, str]:
    """Read a list as `sha256sum` writes it.

    Raises:
        CatalogueError: The file cannot be read, or a line that is none.
    """
    text = read_bytes(path, limit=_MAX_LIST_BYTES, error=CatalogueError).decode("utf-8", errors="surrogateescape")
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        digest, gap, name = line[:64], line[64:66], line[66:]
        if gap not in ("  ", " *") or not name or any(letter not in "0123456789abcdef" for letter in digest):
            raise CatalogueError(f"{path.name}, row {number}: found {line[:80]!r}, expected a SHA-256 and a path")
        found[name] = digest
    return found


def compare_digests(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Return one line for each way in which two lists differ; none where they agree."""
    kinds = {
        "changed": [name for name in there if name in here and here[name] != there[name]],
        "missing": [name for name in there if name not in here],
        "new": [name for name in here if name not in there],
    }
    return [f"{len(names)} files {kind}: {some(names)}" for kind, names in kinds.items() if names]
