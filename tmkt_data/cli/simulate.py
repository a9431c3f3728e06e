"""Command `tmkt-data simulate`: recordings of a folder of images."""

from __future__ import annotations

import dataclasses
import shlex
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import SENSOR, WORKERS, fail, kept_when_stopped, print_rows, progress_bar, say, say_notes
from tmkt_data.cli.paths import FILE, LocalPath
from tmkt_data.cli.reporting import put_json
from tmkt_data.errors import counted

if TYPE_CHECKING:
    from tmkt_data.datasets.simulated import RecordedCamera
    from tmkt_data.datasets.simulated_source import Recorded
    from tmkt_data.events.events import SensorSize
    from tmkt_data.simulate.camera import CameraSettings
    from tmkt_data.simulate.closeness import Closeness

_MAX_PROBLEMS = 10
_FOLDER = LocalPath(path_type=Path)


@click.command()
@click.argument("images", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@click.option(
    "--sensor-size",
    "--sensor",
    "sensor",
    type=SENSOR,
    help="Size of the sensor.  [default: that of --like, else 240x180]",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["bin", "bs2", "npz", "aedat4"]),
    default="bin",
    show_default=True,
    help="Format of the recordings; bin and bs2 are ATIS, as N-MNIST and N-Caltech101.",
)
@click.option("--camera", type=FILE, help="TOML file with values of the camera, such as simulate.toml of an OUT.")
@click.option(
    "--like",
    type=_FOLDER,
    metavar="DIR",
    help="Fit the camera to the real recordings in DIR, a folder with N-MNIST, N-Caltech101 or as for prepare folder.",
)
@click.option("--path", "path_name", metavar="NAME|FILE", help="saccades | random-walk | jitter | a TOML file.")
@click.option(
    "--set", "values", multiple=True, metavar="NAME=VALUE", help="A value of the camera, as in simulate.toml."
)
@click.option(
    "--seed", default=0, type=click.IntRange(0, 2**63 - 1), show_default=True, help="Seed of sensor and noise."
)
@WORKERS
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be recorded.")
def simulate(images: Path, out: Path, **options: Any) -> None:
    """Record a folder of images with a simulated event camera, for `tmkt-data prepare folder --root OUT`.

    IMAGES holds class folders of images, or images of one class. Run the same command again to resume after an
    interruption; the recordings have the same bytes for any number of workers.
    """
    from tmkt_data.datasets.simulated import DEFAULT_SENSOR, RecordedCamera

    settings, size = _settings(options), options["sensor"]
    suffix: Any = f".{options['suffix']}"
    if options["like"] is not None:
        settings, like_size = _fit(settings, options)
        size = size or like_size
    _simulate(images, out, RecordedCamera(settings, size or DEFAULT_SENSOR, suffix, options["seed"]), options)


def _settings(options: dict[str, Any]) -> CameraSettings:
    from tmkt_data.simulate.camera import CameraSettings
    from tmkt_data.simulate.camera_file import read_camera, read_path, with_values

    settings = CameraSettings() if options["camera"] is None else read_camera(options["camera"])
    if options["path_name"] is not None:
        settings = dataclasses.replace(settings, path=read_path(options["path_name"]))
    return with_values(settings, options["values"])


def _fit(settings: CameraSettings, options: dict[str, Any]) -> tuple[CameraSettings, SensorSize]:
    """Fit a camera to real recordings, and say how close it comes."""
    from tmkt_data.datasets.known_recordings import read_known
    from tmkt_data.simulate.fit import NUM_PARTS, CameraFit

    known = read_known(options["like"])
    width, height = known.sensor_size
    say(
        f"fitting to {counted(len(known.fitted), 'recording')} of {known.dataset} ({width} x {height}), "
        f"{len(known.held_out)} held out"
    )
    if known.num_hot:
        say(f"note: left out {counted(known.num_hot, 'event')} of hot pixels")
    fit = CameraFit(known.fitted, known.sensor_size, settings, options["seed"], options["workers"])
    closeness = None
    with progress_bar() as bar:
        task = bar.add_task("fit", total=NUM_PARTS)
        for state in fit.run():
            settings, closeness = state.settings, state.closeness
            bar.advance(task)
    if known.held_out:
        closeness = fit.closeness(settings, known.held_out)
    print_rows(_fitted_rows(settings))
    if closeness is not None:
        say(f"simulated and real recordings of the same {'held-out ' if known.held_out else ''}images")
        print_rows(_closeness_rows(closeness))
    return settings, known.sensor_size


