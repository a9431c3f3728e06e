"""A build that is stopped, killed, short of space or damaged ends with the same bytes."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from conftest import build

from tmkt_data.cache import build_folder
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError
from tmkt_data.prepare import plan as plan_module
from tmkt_data.prepare.blocks import UnreadableSourcesError
from tmkt_data.prepare.build import prepare_cache

from .plans import plan_of, stop_after

pytestmark = pytest.mark.usefixtures("small_blocks")


def test_workers_do_not_change_a_byte(large_root, uninterrupted, tmp_path):
    parallel = build("nmnist", large_root, tmp_path / "parallel.h5", workers=4, size=48)
    assert parallel.read_bytes() == uninterrupted.read_bytes()


def test_stopped_after_any_step_and_run_again_ends_with_the_same_bytes(large_root, uninterrupted, tmp_path):
    out = tmp_path / "resumed.h5"
    plan = plan_of(large_root, out, size=48)
    resumed = []
    for num_steps in (0, 1, 3, 6, 9, 12):
        steps = prepare_cache(plan, workers=1)
        for _ in range(num_steps):
            step = next(steps, None)
            resumed.append(step.resumed if step else 0)
        steps.close()
    assert not out.exists() or num_steps >= 12
    for _ in prepare_cache(plan):
        pass
    assert max(resumed) > 0
    assert out.read_bytes() == uninterrupted.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["resumed.h5"]


@pytest.mark.parametrize("is_earlier", [True, False])
def test_blocks_that_an_earlier_version_converted_are_not_used(large_root, tmp_path, monkeypatch, is_earlier):
    plan = plan_of(large_root, tmp_path / "a.h5", size=48)
    with monkeypatch.context() as earlier:
        if is_earlier:
            earlier.setattr(plan_module, "CONVERSION", plan_module.CONVERSION - 1)
        stop_after(plan, 3)
    with closing(prepare_cache(plan)) as steps:
        assert (next(steps).resumed == 0) == is_earlier


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
    stop_after(plan, 8)
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
    stop_after(plan, 8)
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


def test_blocks_of_other_choices_are_not_used(large_root, uninterrupted, tmp_path):
    out = tmp_path / "other.h5"
    stop_after(plan_of(large_root, out, size=48, resize="area"), 4)
    for _ in prepare_cache(plan_of(large_root, out, size=48)):
        pass
    assert out.read_bytes() == uninterrupted.read_bytes()


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
    stop_after(plan, 1)
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
