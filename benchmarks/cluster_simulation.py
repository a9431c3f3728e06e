"""A discrete simulation of shards on a cluster: slow workers, workers that are lost, and how many shards to make.

    python benchmarks/cluster_simulation.py
    python benchmarks/cluster_simulation.py --workers 32 --slow-share 0.1 --loss-hours 2 --json simulation.json

Shards wait in one queue, as the tasks of an array job do, and a free worker takes the next. The time of a shard is
lognormal, a share of the workers is slower by a factor, and a worker is lost after an exponential time: its shard goes
to the end of the queue, with its finished blocks if those survive. A lost worker comes back after a while. Figures are
over seeds; a time is a multiple of the ideal, the whole work divided by the workers.
"""

from __future__ import annotations

import argparse
import heapq
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timing import write_json

SHARDS_PER_WORKER = (1, 2, 4, 8, 16, 32)


class Cluster(NamedTuple):
    """What a cluster is like; hours are of the same clock as the work.

    Attributes:
        workers: Workers at once, at least 1.
        spread: Standard deviation of the logarithm of what equal shards take.
        slow_share: Share of the workers that are slow, in [0, 1].
        slow_factor: How much longer a slow worker takes, at least 1.
        loss_hours: Mean hours until a worker is lost; infinity: never.
        return_hours: Hours until a lost worker is back.
        start_hours: Hours that every task takes before its work begins: a node, an interpreter, the plan.
        blocks: Blocks of a shard that survive a lost worker, each whole or not at all; 1: nothing survives.
    """

    workers: int = 64
    spread: float = 0.15
    slow_share: float = 0.05
    slow_factor: float = 3.0
    loss_hours: float = 24.0
    return_hours: float = 0.25
    start_hours: float = 20 / 3600
    blocks: int = 1


class Outcome(NamedTuple):
    """How a job went.

    Attributes:
        hours: From the first task to the last shard.
        lost_hours: Work that was done and lost.
        losses: Workers lost while they held a shard.
        done: Times that each shard was finished, shape (shards,); each is 1.
    """

    hours: float
    lost_hours: float
    losses: int
    done: np.ndarray


def simulate(cluster: Cluster, shards: int, work_hours: float, seed: int) -> Outcome:
    """Let workers take shards from one queue until all are finished.

    Args:
        cluster: What the workers are like.
        shards: Number of shards, at least 1.
        work_hours: The whole work, on one worker that is not slow.
        seed: Of everything drawn.

    Returns:
        The outcome; the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(-(cluster.spread**2) / 2, cluster.spread, shards))
    left = work_hours * spread / spread.sum()
    block = left / cluster.blocks
    factor = np.where(
        rng.permutation(cluster.workers) < round(cluster.slow_share * cluster.workers), cluster.slow_factor, 1.0
    )
    queue, done = list(range(shards - 1, -1, -1)), np.zeros(shards, np.int64)
    free = [(0.0, worker) for worker in range(cluster.workers)]
    heapq.heapify(free)
    requeued: list[tuple[float, int]] = []
    last = lost_hours = 0.0
    losses = 0
    while done.sum() < shards:
        now, worker = heapq.heappop(free)
        while requeued and requeued[0][0] <= now:
            queue.insert(0, heapq.heappop(requeued)[1])
        if not queue:
            if requeued:
                heapq.heappush(free, (max(now, requeued[0][0]), worker))
            continue
        shard = queue.pop()
        needs = cluster.start_hours + left[shard] * factor[worker]
        until_loss = rng.exponential(cluster.loss_hours) if np.isfinite(cluster.loss_hours) else np.inf
        if until_loss < needs:
            worked = max(0.0, until_loss - cluster.start_hours) / factor[worker]
            kept = min(left[shard], block[shard] * np.floor(worked / block[shard])) if cluster.blocks > 1 else 0.0
            left[shard] -= kept
            losses, lost_hours = losses + 1, lost_hours + worked - kept
            heapq.heappush(requeued, (now + until_loss, shard))
            heapq.heappush(free, (now + until_loss + cluster.return_hours, worker))
        else:
            done[shard] += 1
            last = max(last, now + needs)
            heapq.heappush(free, (now + needs, worker))
    return Outcome(last, lost_hours, losses, done)


def sweep_shards(cluster: Cluster, work_hours: float, seeds: int) -> list[dict[str, float]]:
    """Simulate several numbers of shards.

    Returns:
        A row for each: shards per worker, mean and 95th percentile of the time in multiples of the ideal, lost work as
        a share of the whole, workers lost.
    """
    rows = []
    for each in SHARDS_PER_WORKER:
        found = [simulate(cluster, each * cluster.workers, work_hours, seed) for seed in range(seeds)]
        times = np.array([outcome.hours for outcome in found]) * cluster.workers / work_hours
        rows.append(
            {
                "shards_per_worker": each,
                "mean": float(times.mean()),
                "p95": float(np.percentile(times, 95)),
                "lost": float(np.mean([outcome.lost_hours for outcome in found])) / work_hours,
                "losses": float(np.mean([outcome.losses for outcome in found])),
            }
        )
    return rows


def print_rows(name: str, rows: list[dict[str, float]]) -> None:
    """Print a table."""
    print(f"\n{name}\n{'shards a worker':>16}{'time, mean':>12}{'95 %':>8}{'work lost':>11}{'losses':>8}")
    for row in rows:
        times = f"{row['mean']:>12.2f}{row['p95']:>8.2f}"
        print(f"{row['shards_per_worker']:>16}{times}{row['lost']:>11.1%}{row['losses']:>8.1f}")


def main() -> None:
    """Simulate, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plain = Cluster()
    for name, value in plain._asdict().items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help=f"default {value:.4g}")
    parser.add_argument("--work-hours", type=float, default=128.0, help="the whole work on one core (default 128)")
    parser.add_argument("--seeds", type=int, default=100, help="default 100")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    cluster = Cluster(**{name: getattr(given, name) for name in Cluster._fields})
    cases = {
        "equal workers, none lost": cluster._replace(spread=0.0, slow_share=0.0, loss_hours=np.inf),
        "slow workers": cluster._replace(loss_hours=np.inf),
        "lost workers": cluster._replace(slow_share=0.0),
        "both": cluster,
        "both, finished blocks survive": cluster._replace(blocks=8),
    }
    figures = {}
    for name, case in cases.items():
        figures[name] = sweep_shards(case, given.work_hours, given.seeds)
        print_rows(name, figures[name])
    write_json(
        given.json, figures, (), {"cluster": cluster._asdict(), "work_hours": given.work_hours, "seeds": given.seeds}
    )


if __name__ == "__main__":
    main()
