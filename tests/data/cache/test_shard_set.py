"""The shards of an index: which rows lie in which, and that they are the ones that it names."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tmkt_data.cache import shard_index
from tmkt_data.cache.format import content_digest, frame_arrays
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.shard_index import ShardRows, _tie_together, write_index
from tmkt_data.cache.shard_set import ShardSet
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError
from tmkt_data.prepare.build import prepare_shards
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.prepare.shards import ShardedPlan


@pytest.fixture(scope="session")
def sharded(nmnist_root, tmp_path_factory) -> Path:
    spec = dataclasses.replace(default_spec("nmnist"), size=8, time_bins=2)
    out = tmp_path_factory.mktemp("sharded") / "a.h5"
    for _ in prepare_shards(ShardedPlan(plan_prepare(open_catalogue("nmnist", nmnist_root), spec, out), 3), [0, 1, 2]):
        pass
    return out


@pytest.fixture
def copied(sharded, tmp_path) -> Path:
    shutil.copytree(sharded.parent, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy" / sharded.name


def sizes_of(shards: ShardSet) -> np.ndarray:
    return np.stack([np.diff(shards.starts[side]) for side in ("events", "images")], axis=1)


def test_the_size_of_an_index_is_that_of_all_its_files(sharded):
    files = [sharded, *sharded.with_name("a.h5.shards").iterdir()]
    assert len(files) == 4
    assert Cache(sharded).info.num_bytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(("more", "side"), [((1, 0), "events"), ((0, 1), "images")])
def test_shards_with_other_rows_than_the_tables_are_refused(copied, more, side):
    cache = Cache(copied)
    content = (cache.header, sorted(cache.tables.items()))
    shards = cache.info.shards
    sizes = sizes_of(shards)
    # Its last shard would have one row more.
    wrong = ShardSet.of(
        copied.with_name("b.h5"), shards.names, shards.digests, sizes + np.array([(0, 0), (0, 0), more])
    )
    arrays = [array.with_rows(int(wrong.starts[array.side][-1])) for array in frame_arrays(cache.spec, 0, 0)]
    with pytest.raises(CacheError, match=rf": its shards have other rows of {side}; prepare it again$"):
        write_index(wrong, content, arrays)
    assert {path.name for path in copied.parent.iterdir()} == {"a.h5", "a.h5.shards"}


def shard_of(index: Path, number: int) -> Path:
    return index.with_name(f"{index.name}.shards") / f"{number:05d}-of-00003.h5"


def test_rows_begin_where_those_of_the_shards_before_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shards = ShardSet.of(Path("a.h5"), ["x/1", "x/2"], ["d", "e"], np.array([(3, 1), (2, 4)]))
    assert shards.starts["events"].tolist() == [0, 3, 5]
    assert shards.starts["images"].tolist() == [0, 1, 5]
    assert (shards.names, shards.digests, len(shards)) == (("x/1", "x/2"), ("d", "e"), 2)
    assert shards.path(1) == tmp_path / "x/2"


def test_the_tables_of_an_index_give_its_shards_again(sharded):
    shards = Cache(sharded).info.shards
    tables = shards.tables()
    assert (tables["num_recordings"].tolist(), tables["num_images"].tolist()) == ([20, 20, 20], [20, 20, 20])
    again = ShardSet.from_tables(sharded, tables, content_digest({}, tables))
    assert (again.index, again.names, again.digests) == (shards.index, shards.names, shards.digests)
    assert {side: starts.tolist() for side, starts in again.starts.items()} == {
        side: starts.tolist() for side, starts in shards.starts.items()
    }
    tables["num_images"][1] = 21
    with pytest.raises(CacheError, match=r"^a\.h5: the list of its shards was changed after it was written; prepare"):
        ShardSet.from_tables(sharded, tables, content_digest({}, shards.tables()))


def test_what_is_wrong_with_a_shard_is_said(copied):
    shards = Cache(copied).info.shards
    assert [shards.problem(shard) for shard in range(3)] == [None] * 3
    shards.require_whole()
    there = shards.num_bytes
    shutil.copy(shard_of(copied, 1), shard_of(copied, 3))
    assert shards.problem(2) == "a.h5.shards/00003-of-00003.h5 holds shard 1, expected shard 3 of 3"
    with pytest.raises(
        CacheError, match=r"^a\.h5: a\.h5\.shards/00003-of-00003\.h5 holds shard 1, expected shard 3 of 3; "
    ):
        shards.require_whole()
    lost = shard_of(copied, 2)
    size = lost.stat().st_size
    lost.unlink()
    with pytest.raises(
        CacheError, match=r"00002-of-00003\.h5 is missing \(2 shards in all\); restore it, or run the same"
    ):
        shards.require_whole()
    assert shards.num_bytes == there - size
    with pytest.raises(CacheError, match=r"00002-of-00003\.h5 is missing"):
        Cache(copied)
    lost.write_bytes(b"x" * size)
    assert shards.problem(1) == "00002-of-00003.h5: not a tmkt cache"
    lost.write_bytes(copied.read_bytes())
    assert shards.problem(1) == "a.h5.shards/00002-of-00003.h5 holds another cache, expected shard 2 of 3"


def test_one_array_of_a_shard_is_opened_alone(copied):
    cache = Cache(copied)
    shards, checksums = cache.info.shards, cache.tables["events/frames_xxh3"]
    array = frame_arrays(cache.spec, 60, 60)[0]
    opened = shards.open(1, array, checksums)
    assert opened.frames.shape[0] == 20
    np.testing.assert_array_equal(opened.frames.rows(np.arange(20)), cache.event_frames(np.arange(20, 40)))
    shutil.copy(shard_of(copied, 1), shard_of(copied, 2))
    with pytest.raises(
        CacheError, match=r"^a\.h5: .* holds shard 1, expected shard 2 of 3; restore it, or prepare it again$"
    ):
        shards.open(1, array, checksums)


def test_each_row_is_that_of_its_shard(sharded):
    cache = Cache(sharded)
    expected = np.concatenate([Cache(shard_of(sharded, number)).event_frames(np.arange(20)) for number in (1, 2, 3)])
    for rows in (np.arange(60), np.arange(60)[::-1], np.array([0, 19, 20, 39, 40, 59, 20])):
        np.testing.assert_array_equal(cache.event_frames(rows), expected[rows])
    for rows in ([60], [-1], [0, 60]):
        with pytest.raises(CacheError, match=r"^a\.h5: events/frames has rows 0 to 59, asked for "):
            cache.event_frames(rows)


def test_a_row_that_was_changed_is_named_in_its_shard(copied):
    with h5py.File(shard_of(copied, 2)) as file:
        frames = file["events/frames"]
        at = frames.id.get_offset() + 3 * frames[0].nbytes
    data = bytearray(shard_of(copied, 2).read_bytes())
    data[at] ^= 1
    shard_of(copied, 2).write_bytes(data)
    cache = Cache(copied)
    cache.event_frames([22, 24])
    with pytest.raises(CacheError, match=r"^a\.h5\.shards/00002-of-00003\.h5: row 3 of events/frames was changed"):
        cache.event_frames([23])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_only_the_shards_that_are_read_have_to_be_unchanged(copied, number):
    cache = Cache(copied)
    cache.event_frames(np.arange(60))
    with shard_of(copied, number).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    changed = [20 * number - 20, 20 * number - 1]
    others = [row for row in (0, 19, 20, 39, 40, 59) if row not in changed]
    cache.event_frames(others)
    for row in changed:
        with pytest.raises(CacheError, match=rf"^0000{number}-of-00003\.h5: was overwritten while it was open"):
            cache.event_frames([others[0], row])


def test_the_shard_that_was_read_first_is_released_first(sharded, monkeypatch):
    monkeypatch.setattr("tmkt_data.cache.shard_set._MOST_OPEN", 2)
    frames = Cache(sharded).arrays["events/frames"]
    for row, is_open in ((0, [0]), (20, [0, 1]), (1, [0, 1]), (40, [1, 2]), (0, [2, 0])):
        frames.rows(np.array([row]))
        assert list(frames._are_open) == is_open
        assert [shard for shard, known in frames._known.items() if known.frames._map is not None] == sorted(is_open)


def test_a_shard_that_is_replaced_by_the_same_one_is_read_on_after_its_release(copied, monkeypatch):
    monkeypatch.setattr("tmkt_data.cache.shard_set._MOST_OPEN", 1)
    cache = Cache(copied)
    expected = cache.event_frames([0, 20, 40])
    same = copied.with_name("same.h5")
    shutil.copy(shard_of(copied, 1), same)
    same.replace(shard_of(copied, 1))
    np.testing.assert_array_equal(cache.event_frames([0, 20, 40]), expected)
    shutil.copy(shard_of(copied, 2), same)
    same.replace(shard_of(copied, 1))
    with pytest.raises(CacheError, match="holds shard 2, expected shard 1 of 3"):
        cache.event_frames([0])


def test_an_index_is_written_under_its_name_only_when_it_is_whole(copied):
    cache = Cache(copied)
    arrays = frame_arrays(cache.spec, 60, 60)
    before = copied.read_bytes()
    copied.unlink()
    write_index(cache.info.shards, (cache.header, sorted(cache.tables.items())), arrays)
    assert copied.read_bytes() == before
    assert {path.name for path in copied.parent.iterdir()} == {"a.h5", "a.h5.shards"}


def test_an_index_that_holds_another_one_when_it_is_read_back_gets_no_name(copied, monkeypatch):
    cache, seal = Cache(copied), shard_index.seal
    other = copied.read_bytes()

    def sealed(path, *words):
        seal(path, *words)
        path.write_bytes(other)

    monkeypatch.setattr(shard_index, "seal", sealed)
    target = dataclasses.replace(cache.info.shards, index=copied.with_name("b.h5"))
    tables = sorted({**cache.tables, "events/label": cache.tables["events/label"][::-1].copy()}.items())
    with pytest.raises(CacheError, match=r"b\.h5: does not hold what was just written to it; check the disk, run it"):
        write_index(target, (cache.header, tables), frame_arrays(cache.spec, 60, 60))
    assert {path.name for path in copied.parent.iterdir()} == {"a.h5", "a.h5.shards"}


def test_hdf5_reads_all_shards_as_one_array(sharded, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = np.arange(60)
    with h5py.File(sharded) as index:
        assert index["events/frames"].is_virtual
        np.testing.assert_array_equal(index["events/frames"][...], Cache(sharded).event_frames(rows))
        np.testing.assert_array_equal(index["images/frames"][...], Cache(sharded).image_frames(rows))
        assert [source.file_name for source in index["events/frames"].virtual_sources()] == [
            f"a.h5.shards/{number:05d}-of-00003.h5" for number in (1, 2, 3)
        ]


def test_a_shard_without_rows_of_a_side_has_no_part_in_its_array(copied):
    cache = Cache(copied)
    # The last shard holds nothing of an index that ends before it.
    shards = ShardSet.of(
        copied, cache.info.shards.names, cache.info.shards.digests, np.array([(20, 20), (20, 20), (0, 0)])
    )
    with h5py.File(copied.with_name("b.h5"), "w") as file:
        _tie_together(file, frame_arrays(cache.spec, 40, 40)[0], shards)
        assert len(file["events/frames"].virtual_sources()) == 2
        np.testing.assert_array_equal(file["events/frames"][...], cache.event_frames(np.arange(40)))


def test_columns_of_shards_are_those_of_the_whole(sharded):
    cache = Cache(sharded)
    infos = [Cache(shard_of(sharded, number)).info for number in (1, 2, 3)]
    infos[1] = dataclasses.replace(
        infos[1], skipped=({"side": "events", "why": "torn"}, {"side": "images", "why": "grey"})
    )
    is_kept = np.ones(60, bool)
    rows = {side: ShardRows(side, is_kept, infos) for side in ("events", "images")}
    assert rows["events"].is_kept is is_kept
    for side, found in rows.items():
        np.testing.assert_array_equal(found.kept_column("label"), cache.tables[f"{side}/label"])
    lengths = np.diff(cache.tables["events/overflow_start"])
    np.testing.assert_array_equal(rows["events"].kept_column("overflow_length"), lengths)
    assert [whys.tolist() for whys in rows["events"].pieces["why"]] == [[], [b"torn"], []]
    assert [whys.tolist() for whys in rows["images"].pieces["why"]] == [[], [b"grey"], []]
    assert set(rows["images"].pieces) == {"why"}
    counts = np.concatenate(rows["events"].pieces["overflow_count"])
    np.testing.assert_array_equal(counts, cache.tables["events/overflow_count"])
    assert len(rows["events"].pieces["overflow_cell"]) == 3


@pytest.mark.parametrize("name", ["../a.h5", "/tmp/a.h5", "a.h5.shards/../../b.h5"])
def test_an_index_names_no_file_outside_its_folder(tmp_path, name):
    tables = ShardSet.of(tmp_path / "a.h5", [name], ["0" * 64], np.ones((1, 2), np.int64)).tables()
    with pytest.raises(CacheError, match=r"^a\.h5: names the shard '.*' outside its folder; prepare it again$"):
        ShardSet.from_tables(tmp_path / "a.h5", tables, content_digest({}, tables))
