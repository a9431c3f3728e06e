"""AEDAT4: several event streams in one file, and files that crash the library that reads them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys

import forks
import naive
import numpy as np
import pytest
from click.testing import CliRunner

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.folder_settings import read_settings
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.events.formats import aedat4
from tmkt_data.events.formats.aedat4 import load_aedat4, read_aedat4
from tmkt_data.events.read import Reading, load_events
from tmkt_data.events.slices import unread_streams
from tmkt_data.events.stream import read_pieces
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

faery = pytest.importorskip("faery")
pytest.importorskip("aedat")

MAGIC = b"#!AER-DAT4.0\r\n"
XML_AT = 48
"""Where the text of the header that faery writes begins, after the position of the data table and the length."""


def write(path, rows, size=(10, 8)):
    array = np.zeros(len(rows), faery.EVENTS_DTYPE)
    for number, (t, x, y, p) in enumerate(rows):
        array[number] = (t, x, y, p)
    faery.events_stream_from_array(array, dimensions=size).to_file(path)
    return path


def parts(path):
    """Return the header of a file of one stream, and its packets."""
    data = path.read_bytes()
    header = data[len(MAGIC) + 4 :][: struct.unpack_from("<I", data, len(MAGIC))[0]]
    end = struct.unpack_from("<q", header, XML_AT - 12)[0]
    return header, data[len(MAGIC) + 4 + len(header) : end]


def write_streams(path, *streams):
    """Write a file with an event stream for each of `(rows, size)`; without rows, the stream has no packets."""
    nodes, body = [], b""
    for number, (rows, size) in enumerate(streams):
        header, packets = parts(write(path.with_name("one.aedat4"), rows or ROWS, size))
        text = header[XML_AT:].rstrip(b"\0").decode()
        node = text[text.index('        <node name="0"') : text.rindex("    </node>\n</dv>")]
        nodes.append(node.replace('name="0"', f'name="{number}"').replace("outInfo/0/", f"outInfo/{number}/"))
        # These files have one packet each, which begins with the number of its stream.
        body += struct.pack("<I", number) + packets[4:] if rows else b""
    text = '<dv version="2.0">\n    <node name="outInfo" path="/mainloop/Recorder/outInfo/">\n'
    text = f"{text}{''.join(nodes)}    </node>\n</dv>"
    padded = text.encode() + bytes(1 + (-len(text) - 1) % 4)
    header = header[: XML_AT - 12] + struct.pack("<qI", -1, len(text)) + padded
    path.write_bytes(MAGIC + struct.pack("<I", len(header)) + header + body)
    return path


ROWS = [(10, 1, 2, True), (20, 3, 4, False), (30, 9, 7, True)]
OTHERS = [(5, 0, 0, True), (15, 19, 8, False)]


def test_the_events_of_a_second_stream_are_counted_and_named(tmp_path):
    path = write_streams(tmp_path / "a.aedat4", (ROWS, (10, 8)), (OTHERS, (20, 9)))
    events = load_aedat4(path)
    assert naive.rows_of(events) == ROWS
    assert (events.sensor_size, events.num_read, events.num_dropped) == ((10, 8), 5, {"of event stream 1": 2})
    assert read_aedat4(path).num_others == {"of event stream 1": 2}
    assert unread_streams(path) == ["a.aedat4: 2 events of event stream 1 are not read"]
    assert "dropped           2 of event stream 1 of 5" in CliRunner().invoke(main, ["events", str(path)]).output
    pieces = list(read_pieces(path, Reading(), 16))
    assert [row for piece in pieces for row in naive.rows_of(piece)] == ROWS
    assert sum(piece.num_read for piece in pieces) == 5


def test_a_stream_is_chosen_by_its_number(tmp_path):
    path = write_streams(tmp_path / "a.aedat4", (ROWS, (10, 8)), (OTHERS, (20, 9)))
    events = load_events(path, stream=1)
    assert naive.rows_of(events) == OTHERS
    assert (events.sensor_size, events.num_read, events.num_dropped) == ((20, 9), 5, {"of event stream 0": 3})
    assert naive.rows_of(load_events(path, stream=0)) == ROWS
    pieces = list(read_pieces(path, Reading(stream=1), 16))
    assert [row for piece in pieces for row in naive.rows_of(piece)] == OTHERS
    assert (
        "dropped           3 of event stream 0 of 5"
        in CliRunner().invoke(main, ["events", str(path), "--stream", "1"]).output
    )
    text = (
        r"^a\.aedat4: stream: found 7, expected 0 or 1, the event streams of the file; give one of them \(--stream\)$"
    )
    with pytest.raises(EventError, match=text):
        load_events(path, stream=7)
    with pytest.raises(EventError, match=text):
        list(read_pieces(path, Reading(stream=7), 16))
    path = write_streams(tmp_path / "a.aedat4", ([], (10, 8)), (OTHERS, (20, 9)))
    with pytest.raises(EventError, match=r"^a\.aedat4: no events in event stream 0, expected some; choose another"):
        load_events(path, stream=0)


def test_formats_without_streams_refuse_the_choice_of_one(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes.fromhex("8302800006"))
    with pytest.raises(
        EventError, match=r"stream: found 0, expected none for a recording of format atis; leave it out"
    ):
        load_events(path, stream=0)


def test_settings_of_a_folder_choose_the_stream_and_key_the_cache(tmp_path):
    source = write_streams(tmp_path / "a.aedat4", (ROWS, (20, 9)), (OTHERS, (20, 9)))
    plans = []
    for line in ("", "stream = 0", "stream = 1"):
        root = tmp_path / (line or "none")
        (root / "events/wave").mkdir(parents=True)
        shutil.copyfile(source, root / "events/wave/one.aedat4")
        (root / "tmkt.toml").write_text(f'sensor_size = [20, 9]\nimages = ""\n{line}\n')
        plans.append(plan_prepare(open_catalogue("folder", root), default_spec("folder"), root / "a.h5"))
        for _ in prepare_cache(plans[-1]):
            pass
    assert len({plan.key for plan in plans}) == 3
    kept = [Cache(plan.path).tables["events/num_kept"].tolist() for plan in plans]
    assert kept == [[3], [3], [2]]
    facts = [Cache(plan.path).info.facts["reading"] for plan in plans]
    assert ["stream" in reading for reading in facts] == [False, True, True]
    assert "stream 1 (of AEDAT4)" in CliRunner().invoke(main, ["inspect", str(plans[-1].path)]).output


@pytest.mark.parametrize("value", ["-1", "true", '"1"', "1.5"])
def test_settings_with_another_stream_are_refused(tmp_path, value):
    path = tmp_path / "tmkt.toml"
    path.write_text(f"sensor_size = [20, 9]\nstream = {value}\n")
    with pytest.raises(CatalogueError, match=r"^tmkt\.toml: stream: found .*, expected the number of an event stream"):
        read_settings(path)


def test_a_stream_without_events_is_passed_over(tmp_path):
    path = write_streams(tmp_path / "a.aedat4", ([], (10, 8)), (OTHERS, (20, 9)))
    events = load_aedat4(path)
    assert naive.rows_of(events) == OTHERS
    assert (events.sensor_size, events.num_dropped) == ((20, 9), {})
    assert [row for piece in read_pieces(path, Reading(), 16) for row in naive.rows_of(piece)] == OTHERS
    empty = write_streams(tmp_path / "b.aedat4", ([], (10, 8)), ([], (20, 9)))
    with pytest.raises(EventError, match=r"^b\.aedat4: no event stream with events, expected one; fetch it again$"):
        load_aedat4(empty)


def deadly(path):
    """Write a file whose header has one byte that is no UTF-8: the start of a longer character in a tag."""
    data = bytearray(write(path, ROWS).read_bytes())
    data[data.index(b"</attr") + 2] = 0xC3
    path.write_bytes(data)
    return path


def test_the_library_dies_of_such_a_header(tmp_path):
    command = [
        sys.executable,
        "-c",
        "import aedat, sys; aedat.Decoder(sys.argv[1])",
        str(deadly(tmp_path / "a.aedat4")),
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != -signal.SIGABRT:
        pytest.skip("this version of aedat survives it")


def test_a_file_that_kills_its_reader_is_one_line_and_the_next_is_read(tmp_path):
    bad = deadly(tmp_path / "a.aedat4")
    good = write(tmp_path / "b.aedat4", ROWS)
    for _ in range(2):
        with pytest.raises(
            EventError, match=r"^a\.aedat4: the AEDAT4 library crashed or did not finish within 10 s; the"
        ):
            load_aedat4(bad)
        assert naive.rows_of(load_aedat4(good)) == ROWS
    first = aedat4._WORKER._child.pid
    assert naive.rows_of(load_aedat4(good)) == ROWS
    assert aedat4._WORKER._child.pid == first
    with pytest.raises(EventError, match=r"^a\.aedat4: the AEDAT4 library crashed"):
        list(read_pieces(bad, Reading()))


def test_mutated_files_decode_or_are_one_line(tmp_path):
    data = write(tmp_path / "whole.aedat4", ROWS).read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / "a.aedat4"
    outcomes: set[bool] = set()
    for _ in range(150):
        mutated = bytearray(data)
        for at in rng.integers(len(MAGIC), len(data), rng.integers(1, 4)).tolist():
            mutated[at] = int(rng.choice([0x00, 0x80, 0xC3, 0xFF, rng.integers(256)]))
        path.write_bytes(mutated)
        outcomes.add(naive.decodes_or_says_why(lambda: load_aedat4(path), "a.aedat4") is None)
    assert outcomes == {True, False}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_reads_with_a_process_of_its_own(tmp_path):
    write(tmp_path / "a.aedat4", ROWS)
    forks.assert_both_read(tmp_path / "a.aedat4", 3)


def test_prepare_and_doctor_name_the_file_and_go_on(tmp_path):
    root = tmp_path / "own"
    (root / "events" / "wave").mkdir(parents=True)
    (root / "tmkt.toml").write_text('sensor_size = [10, 8]\nimages = ""\n')
    rows = [(10 * step, step % 10, step % 8, step % 2 == 0) for step in range(40)]
    deadly(root / "events" / "wave" / "bad.aedat4")
    write(root / "events" / "wave" / "good.aedat4", rows)
    both = write_streams(root / "events" / "wave" / "two.aedat4", (rows, (10, 8)), (rows, (10, 8)))
    both.with_name("one.aedat4").unlink()
    options = ["--root", str(root)]
    run = CliRunner().invoke(main, ["prepare", "folder", *options, "--allow-unpaired", "--skip-bad",
                                    "--out", str(tmp_path / "a.h5")])  # fmt: skip
    assert run.exit_code == 0, run.output
    assert "skipped: wave/bad: bad.aedat4: the AEDAT4 library crashed or did not finish" in run.output
    line = (
        "1 of 2 recordings has a second stream of events, which is not read, such as wave/two (40 events); stream "
        "in tmkt.toml chooses the one that is read"
    )
    assert f"warning: {line}" in run.output
    run = CliRunner().invoke(main, ["doctor", "folder", *options, "--deep", "--json"])
    found = json.loads(run.output[run.output.index("{") :])
    assert run.exit_code == 1
    assert [text.partition(" library")[0] for text in found["problems"]] == [
        "recording wave/bad: bad.aedat4: the AEDAT4"
    ]
    assert line in found["notes"]
