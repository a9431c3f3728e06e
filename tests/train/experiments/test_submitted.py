"""Runs as jobs of submitit's local executor, what a job of Slurm does on its node, and what is refused."""

import io
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.experiments import submitted
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import Jobs, RunEnded
from tmkt_train.experiments.plan import RunOptions, plan_comparison
from tmkt_train.experiments.slots import Slots, submitted_slots
from tmkt_train.experiments.submitted import RunOnNode, Submission, submit
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder

from ..conftest import make_recipe
from .conftest import without_pages

LOCAL = Submission("local", ("timeout_min=5",))


def plan(folder, cache, **epochs):
    for name, count in epochs.items():
        recipe = make_recipe(name=name, train__epochs=count, optim__warmup_epochs=0)
        (folder / f"{name}.toml").write_text(recipe_text(recipe), encoding="utf-8")
    names = [str(folder / f"{name}.toml") for name in epochs]
    return without_pages(plan_comparison(names, RunOptions(cache=cache, out=folder / "out"), num_seeds=1).runs)


def task(folder, *words):
    return RunOnNode(folder / "run", words or ("recipes",), ("resume", str(folder / "run")))


def until(happens):
    for _ in range(1200):
        if happens():
            return
        time.sleep(0.1)
    raise AssertionError("it never happened")


def trains(run):
    metrics = run.folder / "metrics.jsonl"
    return metrics.is_file() and metrics.stat().st_size > 0


