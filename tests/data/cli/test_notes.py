"""Notes of a catalogue: long names are shortened where they are printed, and nowhere else."""

from __future__ import annotations

import json

import trees

from tmkt_data.cache.reader import read_cache_info

from .conftest import run

LONG = "n" * 200


def test_long_names_are_shortened_in_print_and_kept_in_the_cache(tmp_path):
    root = trees.write_folder(tmp_path / "own", scenes := {"a/one": 1, "b/two": 2}, scenes)
    (root / "events" / "a" / f"{LONG}.xyz").touch()
    cache = tmp_path / "own.h5"
    doctor = ("doctor", "folder", "--root", root)
    for arguments in (("prepare", "folder", "--root", root, "--out", cache), ("inspect", cache), doctor):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        [note] = [line for line in result.output.splitlines() if line.startswith("note: recordings: left out: ")]
        assert note == f"note: recordings: left out: a/{'n' * 29}...{'n' * 24}.xyz"
    assert f"recordings: left out: a/{LONG}.xyz" in read_cache_info(cache).notes
    assert f"recordings: left out: a/{LONG}.xyz" in json.loads(run(*doctor, "--json").stdout)["notes"]
