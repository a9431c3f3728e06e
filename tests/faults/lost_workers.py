"""Lose workers of a Dask cluster at random while they make shards, its scheduler, and disks, and compare the bytes.

python -m tests.faults.lost_workers --kills 50 --seed 0 --json lost_workers.json

Each run is a `tmkt-data prepare --dask` on two processes. Good is a run that ends with the bytes of a run on its own,
or with one line, after which the same command ends with them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from distributed import Client, LocalCluster

from tests.data import trees
from tmkt_data.cli.main import main as command

SHARDS = 6


_SMALL_BLOCKS = "from tmkt_data.prepare import plan\nplan.BLOCK_BYTES = 1\n"


def limit_files(num_bytes: int) -> None:
    """Have the system refuse larger files to this process, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))


class Workers:
    """Two worker processes of a scheduler; one that is lost is started again, as by a batch system."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder, self._lock = address, folder, threading.Lock()
        (folder / "small_blocks.py").write_text(_SMALL_BLOCKS)
        self._processes = {f"worker{number}": self._start(f"worker{number}") for number in range(2)}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "dask", "worker", self._address, "--name", name, "--nthreads", "1"]
        words += ["--no-nanny", "--no-dashboard", "--memory-limit", "0", "--death-timeout", "60"]
        words += ["--local-directory", str(self._folder), "--preload", str(self._folder / "small_blocks.py")]
        path = os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        return subprocess.Popen(words, env=path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        """Kill a worker and start it again."""
        with self._lock:
            self._processes[name].kill()
            self._processes[name].wait()
            self._processes[name] = self._start(name)

    def close(self) -> None:
        """End both."""
        for process in self._processes.values():
            process.kill()
            process.wait()


@contextmanager
def scheduler_and_workers(folder: Path) -> Iterator[tuple[LocalCluster, Workers]]:
    """Start a scheduler in this process, and two workers in processes of their own."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster:
        workers = Workers(cluster.scheduler_address, folder)
        try:
            yield cluster, workers
        finally:
            workers.close()


