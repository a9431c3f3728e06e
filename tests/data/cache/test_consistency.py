"""A cache that means what cannot be is refused, however right its digests are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from altered_caches import write_altered
from click.testing import CliRunner
from conftest import build

from tmkt_data.cache import consistency
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.verify import verify_cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CacheError
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.atis import write_atis


def verify(path: Path) -> None:
    for _ in verify_cache(path):
        pass


@pytest.fixture(scope="module")
def overflowing(nmnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cache with counts above 255 in row 8."""
    folder = tmp_path_factory.mktemp("overflow")
    root = folder / "tree"
    shutil.copytree(nmnist_root, root)
    path = next((root / "N-MNIST/Train/0").glob("*.bin"))
    times = np.arange(1000)
    write_atis(path, validate_events(times, np.full(1000, 3), np.full(1000, 4), np.ones(1000, bool)))
    return build("nmnist", root, folder / "a.h5", time_bins=2, size=8, bake="poisson", duplicates="together")


def put(name, row, value):
    def change(content):
        (content.tables if name in content.tables else content.frames)[name][row] = value

    return change


def replace(name, make):
    def change(content):
        content.tables[name] = make(content.tables[name])

    return change


def remove(name):
    return lambda content: content.tables.pop(name)


def swap_ids(content):
    content.tables["events/id"][[2, 3]] = content.tables["events/id"][[3, 2]]


def copy_id(content):
    content.tables["images/id"][1] = content.tables["images/id"][0]


def drop_count(content):
    content.frames["events/frames"][5].reshape(-1)[np.flatnonzero(content.frames["events/frames"][5])[0]] -= 1


def label_twin(content):
    content.tables["images/label"][4] = (content.tables["images/label"][4] + 1) % 4


def move_twin(content):
    content.tables["events/twin"][0] = 1


def use_image(content):
    code = content.tables["images/split/twin-disjoint"]
    code[0] = SplitCode.TEST if code[0] != SplitCode.TEST else SplitCode.TRAIN


def split_content(content):
    one, other = (int(np.flatnonzero(content.tables["events/split/twin-disjoint"] == code)[0]) for code in (1, 3))
    for name in ("source_bytes", "source_xxh3"):
        content.tables[f"events/{name}"][one] = content.tables[f"events/{name}"][other]


def facts(**values):
    def change(content):
        content.header["facts"] = json.dumps(json.loads(content.header["facts"]) | values)

    return change


ON_OPENING = {
    "label": (put("events/label", 7, 10), "events/label: found 10 in row 7, expected 0 to 9"),
    "negative label": (put("images/label", 2, -1), "images/label: found -1 in row 2, expected 0 to 9"),
    "split": (put("events/split/kt-paper", 1, 9), "events/split/kt-paper: found 9 in row 1, expected 0 to 3"),
    "twin": (put("events/twin", 4, 60), "events/twin: found 60 in row 4, expected -1 to 59"),
    "twin below": (put("events/twin", 4, -2), "events/twin: found -2 in row 4, expected -1 to 59"),
    "overflow start": (put("events/overflow_start", -1, 1), "events/overflow_start: found 0 to 1, expected ascending"),
    "overflow order": (put("events/overflow_start", 30, 7), "events/overflow_start: found 0 to 2, expected ascending"),
    "overflow cell": (
        put("events/overflow_cell", 1, 256),
        "events/overflow_cell: found 256 in row 1, expected 0 to 255",
    ),
    "overflow length": (
        replace("events/overflow_count", lambda table: table[:1]),
        r"events/overflow_count: found shape \(1,\), expected \(2,\)",
    ),
    "type": (
        replace("events/label", lambda table: table.astype(">i4")),
        "events/label: found type >i4, expected <i4",
    ),
    "type of ids": (
        replace("images/id", lambda table: np.arange(len(table))),
        "images/id: found type <i8, expected S",
    ),
    "length": (
        replace("events/num_kept", lambda table: table[:-1]),
        r"num_kept: found shape \(59,\), expected \(60,\)",
    ),
    "protocol": (remove("images/split/twin-disjoint"), "table images/split/twin-disjoint is missing"),
}
ON_VERIFYING = {
    "order": (swap_ids, "events/id: found '0/test-00051' after '0/train-00001' in row 3, expected unique sorted ids"),
    "unique": (copy_id, "images/id: found '(.*)' after '\\1' in row 1, expected unique sorted ids"),
    "class names": (put("class_names", 1, b"0"), "class_names: found 9 names of 10 classes"),
    "twin": (move_twin, "events/twin: found 1 in row 0, expected 0, the image of the same id"),
    "label of a twin": (label_twin, "images/label of twins: found 1 in row 4, expected 0, that of the recording"),
    "split of a twin": (
        use_image,
        "images/split/twin-disjoint of twins: found . in row 0, expected ., that of the rec",
    ),
    "equal content": (split_content, "equal content in different splits, expected one split, as it was prepared with"),
    "count": (put("events/num_inversions", 3, -1), "events/num_inversions: found -1 in row 3, expected 0 or more"),
    "kept": (put("events/num_kept", 3, 10**9), "events/num_kept: found 1000000000 in row 3, expected at most "),
    "outside": (
        put("events/num_outside_bins", 3, 10**9),
        "num_outside_bins: found 1000000000 in row 3, expected at mos",
    ),
    "duration": (put("events/t_first_us", 8, 10**12), "t_first_us: found 1000000000000 in row 8, expected at most"),
    "bytes": (put("images/source_bytes", 0, -5), "images/source_bytes: found -5 in row 0, expected 0 or more"),
    "pixels": (put("images/width_px", 9, 0), "images/width_px: found 0 in row 9, expected 1 or more"),
    "overflow": (
        put("events/overflow_count", 0, 255),
        "events/overflow_count: found 255 in row 0, expected 256 or more",
    ),
    "overflow twice": (
        replace("events/overflow_cell", lambda table: table[[0, 0]]),
        "events/overflow_cell: row 8 names other cells than those that hold 255",
    ),
    "overflow elsewhere": (
        replace("events/overflow_cell", lambda table: table + 1),
        "events/overflow_cell: row 8 names other cells than those that hold 255",
    ),
    "frames": (drop_count, r"events/frames: row 5 holds (\d+) events, expected \d+, those kept and in a time bin"),
    "spikes": (put("images/spikes", 6, 2), "images/spikes: row 6 holds 2, expected 0 or 1"),
    "sensor": (facts(sensor_size=[0, 34]), r"facts: found sensor_size \[0, 34\], expected width and height in pixels"),
    "placement": (facts(placement=None), "facts: found placement None, expected left, top, width and height"),
}


