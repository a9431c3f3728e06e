import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import build

from tmkt_data import PairedFrames, read_cache_info
from tmkt_data.cli.main import main
from tmkt_data.datasets.nomniglot import CLASS_NAMES, WINDOW, open_nomniglot
from tmkt_data.datasets.splits import SplitRule, split_recordings
from tmkt_data.errors import CatalogueError, EventError, SpecError
from tmkt_data.events.formats.aedat4 import read_aedat4
from tmkt_data.events.slices import SliceReader, cut_window, read_slices, require_drawers
from tmkt_data.pairs.event_scale import scale_events
from tmkt_data.prepare.blocks import UnreadableSourcesError, source_signatures

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
make_nomniglot_tree = pytest.importorskip("make_nomniglot_tree", reason="faery, which writes AEDAT4, is not installed")

CHARACTERS = [1, 2, 964, 965, 1623]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("nomniglot")
    assert make_nomniglot_tree.make_tree(root, CHARACTERS, num_events=300) == 100
    return root


def recording_of(tree, number):
    return next(tree.rglob(f"{number:04d}.aedat4"))


def test_the_real_recording_reads_as_it_was_counted(real_data):
    # Facts of DATASETS section 9.6, on which aedat and faery agree.
    events = read_aedat4(real_data / "aedat4" / "sample.aedat4").events
    assert len(events) == 6676
    assert (events["x"].min(), events["x"].max(), events["y"].min(), events["y"].max()) == (14, 334, 8, 245)
    assert (int(events["p"].sum()), int((~events["p"]).sum())) == (3563, 3113)
    assert events[0].item() == (1589163147368868, 215, 164, True)
    assert events[-1].item() == (1589163147538809, 96, 229, True)
    assert (int(events["x"].sum()), int(events["y"].sum())) == (721626, 1424056)
    assert int((events["t"] - events["t"][0]).sum()) == 563632530


def test_slices_of_the_real_recording(real_data, tmp_path):
    source = real_data / "aedat4" / "sample.aedat4"
    path = tmp_path / "0394.aedat4"
    shutil.copy(source, path)
    events = read_aedat4(source).events
    cuts = events["t"][np.linspace(0, len(events) - 1, 21).astype(int)]
    rows = [f"{at},{cuts[at]},{cuts[at + 1]}" for at in range(20)]
    path.with_suffix(".csv").write_text("index,start,end\n" + "\n".join(rows) + "\n")
    reader = SliceReader(WINDOW)
    found = [reader.read(path, drawer) for drawer in range(20)]
    for at, sample in enumerate(found):
        chosen = events[(events["t"] >= cuts[at]) & (events["t"] < cuts[at + 1])]
        inside = (chosen["x"] >= 54) & (chosen["x"] < 304) & (chosen["y"] >= 4) & (chosen["y"] < 254)
        assert sample.num_read == len(chosen)
        np.testing.assert_array_equal(sample.t, chosen["t"][inside])
        np.testing.assert_array_equal(sample.x, chosen["x"][inside] - 54)
        np.testing.assert_array_equal(sample.y, chosen["y"][inside] - 4)
        assert sample.num_dropped.get("outside the window", 0) == (~inside).sum()
    assert sum(sample.num_read for sample in found) == len(events) - (events["t"] == events["t"][-1]).sum()


def test_a_written_recording_comes_back_sample_by_sample(tree):
    path = recording_of(tree, 964)
    whole, slices = read_aedat4(path).events, read_slices(path.with_suffix(".csv"))
    assert len(whole) == 20 * 300
    reader = SliceReader(WINDOW)
    for drawer in (0, 19, 7):
        events = reader.read(path, drawer)
        assert events.num_read == 300
        assert slices[drawer].start == events.t[0] or events.num_dropped
        assert events.sensor_size == (250, 250)


