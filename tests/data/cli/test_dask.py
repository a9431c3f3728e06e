"""Workers of a Dask cluster make the shards: lost, refused or called twice, they end in the bytes of one process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trees

from .conftest import one_line, run
from .test_plan import bytes_of

distributed = pytest.importorskip("distributed")
resource = pytest.importorskip("resource")


def small_blocks() -> None:
    from tmkt_data.prepare import plan

    plan.BLOCK_BYTES = 1


def limit_files(num_bytes: int) -> None:
    """Have the system refuse larger files to this process, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))


def hide_tmkt() -> None:
    sys.modules["tmkt_data.prepare.cluster"] = None


def show_tmkt() -> None:
    del sys.modules["tmkt_data.prepare.cluster"]


def close_when_busy(cluster) -> None:
    while not cluster.scheduler.tasks:
        time.sleep(0.01)
    cluster.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return trees.write_nmnist(tmp_path_factory.mktemp("dask") / "root", per_digit=12, test_per_digit=2, digits=3)


@pytest.fixture(scope="module")
def cluster():
    """A scheduler, and two workers in processes of their own, which come back when they are lost."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=50
    ) as started:
        with distributed.Client(started, set_as_default=False) as client:
            client.run(small_blocks)
        yield started


@pytest.fixture(scope="module")
def expected(root, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("one") / "a.h5"
    assert run("prepare", "nmnist", "--root", root, "--out", out, "--shards", 4).exit_code == 0
    return bytes_of(out)


def on(cluster, root, out, *arguments):
    address = cluster if isinstance(cluster, str) else cluster.scheduler_address
    return run("prepare", "nmnist", "--root", root, "--out", out, "--shards", 4, "--dask", address, *arguments)


def test_a_cluster_writes_the_bytes_of_one_process_and_only_what_is_missing(cluster, root, expected, tmp_path):
    out = tmp_path / "a.h5"
    result = on(cluster, root, out)
    assert result.exit_code == 0, result.output
    assert f"wrote {out}: " in result.stdout
    assert bytes_of(out) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.h5.shards"]
    shards = sorted((tmp_path / "a.h5.shards").iterdir())
    others = [path.stat().st_mtime_ns for path in shards[1:]]
    shards[0].unlink()
    assert "making shard 1 of 4 again" in on(cluster, root, out).stdout
    assert bytes_of(out) == expected
    assert [path.stat().st_mtime_ns for path in shards[1:]] == others
    assert "already prepared" in on(cluster, root, out).stdout


def test_a_plan_is_made_by_a_cluster_whose_worker_is_lost(cluster, root, expected, tmp_path):
    run("plan", "nmnist", "--root", root, "--cache", tmp_path / "a.h5", "--out", tmp_path / "plan", "--shards", 4)
    killed = []

    def kill() -> None:
        with distributed.Client(cluster, set_as_default=False) as client:
            while not list((tmp_path / "a.h5.shards").glob("*.building/*.npz")):
                time.sleep(0.002)
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = run("prepare", "--plan", tmp_path / "plan", "--dask", cluster.scheduler_address)
    killer.join(60)
    assert killed
    assert result.exit_code == 0, result.output
    assert bytes_of(tmp_path / "a.h5") == expected


def test_bad_input_ends_the_run_and_keeps_finished_shards(cluster, root, expected, tmp_path):
    own, out = shutil.copytree(root, tmp_path / "root"), tmp_path / "a.h5"
    source = sorted(own.rglob("*.bin"))[-1]
    source.write_bytes(b"123")
    result = on(cluster, own, out)
    assert "cannot read 1 file; fix them and run again (finished work is kept)" in one_line(result)
    assert source.stem in result.stderr
    assert on(cluster, own, out, "--skip-bad").exit_code == 0
    shutil.copy2(root / source.relative_to(own), source)
    again = on(cluster, own, out, "--force")
    assert again.exit_code == 0, again.output
    assert bytes_of(out) == expected


def test_a_full_disk_of_one_worker_hands_its_shards_to_others_and_of_all_is_one_line(cluster, root, expected, tmp_path):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        first = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
        try:
            client.run(limit_files, 100_000, workers=[first])
            result = on(cluster, root, tmp_path / "a.h5")
            assert result.exit_code == 0, result.output
            assert bytes_of(tmp_path / "a.h5") == expected
            client.run(limit_files, 100_000)
            refused = one_line(on(cluster, root, tmp_path / "b.h5"))
            assert "error: worker on " in refused
            assert "File too large); free some space and run it again" in refused
        finally:
            client.run(limit_files, resource.RLIM_INFINITY)
    assert not (tmp_path / "b.h5").exists()
    assert on(cluster, root, tmp_path / "b.h5").exit_code == 0


def test_workers_with_another_tmkt_are_refused(cluster, root, tmp_path, monkeypatch):
    monkeypatch.setattr("tmkt_data.prepare.cluster_build.build_of_tmkt", lambda: "9.9, sources 00000000")
    error = one_line(on(cluster, root, tmp_path / "a.h5"))
    assert "runs tmkt " in error
    assert "expected 9.9, sources 00000000 as here; install the same on all" in error


def test_workers_without_tmkt_are_named(cluster, root, tmp_path):
    with distributed.Client(cluster, set_as_default=False) as client:
        try:
            client.run(hide_tmkt)
            error = one_line(on(cluster, root, tmp_path / "a.h5"))
        finally:
            client.run(show_tmkt)
    assert re.search(r"error: worker tcp://127\.0\.0\.1:\d+: has no tmkt, or another one \(2 workers\); install", error)


def test_dask_that_is_missing_is_named_with_what_installs_it(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    error = one_line(on("local:2", root, tmp_path / "a.h5"))
    assert error == (
        "error: --dask: found no distributed, which hands tasks to workers; install it with: pip install 'tmkt[dask]'"
    )


def test_a_lost_scheduler_is_one_line(root, tmp_path):
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as alone:
        threading.Thread(target=close_when_busy, args=(alone,), daemon=True).start()
        error = one_line(on(alone, root, tmp_path / "a.h5"))
    assert "lost the Dask scheduler with 4 shards to make; finished shards are kept, run it again" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_ctrl_c_keeps_what_is_finished_and_processes_say_nothing(root, expected, tmp_path):
    out = tmp_path / "a.h5"
    words = ["prepare", "nmnist", "--root", root, "--out", out, "--shards", 4, "--dask", "local:1"]
    command = subprocess.Popen(
        [sys.executable, "-m", "tmkt_data", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    while command.poll() is None and not list(tmp_path.glob("a.h5.shards/00001-*.h5")):
        time.sleep(0.01)
    # As a terminal does: to the command and to its workers.
    os.killpg(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=240)
    assert command.returncode == 130, errors
    assert "stopped; finished work is kept, run the same command again to resume" in errors
    assert "Traceback" not in errors
    shards = {path.name: path.read_bytes() for path in tmp_path.glob("a.h5.shards/*.h5")}
    assert shards.items() <= expected.items()
    assert shards
    assert not list(tmp_path.glob("a.h5.shards/.*"))


def test_what_is_no_scheduler_is_one_line_in_time(root, tmp_path, monkeypatch):
    monkeypatch.setattr("tmkt_data.prepare.cluster.CONNECT_S", 1.0)
    (tmp_path / "sched.json").write_text('{"address": "tcp://127.0.0.1:1"}')
    (tmp_path / "other.json").write_text("[]")
    for given, text in (
        ("tcp://127.0.0.1:1", "--dask tcp://127.0.0.1:1: no answer within 1 s, expected a Dask scheduler; start one"),
        (tmp_path / "sched.json", "sched.json: no answer within 1 s at tcp://127.0.0.1:1, expected a Dask scheduler"),
        (tmp_path / "other.json", "other.json: no address in it, expected the scheduler file of a running Dask"),
        (tmp_path / "none.json", "none.json: No such file or directory, expected the scheduler file"),
        ("hello", "missing port number in address 'hello', expected a Dask scheduler"),
        ("local:0", "--dask: found 'local:0', expected local:1 to local:1024, the number of processes"),
    ):
        assert text in one_line(on(str(given), root, tmp_path / "a.h5"))


def test_a_worker_is_no_scheduler(cluster, root, tmp_path):
    address = next(iter(cluster.scheduler.workers))
    assert f"--dask {address}: the address of a worker, expected a Dask scheduler" in one_line(
        on(address, root, tmp_path / "a.h5")
    )


def test_dask_makes_all_shards(cluster, root, tmp_path):
    run("plan", "nmnist", "--root", root, "--cache", tmp_path / "a.h5", "--out", tmp_path / "plan", "--shards", 4)
    for option in (("--shard", "1/4"), ("--finish",)):
        result = run("prepare", "--plan", tmp_path / "plan", "--dask", cluster.scheduler_address, *option)
        assert (result.exit_code, "--dask makes all shards and the index" in result.stderr) == (2, True)


def test_sources_that_change_after_their_plan_was_made_are_refused(cluster, root, tmp_path):
    own = shutil.copytree(root, tmp_path / "root")
    run("plan", "nmnist", "--root", own, "--cache", tmp_path / "a.h5", "--out", tmp_path / "plan", "--shards", 4)
    source = sorted(own.rglob("*.bin"))[0]
    os.utime(source, (1, 1))
    error = one_line(run("prepare", "--plan", tmp_path / "plan", "--dask", cluster.scheduler_address))
    assert f"{source}: was changed since {tmp_path / 'a.h5.shards'}" in error
