import io
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import build
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from tmkt_data import PairedFrames
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.cepdvs import CLASS_NAMES, open_cepdvs, read_labels
from tmkt_data.datasets.splits import SplitCode, SplitRule, split_recordings
from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.events.formats.matlab import decode_matlab, read_variables
from tmkt_data.events.read import load_events

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import make_cepdvs_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("cep") / "CEP-DVS"
    assert make_cepdvs_tree.make_tree(root, per_class=10, num_events=500) == 200
    return root


def mat(**columns):
    buffer = io.BytesIO()
    savemat(buffer, columns)
    return buffer.getvalue()


def packed(**columns):
    buffer = io.BytesIO()
    savemat(buffer, columns, do_compression=True)
    return buffer.getvalue()


def broken_sum(data):
    [size] = np.frombuffer(data[132:136], "<u4")
    end = 136 + size
    return data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:]


COLUMNS = {"x": [[3], [5]], "y": [[1], [0]], "ts": [[10], [30]], "p": [[-1], [1]]}


def codes_of(catalogue, protocol, **options):
    return split_recordings(
        [source.id for source in catalogue.recordings],
        np.array([source.label for source in catalogue.recordings]),
        [""] * len(catalogue.recordings),
        SplitRule(protocol, catalogue.split_layout, **options),
    )


def test_a_recording_is_its_columns():
    events = decode_matlab(mat(**COLUMNS))
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist()) == ([10, 30], [3, 5], [1, 0])
    assert events.p.tolist() == [False, True]
    assert decode_matlab(mat(**COLUMNS | {"p": [[0], [1]]})).p.tolist() == [False, True]
    assert len(decode_matlab(mat(x=3, y=1, ts=10, p=1))) == 1
    rows = decode_matlab(mat(**{name: np.array(column).T for name, column in COLUMNS.items()}))
    assert rows.x.tolist() == [3, 5]


def test_times_with_fractions_are_read_in_the_unit_that_is_given():
    seconds = mat(**COLUMNS | {"ts": [[0.5], [0.500001]]})
    assert decode_matlab(seconds, unit="s").t.tolist() == [500_000, 500_001]
    assert decode_matlab(mat(**COLUMNS | {"ts": [[1.5], [2.25]]}), unit="ms").t.tolist() == [1500, 2250]
    with pytest.raises(EventError, match=r"ts has fractions, expected whole numbers; give their unit, unit='s' or"):
        decode_matlab(seconds)
    with pytest.raises(EventError, match=r"t holds NaN or infinity"):
        decode_matlab(mat(**COLUMNS | {"ts": [[np.nan], [1.0]]}), unit="s")


def test_polarities_may_be_named_as_in_asl_dvs():
    named = {name: column for name, column in COLUMNS.items() if name != "p"} | {"pol": [[0], [1]]}
    assert decode_matlab(mat(**named)).p.tolist() == [False, True]
    with pytest.raises(EventError, match=r"^a\.mat: variables p and pol, expected one of them; clear the other$"):
        decode_matlab(mat(**COLUMNS, pol=[[0], [1]]), place="a.mat")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (mat(x=[1], y=[1], ts=[1]), "a.mat: variables p are missing, expected x, y, ts, p"),
        (mat(**COLUMNS | {"x": [[1]]}), "a.mat: columns of different length"),
        (mat(**COLUMNS | {"p": [[0], [2]]}), "a.mat: polarities run from 0 to 2, expected -1, 0 or 1"),
        (mat(**COLUMNS | {"ts": [[0.5], [1.0]]}), "a.mat: variable ts has fractions"),
        (mat(**COLUMNS | {"ts": [[np.nan], [1.0]]}), "a.mat: variable ts has fractions"),
        (mat(**COLUMNS | {"x": [[-1], [1]]}), "a.mat: x runs from -1 to 1, expected 0 to 65535"),
        (mat(**COLUMNS | {"x": "text"}), "a.mat: variable x is no array of real numbers"),
        (mat(x=[], y=[], ts=[], p=[]), "a.mat: no events"),
        (mat(**COLUMNS | {"x": [[1j], [1]]}), "a.mat: variable x is no array of real numbers"),
        (mat(**COLUMNS | {"ts": [[1e30], [1]]}), "a.mat: variable ts runs to 1e+30"),
        (mat(**COLUMNS)[:-20], "a.mat: an element of"),
        (mat(**COLUMNS)[:130], "a.mat: 2 bytes left"),
        # The header holds the time of day, which may differ between the processes that collect this.
        pytest.param(mat(**COLUMNS)[:100], "a.mat: no whole header", id="cut header"),
        (packed(**COLUMNS)[:-3], "a.mat: an element of"),
        (broken_sum(packed(**COLUMNS)), "a.mat: a compressed element is damaged"),
    ],
)
def test_damaged_recordings_are_one_line(tmp_path, data, message):
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    with pytest.raises(EventError) as raised:
        load_events(path)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@settings(max_examples=300)
