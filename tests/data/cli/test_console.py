"""What both command lines print: color, progress."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from tmkt_data.cli import console
from tmkt_data.cli.main import main as data_command
from tmkt_train.cli.main import main


def test_no_color_is_obeyed(monkeypatch):
    colored = CliRunner().invoke(main, ["recipes"], color=True)
    assert "\x1b[" in colored.output
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(main, ["recipes"])
    assert plain.output == CliRunner().invoke(main, ["recipes"], color=True).output
    assert "\x1b[" not in plain.output


LONG = "n" * 300


@pytest.mark.parametrize(
    "command",
    [
        (data_command, "inspect", LONG),
        (data_command, "prepare", "folder", "--root", LONG),
        (data_command, "pairs", LONG),
        (data_command, "convert", "a.bin", f"{LONG}.npz"),
        (main, "check", LONG),
        (main, "resume", LONG),
        (main, "recipe", "scnn_digits", "--out", LONG),
    ],
)
def test_a_name_that_the_system_refuses_is_told_in_words(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.bin").write_bytes(bytes(5))
    result = CliRunner().invoke(command[0], list(command[1:]))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {LONG}")
    assert "(File name too long)" in result.stderr
    assert "Errno" not in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (OSError(errno.EACCES, "No", b"a"), "a: cannot be used (No); check its permissions and those of its folder"),
        (OSError(errno.EIO, "No", Path("a")), "a: cannot be used (No); check the path and its disk"),
        (OSError(errno.EIO, "No"), f"OSError: [Errno {errno.EIO}] No"),
        (OSError(errno.EIO, "No", 3), f"OSError: [Errno {errno.EIO}] No: 3"),
        (OSError("worker"), "OSError: worker"),
        (MemoryError("3 GiB"), "MemoryError: 3 GiB"),
    ],
)
def test_problems_of_the_system_say_where_if_that_is_known(problem, text):
    assert console.system_problem(problem) == text


@pytest.mark.parametrize(
    ("module", "words"),
    [("tmkt_data", ["datasets"]), ("tmkt_data", ["--help"]), ("tmkt_train", ["recipes"]), ("tmkt_train", ["nothing"])],
)
def test_output_that_nobody_reads_is_no_error(tmp_path, module, words):
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=tmp_path, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=240, check=False,
    )  # fmt: skip
    os.close(writing)
    is_wrong = words == ["nothing"]
    assert found.returncode == (2 if is_wrong else 0)
    assert (found.stderr == b"") is not is_wrong


def test_a_full_disk_is_still_an_error():
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "tmkt_data", "--version"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert found.returncode != 0
    assert b"No space left on device" in found.stderr


def test_train_is_another_name_of_recipe():
    assert (
        CliRunner().invoke(main, ["train", "--help"]).output.splitlines()[2:]
        == (CliRunner().invoke(main, ["recipe", "--help"]).output.splitlines()[2:])
    )


@pytest.fixture
def shown(monkeypatch):
    """Return a function that shows a task after some seconds, as text."""
    text = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=text, width=80, force_terminal=False))

    def show(unit: str, total: int, done: int, seconds: float, **fields: int) -> str:
        now = [0.0]
        with console.progress_bar(unit) as bar:
            bar.get_time = lambda: now[0]
            task = bar.add_task("verify", total=total, completed=fields.get("resumed", 0), **fields)
            now[0] = seconds
            bar.update(task, completed=done)
        return text.getvalue()

    return show


def test_a_small_cache_is_counted_in_kilobytes(shown):
    assert "44.0/44.0 kB" in shown("bytes", 44_000, 44_000, 0.01)


def test_a_rate_is_of_what_was_done_now_and_not_shown_for_a_moment(shown):
    assert "50/s" in shown("", 200, 200, 2.0, resumed=100)


def test_no_rate_for_a_moment(shown):
    assert "/s" not in shown("", 200, 200, 0.1)


def test_no_time_for_what_took_no_second(shown):
    assert "0:00:00" not in shown("", 200, 200, 0.9)
    assert "0:00:02" in shown("", 200, 200, 2.0)


def test_slow_rates_have_a_digit_more(shown):
    assert "0.5/s" in shown("", 1, 1, 2.0)


@pytest.fixture
def staged(monkeypatch):
    """A bar, its stages, and the time that it is told."""
    text, now = io.StringIO(), [0.0]
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=text, width=90, force_terminal=False))
    with console.progress_bar() as bar:
        bar.get_time = lambda: now[0]
        yield bar, console.Stages(bar), now


def test_the_time_of_a_stage_is_that_spent_in_it_though_others_come_between(staged):
    bar, stages, now = staged
    steps = (("recordings", 100, 10), ("images", 10, 1), ("recordings", 200, 20), ("images", 20, 29))
    for stage, done, seconds in steps:
        now[0] += seconds
        stages.show(stage, done, 300 if stage == "recordings" else 20, resumed=0)
    times = {task.description: (task.elapsed, task.finished_time) for task in bar.tasks}
    shown = dict(line.split(maxsplit=1) for line in rendered(bar))
    assert times == {"recordings": (30.0, None), "images": (30.0, 30.0)}
    assert shown["recordings"].endswith("200/300 6.7/s 0:00:15")
    assert shown["images"].endswith("20/20   0.7/s 0:00:30")


def test_what_an_earlier_run_did_shortens_no_time_left(staged):
    bar, stages, now = staged
    stages.show("recordings", 900, 1000, resumed=900)
    assert rendered(bar)[0].endswith("900/1000  -:--:--")
    now[0] = 8.0
    stages.show("recordings", 920, 1000, resumed=900)
    assert rendered(bar)[0].endswith("920/1000 2.5/s 0:00:32")


def rendered(bar):
    text = io.StringIO()
    for column in bar.columns:
        column._renderable_cache.clear()
    Console(file=text, width=90, force_terminal=False).print(bar.get_renderable())
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["plan", "nmnist", "--root", "data", "--out", "s3://bucket/a.plan"], "--out"),
        (["preview", "a.h5", "--out", "memory://data/a.png"], "--out"),
        (["compress", "HTTPS://host/a.h5"], "file"),
        (["download", "nmnist", "--to", "gs://bucket"], "--to"),
    ],
)
def test_urls_are_refused_where_paths_are_expected(words, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(data_command, words)
    assert result.exit_code == 2, result.output
    assert f"error: {option}: found the URL {words[-1]!r}, expected a path of a file system; mount" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["prepare", "nmnist", "--root", ""], ["prepare", "digits", "--out", ""], ["inspect", ""]]
)
def test_an_empty_path_is_not_the_current_folder(words):
    # As a shell gives it, whose variable is not set.
    result = CliRunner().invoke(data_command, words)
    option = words[-2] if words[-2].startswith("--") else "file"
    assert (result.exit_code, result.stderr) == (
        2, f"error: {option}: found an empty path, expected one; is a variable of the shell not set?\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("package", "arguments"), [("tmkt_data", ["datasets"]), ("tmkt_train", ["recipe", "scnn_digits"])]
)
def test_a_deleted_current_folder_is_told_before_any_work(package, arguments, tmp_path):
    folder = tmp_path / "deleted"
    folder.mkdir()
    code = (
        "import os, runpy, sys; folder = sys.argv.pop(1); os.chdir(folder); os.rmdir(folder)\n"
        f"runpy.run_module({package!r}, run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: current folder: deleted, expected one that exists; cd to another\n"