def _fitted_rows(settings: CameraSettings) -> list[tuple[str, str]]:
    pixels, path = settings.pixels, settings.path
    return [
        ("polarity", "negative of the images" if pixels.negative else "as the images"),
        ("path", f"{path.kind}, {path.scale:g} of the published length"),
        ("thresholds", f"ON {pixels.threshold_on:.3f}, OFF {pixels.threshold_off:.3f}"),
        ("optics", f"blur {pixels.blur}, linear below {pixels.toe:g} of white"),
        ("time constant", f"{pixels.time_constant_us:,.0f} us in white"),
        ("noise", f"{pixels.shot_hz:.2f} Hz in black, leak {pixels.leak_hz:.2f} Hz"),
    ]


def _closeness_rows(found: Closeness) -> list[tuple[str, str]]:
    ratio = found.simulated_events / found.real_events - 1
    return [
        ("events, median", f"{found.simulated_events:,.0f} of {found.real_events:,.0f} ({ratio:+.1%})"),
        ("share of ON", f"{found.simulated_on:.3f} of {found.real_on:.3f}"),
        (
            "events per pixel",
            f"correlation {found.own_map:.3f} with the own, {found.other_map:.3f} with others",
        ),
        ("10 x ON and OFF", f"correlation {found.own_frames:.3f} with the own recording"),
        ("events per 10 ms", f"correlation {found.profile:.3f}"),
    ]


def _simulate(images: Path, out: Path, camera: RecordedCamera, options: dict[str, Any]) -> None:
    from tmkt_data.datasets.simulated import plan_simulation
    from tmkt_data.datasets.simulated_source import simulate_folder

    plan = plan_simulation(images, out, camera)
    width, height = camera.sensor_size
    say(
        f"{images}: {counted(len(plan.images), 'image')}, "
        f"{counted(len({image.recording.parent for image in plan.images}), 'class')}; sensor {width} x {height}, "
        f"path {camera.settings.path.kind} of {camera.settings.path.total_us / 1000:g} ms"
    )
    say_notes(plan.notes)
    started = time.perf_counter()
    done: list[Recorded] = []
    with kept_when_stopped(), progress_bar() as bar:
        task = bar.add_task("simulate", total=len(plan.images))
        for recorded in simulate_folder(plan, options["workers"], skip_bad=options["skip_bad"]):
            done.append(recorded)
            bar.update(task, completed=len(done))
    _report(out, done, time.perf_counter() - started, skip_bad=options["skip_bad"])


def _report(out: Path, done: list[Recorded], seconds: float, *, skip_bad: bool) -> None:
    problems = [recorded.problem for recorded in done if recorded.problem]
    flat = [recorded.id for recorded in done if not recorded.has_contrast and not recorded.problem]
    if flat:
        say(f"note: {counted(len(flat), 'image')} without contrast, such as {flat[0]}; recorded is noise alone")
    for line in problems[:_MAX_PROBLEMS]:
        say(f"skipped: {line}" if skip_bad else f"  {line}", err=not skip_bad)
    if problems and not skip_bad:
        more = f", the first {_MAX_PROBLEMS} above" if len(problems) > _MAX_PROBLEMS else ""
        fail(
            f"cannot record {counted(len(problems), 'image')}{more}; fix them and run again (finished work is kept), "
            "or leave them out with --skip-bad"
        )
    if len(problems) > _MAX_PROBLEMS:
        say(f"skipped: {len(problems) - _MAX_PROBLEMS} more images")
    made = [recorded for recorded in done if recorded.num_events is not None and not recorded.problem]
    new = [recorded.num_events or 0 for recorded in made]
    kept = len(done) - len(new) - len(problems)
    if any(recorded.has_contrast for recorded in made) and statistics.median(new) < 100:
        say("warning: half of the recordings have fewer than 100 events; lower the thresholds or give a longer path")
    put_json({"folder": out, "recordings": len(new), "kept": kept, "skipped": len(problems), "events": sum(new)})
    events = f", {min(new):,} to {max(new):,} events, median {statistics.median(new):,.0f}" if new else ""
    say(
        f"wrote {counted(len(new), 'recording')} in {seconds:.1f} s{events}"
        + (f"; kept {kept} earlier" if kept else "")
    )
    say(f"prepare: tmkt-data prepare folder --root {shlex.quote(str(out))}")
