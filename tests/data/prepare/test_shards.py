"""A cache in shards holds what the cache in one file holds; a shard that is lost is made alone."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import build

from tmkt_data import PairedFrames
from tmkt_data.cache.compress import compress_cache
from tmkt_data.cache.reader import Cache
from tmkt_data.cache.verify import verify_cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError, CatalogueError, SpecError
from tmkt_data.prepare.build import prepare_cache, prepare_shards
from tmkt_data.prepare.plan import find_prepared, plan_prepare
from tmkt_data.prepare.shards import ShardedPlan, missing_shards, num_shards_within, require_shardable

from .plans import plan_of


def plan_shards(root: Path, out: Path, num_shards: int = 3, **choices: object) -> ShardedPlan:
    return ShardedPlan(plan_of(root, out, **choices), num_shards)


def make(plan: ShardedPlan, *, skip_bad: bool = False, workers: int = 1) -> list[int]:
    """Write what is missing, as the command does; return the shards that were written, counted from 1."""
    require_shardable(plan)
    missing = [shard for shard, _ in missing_shards(plan, skip_bad=skip_bad)]
    for _ in prepare_shards(plan, missing, skip_bad=skip_bad, workers=workers):
        pass
    return [shard + 1 for shard in missing]


def bytes_of(out: Path) -> dict[str, bytes]:
    """Return the bytes of an index and of its shards, and whatever else lies there."""
    files = [out, *sorted(out.with_name(f"{out.name}.shards").rglob("*"))]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def sharded(nmnist_root, tmp_path_factory) -> Path:
    plan = plan_shards(nmnist_root, tmp_path_factory.mktemp("sharded") / "nmnist.h5")
    assert make(plan) == [1, 2, 3]
    return plan.whole.path


@pytest.fixture
def copied(sharded, tmp_path) -> Path:
    """A copy that may be damaged; its files are as old as those of the original."""
    shutil.copytree(sharded.parent, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy" / sharded.name


def shard_of(out: Path, number: int, num_shards: int = 3) -> Path:
    return out.with_name(f"{out.name}.shards") / f"{number:05d}-of-{num_shards:05d}.h5"


def assert_same(one: Cache, other: Cache) -> None:
    assert one.info.digest == other.info.digest
    assert (one.header, one.class_names) == (other.header, other.class_names)
    assert set(one.tables) == set(other.tables)
    for name, table in one.tables.items():
        np.testing.assert_array_equal(table, other.tables[name])
    events = np.random.default_rng(0).permutation(one.info.num_recordings)
    np.testing.assert_array_equal(one.event_frames(events), other.event_frames(events))
    images = np.random.default_rng(1).permutation(one.info.num_images)
    np.testing.assert_array_equal(one.image_frames(images), other.image_frames(images))
    if one.has_spikes:
        np.testing.assert_array_equal(one.image_spikes(images), other.image_spikes(images))


@pytest.mark.parametrize("num_shards", [1, 7])
def test_any_number_of_shards_holds_what_one_file_holds(nmnist_root, nmnist_cache, tmp_path, num_shards):
    plan = plan_shards(nmnist_root, tmp_path / "nmnist.h5", num_shards)
    assert len(make(plan)) == num_shards
    assert_same(Cache(nmnist_cache), Cache(plan.whole.path))
    for _ in verify_cache(plan.whole.path):
        pass


def test_baked_spikes_and_weighted_frames_are_the_same_in_shards(nmnist_root, tmp_path):
    choices = {"bake": "poisson", "resize": "bilinear", "size": 20}
    one = build("nmnist", nmnist_root, tmp_path / "one.h5", **choices)
    plan = plan_shards(nmnist_root, tmp_path / "nmnist.h5", **choices)
    make(plan)
    assert_same(Cache(one), Cache(plan.whole.path))
    baked = [PairedFrames(path, encoder="baked").read([0, 5, 11]) for path in (one, plan.whole.path)]
    np.testing.assert_array_equal(baked[0].image, baked[1].image)


@pytest.mark.parametrize(("pairing", "encoder"), [("same-class", "poisson"), ("twin", "repeat")])
def test_pairs_of_shards_are_those_of_one_file(nmnist_cache, sharded, pairing, encoder):
    one, other = (PairedFrames(path, pairing=pairing, encoder=encoder, seed=3) for path in (nmnist_cache, sharded))
    assert one.ids == other.ids
    for epoch in (0, 4):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        everything = np.arange(len(one))
        for ours, theirs in zip(one.read(everything), other.read(everything), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_index_opens_in_workers_and_through_pickle(nmnist_cache, sharded):
    cache = pickle.loads(pickle.dumps(Cache(sharded)))
    assert_same(Cache(nmnist_cache), cache)
    frames = PairedFrames(sharded)
    expected = frames.read([7, 3]).events.sum()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(frames.read, [7, 3]).result().events.sum() == expected


def test_more_shards_than_are_kept_open_are_read_in_turn(nmnist_cache, sharded, monkeypatch):
    monkeypatch.setattr("tmkt_data.cache.shard_set._MOST_OPEN", 1)
    cache = Cache(sharded)
    for _ in range(2):
        assert_same(Cache(nmnist_cache), cache)
    maps = Path("/proc/self/maps")
    if maps.exists():
        # One shard of each array at most.
        mapped = [line for line in maps.read_text().splitlines() if f"{sharded.name}.shards" in line]
        assert len(mapped) <= 2


def test_each_shard_is_a_cache_of_its_own(sharded):
    whole = Cache(sharded)
    ids: dict[str, list[str]] = {"events": [], "images": []}
    for number in (1, 2, 3):
        path = shard_of(sharded, number)
        for _ in verify_cache(path):
            pass
        shard = Cache(path)
        assert (shard.spec, shard.class_names) == (whole.spec, whole.class_names)
        for side, found in (("events", shard.event_ids), ("images", shard.image_ids)):
            rows = [(whole.event_ids if side == "events" else whole.image_ids).index(sample) for sample in found]
            for table in ("label", "split/twin-disjoint", "split/kt-paper", "frames_xxh3", "source_xxh3"):
                np.testing.assert_array_equal(shard.tables[f"{side}/{table}"], whole.tables[f"{side}/{table}"][rows])
            ids[side] += found
        twins = shard.tables["events/twin"]
        assert [shard.image_ids[row] for row in twins if row >= 0] == list(np.array(shard.event_ids)[twins >= 0])
        assert len(PairedFrames(path, pairing="twin")) > 0
    assert ids == {"events": list(whole.event_ids), "images": list(whole.image_ids)}


def test_hdf5_alone_reads_the_frames_of_all_shards_as_one_array(nmnist_cache, sharded, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with h5py.File(sharded) as index, h5py.File(nmnist_cache) as one:
        for name in ("events/frames", "images/frames"):
            assert index[name].is_virtual
            np.testing.assert_array_equal(index[name][...], one[name][...])


def test_compress_makes_one_file_of_shards_with_the_bytes_of_one_file(nmnist_cache, sharded, tmp_path):
    for _ in compress_cache(sharded, tmp_path / "one.h5", undo=True):
        pass
    assert (tmp_path / "one.h5").read_bytes() == nmnist_cache.read_bytes()
    for _ in compress_cache(sharded, tmp_path / "small.h5"):
        pass
    assert_same(Cache(nmnist_cache), Cache(tmp_path / "small.h5"))


def test_a_shard_may_be_replaced_by_its_compressed_copy(nmnist_cache, copied, tmp_path):
    for _ in compress_cache(shard_of(copied, 2), tmp_path / "small.h5"):
        pass
    (tmp_path / "small.h5").replace(shard_of(copied, 2))
    assert_same(Cache(nmnist_cache), Cache(copied))


def test_workers_and_interruptions_do_not_change_a_byte(nmnist_root, sharded, tmp_path):
    plan = plan_shards(nmnist_root, tmp_path / "nmnist.h5")
    for num_steps in (1, 2, 3, 5, 8):
        steps = prepare_shards(plan, [shard for shard, _ in missing_shards(plan)])
        for _ in range(num_steps):
            next(steps, None)
        steps.close()
    make(plan, workers=3)
    assert bytes_of(plan.whole.path) == bytes_of(sharded)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nmnist.h5", "nmnist.h5.shards"]


def _remove(path: Path, _: Path) -> None:
    path.unlink()


def _truncate(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def _empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def _double(path: Path, out: Path) -> None:
    shutil.copy(shard_of(out, 1), path)


def _foreign(path: Path, out: Path) -> None:
    plan = plan_shards(out.parents[1] / "other", out.parents[1] / "foreign.h5")
    make(plan)
    shutil.copy(shard_of(plan.whole.path, 2), path)


def _corrupt(path: Path, _: Path) -> None:
    """Change one frame in place: only the time of change of the file and a checksum tell."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