def children_of(number):
    path = Path(f"/proc/{number}/task/{number}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def job_numbers(run):
    return [int(path.name.split("_")[0]) for path in (run.folder.parent / "jobs").glob("*_0_log.out")]


def test_jobs_train_runs_and_tell_why_one_failed(tiny_cache, tmp_path):
    good, bad = plan(tmp_path, tiny_cache, good=1, bad=2)
    bad.folder.mkdir(parents=True)
    (bad.folder / "something").touch()
    slots = submitted_slots(2, None, LOCAL)
    assert not slots.is_single
    ended = [step for step in train_runs([good, bad], slots=slots) if isinstance(step, RunEnded)]
    problems = {step.run.label: step.problem for step in ended}
    assert problems == {
        good.label: None,
        bad.label: f"{bad.folder}: not empty, expected a new folder; choose another with --out",
    }
    assert good.status == "finished"


def test_a_stop_cancels_the_jobs_whose_runs_resume(tiny_cache, tmp_path):
    (run,) = plan(tmp_path, tiny_cache, long=500)
    metrics = run.folder / "metrics.jsonl"
    with pytest.raises(RunInterruptedError):
        list(train_runs([run], lambda: metrics.is_file() and metrics.stat().st_size > 0, Slots(4, submission=LOCAL)))
    assert run.status == "interrupted"
    # The executor kills its processes; the run notices, saves and ends by itself.
    for _ in range(600):
        with suppress(RunError), RunFolder(run.folder).lock():
            break
        time.sleep(0.1)
    with RunFolder(run.folder).lock():
        assert load_checkpoint(run.folder / "last.pt")["position"]["epoch"] >= 1


@pytest.mark.skipif(not children_of(os.getppid()), reason="finds the processes of a job under /proc")
def test_a_job_near_its_time_limit_saves_and_is_queued_again(tiny_cache, tmp_path):
    (run,) = plan(tmp_path, tiny_cache, long=20)
    with Jobs(Slots(1, submission=LOCAL)) as jobs:
        jobs.start(run)
        until(lambda: trains(run))
        (controller,) = job_numbers(run)
        (process,) = children_of(controller)
        # Slurm sends it 90 s before the limit.
        os.kill(process, signal.SIGUSR2)
        problems = []
        until(lambda: problems.extend(step.problem for step in jobs.wait()) or problems)
    assert problems == [None]
    assert run.status == "finished"
    log = (run.folder.parent / "jobs" / f"{controller}_0_log.out").read_text()
    assert log.count(f"Requeued job {controller}") == 1
    assert log.count("Starting with JobEnvironment") == 2


def test_a_job_that_is_started_again_resumes_its_run(tiny_cache, tmp_path):
    (run,) = plan(tmp_path, tiny_cache, long=3)
    (bad,) = plan(tmp_path, tiny_cache, bad=1)
    stops = iter([False, False, False])
    with pytest.raises(RunInterruptedError):
        list(train_runs([run], lambda: next(stops, True)))
    assert run.status == "interrupted"
    # Words that start the run would be refused: its folder is there.
    words = ("recipe", "--cache", str(tiny_cache), "--out", str(run.folder), "--", str(run.source))
    job = RunOnNode(run.folder, words, ("resume", "--no-report", "--", str(run.folder)))
    assert job() == (0, b"")
    assert run.status == "finished"
    # Once more, after its end: a node may be lost before Slurm has noted it.
    assert RunOnNode(run.folder, ("no-such-command",), ("no-such-command",))() == (0, b"")
    assert RunOnNode(bad.folder, ("no-such-command",), ("no-such-command",))().code == 2


def stop_a_job(job, happens):
    """Run a job, stop its process once something has happened, and return its exit code and how long it went on."""
    ended = []
    thread = Thread(target=lambda: ended.append(job()))
    thread.start()
    until(happens)
    job.child.send_signal(signal.SIGTERM)
    until(lambda: job.child.returncode is not None)
    stopped = time.monotonic()
    thread.join()
    return ended[0].code, time.monotonic() - stopped


def test_a_stopped_run_leaves_the_end_of_its_job_to_slurm(monkeypatch, tiny_cache, tmp_path):
    # With a result, Slurm would start a preempted job again that nobody waits for any more.
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(submitted, "_GRACE_S", 2.0)
    (run,) = plan(tmp_path, tiny_cache, long=500)
    words = ("recipe", "--cache", str(tiny_cache), "--no-report", "--out", str(run.folder), "--", str(run.source))
    code, went_on = stop_a_job(RunOnNode(run.folder, words, ()), lambda: trains(run))
    assert code == 130
    assert went_on > 1.0
    assert load_checkpoint(run.folder / "last.pt")["position"]["epoch"] >= 1


def test_a_stopped_process_ends_its_job_where_slurm_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setattr(submitted, "_GRACE_S", 2.0)
    job = task(tmp_path)
    code, went_on = stop_a_job(job, lambda: job.child is not None)
    assert code in submitted.STOPPED
    assert went_on < 1.0


@pytest.mark.skipif(not children_of(os.getppid()), reason="finds the processes of a job under /proc")
def test_what_ended_a_run_or_its_job_from_outside_is_told(tiny_cache, tmp_path):
    stopped, killed = plan(tmp_path, tiny_cache, stopped=500, killed=500)
    with Jobs(Slots(2, submission=LOCAL)) as jobs:
        for run in (stopped, killed):
            jobs.start(run)
        until(lambda: trains(stopped) and trains(killed))
        ((of_stopped,), (of_killed,)) = (job_numbers(run) for run in (stopped, killed))
        (process,) = children_of(children_of(of_stopped)[0])
        os.kill(process, signal.SIGTERM)
        for number in (of_killed, *children_of(of_killed)):
            os.kill(number, signal.SIGKILL)
        problems = {}
        until(lambda: problems.update((step.run.label, step.problem) for step in jobs.wait()) or len(problems) == 2)
    log = killed.folder.parent / "jobs" / f"{of_killed}_0_log.err"
    assert problems[stopped.label] == (
        f"{stopped.folder}: stopped from outside before its end; run the same command again to resume it"
    )
    assert problems[killed.label] == f"job {of_killed}: INTERRUPTED; see {log}"


def test_an_error_in_a_job_is_told_by_its_last_line(tmp_path):
    errors = io.BytesIO()
    process = submit(RunOnNode(None, (), ()), tmp_path / "jobs", LOCAL, errors)
    until(lambda: process.poll() is not None)
    assert process.returncode == 1
    text = errors.getvalue().decode()
    assert re.fullmatch(r"error: job \d+: (TypeError|AttributeError): .*; see .*_0_log.err\n", text), text


def test_jobs_do_not_inherit_the_variables_of_the_job_that_submits_them(monkeypatch, tmp_path):
    # As in task 3 of an array with --mem-per-cpu: with --mem, srun then refuses; submitit takes the number for its own.
    of_job = {
        "SLURM_JOB_ID": "107",
        "SLURM_ARRAY_JOB_ID": "106",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_MEM_PER_CPU": "1024",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURMD_NODENAME": "node1",
    }
    kept = {"SLURM_CONF": "/etc/slurm/slurm.conf", "SLURM_CLUSTERS": "one", "SBATCH_ACCOUNT": "lab"}
    for name, value in (of_job | kept).items():
        monkeypatch.setenv(name, value)
    # Python imports it at its start, in the job, too.
    (tmp_path / "site").mkdir()
    note = "import os, pathlib, sys\nif 'submitit.core._submit' in sys.orig_argv:\n"
    note += f"    pathlib.Path({str(tmp_path / 'note')!r}).write_text(' '.join(os.environ))\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(note)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[3])]))
    process = submit(task(tmp_path), tmp_path / "jobs", LOCAL, io.BytesIO())
    until(lambda: process.poll() is not None)
    seen = (tmp_path / "note").read_text().split()
    assert [name for name in of_job if name in seen] == []
    assert [name for name in kept if name in seen] == list(kept)
    assert {name: os.environ[name] for name in of_job} == of_job


@pytest.fixture
def squeue(monkeypatch, tmp_path):
    """Takes what `squeue` prints, as a script of the shell; returns how often it was called."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def answer(script):
        (tmp_path / "squeue").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        (tmp_path / "squeue").chmod(0o755)

    def calls():
        return (tmp_path / "calls").read_text().splitlines()

    return answer, calls


@pytest.mark.parametrize(
    ("script", "jobs"),
    [
        ("echo 112; echo 115", {"112", "115"}),
        ("", set()),
        # Of several clusters, as SLURM_CLUSTERS asks for.
        ("echo 'CLUSTER: one'; echo 112", {"CLUSTER:", "one", "112"}),
        ("echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1", None),
        ("echo 'squeue: fatal: Unable to process configuration file' >&2; exit 1", None),
    ],
)
def test_which_jobs_slurm_has_is_asked_of_squeue(squeue, script, jobs):
    answer, calls = squeue
    answer(script)
    assert submitted.queued_jobs() == jobs
    assert calls() == [f"--noheader --user {os.getuid()} --format %i"]


def test_a_squeue_that_is_missing_or_hangs_ends_no_run(monkeypatch, squeue, tmp_path):
    answer, _ = squeue
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submitted.Queue().may_hold("112", 0.0)
    answer("exec /bin/sleep 60")
    monkeypatch.setattr(submitted, "_ANSWER_S", 0.1)
    assert submitted.Queue().may_hold("112", 0.0)


def test_squeue_is_asked_once_for_all_jobs_and_again_for_later_ones(monkeypatch, squeue):
    answer, calls = squeue
    answer("echo 112; echo 113")
    queue, begin = submitted.Queue(), time.monotonic()
    assert [queue.may_hold(job, begin) for job in ("112", "113", "114")] == [True, True, False]
    assert len(calls()) == 1
    answer("echo 114")
    # A job that was submitted after the answer.
    assert queue.may_hold("114", time.monotonic())
    assert not queue.may_hold("112", begin)
    assert len(calls()) == 2
    monkeypatch.setattr(submitted, "_ASK_S", 0.0)
    assert not queue.may_hold("112", begin)
    assert len(calls()) == 3


def test_a_job_that_slurm_ended_without_a_result_is_told(monkeypatch, squeue, tmp_path):
    from submitit import SlurmJob

    squeue[0]("exit 0")
    monkeypatch.setattr(submitted, "_RESULT_LOOKS", 1)
    line = "slurmstepd-node1: error: *** JOB 112 ON node1 CANCELLED AT 2026-11-27T23:27:45 ***"
    (tmp_path / "112_0_log.err").write_text(f"{line}\nsrun: error: node1: task 0: Killed\n")
    errors = io.BytesIO()
    process = submitted.SubmittedProcess(SlurmJob(tmp_path, "112"), errors)
    assert process.poll() == 1
    expected = f"error: job 112: ended without a result: {line}; see {tmp_path / '112_0_log.err'}\n"
    assert errors.getvalue().decode() == expected


@pytest.mark.parametrize(
    ("submission", "text"),
    [
        (Submission("slurm"), r"^--submit slurm: the job was not taken \(.*(srun|sbatch|slurm).*\)$"),
        (Submission("local", ("no_such=1",)), r"^--submit local: the job was not taken \(.*no_such.*\)$"),
        (Submission("local", ("timeout_min",)), "^--submit-option: found 'timeout_min', expected NAME=VALUE such as "),
    ],
)
def test_what_no_scheduler_takes_is_told_in_one_line(monkeypatch, tmp_path, submission, text):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=text) as error:
        submit(task(tmp_path), tmp_path / "jobs", submission, io.BytesIO())
    assert "\n" not in str(error.value)


def test_the_extra_is_named_where_submitit_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match=r"install it with: pip install 'tmkt\[submit\]'"):
        submit(task(tmp_path), tmp_path, LOCAL, io.BytesIO())


def test_gpus_of_this_machine_are_not_for_jobs():
    with pytest.raises(RunError, match="the cluster assigns GPUs to jobs"):
        submitted_slots(2, (0,), LOCAL)
    with pytest.raises(RunError, match="--jobs: found none with --submit, expected how many jobs"):
        submitted_slots(None, None, LOCAL)


@pytest.mark.parametrize("words", [["compare", "scnn_digits"], ["sweep", "scnn_digits", "--over", "mix.ratio=0.1:0.9"]])
def test_parameters_of_jobs_need_a_cluster(words):
    result = CliRunner().invoke(main, [*words, "--submit-option", "timeout_min=5"])
    assert result.stderr == "error: --submit-option: found 'timeout_min=5' without --submit, expected both\n"
