from __future__ import annotations

import dataclasses
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data.cache import build_folder
from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError, CatalogueError, EventError
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.files import opened
from tmkt_data.prepare import plan as prepare_plan
from tmkt_data.prepare import recordings
from tmkt_data.prepare.blocks import UnreadableSourcesError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_plan, "BLOCK_BYTES", 1 << 21)


@pytest.fixture(scope="module")
def large_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_nmnist(tmp_path_factory.mktemp("large"), per_digit=60, test_per_digit=4, digits=10, seed=1)


@pytest.fixture(scope="module")
def uninterrupted(large_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("nmnist", large_root, tmp_path_factory.mktemp("whole") / "large.h5", size=48)


def plan_of(root: Path, out: Path, **choices: object):
    return plan_prepare(open_catalogue("nmnist", root), dataclasses.replace(default_spec("nmnist"), **choices), out)


def test_workers_do_not_change_a_byte(large_root, uninterrupted, tmp_path):
    parallel = build("nmnist", large_root, tmp_path / "parallel.h5", workers=4, size=48)
    assert parallel.read_bytes() == uninterrupted.read_bytes()


def test_stopped_after_any_step_and_run_again_ends_with_the_same_bytes(large_root, uninterrupted, tmp_path):
    out = tmp_path / "resumed.h5"
    plan = plan_of(large_root, out, size=48)
    resumed = []
    for stop_after in (0, 1, 3, 6, 9, 12):
        steps = prepare_cache(plan, workers=1)
        for _ in range(stop_after):
            step = next(steps, None)
            resumed.append(step.resumed if step else 0)
        steps.close()
    assert not out.exists() or stop_after >= 12
    for _ in prepare_cache(plan):
        pass
    assert max(resumed) > 0
    assert out.read_bytes() == uninterrupted.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["resumed.h5"]


def test_killed_at_random_points_and_run_again_ends_with_the_same_bytes(large_root, uninterrupted, tmp_path):
    out = tmp_path / "killed.h5"
    code = (
        "import sys; from tmkt_data.prepare import plan; from tmkt_data.cli.main import main;"
        "plan.BLOCK_BYTES = 1 << 21; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "prepare", "nmnist", "--root", str(large_root), "--size", "48",
               "--workers", "1", "--out", str(out)]  # fmt: skip
    rng = random.Random(5)
    building = tmp_path / "killed.h5.building"
    killed = 0
    for blocks in (0, 1, 3, 6, 9, 12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(building.glob("*.npz"))) < blocks:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists() or out.read_bytes() == uninterrupted.read_bytes()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert killed >= 3
    assert out.read_bytes() == uninterrupted.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["killed.h5"]


def test_a_damaged_block_is_built_again(large_root, uninterrupted, tmp_path):
    out = tmp_path / "mended.h5"
    plan = plan_of(large_root, out, size=48)
    steps = prepare_cache(plan)
    for _ in range(8):
        next(steps)
    steps.close()
    blocks = sorted((tmp_path / "mended.h5.building").glob("*.npz"))
    assert len(blocks) >= 3
    data = bytearray(blocks[0].read_bytes())
    data[len(data) // 2] ^= 1
    blocks[0].write_bytes(data)
    blocks[1].write_bytes(blocks[1].read_bytes()[:1000])
    for _ in prepare_cache(plan):
        pass
    assert out.read_bytes() == uninterrupted.read_bytes()


def test_frames_that_were_lost_are_built_again(large_root, uninterrupted, tmp_path):
    out = tmp_path / "mended.h5"
    plan = plan_of(large_root, out, size=48)
    steps = prepare_cache(plan)
    for _ in range(8):
        next(steps)
    steps.close()
    frames = tmp_path / "mended.h5.building" / "frames.h5"
    data = bytearray(frames.read_bytes())
    at = data.index(Cache(uninterrupted).event_frames([3]).astype("u1").tobytes())
    data[at + 5000] ^= 1
    frames.write_bytes(data)
    steps = list(prepare_cache(plan))
    assert 0 < max(step.resumed for step in steps if step.stage == "recordings") < 640
    assert out.read_bytes() == uninterrupted.read_bytes()


@pytest.mark.parametrize("damage", [False, True])
def test_stopped_while_the_tables_are_written_keeps_the_frames(
    large_root, uninterrupted, tmp_path, monkeypatch, damage
):
    out = tmp_path / "tabled.h5"
    plan = plan_of(large_root, out, size=48)

    def stop(path, *_):
        if damage:
            with path.open("r+b") as file:
                file.write(bytes(2000))
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(build_folder, "write_tables" if damage else "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            list(prepare_cache(plan))
    assert {step.stage for step in prepare_cache(plan)} == {"writing"}
    assert out.read_bytes() == uninterrupted.read_bytes()


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


def test_blocks_of_other_choices_are_not_used(large_root, uninterrupted, tmp_path):
    out = tmp_path / "other.h5"
    steps = prepare_cache(plan_of(large_root, out, size=48, resize="area"))
    for _ in range(4):
        next(steps)
    steps.close()
    for _ in prepare_cache(plan_of(large_root, out, size=48)):
        pass
    assert out.read_bytes() == uninterrupted.read_bytes()


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


def test_mended_files_are_read_and_the_other_blocks_kept(large_root, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(large_root, root)
    broken = root / "N-MNIST/Train/0/00001.bin"
    whole = broken.read_bytes()
    broken.write_bytes(b"123")
    with pytest.raises(UnreadableSourcesError):
        for _ in prepare_cache(plan_of(root, tmp_path / "cache.h5")):
            pass
    broken.write_bytes(whole)
    resumed = [step.resumed for step in prepare_cache(plan_of(root, tmp_path / "cache.h5"))]
    assert max(resumed) >= 512
    assert not (tmp_path / "cache.h5.building").exists()


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


def test_blocks_count_toward_the_space_that_is_needed(nmnist_root, tmp_path, monkeypatch):
    plan = plan_of(nmnist_root, tmp_path / "cache.h5")
    steps = prepare_cache(plan)
    while next(steps).stage != "writing":
        pass
    steps.close()
    room = shutil.disk_usage(tmp_path)._replace(free=int(0.5 * plan.num_bytes))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    for _ in prepare_cache(plan):
        pass
    assert plan.path.exists()


def test_a_fresh_start_drops_finished_blocks(nmnist_root, tmp_path):
    plan = plan_of(nmnist_root, tmp_path / "cache.h5")
    steps = prepare_cache(plan)
    next(steps)
    steps.close()
    assert all(step.resumed == 0 for step in prepare_cache(plan, fresh=True))


def test_a_full_disk_is_one_line_and_nothing_is_lost(large_root, uninterrupted, tmp_path):
    out = tmp_path / "full.h5"
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])));"
        "from tmkt_data.cli.main import main; main(sys.argv[2:])"
    )
    arguments = ["prepare", "nmnist", "--root", str(large_root), "--size", "48", "--workers", "1", "--out", str(out)]
    for limit in (1_000_000, 8_000_000):
        failed = subprocess.run(
            [sys.executable, "-c", code, str(limit), *arguments], capture_output=True, text=True, check=False
        )
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr
        assert failed.stderr.count("error: ") == 1
        assert "cannot be written" in failed.stderr
        assert "free some space" in failed.stderr
        assert not out.exists()
    for _ in prepare_cache(plan_of(large_root, out, size=48)):
        pass
    assert out.read_bytes() == uninterrupted.read_bytes()


def test_too_little_space_is_said_before_anything_is_written(nmnist_root, tmp_path):
    plan = plan_of(nmnist_root, tmp_path / "huge.h5", size=1024, time_bins=1000)
    huge = dataclasses.replace(plan, catalogue=dataclasses.replace(plan.catalogue))
    assert huge.num_bytes > 10**11
    if shutil.disk_usage(tmp_path).free > 2 * huge.num_bytes:
        pytest.skip("more than 200 GB free here")
    with pytest.raises(CacheError, match=r"MB free, needed \d+ MB"):
        next(prepare_cache(huge))
    assert list(tmp_path.iterdir()) == []


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
