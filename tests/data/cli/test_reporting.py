"""What every command of both programs has: JSON, silence, examples, a summary that is not cut."""

from __future__ import annotations

import errno
import json
import shlex
import shutil

import click
import pytest
import trees
from click.testing import CliRunner

from tmkt_data.cli import main as data_cli
from tmkt_data.cli import reporting
from tmkt_data.errors import CatalogueError
from tmkt_train.cli import main as train_cli

PROGRAMS = {"tmkt-data": data_cli.main, "tmkt-train": train_cli.main}
COMMANDS = [(program, name) for program, group in PROGRAMS.items() for name in sorted(group.commands)]


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_every_command_has_json_quiet_and_examples_that_can_be_typed(program, name):
    command = PROGRAMS[program].commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--quiet"} <= options
    shown = CliRunner().invoke(PROGRAMS[program], [name, "--help"], terminal_width=80)
    assert shown.exit_code == 0
    assert "…" not in shown.output
    examples = [line.strip() for line in shown.output.split("Example", 1)[1].splitlines()[1:] if line.strip()]
    assert examples
    for line in examples:
        words = shlex.split(line)
        assert words[:2] == [program, command.name]
        # Knows every option, and misses no argument.
        command.make_context(name, words[2:])


@pytest.mark.parametrize("program", PROGRAMS)
def test_summaries_are_whole_sentences(program):
    group = PROGRAMS[program]
    shown = CliRunner().invoke(group, ["--help"], terminal_width=80).output
    assert "..." not in shown.split("Commands:")[1]
    assert max(map(len, shown.splitlines())) <= 80
    words = "".join(shown.split())
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        assert f"{name}{''.join(summary.split('. ')[0].rstrip('.').split())}" in words


def run(*arguments):
    return CliRunner().invoke(data_cli.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reporting")
    scenes = {f"{name}/{at}": 10 * label + at for label, name in enumerate(("clap", "wave")) for at in range(6)}
    trees.write_folder(folder / "own", scenes, scenes)
    options = ("--size", "8", "--time-bins", "2", "--workers", "1")
    made = run("prepare", "folder", "--root", folder / "own", "--out", folder / "a.h5", *options)
    assert made.exit_code == 0, made.output
    return folder


def _copy(source, target):
    shutil.copy(source, target)
    return target


def typed(folder, out):
    recording = folder / "own" / "events" / "clap" / "0.bin"
    return {
        "datasets": ["datasets"],
        "inspect": ["inspect", folder / "a.h5"],
        "verify": ["verify", folder / "a.h5"],
        "compress": ["compress", folder / "a.h5", "--out", out / "z.h5"],
        "preview": ["preview", folder / "a.h5", "--out", out / "a.png"],
        "pairs": ["pairs", folder / "a.h5", "--no-encoders", "--no-alignment"],
        "prepare": [
            "prepare", "folder", "--root", folder / "own", "--out", folder / "a.h5", "--size", "8", "--time-bins", "2",
        ],
        "plan": ["plan", "folder", "--root", folder / "own", "--out", out / "plan", "--cache", out / "p.h5"],
        "events": ["events", recording],
        "download": ["download", "digits"],
        "doctor": ["doctor", "folder", "--root", folder / "own"],
        "convert": ["convert", recording, out / "r.npz"],
        "simulate": ["simulate", folder / "own" / "images", out / "simulated", "--workers", "1"],
        "remove": ["remove", _copy(folder / "a.h5", out / "b.h5"), "--yes"],
        "export": ["export", folder / "a.h5", out / "shards"],
    }  # fmt: skip


KNOWN = {
    "datasets": "cache_directory", "inspect": "splits", "verify": "is_verified", "compress": "bytes_before",
    "preview": "width", "pairs": "verdicts", "prepare": "train", "plan": "num_shards", "events": "num_events",
    "download": "is_complete",
    "doctor": "is_complete", "convert": "events", "simulate": "recordings", "export": "start",
    "remove": "removed",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(data_cli.main.commands))
def test_json_is_one_object_and_nothing_else(place, tmp_path, name):
    found = run(*typed(place, tmp_path)[name], "--json")
    assert found.exit_code == 0, found.output
    assert KNOWN[name] in json.loads(found.stdout)


@pytest.mark.parametrize("name", sorted(data_cli.main.commands))
def test_quiet_prints_nothing(place, tmp_path, name):
    found = run(*typed(place, tmp_path)[name], "--quiet")
    assert (found.exit_code, found.stdout, found.stderr) == (0, "", ""), found.output


def test_errors_are_told_in_any_case(tmp_path):
    for option in ("--quiet", "--json"):
        found = run("inspect", tmp_path / "none.h5", option)
        assert (found.exit_code, found.stdout) == (1, "")
        assert found.stderr.startswith("error: ")


def test_numbers_of_numpy_stay_numbers():
    import numpy as np

    @click.command()
    def shown():
        reporting.put_json({"one": np.int64(1), "row": np.arange(2), "path": click.Path})

    reporting.add_output_options(shown)
    found = json.loads(CliRunner().invoke(shown, ["--json"]).stdout)
    assert (found["one"], found["row"]) == (1, [0, 1])


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("a: cannot be written (No space left on device); free some space, or set TMPDIR to another disk", ""),
        ("a: cannot be written (No space left on device); free some space", "; or set TMPDIR to a folder of a larger"),
    ],
)
def test_where_temporary_files_may_go_is_said_once(tmp_path, text, advice):
    full = CatalogueError(text)
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    reporting.show_as(tmp_path, "memory://bucket")
    found = reporting.advice_on_disks(full)
    assert reporting.shown(str(tmp_path)) == str(tmp_path)
    assert found.startswith(advice)
    assert bool(found) == bool(advice)