DAMAGE = {
    _remove: "nmnist.h5.shards/00002-of-00003.h5 is missing",
    _truncate: "00002-of-00003.h5: {size} bytes, expected",
    _empty: "00002-of-00003.h5: not a tmkt cache",
    _double: "nmnist.h5.shards/00002-of-00003.h5 holds shard 1, expected shard 2 of 3",
    _foreign: "nmnist.h5.shards/00002-of-00003.h5 holds another cache, expected shard 2 of 3",
}


@pytest.mark.parametrize("damage", [*DAMAGE, _corrupt])
def test_a_lost_or_damaged_shard_is_one_line_and_made_alone(nmnist_root, sharded, copied, damage):
    shutil.copytree(nmnist_root, copied.parents[1] / "other")
    removed = sorted((copied.parents[1] / "other").rglob("*.bin"))[0]
    removed.unlink()
    whole = bytes_of(copied)
    damage(shard_of(copied, 2), copied)
    others = [shard_of(copied, number).stat().st_ino for number in (1, 3)]
    if damage is _corrupt:
        with pytest.raises(CacheError, match=r"^nmnist.h5.shards/00002-of-00003.h5: the file was changed .* alone$"):
            list(verify_cache(copied))
        with pytest.raises(CacheError, match=r"^nmnist.h5.shards/00002-of-00003.h5: row \d+ of .* was changed"):
            Cache(copied).event_frames(np.arange(60))
    else:
        text = DAMAGE[damage].format(size=whole and len(whole["00002-of-00003.h5"]) - 100)
        for use in (Cache, PairedFrames, lambda path: list(verify_cache(path))):
            with pytest.raises(CacheError) as refused:
                use(copied)
            assert str(refused.value).startswith(f"nmnist.h5: {text}")
            assert "\n" not in str(refused.value)
    assert make(plan_shards(nmnist_root, copied)) == [2]
    assert bytes_of(copied) == whole == bytes_of(sharded)
    assert [shard_of(copied, number).stat().st_ino for number in (1, 3)] == others
    assert make(plan_shards(nmnist_root, copied)) == []