def test_whole_caches_are_accepted(nmnist_root, nmnist_cache, overflowing, tmp_path):
    verify(nmnist_cache)
    verify(overflowing)
    # Events that were left out as strays are not in the frames, and count as outside the bins.
    verify(build("nmnist", nmnist_root, tmp_path / "robust.h5", time_bins=2, size=4, time_range="robust"))
    same = write_altered(overflowing, tmp_path / "same.h5", lambda _: None)
    assert same.read_bytes() == overflowing.read_bytes()


@pytest.mark.parametrize("name", ON_OPENING)
def test_what_rows_are_looked_up_by_is_refused_on_opening(overflowing, tmp_path, name):
    change, text = ON_OPENING[name]
    path = write_altered(overflowing, tmp_path / "a.h5", change)
    with pytest.raises(CacheError, match=rf"^a\.h5: [^\n]*{text}[^\n]*; the file cannot be used, prepare it again$"):
        Cache(path)


@pytest.mark.parametrize("name", ON_VERIFYING)
def test_what_cannot_be_is_refused_by_verify(overflowing, tmp_path, name):
    change, text = ON_VERIFYING[name]
    path = write_altered(overflowing, tmp_path / "a.h5", change)
    Cache(path)
    with pytest.raises(CacheError, match=rf"^a\.h5: [^\n]*{text}[^\n]*; the file cannot be used, prepare it again$"):
        verify(path)


@pytest.mark.parametrize(
    ("choices", "value", "text"),
    [
        ({"resize": "bilinear"}, np.nan, "expected finite counts of 0 or more"),
        ({"resize": "area"}, -1, "expected finite counts of 0 or more"),
        ({"representation": "voxel"}, np.inf, "expected finite values"),
    ],
)
def test_values_that_are_no_numbers_of_events_are_refused(nmnist_root, tmp_path, choices, value, text):
    path = build("nmnist", nmnist_root, tmp_path / "whole.h5", time_bins=2, size=8, **choices)
    verify(path)
    path = write_altered(path, tmp_path / "a.h5", put("events/frames", (9, 1, 0, 3, 3), value))
    with pytest.raises(CacheError, match=f"^a.h5: events/frames: row 9 holds other values than numbers, {text}"):
        verify(path)


def test_an_image_without_a_recording_that_is_held_out_is_refused(nmnist_cache, tmp_path):
    def change(content):
        alone = np.array([f"{name.decode()}x" for name in content.tables["images/id"]], "S")
        content.tables["images/id"] = alone
        content.tables["events/twin"][:] = -1
        content.tables["images/split/kt-paper"][:] = SplitCode.TRAIN
        content.tables["images/split/twin-disjoint"][:] = SplitCode.TRAIN
        content.tables["images/split/twin-disjoint"][2] = SplitCode.VAL

    path = write_altered(nmnist_cache, tmp_path / "a.h5", change)
    with pytest.raises(CacheError, match="twin-disjoint: found 2 in row 2, expected 1, train, as it has no recording"):
        verify(path)


def test_the_command_says_it_in_one_line(overflowing, tmp_path):
    path = write_altered(overflowing, tmp_path / "a.h5", ON_VERIFYING["frames"][0])
    done = CliRunner().invoke(main, ["verify", str(path)])
    assert done.exit_code == 1
    assert [line for line in done.output.splitlines() if line.startswith("error: ")] == done.output.splitlines()[-1:]


def test_split_codes_are_those_of_the_format():
    assert {int(code) for code in SplitCode} == set(range(consistency.LARGEST_SPLIT_CODE + 1))
