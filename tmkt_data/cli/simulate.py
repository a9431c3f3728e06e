"""Command `tmkt-data simulate`: recordings of a folder of images."""

from __future__ import annotations

import dataclasses
import os
import shlex
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import FILE, SENSOR, fail, kept_when_stopped, progress_bar, say
from tmkt_data.errors import counted

if TYPE_CHECKING:
    from tmkt_data.datasets.simulated import RecordedCamera
    from tmkt_data.datasets.simulated_source import Recorded
    from tmkt_data.simulate.camera import CameraSettings

_MAX_PROBLEMS = 10
_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("images", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@click.option("--sensor", type=SENSOR, default="240x180", metavar="WxH", show_default=True, help="Size of the sensor.")
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["bin", "bs2", "npz", "aedat4"]),
    default="bin",
    show_default=True,
    help="Format of the recordings; bin and bs2 are ATIS, as N-MNIST and N-Caltech101.",
)
@click.option("--camera", type=FILE, help="TOML file with values of the camera, such as simulate.toml of an OUT.")
@click.option("--path", "path_name", metavar="NAME|FILE", help="saccades | random-walk | jitter | a TOML file.")
@click.option(
    "--set", "values", multiple=True, metavar="NAME=VALUE", help="A value of the camera, as in simulate.toml."
)
@click.option(
    "--seed", default=0, type=click.IntRange(0, 2**63 - 1), show_default=True, help="Seed of sensor and noise."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=min(os.cpu_count() or 1, 64),
    show_default="cores",
    help="Threads.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be recorded.")
def simulate(images: Path, out: Path, **options: Any) -> None:
    """Record a folder of images with a simulated event camera, for `tmkt-data prepare folder --root OUT`.

    IMAGES holds class folders of images, or images of one class. Run the same command again to resume after an
    interruption; the recordings have the same bytes for any number of workers.
    """
    from tmkt_data.datasets.simulated import RecordedCamera

    suffix: Any = f".{options['suffix']}"
    _simulate(images, out, RecordedCamera(_settings(options), options["sensor"], suffix, options["seed"]), options)


def _settings(options: dict[str, Any]) -> CameraSettings:
    from tmkt_data.simulate.camera import CameraSettings
    from tmkt_data.simulate.camera_file import read_camera, read_path, with_values

    settings = CameraSettings() if options["camera"] is None else read_camera(options["camera"])
    if options["path_name"] is not None:
        settings = dataclasses.replace(settings, path=read_path(options["path_name"]))
    return with_values(settings, options["values"])


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
    for note in plan.notes:
        say(f"note: {note}")
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
    new = [recorded.num_events for recorded in done if recorded.num_events is not None and not recorded.problem]
    kept = len(done) - len(new) - len(problems)
    flat = [recorded.id for recorded in done if not recorded.has_contrast and not recorded.problem]
    if flat:
        say(f"note: {counted(len(flat), 'image')} without contrast, such as {flat[0]}; recorded is noise alone")
    if len(flat) < len(new) and statistics.median(new) < 100:
        say("warning: half of the recordings have fewer than 100 events; lower the thresholds or give a longer path")
    events = f", {min(new):,} to {max(new):,} events, median {statistics.median(new):,.0f}" if new else ""
    say(
        f"wrote {counted(len(new), 'recording')} in {seconds:.1f} s{events}"
        + (f"; kept {kept} earlier" if kept else "")
    )
    say(f"prepare: tmkt-data prepare folder --root {shlex.quote(str(out))}")