class Campaign:
    """The made recordings, what a run on its own writes of them, and the verdicts."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.root = trees.write_nmnist(folder / "root", per_digit=60, test_per_digit=4, digits=3, seed=1)
        self.expected = self._alone()
        self.verdicts: dict[str, Counter[str]] = {}
        self.lines: Counter[str] = Counter()

    def _alone(self) -> dict[str, bytes]:
        said = self.prepare()
        if said[0]:
            raise SystemExit(said[1])
        found = self.found()
        self.clean()
        return found

    @property
    def out(self) -> Path:
        """The index of each run."""
        return self.folder / "out" / "a.h5"

    def clean(self) -> None:
        """Remove what a run has written."""
        shutil.rmtree(self.out.parent, ignore_errors=True)

    def found(self) -> dict[str, bytes]:
        """Return every file that is there, but for what is hidden or being built."""
        return {
            str(path.relative_to(self.out.parent)): path.read_bytes()
            for path in sorted(self.out.parent.rglob("*"))
            if path.is_file()
        }

    def prepare(self, *arguments: str) -> tuple[int, str]:
        """Run the command; return its exit code, and what it says on standard error."""
        words = ["prepare", "nmnist", "--root", str(self.root), "--out", str(self.out), "--shards", str(SHARDS)]
        done = CliRunner().invoke(command, [*words, *arguments], prog_name="tmkt-data")
        return done.exit_code, done.stderr

    def judge(self, fault: str, said: tuple[int, str], again: Callable[[], tuple[int, str]]) -> None:
        """Compare the bytes, after another run where this one ended with a line; and start afresh."""
        code, text = said
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        verdict = "no effect"
        if code:
            verdict = "one line" if len(errors) == 1 and "internal error" not in text else "wrong: several lines"
            self.lines[f"{fault}: {errors[-1] if errors else text}"] += 1
            code, text = again()
        if code or self.found() != self.expected:
            verdict = f"wrong: {text[-300:] or sorted(self.found())}"
        self.verdicts.setdefault(fault, Counter())[verdict] += 1
        print(f"{fault}: {verdict}", flush=True)
        self.clean()

    def is_building(self) -> bool:
        """Return whether a worker is making a shard."""
        return any(self.out.parent.rglob("*.building"))


def lose_workers(campaign: Campaign, cluster: LocalCluster, workers: Workers, most: int) -> int:
    """Kill workers during one run; return how many of them were killed while they made a shard."""
    over, killed = threading.Event(), []

    def kill() -> None:
        with Client(cluster, set_as_default=False) as client:
            for _ in range(most):
                while not campaign.is_building() and not over.is_set():
                    time.sleep(0.001)
                time.sleep(delays.pop())
                known = client.scheduler_info(n_workers=-1)["workers"]
                busy = [known[address]["name"] for address, keys in client.processing().items() if keys]
                if busy and not over.is_set():
                    killed.append(campaign.rng.choice(sorted(busy)))
                    workers.kill(killed[-1])

    delays = [campaign.rng.uniform(0, 0.6) for _ in range(most)]
    thread = threading.Thread(target=kill)
    thread.start()
    said = campaign.prepare("--dask", cluster.scheduler_address)
    over.set()
    thread.join()
    campaign.judge("worker killed", said, lambda: campaign.prepare("--dask", cluster.scheduler_address))
    return len(killed)


def lose_scheduler(campaign: Campaign, port: int) -> None:
    """Kill the scheduler during one run, start another at its address, and run the command again."""
    scheduler, workers = _start(campaign, port)

    def kill() -> None:
        while not campaign.is_building():
            time.sleep(0.001)
        time.sleep(delay)
        scheduler.kill()

    delay = campaign.rng.uniform(0, 1.0)
    thread = threading.Thread(target=kill)
    thread.start()
    said = campaign.prepare("--dask", f"127.0.0.1:{port}")
    thread.join()
    scheduler.wait()
    started = [workers]

    def again() -> tuple[int, str]:
        # Workers of the first one may still make what they had begun.
        other, more = _start(campaign, port)
        started.append(more)
        try:
            return campaign.prepare("--dask", f"127.0.0.1:{port}")
        finally:
            other.kill()
            other.wait()

    campaign.judge("scheduler killed", said, again)
    for some in started:
        some.close()


def _start(campaign: Campaign, port: int) -> tuple[subprocess.Popen[bytes], Workers]:
    """Start a scheduler that can be killed, and its workers."""
    words = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    scheduler = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = Workers(f"127.0.0.1:{port}", campaign.folder)
    while True:
        with suppress(OSError), Client(f"127.0.0.1:{port}", timeout=2, set_as_default=False) as client:
            client.wait_for_workers(2)
            return scheduler, workers


def run_twice(campaign: Campaign, cluster: LocalCluster) -> None:
    """Have every task run twice at the same time, from two plans of the same cache."""
    words = ["plan", "nmnist", "--root", str(campaign.root), "--cache", str(campaign.out), "--shards", str(SHARDS)]
    campaign.out.parent.mkdir(exist_ok=True)
    plan = campaign.folder / "plan"
    CliRunner().invoke(command, [*words, "--out", str(plan)])

    def other() -> None:
        from hashlib import sha256

        from tmkt_data.prepare.cluster_run import make_shards
        from tmkt_data.prepare.shard_task import ShardTask, build_of_tmkt

        digest = sha256(plan.read_bytes()).hexdigest()
        tasks = [ShardTask(str(plan), digest, shard, build_of_tmkt()) for shard in range(SHARDS)]
        with Client(cluster, set_as_default=False) as client:
            problems.extend(step.outcome for step in make_shards(client, tasks, "twice", print) if step.outcome)

    problems: list[Any] = []
    thread = threading.Thread(target=other)
    thread.start()
    said = campaign.prepare("--dask", cluster.scheduler_address)
    thread.join()
    if len(problems) != SHARDS:
        said = (1, f"error: {problems}")
    campaign.judge("task run twice", said, lambda: campaign.prepare("--dask", cluster.scheduler_address))


def fill_disk(campaign: Campaign, cluster: LocalCluster) -> None:
    """Refuse files above a random size to one worker."""
    size = campaign.rng.randrange(1 << 10, 400_000)
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        worker = campaign.rng.choice(sorted(client.scheduler_info(n_workers=-1)["workers"]))
        client.run(limit_files, size, workers=[worker])
        said = campaign.prepare("--dask", cluster.scheduler_address)
        client.run(limit_files, resource.RLIM_INFINITY)
    campaign.judge("disk of one worker full", said, lambda: campaign.prepare("--dask", cluster.scheduler_address))


def main() -> None:
    """Run the campaign that the command line asks for; exit 1 where a run was not good."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.lost_workers", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="Workers to kill while they make a shard.")
    parser.add_argument("--others", type=int, default=5, help="Runs of each of the other faults.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all draws.")
    parser.add_argument("--port", type=int, default=18799, help="Port of schedulers that are killed.")
    parser.add_argument("--json", type=Path, help="Where the summary goes.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tmkt-lost-workers-"))
    started, killed = time.perf_counter(), 0
    try:
        campaign = Campaign(folder, options.seed)
        with scheduler_and_workers(folder) as (cluster, workers):
            for _ in range(options.others):
                run_twice(campaign, cluster)
                fill_disk(campaign, cluster)
            while killed < options.kills:
                killed += lose_workers(
                    campaign, cluster, workers, min(campaign.rng.randint(1, 5), options.kills - killed)
                )
        for _ in range(options.others):
            lose_scheduler(campaign, options.port)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    summary = {"seed": options.seed, "killed": killed, "runs": campaign.verdicts, "lines": campaign.lines}
    print(json.dumps(summary, indent=1))
    print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    sys.exit(any(verdict.startswith("wrong") for found in campaign.verdicts.values() for verdict in found))


if __name__ == "__main__":
    main()
