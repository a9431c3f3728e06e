"""What a dataset is, where it comes from and how its folders look: plain facts, and the message when it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tmkt_data.errors import CatalogueError, printable
from tmkt_data.spec import Canvas, ImageDecode, Side


class MissingDataError(CatalogueError):
    """A side of a dataset is not where it was sought; it may be elsewhere.

    Args:
        lines: What to print; paths in them have their control characters escaped.
        found: The side that is there: `recordings`, `images`, or `""` for neither.

    Attributes:
        lines: As given.
        found: As given.
    """

    def __init__(self, *lines: str, found: Side = "") -> None:
        super().__init__("\n".join(lines))
        self.lines, self.found = lines, found


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Facts about one dataset.

    Attributes:
        name: As `tmkt-data prepare NAME` takes it.
        title: One line.
        homes: Where to get it, one line a side.
        licence: Licence of the data.
        tree: The folders as they are expected below the root.
        size: Default height and width of a frame.
        recipe: Recipe that trains on the cache as it comes.
        canvas: Default canvas: `tight` where the size of a recording differs from file to file.
        time_bins: Default number of time bins.
        image_decode: Default decoding of images: `scaled` where they are photographs as JPEG.
    """

    name: str
    title: str
    homes: tuple[str, ...]
    licence: str
    tree: tuple[str, ...]
    size: int
    recipe: str
    canvas: Canvas = "fixed"
    time_bins: int = 10
    image_decode: ImageDecode = "full"


def missing_data(info: DatasetInfo, what: str, looked: Sequence[Path], found: Side = "") -> MissingDataError:
    """Build the error for a side of a dataset that is not there: where it was sought, what to fetch, what to try.

    Args:
        info: The dataset.
        what: The side that is missing, and an example.
        looked: Folders that it was sought in.
        found: The other side, where that is there.
    """
    where = ", ".join(printable(str(path)) for path in looked) or "nowhere (no --root given)"
    lines = [
        f"{info.name}: no {what} found; give the folder with --root, or --events and --images",
        f"  looked in: {where}",
        "  expected:",
        *(f"    {line}" for line in info.tree),
        "  get it from:",
        *(f"    {line}" for line in info.homes),
        f"  licence: {info.licence}",
        "  to try without it: tmkt-data prepare digits",
    ]
    return MissingDataError(*lines, found=found)
