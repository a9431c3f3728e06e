"""What a cache holds after a build, and which sources are refused or left out."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import shutil
import time

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError, CatalogueError, EventError
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.files import opened
from tmkt_data.prepare import recordings
from tmkt_data.prepare.blocks import UnreadableSourcesError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare

from .plans import plan_of

pytestmark = pytest.mark.usefixtures("small_blocks")


def test_left_out_files_shorten_the_cache_to_what_a_smaller_tree_gives(large_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(large_root, root)
    broken = [next(folder.glob("*.bin")) for folder in (root / "N-MNIST/Train/0", root / "N-MNIST/Test/3")]
    for path in broken:
        path.write_bytes(b"123")
    plan = plan_of(root, tmp_path / "short.h5", size=48)
    for _ in prepare_cache(plan, skip_bad=True):
        pass
    for path in broken:
        path.unlink()
    short, smaller = Cache(plan.path), Cache(build("nmnist", root, tmp_path / "smaller.h5", size=48))
    assert short.event_ids == smaller.event_ids
    rows = np.arange(638)
    np.testing.assert_array_equal(short.event_frames(rows), smaller.event_frames(rows))
    np.testing.assert_array_equal(short.image_frames(rows), smaller.image_frames(rows))


def test_two_builders_at_once_are_kept_apart(nmnist_root, tmp_path):
    plan = plan_of(nmnist_root, tmp_path / "twice.h5")
    first = prepare_cache(plan)
    next(first)
    with pytest.raises(CacheError, match=r"another tmkt-data prepare is building this cache"):
        next(prepare_cache(plan))
    for _ in first:
        pass
    assert read_cache_info(plan.path).num_recordings == 60


def test_every_choice_leads_to_another_file(nmnist_root):
    catalogue = open_catalogue("nmnist", nmnist_root)
    base = default_spec("nmnist")
    other = {
        "time_bins": 6, "bin_rule": "tonic", "canvas": "tight", "resize": "area", "representation": "voxel",
        "image_channel": "blue", "size": 48, "split_seed": 1, "val_share": 0.2, "test_share": 0.2, "bake": "poisson",
        "class_set": "objects", "sensor_size": (40, 36), "time_unit": "ms", "shift_x": 1, "shift_y": 1,
        "orientation": "flip-x", "polarity": "inverted", "time_offset_us": 7, "hot_pixels": 2, "refractory_us": 9,
        "background_us": 9, "image_decode": "scaled", "time_range": "robust", "duplicates": "together",
        "image_scale": 2,
    }  # fmt: skip
    assert set(other) == set(base.to_dict())
    names = {
        plan_prepare(catalogue, dataclasses.replace(base, **{key: value})).path.name for key, value in other.items()
    }
    assert len(names | {plan_prepare(catalogue, base).path.name}) == len(other) + 1


def test_another_listing_leads_to_another_file(nmnist_root, tmp_path):
    copy = tmp_path / "tree"
    shutil.copytree(nmnist_root, copy)
    plan = plan_of(nmnist_root, tmp_path / "a.h5")
    assert plan_of(copy, tmp_path / "a.h5").key == plan.key
    (copy / "N-MNIST/Train/0/00001.bin").unlink()
    assert plan_of(copy, tmp_path / "a.h5").key != plan.key


def test_prepared_already_is_seen_and_a_changed_source_too(nmnist_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    plan = plan_of(root, tmp_path / "cache.h5")
    assert find_prepared(plan) is None
    for _ in prepare_cache(plan):
        pass
    found = find_prepared(plan)
    assert found is not None
    assert found.num_recordings == 60
    touched = root / "N-MNIST/Train/1/00013.bin"
    later = time.time() + 100
    os.utime(touched, (later, later))
    assert find_prepared(plan) is not None
    data = bytearray(touched.read_bytes())
    data[4] ^= 1
    touched.write_bytes(data)
    os.utime(touched, (later, later))
    with pytest.raises(CacheError, match=r"1/train-00013 has changed since it was prepared \(1 in all\); give --force"):
        find_prepared(plan)
    with pytest.raises(CacheError, match="holds another cache"):
        find_prepared(plan_of(root, tmp_path / "cache.h5", time_bins=4))


def test_the_cache_keeps_what_was_read_and_dropped(nmnist_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    recording = root / "N-MNIST/Train/2/00025.bin"
    data = bytearray(recording.read_bytes())
    data[1] = 240
    data[5] = 200
    data[10:15], data[15:20] = data[15:20], data[10:15]
    recording.write_bytes(data)
    cache = Cache(build("nmnist", root, tmp_path / "cache.h5"))
    row = cache.event_ids.index("2/train-00025")
    tables = {
        name.removeprefix("events/"): table[row]
        for name, table in cache.tables.items()
        if name.startswith("events/") and len(table) == 60
    }
    assert tables["num_read"] == len(data) // 5
    assert tables["num_outside_sensor"] == 2
    assert tables["num_kept"] == tables["num_read"] - 2
    assert tables["num_inversions"] == 1
    assert tables["source_bytes"] == len(data)
    assert cache.event_frames(np.array([row])).sum() == tables["num_kept"]
    assert cache.image_ids[tables["twin"]] == "2/train-00025"


def test_the_tonic_rule_counts_what_it_loses(nmnist_root, tmp_path):
    cache = Cache(build("nmnist", nmnist_root, tmp_path / "tonic.h5", bin_rule="tonic"))
    lost = cache.tables["events/num_outside_bins"]
    assert (lost >= 1).all()
    kept = cache.tables["events/num_kept"] - lost
    np.testing.assert_array_equal(cache.event_frames(np.arange(60)).sum((1, 2, 3, 4)), kept)


@pytest.mark.parametrize("resize", ["sum", "bilinear", "area"])
@pytest.mark.parametrize("canvas", ["fixed", "tight"])
def test_stored_frames_are_the_frames_of_the_recording(nmnist_root, tmp_path, resize, canvas):
    from tmkt_data.events.events import SensorSize
    from tmkt_data.events.frames import FrameSpec, event_frames
    from tmkt_data.events.read import load_events

    cache = Cache(build("nmnist", nmnist_root, tmp_path / "cache.h5", resize=resize, canvas=canvas, size=20))
    source = open_catalogue("nmnist", nmnist_root).recordings[11]
    events = load_events(source.path, sensor_size=SensorSize(34, 34))
    expected = event_frames(events, FrameSpec(num_bins=10, height=20, width=20, resize=resize), canvas=canvas).frames
    stored = cache.event_frames(np.array([11]))[0]
    if resize == "sum":
        np.testing.assert_array_equal(stored, expected)
    else:
        np.testing.assert_allclose(stored, expected, rtol=2**-10, atol=1e-6)


def test_every_unreadable_file_is_named_and_the_rest_kept(nmnist_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    (root / "N-MNIST/Train/0/00002.bin").write_bytes(b"123")
    (root / "N-MNIST/Train/1/00014.bin").write_bytes(b"")
    (root / "MNIST_png/Train/3/00040.png").write_bytes(b"no image")
    plan = plan_of(root, tmp_path / "cache.h5")
    with pytest.raises(UnreadableSourcesError) as caught:
        for _ in prepare_cache(plan):
            pass
    assert sorted(caught.value.problems) == [
        "images/3/train-00040",
        "recordings/0/train-00002",
        "recordings/1/train-00014",
    ]
    assert "3 bytes left after 0 whole events" in caught.value.problems["recordings/0/train-00002"]
    assert not plan.path.exists()


def test_a_source_that_changes_while_it_is_prepared_is_read_again(nmnist_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    plan = plan_of(root, tmp_path / "cache.h5")
    steps = prepare_cache(plan)
    next(steps)
    recording = root / "N-MNIST/Train/0/00002.bin"
    data = bytearray(recording.read_bytes())
    data[0] ^= 1
    recording.write_bytes(data)
    with pytest.raises(CacheError, match=r"00002\.bin: was changed while the cache was prepared; run it again"):
        for _ in steps:
            pass
    assert not plan.path.exists()
    for _ in prepare_cache(plan):
        pass
    assert plan.path.read_bytes() == build("nmnist", root, tmp_path / "fresh.h5").read_bytes()
    assert find_prepared(plan) is not None


def test_left_out_files_are_named_in_the_cache_and_their_twins_kept(nmnist_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    (root / "N-MNIST/Train/0/00002.bin").write_bytes(b"123")
    (root / "MNIST_png/Train/3/00040.png").write_bytes(b"no image")
    plan = plan_of(root, tmp_path / "cache.h5")
    for _ in prepare_cache(plan, skip_bad=True):
        pass
    cache = Cache(plan.path)
    assert [(entry["side"], entry["id"]) for entry in cache.info.skipped] == [
        ("events", "0/train-00002"),
        ("images", "3/train-00040"),
    ]
    assert "0/train-00002" not in cache.event_ids
    assert "0/train-00002" in cache.image_ids
    assert "3/train-00040" in cache.event_ids
    assert len(cache.event_ids) == len(cache.image_ids) == 59
    assert cache.tables["events/twin"][cache.event_ids.index("3/train-00040")] == -1
    frames = cache.event_frames(np.arange(59))
    np.testing.assert_array_equal(frames.sum((1, 2, 3, 4)), cache.tables["events/num_kept"])
    assert find_prepared(plan, skip_bad=True) is not None
    with pytest.raises(CacheError, match="was prepared without 2 unreadable files, such as 0/train-00002"):
        find_prepared(plan)


@pytest.mark.parametrize("damage", ["random", "shifted"])
def test_bytes_that_decode_but_are_no_recording_are_refused(nmnist_root, tmp_path, damage):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    recording = root / "N-MNIST/Train/0/00002.bin"
    data = recording.read_bytes()
    recording.write_bytes(random.Random(3).randbytes(20_000) if damage == "random" else data[1:-4])
    with pytest.raises(UnreadableSourcesError, match=r"00002\.bin: .*(lie outside|time steps back).*fetch it again"):
        build("nmnist", root, tmp_path / "cache.h5")


def test_counts_beyond_float16_are_refused_not_infinite(nmnist_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    many = 70_000
    events = validate_events(np.arange(many), np.full(many, 3), np.full(many, 4), np.ones(many, bool))
    write_atis(root / "N-MNIST/Train/0/00002.bin", events)
    with pytest.raises(UnreadableSourcesError, match="float16 holds 65504; use --resize sum"):
        build("nmnist", root, tmp_path / "cache.h5", resize="bilinear", canvas="tight", time_bins=1)


def test_a_damaged_cache_names_the_way_out(nmnist_root, tmp_path):
    plan = plan_of(nmnist_root, tmp_path / "cache.h5")
    for _ in prepare_cache(plan):
        pass
    plan.path.write_bytes(plan.path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=r"the file is truncated.*--force replaces it"):
        find_prepared(plan)


def test_an_empty_side_is_refused(nmnist_root, tmp_path):
    catalogue = open_catalogue("nmnist", nmnist_root)
    with pytest.raises(CatalogueError, match="nmnist: no recording of the classes asked for"):
        plan_prepare(dataclasses.replace(catalogue, recordings=()), default_spec("nmnist"), tmp_path / "x.h5")


def test_words_that_are_no_events_are_told_from_events_outside(tmp_path):
    folder = tmp_path / "set" / "events" / "clap"
    folder.mkdir(parents=True)
    (tmp_path / "set" / "tmkt.toml").write_text("sensor_size = [128, 128]\n")
    trees.random_picture(tmp_path / "set" / "images" / "clap" / "0.png", np.random.default_rng(0), 9, 9)
    word = [(x << 1 | 1 | 60 << 8).to_bytes(4, "big") + x.to_bytes(4, "big") for x in range(50)]
    special = [0x8000.to_bytes(4, "big") + (50 + x).to_bytes(4, "big") for x in range(7)]
    for number in range(4):
        header = f"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n# take {number}\r\n".encode()
        (folder / f"{number}.aedat").write_bytes(header + b"".join(word + special))
    cache = Cache(build("folder", tmp_path / "set", tmp_path / "a.h5"))
    assert cache.tables["events/num_read"].tolist() == [57] * 4
    assert cache.tables["events/num_no_event"].tolist() == [7] * 4
    assert not cache.tables["events/num_outside_sensor"].any()


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_a_file_that_the_system_refuses_is_not_left_out(nmnist_root, tmp_path, monkeypatch, number, skip_bad):
    plan, real = plan_of(nmnist_root, tmp_path / "a.h5"), recordings.RecordingReader.open
    refused = plan.catalogue.recordings[5]

    def open_some(reader, source):
        if source == refused:
            with opened(source.path, EventError):
                raise OSError(number, os.strerror(number))
        return real(reader, source)

    monkeypatch.setattr(recordings, "has_fast_path", lambda *_: False)
    monkeypatch.setattr(recordings.RecordingReader, "open", open_some)
    with pytest.raises(CatalogueError, match="that is no fault of the file, so it is not left out"):
        list(prepare_cache(plan, skip_bad=skip_bad))
    assert not plan.path.exists()


def test_a_source_that_was_replaced_by_an_older_file_of_the_same_size_is_seen(nmnist_root, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(nmnist_root, root)
    plan = plan_of(root, build("nmnist", root, tmp_path / "a.h5"))
    assert find_prepared(plan) is not None
    path = plan.catalogue.recordings[3].path
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    (tmp_path / "other.bin").write_bytes(data)
    os.utime(tmp_path / "other.bin", (10**9, 10**9))
    shutil.copy2(tmp_path / "other.bin", path)
    assert path.stat().st_mtime == 10**9
    with pytest.raises(CacheError, match=r"has changed since it was prepared \(1 in all\)"):
        find_prepared(plan)