def test_a_shard_that_changes_while_it_is_open_is_refused(copied):
    cache = Cache(copied)
    rows = np.arange(cache.info.num_recordings)
    cache.event_frames(rows)
    _corrupt(shard_of(copied, 3), copied)
    cache.event_frames(rows[:5])
    with pytest.raises(CacheError, match=r"00003-of-00003.h5: was overwritten while it was open"):
        cache.event_frames(rows)


def test_a_shard_that_is_lost_after_opening_is_refused_when_it_is_read(copied):
    cache = Cache(copied)
    shard_of(copied, 3).unlink()
    cache.event_frames([0])
    with pytest.raises(CacheError, match=r"nmnist.h5: nmnist.h5.shards/00003-of-00003.h5 is missing"):
        cache.event_frames([59])


def test_a_damaged_index_is_written_again(nmnist_root, sharded, copied):
    data = bytearray(copied.read_bytes())
    data[-40] ^= 1
    copied.write_bytes(data)
    with pytest.raises(CacheError, match=r"nmnist\.h5: "):
        list(verify_cache(copied))
    copied.unlink()
    assert make(plan_shards(nmnist_root, copied)) == []
    assert bytes_of(copied) == bytes_of(sharded)


def test_the_list_of_shards_of_an_index_cannot_be_changed(copied):
    with h5py.File(copied, "r+") as file:
        file["shards/digest"][1] = file["shards/digest"][0]
    with pytest.raises(CacheError, match="the list of its shards was changed"):
        Cache(copied)


def test_shards_do_not_replace_another_cache(nmnist_root, nmnist_cache, copied, tmp_path):
    one = tmp_path / "one.h5"
    shutil.copy(nmnist_cache, one)
    with pytest.raises(CacheError, match="holds this cache as one file, expected 3 shards; use it as it is"):
        make(plan_shards(nmnist_root, one))
    with pytest.raises(CacheError, match="holds this cache as 3 shards, expected 2 shards"):
        make(plan_shards(nmnist_root, copied, 2))
    with pytest.raises(CacheError, match=r"holds another cache \(nmnist, 60 recordings\); give another --out"):
        make(plan_shards(nmnist_root, copied, size=20))
    copied.unlink()
    with pytest.raises(CacheError, match=r"00001-of-00003.h5: holds a shard of another plan \(nmnist, 20 recordings\)"):
        make(plan_shards(nmnist_root, copied, size=20))


