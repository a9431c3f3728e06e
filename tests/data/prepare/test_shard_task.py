"""What a worker does for a shard: what it is told in a line, and what it waits for."""

from __future__ import annotations

import hashlib
import platform
import shutil
import threading
import time
from pathlib import Path

import pytest

from tmkt_data.cache.build_folder import open_build_folder
from tmkt_data.cache.reader import read_cache_info
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.prepare.plan_file import write_plan
from tmkt_data.prepare.shard_task import Outcome, ShardTask, build_of_tmkt, make_shard
from tmkt_data.prepare.shards import ShardedPlan


@pytest.fixture
def own_root(nmnist_root, tmp_path) -> Path:
    return shutil.copytree(nmnist_root, tmp_path / "root")


@pytest.fixture
def plan(own_root, tmp_path) -> ShardedPlan:
    catalogue = open_catalogue("nmnist", own_root)
    return write_plan(tmp_path / "plan", catalogue, default_spec("nmnist"), tmp_path / "a.h5", 20)


@pytest.fixture
def task(plan, tmp_path) -> ShardTask:
    assert len(plan) == 20
    digest = hashlib.sha256((tmp_path / "plan").read_bytes()).hexdigest()
    return ShardTask(str(tmp_path / "plan"), digest, 3, build_of_tmkt())


def silent(*_: object) -> None:
    pass


def test_a_shard_is_made_once(plan, task):
    assert make_shard(task, silent) == Outcome(platform.node())
    path = plan.shard(3).path
    made = path.stat()
    assert make_shard(task, silent) == Outcome(platform.node())
    assert path.stat().st_ino == made.st_ino
    assert make_shard(task._replace(fresh=True), silent) == Outcome(platform.node())
    assert path.stat().st_ino != made.st_ino
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_another_build_of_tmkt_is_refused(task):
    found = make_shard(task._replace(build="0.0.9, sources 01234567"), silent)
    assert found.refusal == (
        f"runs tmkt {build_of_tmkt()}, expected 0.0.9, sources 01234567 as here; install the same on all"
    )
    assert (found.host, found.is_of_machine) == (platform.node(), False)


def test_what_a_worker_does_not_see_is_a_line(plan, task, own_root, tmp_path):
    other = make_shard(task._replace(digest="0" * 64), silent)
    assert other.refusal.startswith(f"{task.plan}: holds another plan than this run has written; workers need")
    own_root.rename(tmp_path / "elsewhere")
    unseen = make_shard(task, silent)
    path = plan.shard(3).catalogue.recordings[0].path
    assert unseen.refusal.startswith(f"{path}: No such file or directory")
    assert unseen.refusal.endswith("; workers need the same sources under the same paths")
    gone = make_shard(task._replace(plan=str(tmp_path / "no" / "plan"), digest="1" * 64), silent)
    assert gone.refusal.startswith(f"{tmp_path / 'no' / 'plan'}: no such file")
    assert gone.refusal.endswith("; workers need the folder of the cache under the same path")
    assert [found.is_of_machine for found in (other, unseen, gone)] == [False] * 3


def test_bad_input_is_named_by_sample(plan, task):
    source = plan.shard(3).catalogue.recordings[0]
    source.path.write_bytes(b"123")
    assert "was changed since" in make_shard(task, silent).refusal
    catalogue, path = plan.whole.catalogue, Path(task.plan)
    write_plan(path, catalogue, plan.whole.spec, plan.whole.path, 20)
    found = make_shard(task._replace(digest=hashlib.sha256(path.read_bytes()).hexdigest()), silent)
    assert list(found.problems) == [f"recordings/{source.id}"]
    assert found.refusal == ""
    assert not plan.shard(3).path.exists()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert make_shard(task._replace(digest=digest, skip_bad=True), silent) == Outcome(platform.node())
    assert [entry["id"] for entry in read_cache_info(plan.shard(3).path).skipped] == [source.id]


def test_a_process_that_makes_the_shard_is_waited_for(plan, task):
    planned, found = plan.shard(3), []
    worker = threading.Thread(target=lambda: found.append(make_shard(task, silent)))
    with open_build_folder(planned.path, planned.build_key, planned.arrays, folder=planned.build_folder):
        worker.start()
        time.sleep(0.3)
        assert (found, planned.path.exists()) == ([], False)
    worker.join(60)
    assert found == [Outcome(platform.node())]
    assert planned.path.exists()


def test_a_refusal_of_the_system_is_one_of_the_machine(plan, task):
    folder = plan.shard(3).path.parent
    folder.write_text("in the way")
    found = make_shard(task, silent)
    assert (str(folder) in found.refusal, found.is_of_machine) == (True, True)
