"""Command `tmkt-data`: parse, call, print. Nothing outside `cli` prints or exits."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import GuardedGroup, megabytes, pair_options, print_rows, progress_bar, say, say_notes
from tmkt_data.cli.encoders import print_encoders, print_motion
from tmkt_data.cli.events import convert, events
from tmkt_data.cli.examples import EXAMPLES
from tmkt_data.cli.export import export
from tmkt_data.cli.paths import CACHE, FILE
from tmkt_data.cli.plan import plan
from tmkt_data.cli.prepare import prepare
from tmkt_data.cli.prepare_report import duplicate_rows, print_event_counts, print_skipped, print_verdicts
from tmkt_data.cli.preview import preview
from tmkt_data.cli.remove import remove
from tmkt_data.cli.reporting import put_json
from tmkt_data.cli.simulate import simulate
from tmkt_data.cli.sources import doctor, download

if TYPE_CHECKING:
    from tmkt_data.cache.reader import Cache, CacheInfo
    from tmkt_data.pairs.class_fit import Interval
    from tmkt_data.pairs.near_duplicates import NearDuplicates
    from tmkt_data.pairs.report import Alignment, PairReport

_MAX_PROBLEMS = 10


@click.group(
    cls=GuardedGroup,
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tmkt", message="%(version)s")
def main() -> None:
    """Paired image and event data for spiking networks.

    Start with: tmkt-data prepare digits
    """


main.add_command(prepare)
main.add_command(plan)
main.add_command(events)
main.add_command(download)
main.add_command(doctor)
main.add_command(convert)
main.add_command(simulate)
main.add_command(remove)
main.add_command(export)
main.add_command(preview)


@main.command()
def datasets() -> None:
    """List the available datasets and their prepared caches."""
    from tmkt_data.cache.fetched import find_copies
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.datasets.prepared import find_caches
    from tmkt_data.datasets.registry import DATASETS

    found: list[dict[str, Any]] = []
    for info in DATASETS.values():
        click.secho(info.name, bold=True)
        say(f"  {info.title}")
        say(f"  license: {info.license}")
        caches = [*find_caches(info.name), *find_copies(info.name)]
        listed = [{"path": cache.path, "bytes": cache.num_bytes, "digest": cache.digest} for cache in caches]
        found.append({"name": info.name, "title": info.title, "license": info.license, "caches": listed})
        for cache in caches:
            say(f"  prepared: {cache.path} ({megabytes(cache.num_bytes)})")
    put_json({"datasets": found, "cache_directory": cache_directory()})
    click.echo()
    say(f"caches are stored in {cache_directory()} (set TMKT_CACHES to change it, or make a folder caches here)")


@main.command()
@click.argument("file", type=CACHE)
def inspect(file: Path) -> None:
    """Show the contents of a cache: options, sides, splits, counts, digests."""
    from tmkt_data.cache.reader import Cache
    from tmkt_data.pairs.verdicts import contrast_verdicts

    cache = Cache(file)
    info = cache.info
    verdicts = contrast_verdicts(cache.tables, info)
    put_json(_inspected(cache) | {"verdicts": list(map(dataclasses.asdict, verdicts))})
    print_rows(_info_rows(info))
    click.secho("\noptions", bold=True)
    print_rows((key, str(value)) for key, value in info.spec.to_dict().items())
    click.secho("\nsplits (recordings / images)", bold=True)
    _print_splits(cache)
    click.echo()
    print_event_counts(cache.tables)
    print_skipped(info)
    say_notes(info.notes)
    print_verdicts(verdicts)


def _inspected(cache: Cache) -> dict[str, Any]:
    from tmkt_data.datasets.registry import is_recorded_as_now
    from tmkt_data.datasets.splits import PROTOCOLS, SPLIT_CODES, split_digest

    info = cache.info
    splits: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        codes = {side: cache.splits(side, protocol) for side in ("events", "images")}
        splits[protocol] = {
            name: {side: int((codes[side] == code).sum()) for side in codes} for name, code in SPLIT_CODES.items()
        }
        splits[protocol]["digest"] = split_digest(cache.event_ids, codes["events"])
    return {
        "path": info.path,
        "dataset": info.dataset,
        "bytes": info.num_bytes,
        "digest": info.digest,
        "tool_version": info.tool_version,
        "recordings": info.num_recordings,
        "images": info.num_images,
        "classes": list(cache.class_names),
        "options": info.spec.to_dict(),
        "facts": info.facts,
        "is_recorded_as_now": is_recorded_as_now(info),
        "splits": splits,
        "skipped": list(info.skipped),
        "notes": list(info.notes),
    }


def _info_rows(info: CacheInfo) -> list[tuple[str, str]]:
    width, height = info.facts["sensor_size"]
    left, top, box_width, box_height = info.facts["placement"]
    where = f"fitted into {box_width} x {box_height} at ({left}, {top})" if info.spec.canvas == "fixed" else "stretched"
    return [
        ("file", str(info.path)),
        ("dataset", info.dataset),
        ("size", megabytes(info.num_bytes)),
        ("digest", info.digest),
        ("written by", f"tmkt {info.tool_version}"),
        ("recordings", f"{info.num_recordings} (sensor {width} x {height}, row 0 at the top)"),
        *_camera_rows(info),
        ("images", f"{info.num_images} ({where})"),
        *_reading_rows(info.facts),
    ]  # fmt: skip


def _camera_rows(info: CacheInfo) -> list[tuple[str, str]]:
    """Return which camera recorded, where it is a simulated one."""
    from tmkt_data.datasets.registry import DATASETS, is_recorded_as_now

    if info.dataset not in DATASETS or not DATASETS[info.dataset].recorded_with:
        return []
    return [("recorded by", f"{'the' if is_recorded_as_now(info) else 'an earlier'} simulated camera of the dataset")]


def _reading_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the reader options, which also determine the frames, beyond the options of `prepare`."""
    told = facts.get("reading")
    if told is None:
        return []
    given = [f"{name} {told[name]}" for name in ("unit", "columns", "chip", "keys") if told[name] is not None]
    given += [f"orientation {told['orientation']} (of AEDAT 2.0)"]
    given += [f"stream {told['stream']} (of AEDAT4)"] if "stream" in told else []
    given += ["arrays are pickled"] if told["pickled"] else []
    rows = [("reader options", ", ".join(given))]
    if facts["window"] is not None:
        left, top, width, height = facts["window"]
        rows.append(("window", f"columns {left} to {left + width - 1}, rows {top} to {top + height - 1} of the sensor"))
    if facts["is_centered"]:
        rows.append(("shift", "each recording centered on the sensor, by the sizes in the lists of the dataset"))
    return rows