@pytest.mark.parametrize("bad", [b"", b"no aedat at all", b"#!AER-DAT4.0\r\n", None])
def test_broken_recordings_are_one_line(tree, tmp_path, bad):
    path = tmp_path / "0001.aedat4"
    data = recording_of(tree, 1).read_bytes()
    path.write_bytes(data[: len(data) // 2] if bad is None else bad)
    with pytest.raises(EventError, match=r"^0001\.aedat4: ") as raised:
        read_aedat4(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,1,2"] * 19, "19 rows, expected one for each of 20 drawers"),
        (["0,1,2"] * 19 + ["19,5"], "row 20: found '19,5', expected index, start and end"),
        (["0,1,2"] * 19 + ["19,x,6"], "row 20: found '19,x,6'"),
        (["0,1,2"] * 19 + ["19,6,6"], "row 20: from 6 to 6, expected a start before its end"),
    ],
)
def test_broken_times_are_one_line(tmp_path, rows, message):
    path = tmp_path / "0001.csv"
    path.write_text("\n".join(["index,start,end", *rows]) + "\n")
    with pytest.raises(EventError) as raised:
        require_drawers(read_slices(path), path)
    assert message in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_csv_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "0001.csv"
    path.write_text("index,start,end\n1,10,20\n2,20,30\n", encoding=encoding)
    assert read_slices(path) == [(1, 10, 20), (2, 20, 30)]


def test_times_of_another_recording_are_named(tree, tmp_path):
    path = tmp_path / "0001.aedat4"
    shutil.copy(recording_of(tree, 1), path)
    path.with_suffix(".csv").write_text("h\n" + "\n".join(f"{at},{at + 1},{at + 2}" for at in range(20)) + "\n")
    with pytest.raises(EventError, match=r"0001\.aedat4, drawer 3: no event from 3 to 4"):
        SliceReader(WINDOW).read(path, 2)


def test_a_window_may_be_empty():
    events = np.zeros(3, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    assert len(cut_window(events, WINDOW, "here")) == 0


def test_without_aedat_the_command_is_named(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(
        EventError, match=r"AEDAT4 needs the package aedat; install it with: pip install 'tmkt\[aedat4\]'"
    ):
        read_aedat4(recording_of(tree, 1))


def test_both_sides_are_listed_by_number_and_drawer(tree):
    catalogue = open_nomniglot(tree)
    assert catalogue.num_twins == len(catalogue.recordings) == len(catalogue.images) == 100
    assert [catalogue.recordings[at].id for at in (0, 1, 20, 99)] == ["0001/01", "0001/02", "0002/01", "1623/20"]
    assert len(catalogue.class_names) == 1623
    assert any(note.startswith("100 of 32460 recordings; missing: 0003 (all 20), ") for note in catalogue.notes)


def test_trap_14_one_space_of_labels_for_both_sides_and_both_parts(tree):
    catalogue = open_nomniglot(tree)
    for source in (*catalogue.recordings, *catalogue.images):
        assert CLASS_NAMES[source.label] == source.id[:4]
    assert {source.label for source in catalogue.images} == {0, 1, 963, 964, 1622}

    def reference_image_label(number):
        # Labels of the evaluation images start again at 0; only those of the recordings are moved on.
        return (number - 1) if number <= 964 else number - 965

    assert reference_image_label(965) == reference_image_label(1) == 0


def test_trap_2_folders_and_their_order_do_not_matter(tree, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tree, moved)
    for number, folder in enumerate(sorted(moved.rglob("character*"))):
        folder.rename(folder.with_name(f"character{99 - number:02d}"))
    next(moved.rglob("0001_07.png")).unlink()
    here, there = open_nomniglot(tree), open_nomniglot(moved)
    assert [(s.id, s.label) for s in here.recordings] == [(s.id, s.label) for s in there.recordings]
    assert {s.id for s in here.images} - {s.id for s in there.images} == {"0001/07"}


def test_trap_18_counts_are_those_of_the_reference():
    ids = [f"{number:04d}/{drawer:02d}" for number in range(1, 1624) for drawer in range(1, 21)]
    labels = np.repeat(np.arange(1623), 20)
    counts = {
        protocol: np.bincount(
            split_recordings(ids, labels, [""] * len(ids), SplitRule(protocol, "drawer")), minlength=4
        ).tolist()
        for protocol in ("kt-paper", "twin-disjoint")
    }
    assert counts == {"kt-paper": [0, 24345, 0, 8115], "twin-disjoint": [0, 21099, 3246, 8115]}


def test_a_stem_that_is_no_drawer_is_refused():
    with pytest.raises(SpecError, match="found '0001/image_1', expected the number of a drawer"):
        split_recordings(["0001/image_1"], np.zeros(1, np.int64), [""], SplitRule("kt-paper", "drawer"))


def test_prepared_and_paired(tree, tmp_path):
    frames = PairedFrames(build("nomniglot", tree, tmp_path / "n.h5"), "train", pairing="twin", scale="step-max")
    assert (frames.num_time_bins, frames.size, len(frames)) == (12, (28, 28), 5 * 13)
    batch = frames.read(np.arange(len(frames)))
    assert batch.image.min() < 0.5 < batch.image.max() == 1
    # The stroke is where its recording is: dark in the image, and events in the sum of the steps.
    ink, drawn = 1 - batch.image[:, 0, 0].reshape(65, -1), batch.events.sum((1, 2)).reshape(65, -1)
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(ink, drawn, strict=True)]) > 0.6


def test_inspect_shows_the_window(tree, tmp_path):
    cache = build("nomniglot", tree, tmp_path / "a.h5")
    shown = CliRunner().invoke(main, ["inspect", str(cache)]).output
    assert "window            columns 54 to 303, rows 4 to 253 of the sensor" in shown
    assert read_cache_info(cache).facts["window"] == [54, 4, 250, 250]


def test_a_sample_that_cannot_be_read_is_named_and_the_rest_is_kept(tree, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tree, broken)
    recording_of(broken, 2).write_bytes(b"nothing")
    with pytest.raises(UnreadableSourcesError, match=r"0002/01: 0002\.aedat4: starts with b'nothing'"):
        build("nomniglot", broken, tmp_path / "n.h5")


def test_wrong_trees_are_named(tree, tmp_path):
    with pytest.raises(CatalogueError, match=r"no recordings \(0709\.aedat4\) found"):
        open_nomniglot(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    recording_of(copy, 1).with_suffix(".csv").unlink()
    assert any("no csv says where their samples begin: 0001.aedat4" in note for note in open_nomniglot(copy).notes)
    path = recording_of(copy, 2)
    path.rename(path.with_name("0965.aedat4"))
    path.with_suffix(".csv").rename(path.with_name("0965.csv"))
    with pytest.raises(CatalogueError, match="duplicate 0965/01, also in"):
        open_nomniglot(copy)
    path.with_name("0965.aedat4").rename(path.with_name("9999.aedat4"))
    path.with_name("0965.csv").rename(path.with_name("9999.csv"))
    with pytest.raises(CatalogueError, match="character 9999, expected 0001 to 1623"):
        open_nomniglot(copy)


def test_the_largest_of_each_step_and_polarity_becomes_one():
    frames = np.random.default_rng(0).integers(0, 9, (2, 3, 2, 4, 4)).astype(np.float32)
    frames[1, 2, 0] = 0
    before = frames.copy()
    scaled = scale_events(frames, "step-max")
    for place in np.ndindex(2, 3, 2):
        np.testing.assert_allclose(scaled[place], before[place] / max(before[place].max(), 1))


def test_an_edited_csv_is_noticed(tree, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    sources = open_nomniglot(copy).recordings
    before = source_signatures(sources, "slices")
    path = recording_of(copy, 2).with_suffix(".csv")
    path.write_text(path.read_text().replace("\n", "\n\n", 1))
    changed = source_signatures(sources, "slices") != before
    assert [source.id[:4] for source, new in zip(sources, changed, strict=True) if new] == ["0002"] * 20
