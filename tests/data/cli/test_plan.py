"""Tasks of a batch system make the shards of a plan: in any order, twice, or killed, they end in the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.cli.plan import shard_number
from tmkt_data.errors import SpecError

from .conftest import one_line, run

CODE = """
import platform, sys
from tmkt_data.prepare import plan
plan.BLOCK_BYTES = 1
platform.node = lambda: sys.argv[1]
from tmkt_data.cli.main import main
main(sys.argv[2:])
"""


def start(host: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a task on a machine of a name: its locks are none for machines of other names."""
    command = [sys.executable, "-c", CODE, host, "prepare", *map(str, arguments), "--workers", "1"]
    environment = {"TMKT_DEBUG": "", **os.environ, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def ends(task: subprocess.Popen[str]) -> str:
    output, _ = task.communicate(timeout=240)
    assert task.returncode == 0, output
    return output


def bytes_of(out: Path) -> dict[str, bytes]:
    files = [out, *sorted(path for path in out.with_name(f"{out.name}.shards").rglob("*") if path.is_file())]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture
def expected(root, tmp_path) -> dict[str, bytes]:
    """The bytes that one process writes."""
    out = tmp_path / "one" / "a.h5"
    out.parent.mkdir()
    assert run("prepare", "nmnist", "--root", root, "--out", out, "--shards", 3).exit_code == 0
    return bytes_of(out)


@pytest.fixture
def plan(root, tmp_path) -> Path:
    result = run("plan", "nmnist", "--root", root, "--cache", tmp_path / "a.h5", "--out", tmp_path / "p", "--shards", 3)
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path / 'p'}: 3 shards of {tmp_path / 'a.h5'}, about 0.5 MB" in result.stdout
    return tmp_path / "p"


def test_tasks_on_several_machines_write_the_bytes_of_one_process(plan, expected, tmp_path):
    tasks = [start(f"node{task}", "--plan", plan, **slurm(task, 5, 7, 3)) for task in (5, 6, 7)]
    # The same task on another machine at the same time.
    tasks.append(start("other", "--plan", plan, "--shard", "2/3"))
    for task in tasks:
        ends(task)
    finished = run("prepare", "--plan", plan, "--finish")
    assert finished.exit_code == 0, finished.output
    assert f"wrote {tmp_path / 'a.h5'}: " in finished.stdout
    assert bytes_of(tmp_path / "a.h5") == expected
    twice = run("prepare", "--plan", plan, "--shard", "2/3")
    assert f"shard 2/3 is there: {tmp_path / 'a.h5.shards' / '00002-of-00003.h5'}, nothing to do" in twice.stdout
    assert run("prepare", "--plan", plan, "--finish").exit_code == 0
    assert bytes_of(tmp_path / "a.h5") == expected


def test_killed_tasks_are_named_by_finish_and_made_by_running_them_again(plan, expected, tmp_path):
    rng, killed = random.Random(7), 0
    for attempt in range(4):
        task = start(f"node{attempt % 2}", "--plan", plan, "--shard", f"{attempt % 3 + 1}/3")
        building = [tmp_path / "a.h5.shards"]
        while task.poll() is None and not any(list(folder.glob("*.building/*.npz")) for folder in building):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        if task.poll() is None:
            task.send_signal(signal.SIGKILL)
            killed += 1
        task.communicate()
    assert killed > 0
    unfinished = run("prepare", "--plan", plan, "--finish")
    missing = [k for k in (1, 2, 3) if not (tmp_path / "a.h5.shards" / f"{k:05d}-of-00003.h5").exists()]
    if missing:
        error = one_line(unfinished)
        assert f"error: {len(missing)} of 3 shards have to be made; make them, then run this again" in error
        for shard in missing:
            assert f"tmkt-data prepare --plan {plan} --shard {shard}/3" in unfinished.stderr
    for shard in (1, 2, 3):
        assert run("prepare", "--plan", plan, "--shard", f"{shard}/3").exit_code == 0
    finished = run("prepare", "--plan", plan, "--finish")
    assert finished.exit_code == 0
    left = sorted((tmp_path / "a.h5.shards").glob("*.building"))
    assert len(left) > 0
    for folder in left:
        assert f"note: {folder} is of a task that was stopped on another machine" in finished.stdout
    found = {name: data for name, data in bytes_of(tmp_path / "a.h5").items() if not name.endswith((".npz", ".json"))}
    assert {name: found[name] for name in expected} == expected