def test_an_index_is_found_as_the_prepared_cache_of_its_plan(nmnist_root, sharded):
    found = find_prepared(plan_of(nmnist_root, sharded))
    assert found.shards.names == tuple(f"nmnist.h5.shards/{number:05d}-of-00003.h5" for number in (1, 2, 3))
    sizes = [path.stat().st_size for path in (sharded, *(shard_of(sharded, number) for number in (1, 2, 3)))]
    assert found.num_bytes == sum(sizes)


def test_a_source_that_changes_after_its_shard_was_made_is_refused(nmnist_root, tmp_path):
    shutil.copytree(nmnist_root, tmp_path / "root")
    plan = plan_shards(tmp_path / "root", tmp_path / "nmnist.h5")
    make(plan)
    source = plan.shard(1).catalogue.recordings[4]
    source.path.write_bytes(source.path.read_bytes()[:-5])
    with pytest.raises(CacheError, match=f"^shard 2/3: .*{source.id} has changed since it was prepared"):
        make(plan_shards(tmp_path / "root", tmp_path / "nmnist.h5"))


def test_unreadable_files_are_left_out_as_from_one_file(nmnist_root, tmp_path):
    shutil.copytree(nmnist_root, tmp_path / "root")
    for source in (plan_of(tmp_path / "root", tmp_path / "x.h5").catalogue.recordings[row] for row in (3, 4, 33)):
        source.path.write_bytes(b"123")
    one = plan_of(tmp_path / "root", tmp_path / "one.h5")
    for _ in prepare_cache(one, skip_bad=True):
        pass
    plan = plan_shards(tmp_path / "root", tmp_path / "nmnist.h5")
    make(plan, skip_bad=True)
    assert len(Cache(plan.whole.path).info.skipped) == 3
    assert_same(Cache(one.path), Cache(plan.whole.path))
    with pytest.raises(CacheError, match=r"shard 1/3: .* was prepared without 2 unreadable files"):
        make(plan)


def test_equal_content_is_kept_together_or_refused_over_all_shards(nmnist_root, tmp_path):
    shutil.copytree(nmnist_root, tmp_path / "root")
    sources = plan_of(tmp_path / "root", tmp_path / "x.h5").catalogue.recordings
    rows = {part: [row for row, source in enumerate(sources) if source.part == part] for part in ("train", "test")}
    shutil.copy(sources[rows["test"][0]].path, sources[rows["train"][-1]].path)
    one = build("nmnist", tmp_path / "root", tmp_path / "one.h5", duplicates="together")
    plan = plan_shards(tmp_path / "root", tmp_path / "nmnist.h5", duplicates="together")
    make(plan)
    assert_same(Cache(one), Cache(plan.whole.path))
    refused = plan_shards(tmp_path / "root", tmp_path / "refused.h5", duplicates="refuse")
    with pytest.raises(CatalogueError, match="has the content of one in another split"):
        make(refused)
    assert not refused.whole.path.exists()


def test_samples_without_twins_are_cut_by_the_same_ids(tmp_path, nmnist_root):
    catalogue = open_catalogue("nmnist", nmnist_root)
    half = dataclasses.replace(catalogue, images=catalogue.images[40:])
    spec = default_spec("nmnist")
    one, plan = plan_prepare(half, spec, tmp_path / "one.h5"), plan_prepare(half, spec, tmp_path / "nmnist.h5")
    for _ in prepare_cache(one):
        pass
    shards = ShardedPlan(plan, 4)
    assert [len(shards.shard(number).catalogue.images) for number in range(4)] == [0, 0, 5, 15]
    assert make(shards) == [1, 2, 3, 4]
    assert_same(Cache(one.path), Cache(plan.path))


def test_the_number_of_shards_has_to_fit(nmnist_root, tmp_path):
    with pytest.raises(SpecError, match="shards: found 61, expected 1 to 60, the number of sample ids"):
        plan_shards(nmnist_root, tmp_path / "nmnist.h5", 61)
    plan = plan_of(nmnist_root, tmp_path / "nmnist.h5")
    assert num_shards_within(plan, plan.num_bytes) == 1
    assert num_shards_within(plan, plan.num_bytes - 1) == 2
    assert num_shards_within(plan, plan.num_bytes // 5) in (5, 6)
