"""A cache that is given where its sources belong: it is named as what it is, with the commands that read it."""

from __future__ import annotations

import shutil

import pytest
import trees

from tmkt_data.errors import EventError
from tmkt_data.events import stream
from tmkt_data.events.read import load_events

from .conftest import one_line, run

ADVICE = "see what it holds with tmkt-data inspect or tmkt-data preview"


@pytest.mark.parametrize("options", [(), ("--keys", "table=events/frames"), ("--unit", "us")])
def test_events_and_convert(nmnist_cache, tmp_path, options):
    for arguments in (("events", nmnist_cache), ("convert", nmnist_cache, tmp_path / "a.npz")):
        text = one_line(run(*arguments, *options))
        assert text == f"error: {nmnist_cache.name}: a cache of tmkt-data prepare, expected a recording; {ADVICE}"
    assert not list(tmp_path.iterdir())


def test_a_large_cache_and_one_of_an_earlier_version(nmnist_cache, tmp_path, monkeypatch):
    earlier = tmp_path / "earlier.h5"
    earlier.write_bytes(nmnist_cache.read_bytes().replace(b"tmkt-cache 3", b"tmkt-cache 2", 1))
    monkeypatch.setattr(stream, "WHOLE_BYTES", 1000)
    for cache in (nmnist_cache, earlier):
        with pytest.raises(EventError, match="a cache of tmkt-data prepare, expected a recording"):
            load_events(cache)
        assert "expected a recording" in one_line(run("events", cache))


def test_among_the_recordings_of_a_folder(nmnist_cache, tmp_path):
    root = trees.write_folder(tmp_path / "own", scenes := {"a/one": 1, "b/two": 2}, scenes)
    shutil.copy(nmnist_cache, root / "events" / "a" / "left.h5")
    result = run("prepare", "folder", "--root", root, "--out", tmp_path / "own.h5")
    assert result.exit_code == 1
    text = next(line for line in result.output.splitlines() if "left.h5" in line)
    assert f"left.h5: a cache of tmkt-data prepare, expected a recording; {ADVICE}" in text
    assert "keys" not in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("simulate", "CACHE", "out"), "a folder of images"),
        (("simulate", "images", "out", "--like", "CACHE"), "a folder of recordings with their images"),
        (("prepare", "nmnist", "--root", "CACHE", "--out", "a.h5"), "the files of a dataset"),
        (("doctor", "nmnist", "--root", "CACHE"), "the files of a dataset"),
    ],
)
def test_in_place_of_a_folder(nmnist_cache, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    given = [nmnist_cache if word == "CACHE" else word for word in arguments]
    text = one_line(run(*given))
    assert text == f"error: {nmnist_cache}: a cache of tmkt-data prepare, expected {expected}; {ADVICE}"
    assert not list(tmp_path.iterdir())