@given(data=st.data(), compress=st.booleans())
def test_damaged_bytes_decode_or_give_one_line(data, compress):
    bad = bytearray((packed if compress else mat)(**COLUMNS))
    for _ in range(data.draw(st.integers(1, 5))):
        bad[data.draw(st.integers(124, len(bad) - 1))] = data.draw(st.integers(0, 255))
    del bad[data.draw(st.integers(1, len(bad))) :]
    try:
        events = decode_matlab(bytes(bad), place="a.mat")
    except EventError as error:
        assert str(error).startswith("a.mat: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert len(events) <= 2


@given(
    columns=st.integers(1, 40).flatmap(
        lambda n: st.tuples(*(st.lists(st.integers(0, 300), min_size=n, max_size=n) for _ in range(3)))
    ),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
    compress=st.booleans(),
)
def test_every_type_of_number_equals_scipy(columns, dtype, compress):
    stored = np.dtype(dtype)
    highest = min(np.iinfo(stored).max, 300) if stored.kind in "iu" else 300
    x, y, ts = (np.minimum(column, highest).astype(stored) for column in columns)
    p = np.resize([1, 0], len(x)).astype(stored)
    data = (packed if compress else mat)(other="a text", x=x, y=y[:, None], ts=ts, p=p, more=np.eye(3))
    found = read_variables(data, ("x", "y", "ts", "p"), "a.mat")
    there = loadmat(io.BytesIO(data))
    assert list(found) == ["x", "y", "ts", "p"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, there[name].ravel())


def test_over_long_elements_are_read_as_the_known_readers_do():
    data = packed(**COLUMNS)
    pieces, at = [data[:128]], 128
    while at < len(data):
        [size] = np.frombuffer(data[at + 4 : at + 8], "<u4")
        longer = zlib.compress(zlib.decompress(data[at + 8 : at + 8 + size]) + bytes(64))
        pieces.append(np.array([15, len(longer)], "<u4").tobytes() + longer)
        at += 8 + size
    assert decode_matlab(b"".join(pieces)).t.tolist() == [10, 30]


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr("tmkt_data.events.formats.matlab._MAX_BYTES", 100_000)
    with pytest.raises(EventError, match="more than 100,000 bytes once inflated"):
        decode_matlab(packed(**COLUMNS | {"x": np.zeros(10**6)}))


def test_sides_meet_by_number(tree):
    catalogue = open_cepdvs(tree.parent)
    assert catalogue.num_twins == len(catalogue.recordings) == len(catalogue.images) == 200
    assert catalogue.class_names == CLASS_NAMES
    assert catalogue.recordings[0].id == "aquatic_mammals/00000"
    assert catalogue.recordings[15].id == "fish/00015"
    assert "200 of 10000 rows of pathFile.csv are here" in catalogue.notes


def test_trap_2_a_missing_file_moves_no_other_pair(tree, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(tree, cut)
    (cut / "data" / "img" / "00004.jpg").unlink()
    (cut / "data" / "MAT" / "img" / "00007.mat").unlink()
    whole, less = open_cepdvs(tree), open_cepdvs(cut)
    labels = {source.id: source.label for source in whole.images}
    assert all(labels[source.id] == source.label for source in less.images)
    assert {s.id for s in whole.recordings} - {s.id for s in less.recordings} == {"aquatic_mammals/00007"}
    assert less.num_twins == 198

    def reference_labels(listing):
        # The reference gives the images their labels by position.
        return {number: position // 10 for position, number in enumerate(listing)}

    shifted = reference_labels([number for number in range(200) if number != 4])
    assert sum(shifted[number] != number // 10 for number in shifted) == 19


@pytest.mark.parametrize(("row", "label"), [("17    flowers", 2), ("17 a b c flowers", 2), ("3    vehicles_2", 19)])
def test_both_shapes_of_a_row(tmp_path, row, label):
    path = tmp_path / "pathFile.csv"
    path.write_text(f"header\n{row}\n\n")
    assert read_labels(path) == [label]


@pytest.mark.parametrize(
    ("row", "found"), [("17 nothing", "no class"), ("1 a b c fish flowers", "fish and flowers"), ("", "no class")]
)
def test_a_row_without_one_class_is_named(tmp_path, row, found):
    path = tmp_path / "pathFile.csv"
    path.write_text(f"header\n0    fish\n{row}\n1    fish\n")
    with pytest.raises(CatalogueError, match=f"pathFile.csv, row 1: found {found}"):
        read_labels(path)


def test_wrong_trees_are_named(tree, tmp_path):
    with pytest.raises(CatalogueError, match=r"no pathFile\.csv found"):
        open_cepdvs(tmp_path)
    shutil.copytree(tree, tmp_path / "two")
    extra = tmp_path / "two" / "data" / "img"
    shutil.copy(extra / "00003.jpg", extra / "3.jpg")
    with pytest.raises(CatalogueError, match="duplicate number 3, also in"):
        open_cepdvs(tmp_path / "two")
    (extra / "3.jpg").rename(extra / "00900.jpg")
    with pytest.raises(CatalogueError, match=r"number 900, but pathFile\.csv has rows 0 to 199"):
        open_cepdvs(tmp_path / "two")


@pytest.fixture(scope="module")
def full_size():
    from tmkt_data.datasets.source_table import Source

    sources = tuple(
        Source(f"{name}/{500 * label + at:05d}", label, "none", 1)
        for label, name in sorted(enumerate(CLASS_NAMES), key=lambda pair: pair[1].encode())
        for at in range(500)
    )
    sources = tuple(sorted(sources, key=lambda source: source.id.encode()))
    empty = open_cepdvs.__globals__["Placement"](0, 0, 640, 480)
    return Catalogue("cepdvs", CLASS_NAMES, (640, 480), empty, sources, sources, split_layout="block")


def test_split_counts_are_those_of_the_reference(full_size):
    paper, ours = codes_of(full_size, "kt-paper"), codes_of(full_size, "twin-disjoint")
    assert np.bincount(paper, minlength=4).tolist() == [3000, 5000, 0, 2000]
    assert np.bincount(ours, minlength=4).tolist() == [2000, 5000, 1000, 2000]
    np.testing.assert_array_equal(ours == SplitCode.TEST, paper == SplitCode.TEST)
    np.testing.assert_array_equal(ours == SplitCode.TRAIN, paper == SplitCode.TRAIN)
    assert full_size.recordings[int(np.argmax(paper == SplitCode.TEST))].id == "aquatic_mammals/00250"


def test_trap_17_test_recordings_do_not_move_with_the_training_share(tree, tmp_path):
    def reference_test(share):
        train = round(0.5 * 500 * share)
        return set(range(train, train + 100))

    assert reference_test(1.0) != reference_test(0.5)
    cache = build("cepdvs", tree, tmp_path / "cep.h5")
    few = PairedFrames(cache, "test")
    assert few.ids == PairedFrames(cache, "test").ids
    assert len(PairedFrames(cache, "train", event_share=0.4)) == 40
    assert not set(few.ids) & set(PairedFrames(cache, "train").ids)


def reference_pools(targets, train):
    """Trap 1: positions inside the training part, used as positions in the whole list of images."""
    return {label: np.flatnonzero(targets[train] == label) for label in range(20)}


@pytest.mark.parametrize(("order", "agreement"), [("blocked", 0.05), ("shuffled", 0.1), ("cyclic", 0.5)], ids=str)
def test_trap_1_the_reference_pairs_labels_that_disagree(order, agreement):
    targets = {
        "blocked": np.repeat(np.arange(20), 500),
        "shuffled": np.random.default_rng(0).permutation(np.repeat(np.arange(20), 500)),
        "cyclic": np.tile(np.arange(20), 500),
    }[order]
    blocks = np.arange(10_000).reshape(20, 500)
    train, test = blocks[:, :250].ravel(), blocks[:, 250:350].ravel()
    pools = reference_pools(targets, train)
    right = np.concatenate([targets[pool] == label for label, pool in pools.items()]).mean()
    if order == "cyclic":
        # 250 is no multiple of 20: half of the blocks are out of step, and the figure stays below one half.
        assert 0 < right <= agreement
    else:
        assert right == pytest.approx(agreement, abs=0.06)
    reached = np.concatenate(list(pools.values()))
    assert np.isin(reached, test).mean() == pytest.approx(0.2)


def test_trap_1_ours_agree_and_reach_no_test_image(tree, tmp_path):
    frames = PairedFrames(build("cepdvs", tree, tmp_path / "cep.h5"), "train", seed=2)
    assert (frames.num_time_bins, frames.size, frames.num_classes) == (6, (48, 48), 20)
    image_labels = frames.cache.tables["images/label"]
    held_out = frames.cache.splits("images", "twin-disjoint") != SplitCode.TRAIN
    for epoch in range(20):
        frames.set_epoch(epoch)
        rows = frames.image_rows(np.arange(len(frames)), np.zeros(len(frames), np.int64))
        np.testing.assert_array_equal(image_labels[rows], frames.labels)
        assert not held_out[rows].any()