def _print_splits(cache: Cache) -> None:
    from tmkt_data.datasets.duplicates import duplicates_in
    from tmkt_data.datasets.splits import PROTOCOLS, SPLIT_CODES, split_digest

    for protocol in PROTOCOLS:
        codes = {side: cache.splits(side, protocol) for side in ("events", "images")}
        parts = (
            f"{name} {int((codes['events'] == code).sum())} / {int((codes['images'] == code).sum())}"
            for name, code in SPLIT_CODES.items()
        )
        digest = split_digest(cache.event_ids, codes["events"])
        say(f"  {protocol:<15} {', '.join(parts)}   digest {digest}")
        copies = duplicates_in(cache.tables, protocol).text
        if copies:
            say(f"  {'':<15} {copies}")


@main.command()
@click.argument("file", type=CACHE)
def verify(file: Path) -> None:
    """Verify every byte of a cache."""
    from tmkt_data.cache.reader import read_cache_info
    from tmkt_data.cache.verify import verify_cache

    with progress_bar(unit="bytes") as bar:
        task = bar.add_task("verify", total=None)
        for done, total in verify_cache(file):
            bar.update(task, completed=done, total=total)
    info = read_cache_info(file)
    put_json({"path": file, "bytes": info.num_bytes, "digest": info.digest, "is_verified": True})
    say(f"{file}: verified, {info.num_bytes:,} bytes, digest {info.digest}")


@main.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, help="File to write.  [default: next to the cache, .zstd.h5]")
@click.option("--undo", is_flag=True, help="Decompress, for fastest reads.  [default: .plain.h5]")
def compress(file: Path, out: Path | None, undo: bool) -> None:
    """Compress a cache for storage or transfer; its content stays the same, reads are several times slower."""
    from tmkt_data.cache.compress import compress_cache
    from tmkt_data.cache.reader import read_cache_info

    target = out or file.with_name(f"{file.stem.removesuffix('.zstd')}.{'plain' if undo else 'zstd'}.h5")
    with progress_bar(unit="samples") as bar:
        task = bar.add_task("compress", total=None)
        for done, total in compress_cache(file, target, undo=undo):
            bar.update(task, completed=done, total=total)
    before, after = read_cache_info(file), read_cache_info(target)
    put_json({"path": target, "bytes": after.num_bytes, "bytes_before": before.num_bytes, "digest": after.digest})
    say(
        f"{target}: {megabytes(after.num_bytes)} of {megabytes(before.num_bytes)} "
        f"(ratio {before.num_bytes / after.num_bytes:.2f}), the same digest {after.digest}"
    )