def test_what_does_not_belong_to_the_plan_is_one_line(root, plan, tmp_path):
    other = shutil.copytree(root, tmp_path / "other")
    sorted(other.rglob("*.bin"))[0].unlink()
    run("plan", "nmnist", "--root", other, "--cache", tmp_path / "b.h5", "--out", tmp_path / "q", "--shards", 3)
    for given in ("p", "q"):
        for shard in (1, 2, 3):
            assert run("prepare", "--plan", tmp_path / given, "--shard", shard).exit_code == 0
    theirs, ours = (tmp_path / f"{name}.h5.shards" for name in "ba")
    kept = (ours / "00003-of-00003.h5").read_bytes()
    shutil.copy(theirs / "00003-of-00003.h5", ours)
    refused = one_line(run("prepare", "--plan", plan, "--finish"))
    assert "a.h5.shards/00003-of-00003.h5: holds a shard of another plan (nmnist, 7 recordings); give" in refused
    shutil.copy(ours / "00001-of-00003.h5", ours / "00003-of-00003.h5")
    doubled = run("prepare", "--plan", plan, "--finish")
    assert "00003-of-00003.h5 holds shard 1, expected shard 3 of 3" in doubled.stderr
    assert "1 of 3 shards have to be made" in one_line(doubled)
    assert run("prepare", "--plan", plan, "--shard", "3/3").exit_code == 0
    assert (ours / "00003-of-00003.h5").read_bytes() == kept
    assert run("prepare", "--plan", plan, "--finish").exit_code == 0
    assert read_cache_info(tmp_path / "a.h5").num_recordings == Cache(tmp_path / "a.h5").info.num_recordings == 21


def test_sources_that_change_are_one_line_before_and_after_their_shard(root, plan):
    first, *_, last = sorted(root.rglob("*.bin"), key=lambda path: path.parts[-2])
    last.write_bytes(last.read_bytes()[:-5])
    changed = one_line(run("prepare", "--plan", plan, "--shard", "3/3"))
    assert f"error: {last}: was changed since {plan} was written" in changed
    for shard in (1, 2):
        assert run("prepare", "--plan", plan, "--shard", shard).exit_code == 0
    first.write_bytes(first.read_bytes()[:-5])
    assert "has changed since it was prepared" in one_line(run("prepare", "--plan", plan, "--finish"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--shard", "4/3"), "--shard: found '4/3', expected 1/3 to 3/3"),
        (("--shard", "0/3"), "--shard: found '0/3', expected 1/3 to 3/3"),
        (("--shard", "1/4"), "--shard: found '1/4', but the plan has 3 shards"),
        (("--shard", "one"), "--shard: found 'one', expected K/3, K from 1 to 3"),
        ((), "--shard: not given, and no task of a SLURM array, expected K/3"),
    ],
)
def test_a_shard_that_the_plan_has_not_is_a_wrong_usage(plan, arguments, text):
    assert text in one_line(run("prepare", "--plan", plan, *arguments), 2)


def test_a_plan_takes_no_options_of_its_own(plan):
    for given in (("nmnist",), ("--size", 20), ("--shift-x", 0), ("--out", "x.h5"), ("--shards", 2), ("--root", "x")):
        result = run("prepare", "--plan", plan, "--shard", "1/3", *given)
        assert (result.exit_code, "--plan says what is prepared" in result.stderr) == (2, True)
    assert run("prepare", "--finish").exit_code == run("prepare").exit_code == 2
    assert run("prepare", "--plan", plan, "--finish", "--force").exit_code == 2


def slurm(task: int, first: int, last: int, count: int, step: int = 1) -> dict[str, str]:
    """The variables of a task as Slurm 22.05.8 sets them; `srun` within the task and a requeued one have the same."""
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_the_task_of_a_slurm_array_is_counted_from_its_first_one():
    # --array=0-3, 10-20:5%2.
    assert [shard_number(None, 4, slurm(task, 0, 3, 4)) for task in range(4)] == [0, 1, 2, 3]
    assert [shard_number(None, 3, slurm(task, 10, 20, 3, 5)) for task in (10, 15, 20)] == [0, 1, 2]
    assert shard_number("2", 4, slurm(0, 0, 3, 4)) == 1


def test_an_array_of_some_shards_has_to_say_which():
    # --array=5: tasks that are run again do not tell the numbers of their shards.
    with pytest.raises(
        SpecError, match=r"^--shard: found task 5 of a SLURM array of 1 task from 5 to 5, but the plan "
    ):
        shard_number(None, 7, slurm(5, 5, 5, 1))


@pytest.mark.parametrize(
    ("tasks", "last", "step"),
    [
        # --array=1-3,7-10; 1,3,5,7; 2-8:2,9. Slurm says 1 as the step of a list.
        ((1, 2, 3, 7, 8, 9, 10), 10, 1),
        ((1, 3, 5, 7), 7, 1),
        ((2, 4, 6, 8, 9), 9, 2),
    ],
)
def test_a_slurm_array_with_gaps_is_refused_by_each_of_its_tasks(tasks, last, step):
    # Half of them would make a shard, and the others fail, with a line that contradicts itself.
    for task in tasks:
        text = f"^--shard: found task {task} of a SLURM array of .* to {last}, expected a range such as "
        with pytest.raises(SpecError, match=text):
            shard_number(None, len(tasks), slurm(task, tasks[0], last, len(tasks), step))
