"""Facts about a dataset: origin, license, folder layout; and the error raised when it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tmkt_data.errors import CatalogueError, printable
from tmkt_data.spec import Canvas, ImageDecode, Side


class MissingDataError(CatalogueError):
    """A side of a dataset was not found where it was searched for.

    Args:
        lines: Lines to print; control characters in paths are escaped.
        found: The side that was found: `recordings`, `images`, or `""` for neither.

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
        name: Name, as in `tmkt-data prepare NAME`.
        title: One line.
        homes: Where to get it, one line per side.
        license: License of the data.
        tree: Expected folder layout below the root.
        size: Default height and width of a frame.
        recipe: Recipe that trains on the default cache.
        canvas: Default canvas: `tight` if the recordings differ in size.
        time_bins: Default number of time bins.
        image_decode: Default decoding of images: `scaled` for JPEG photographs.
        recorded_with: What its recordings are simulated with, see `shown.camera_identity`; empty for real ones.
    """

    name: str
    title: str
    homes: tuple[str, ...]
    license: str
    tree: tuple[str, ...]
    size: int
    recipe: str
    canvas: Canvas = "fixed"
    time_bins: int = 10
    image_decode: ImageDecode = "full"
    recorded_with: str = ""


def missing_data(info: DatasetInfo, what: str, looked: Sequence[Path], found: Side = "") -> MissingDataError:
    """Build the error for a missing side of a dataset: where it was searched for, where to get it, what to try.

    Args:
        info: The dataset.
        what: The missing side, with an example.
        looked: Folders that were searched.
        found: The other side, if it was found.
    """
    where = ", ".join(printable(str(path)) for path in looked) or "nowhere (no --root given)"
    lines = [
        f"{info.name}: no {what} found; give the folder with --root, or --events and --images",
        f"  looked in: {where}",
        "  expected:",
        *(f"    {line}" for line in info.tree),
        "  get it from:",
        *(f"    {line}" for line in info.homes),
        f"  license: {info.license}",
        "  to try without it: tmkt-data prepare digits",
    ]
    return MissingDataError(*lines, found=found)