@main.command()
@click.argument("file", type=CACHE)
@pair_options
@click.option("--alignment/--no-alignment", default=True, show_default=True, help="Compare recordings with images.")
@click.option("--encoders/--no-encoders", default=True, show_default=True, help="Compare the image encoders.")
@click.option("--fit-motion", is_flag=True, help="Print the path and polarity of the camera as TOML, nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pairs(file: Path, alignment: bool, encoders: bool, fit_motion: bool, as_json: bool, **choices: Any) -> None:
    """Check a pairing: label agreement, leaks, copies across splits, alignment of twins.

    Exit code 1 if the pairing looks wrong.
    """
    import json

    from tmkt_data.pairs.encoder_distance import compare_encoders
    from tmkt_data.pairs.paired_frames import PairedFrames
    from tmkt_data.pairs.report import report_pairs

    frames = PairedFrames(file, **choices)
    if fit_motion:
        print_motion(frames, as_json)
        return
    report = report_pairs(frames, alignment=alignment, thorough=True)
    comparison = compare_encoders(frames) if encoders else None
    if as_json:
        told = {"encoders": None if comparison is None else comparison.to_dict()}
        click.echo(json.dumps(report.to_dict() | told, indent=2))
    else:
        _print_pairs(report)
        if comparison is not None:
            print_encoders(comparison)
        _print_pair_verdicts(report)
    if report.looks_wrong:
        sys.exit(1)


def _print_pairs(report: PairReport) -> None:
    print_rows(
        [
            ("pairing", f"{report.pairing}, {report.split} of {report.protocol}"),
            (
                "recordings",
                f"{report.num_recordings}, {report.num_with_twin} with a twin image in the cache",
            ),
            ("image pool", f"{report.pool_size}, {report.smallest_pool} for the smallest class"),
            ("label agreement", f"{report.label_agreement:.1%}"),
            (
                "held-out images",
                f"{report.num_reachable_heldout} in the pool, with a recording in another split",
            ),
            ("twins drawn", f"{report.twin_share:.1%} of the pairs of epoch 0"),
            *duplicate_rows(report.duplicates),
        ]
    )
    if report.near_duplicates is None:
        print_rows([("near-duplicates", "not searched, there are too many images")])
    else:
        _print_near_duplicates(report.near_duplicates)
    if report.alignment is not None:
        _print_alignment(report.alignment)


def _print_pair_verdicts(report: PairReport) -> None:
    click.echo()
    print_verdicts(report.verdicts)
    if not report.verdicts:
        say("no problems found: these pairs can be trained on")


def _print_near_duplicates(near: NearDuplicates) -> None:
    print_rows(
        [("near-duplicates", f"{near.num_images} of {near.num_compared} val and test images, in earlier splits")]
    )
    for example in near.examples:
        print_rows([("", example)])


def _figure(value: float | None, form: str) -> str:
    return "nothing to compare" if value is None else format(value, form)


def _print_alignment(alignment: Alignment) -> None:
    fit = alignment.own_above_class
    click.secho(f"\nalignment of {alignment.num_recordings} recordings (event density with image gradient)", bold=True)
    print_rows(
        [
            (
                "own image",
                f"{alignment.own:.3f}   ({alignment.own_as_cached:.3f} as cached, motion left in, no shift)",
            ),
            ("same class", _figure(alignment.same_class, ".3f")),
            ("other classes", _figure(alignment.other_class, ".3f")),
            ("own image is best", _figure(alignment.own_is_best, ".1%")),
            ("own above class", "nothing to compare" if fit is None else _share_text(fit)),
        ]
    )


def _share_text(fit: Interval) -> str:
    return f"{fit.mean:.1%} of the others score lower   (99 % interval {fit.low:.1%} to {fit.high:.1%}, chance 50 %)"
