"""Options of commands that prepare a dataset: where its sources lie, and each field of `PrepareSpec`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tmkt_data.cli.console import SENSOR, kept_when_stopped, progress_bar, say, say_notes
from tmkt_data.cli.paths import SourcePath
from tmkt_data.cli.reader_options import read_as_given, require_own_files
from tmkt_data.datasets.info import DatasetInfo
from tmkt_data.errors import CatalogueError, SpecError, counted
from tmkt_data.spec import DEFAULTS, KINDS, OPTIONS, TONIC_PREFIX, PrepareSpec

if TYPE_CHECKING:
    from tmkt_data.datasets.catalogue import Catalogue

_ANY = SourcePath(path_type=Path)
_KINDS = {int: int, float: float, tuple[int, int]: SENSOR}
_BY_DATASET = {field.name for field in dataclasses.fields(DatasetInfo)} & set(OPTIONS)


def spec_options(function: Any) -> Any:
    """Add an option for each field of `PrepareSpec`."""
    for name, option in reversed(OPTIONS.items()):
        choices = "|".join(get_args(KINDS[name])) if KINDS[name] not in _KINDS else ""
        text = option.text if len(choices) < 40 else f"{option.text} One of {choices.replace('|', ', ')}."
        default = option.absent or str(DEFAULTS[name]) + (" or the dataset's" if name in _BY_DATASET else "")
        limits = f"; {option.low} to {option.high}" if option.low > -(10**6) and option.high < 10**6 else ""
        function = click.option(
            f"--{name.replace('_', '-')}",
            type=_KINDS.get(KINDS[name], str),
            metavar=(choices if len(choices) < 40 else "NAME") or None,
            help=f"{text}  [default: {default}{limits}]",
        )(function)
    return function


def source_options(function: Any) -> Any:
    """Add the options that say where a dataset lies."""
    for option in (
        click.option("--unpack", is_flag=True, help="Unpack archives, also those that can be read in place."),
        click.option("--images", type=_ANY, help="Folder, archive or URL of the images, if outside --root."),
        click.option("--events", type=_ANY, help="Folder, archive or URL of the recordings, if outside --root."),
        click.option("--root", type=_ANY, help="Folder, parent folder, archive or URL that contains both sides."),
    ):
        function = option(function)
    return function


@contextmanager
def open_sources(
    name: str, given: Sequence[Path | str | None], spec: PrepareSpec, options: Mapping[str, Any]
) -> Iterator[Catalogue]:
    """Find or make the sources, and print what they hold and leave out.

    While the block runs, no other process removes what was unpacked of them.

    Args:
        name: The dataset.
        given: Root, folder of the recordings, folder of the images.
        spec: The options of the cache.
        options: `allow_unpaired`, `unpack`, and those of `reader_options`.

    Raises:
        CatalogueError: There are classes without images, and not `allow_unpaired`.
        SpecError: An option of readers is given for a dataset whose files are known.
    """
    require_own_files(name, options)
    with _opened(name, given, spec, unpack=options["unpack"]) as found:
        catalogue = read_as_given(found, options)
        _report(catalogue)
        if not options["allow_unpaired"]:
            _require_images(catalogue)
        yield catalogue


@contextmanager
def _opened(name: str, given: Sequence[Path | str | None], spec: PrepareSpec, *, unpack: bool) -> Iterator[Catalogue]:
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.registry import MADE_IN
    from tmkt_data.sources.locate import Locations, find_sources

    if name.startswith(TONIC_PREFIX) or name in MADE_IN:
        yield _made(name, *local_paths(name, given), spec=spec)
        return
    unpack_to, places = cache_directory() / "sources", Locations(*given)
    with find_sources(name, places, spec.class_set, unpack_to=unpack_to, unpack=unpack, say=say) as found:
        yield found.catalogue


def local_paths(name: str, given: Sequence[Path | str | None]) -> list[Path | None]:
    """Return the paths of a dataset whose recordings are made or exported on this machine.

    Raises:
        SpecError: One is a URL.
    """
    for url in given:
        if isinstance(url, str):
            raise SpecError(
                f"{url}: {name} is made on this machine, expected a path of a file system; copy it to a disk"
            )
    return [path for path in given if not isinstance(path, str)]


def _made(name: str, root: Path | None, events: Path | None, images: Path | None, *, spec: PrepareSpec) -> Catalogue:
    from tmkt_data.datasets.registry import open_catalogue

    if name.startswith(TONIC_PREFIX):
        return _export_tonic(name, events or root, images, spec)
    if name == "digits":
        if events is not None or images is not None:
            raise click.UsageError("digits is generated by tmkt; omit --events and --images")
        return open_catalogue(name, _write_digits(root))
    if events is not None:
        raise click.UsageError("caltech101-twins simulates its recordings; omit --events")
    events = _write_twins(root, images)
    return open_catalogue(name, root, events, images, spec.class_set)


def spec_of(name: str, options: dict[str, Any]) -> PrepareSpec:
    """Return the options of a dataset with those that were given."""
    from tmkt_data.datasets.registry import default_spec

    given = {key: options[key] for key in OPTIONS if options[key] is not None}
    return dataclasses.replace(default_spec("folder" if name.startswith(TONIC_PREFIX) else name), **given)


def _export_tonic(name: str, folder: Path | None, images: Path | None, spec: PrepareSpec) -> Catalogue:
    """Write the recordings of a dataset of tonic as files once, and list them with the images."""
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.catalogue import holds_classes
    from tmkt_data.datasets.folder import IMAGE_NAME
    from tmkt_data.pairs.tonic import from_tonic
    from tmkt_data.sources.tonic_class import open_tonic

    if spec.time_unit is not None:
        raise SpecError(f"--time-unit: found {spec.time_unit!r}, but times of tonic are microseconds; omit --time-unit")
    if images is not None and not holds_classes(images, IMAGE_NAME):
        raise CatalogueError(
            f"{images}: no class folders with images, expected CLASS/NAME.png; give the folder above the classes"
        )
    dataset = open_tonic(name.removeprefix(TONIC_PREFIX), folder, say)
    places = [str(path.resolve()) for path in (folder, images) if path is not None]
    digest = hashlib.sha256("\n".join(places).encode(errors="surrogateescape")).hexdigest()[:6]
    out = cache_directory() / "tonic" / f"{type(dataset).__name__}-{digest}"
    say(f"writing recordings of {name} to {out}")
    with kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("export", total=len(dataset))
        catalogue = from_tonic(
            dataset,
            out,
            images=images,
            sensor_size=spec.sensor_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    return dataclasses.replace(catalogue, own_name=f"tonic-{out.name}")


def _write_digits(root: Path | None) -> Path:
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.digits_source import write_digits
    from tmkt_data.datasets.registry import MADE_IN

    folder = root if root is not None else cache_directory() / MADE_IN["digits"]
    total = 1797
    with kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("simulate", total=total)
        for done in write_digits(folder):
            bar.update(task, completed=done)
    return folder


def _write_twins(root: Path | None, images: Path | None) -> Path:
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.caltech_twins import list_photographs
    from tmkt_data.datasets.caltech_twins_source import twins_folder, write_twins
    from tmkt_data.datasets.registry import MADE_IN

    _, photographs, _ = list_photographs(root, images)
    folder = twins_folder(photographs, cache_directory() / MADE_IN["caltech101-twins"])
    say(f"simulating recordings of {counted(len(photographs), 'photograph')} in {folder}")
    with kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("simulate", total=len(photographs))
        for done in write_twins(photographs, folder):
            bar.update(task, completed=done)
    return folder


def _report(catalogue: Catalogue) -> None:
    say(
        f"{catalogue.name}: {counted(len(catalogue.recordings), 'recording')}, "
        f"{counted(len(catalogue.images), 'image')}, {counted(catalogue.num_twins, 'twin')}, "
        f"{counted(len(catalogue.class_names), 'class')}"
    )
    say_notes((*catalogue.notes, *catalogue.unmatched_notes()))


def _require_images(catalogue: Catalogue) -> None:
    from tmkt_data.datasets.catalogue import some

    unpaired = catalogue.unpaired_classes()
    if unpaired:
        raise CatalogueError(
            f"{catalogue.name}: {counted(len(unpaired), 'class')} with recordings but no images ({some(unpaired)}), "
            "expected images of every class; add them, or give --allow-unpaired for event-only training"
            + "".join(_likely_names(catalogue, unpaired))
        )


def _likely_names(catalogue: Catalogue, unpaired: Sequence[str]) -> Iterator[str]:
    """Yield a question for each class without images whose name is close to a class without recordings."""
    import difflib

    import numpy as np

    alone = np.setdiff1d(catalogue.images.labels, catalogue.recordings.labels)
    free = [catalogue.class_names[label] for label in alone.tolist()]
    for name in unpaired[:5]:
        for near in difflib.get_close_matches(name, free, n=1):
            yield f"; are images of {name!r} those in {near!r}?"
