"""Commands `tmkt-data download` and `tmkt-data doctor`: download a dataset, check that it is complete."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.completion import complete_dataset
from tmkt_data.cli.console import SENSOR, dataset_advice, doctor_advice, fail, print_rows, progress_bar, say, say_notes
from tmkt_data.cli.dataset_options import local_paths
from tmkt_data.cli.paths import FILE, LocalPath, SourcePath
from tmkt_data.cli.reader_options import FIELDS, read_as_given, reader_options, require_own_files
from tmkt_data.cli.reporting import put_json
from tmkt_data.errors import CatalogueError, counted
from tmkt_data.spec import TIME_UNITS, PrepareSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tmkt_data.datasets.catalogue import Catalogue
    from tmkt_data.datasets.info import DatasetInfo
    from tmkt_data.sources.doctor import Diagnosis
    from tmkt_data.sources.urls import Download

_FOLDER = LocalPath(path_type=Path, file_okay=False)
_ANY = SourcePath(path_type=Path)


@click.command()
@click.argument("name", shell_complete=complete_dataset)
@click.option("--to", "folder", type=_FOLDER, default=Path(), help="Target folder.  [default: current folder]")
@click.option("--yes", is_flag=True, help="Accept the license without asking.")
def download(name: str, folder: Path, yes: bool) -> None:
    """Download the files of a dataset, or explain how to get them by hand.

    Run it again to resume an interrupted download. Files with a published MD5 are verified.
    """
    from tmkt_data.datasets.registry import dataset_info
    from tmkt_data.sources.urls import DOWNLOADS

    info = dataset_info(name)
    put_json({"dataset": name, "license": info.license, "folder": folder, "is_complete": False})
    say(info.title)
    say(f"license: {info.license}")
    if not any("://" in home for home in info.homes):
        root = ["--root", str(folder)] if name == "folder" else []
        put_json({"is_complete": True})
        say(f"{name}: nothing to download; next: {shlex.join(['tmkt-data', 'prepare', name, *root])}")
        return
    entries = [entry for entry in DOWNLOADS.get(name, ()) if entry.is_needed]
    fetched = [entry for entry in entries if entry.urls]
    if fetched and not yes and not click.confirm("download it under this license?"):
        fail("nothing was downloaded; answer y, or give --yes, to continue")
    failed: list[str] = []
    for entry in fetched:
        try:
            _fetch(entry, folder)
        except CatalogueError as problem:
            failed.append(entry.name)
            say(f"  {problem}", err=True)
    by_hand = [entry.name for entry in entries if not entry.urls]
    if failed or by_hand or not entries:
        _print_manual(info, folder, [*failed, *by_hand])
        sys.exit(1)
    put_json({"is_complete": True, "files": [entry.name for entry in fetched]})
    say(f"all files are in {folder}; next: {shlex.join(['tmkt-data', 'prepare', name, '--root', str(folder)])}")


def _fetch(entry: Download, folder: Path) -> None:
    from tmkt_data.sources.download import fetch

    with progress_bar(unit="bytes") as bar:
        task = bar.add_task(entry.name, total=None)
        for step in fetch(entry, folder):
            bar.update(task, completed=step.done, total=step.total if step.total >= 0 else None)
    say(f"{entry.name}: {'MD5 verified' if entry.md5 else 'downloaded, no published checksum'}")


def _print_manual(info: DatasetInfo, folder: Path, names: list[str]) -> None:
    homes = [home for home in info.homes if "://" in home]
    lines = ["", f"by hand{': ' + ', '.join(names) if names else ''}"]
    lines += [f"  {number}. get {home}" for number, home in enumerate(homes, start=1)]
    lines.append(f"  {len(homes) + 1}. put the files below {folder}, unpacked or as archives, for example")
    lines += [f"       {line}" for line in info.tree]
    command = shlex.join(["tmkt-data", "doctor", info.name, "--root", str(folder)])
    lines.append(f"  {len(homes) + 2}. {command}")
    for line in lines:
        say(line, err=True)


@click.command()
@click.argument("name", shell_complete=complete_dataset)
@click.option("--root", type=_ANY, help="Folder, archive or URL that contains both sides.")
@click.option("--events", type=_ANY, help="Folder, archive or URL of the recordings, if outside --root.")
@click.option("--images", type=_ANY, help="Folder, archive or URL of the images, if outside --root.")
@click.option("--sensor-size", type=SENSOR, help="As in prepare.")
@click.option("--time-unit", metavar="|".join(TIME_UNITS), help="As in prepare.")
@reader_options
@click.option("--deep", is_flag=True, help="Decode every recording and image.")
@click.option("--digests", type=FILE, help="Write the SHA-256 of every file to this file.")
@click.option("--against", type=FILE, help="Compare with such a file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(name: str, deep: bool, digests: Path | None, against: Path | None, as_json: bool, **options: Any) -> None:
    """Check a dataset for missing or damaged files and suggest the next command; exits with 1 if incomplete."""
    from tmkt_data.datasets.recording_reader import apply_overrides
    from tmkt_data.datasets.registry import dataset_info
    from tmkt_data.sources.doctor import decode_all, diagnose

    dataset_info(name)
    require_own_files(name, options)
    overrides = PrepareSpec(sensor_size=options["sensor_size"], time_unit=options["time_unit"])
    given = {side: options[side] for side in ("root", "events", "images")}
    with _find(name, say if not as_json else lambda _: None, **given) as (listed, folders):
        catalogue = apply_overrides(read_as_given(listed, options), overrides)
        found = diagnose(catalogue, _typed(options), folders)
        if deep:
            with progress_bar() as bar:
                task = bar.add_task("decode", total=found.recordings + found.images)
                for done in decode_all(catalogue, found):
                    bar.update(task, completed=done)
            found.problems = [dataset_advice(problem, name) for problem in found.problems]
        for lines in (found.problems, found.notes):
            lines[:] = map(doctor_advice, lines)
        if digests is not None or against is not None:
            _digests(catalogue, found, folders, digests, against)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found) | {"is_complete": found.is_complete}, indent=2))
    else:
        _print_diagnosis(found)
    sys.exit(0 if found.is_complete else 1)


def _typed(options: dict[str, Any]) -> list[str]:
    """Return the options of `doctor` that `prepare` has too, as they were typed."""
    names = ("root", "events", "images", "sensor_size", "time_unit", *FIELDS)
    given = {name.replace("_", "-"): options[name] for name in names if options[name] is not None}
    texts = {name: f"{value[0]}x{value[1]}" if name == "sensor-size" else str(value) for name, value in given.items()}
    return [text for name, value in texts.items() for text in (f"--{name}", value)]


@contextmanager
def _find(
    name: str, told: Callable[[str], None], **given: Path | str | None
) -> Iterator[tuple[Catalogue, Sequence[Path]]]:
    """Find a dataset and the folders of its sides."""
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.registry import MADE_IN, open_made
    from tmkt_data.sources.locate import Locations, find_sources

    places = Locations(**given)
    if name in MADE_IN and places.events is None:
        root, images = local_paths(name, (places.root, places.images))
        catalogue, folder = open_made(name, root, images, cache_directory())
        yield catalogue, [folder, *(path for path in (root, images) if path is not None)]
        return
    with find_sources(name, places, unpack_to=cache_directory() / "sources", say=told) as found:
        yield found


def _digests(
    catalogue: Catalogue, found: Diagnosis, folders: Sequence[Path], digests: Path | None, against: Path | None
) -> None:
    from tmkt_data.files import write_bytes
    from tmkt_data.sources.doctor import compare_digests, files_of, format_digests, list_digests, read_digests

    there = read_digests(against) if against is not None else None
    here: dict[str, str] = {}
    with progress_bar() as bar:
        task = bar.add_task("digests", total=len(files_of(catalogue)))
        for path, digest in list_digests(catalogue, folders):
            here[path] = digest
            bar.update(task, completed=len(here))
    if digests is not None:
        write_bytes(digests, format_digests(here).encode("utf-8", "surrogateescape"))
    if there is not None:
        found.problems += compare_digests(here, there)


def _print_diagnosis(found: Diagnosis) -> None:
    from tmkt_data.sources.doctor import MAX_NAMED

    of_images = f" of {found.expected_images}" if found.expected_images else ""
    rows: list[tuple[str, Any]] = [
        ("recordings", f"{found.recordings}" + (f" of {found.expected}" if found.expected else "")),
        ("images", f"{found.images}{of_images}, {found.twins} with a twin recording"),
        ("missing", f"{counted(found.missing_recordings, 'recording')}, {counted(found.missing_images, 'image')}"),
        ("misplaced", f"{len(found.misplaced)}"),
        ("damaged", f"{len(found.problems)}" + ("" if found.is_decoded else " by size; --deep decodes every file")),
        ("times, polarity", "checked" if found.is_decoded else "not looked at; --deep does"),
    ]
    print_rows(rows)
    for lines in (found.misplaced, found.unexpected, found.problems):
        for line in lines[:MAX_NAMED]:
            say(f"  {line}")
        if len(lines) > MAX_NAMED:
            say(f"  and {len(lines) - MAX_NAMED} more")
    say_notes(found.notes)
    say(f"{'next' if found.can_go_on else 'next, once these files can be read'}: {found.next_command}")
