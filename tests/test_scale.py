"""The arithmetic behind docs/scale.md: the projection, and the simulation of shards on a cluster."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    cluster_simulation, projection = map(importlib.import_module, ("cluster_simulation", "projection"))
Cluster, simulate = cluster_simulation.Cluster, cluster_simulation.simulate

EQUAL = Cluster(workers=4, spread=0.0, slow_share=0.0, loss_hours=math.inf, start_hours=0.0)
BUSY = Cluster(workers=8, spread=0.3, slow_share=0.25, loss_hours=3.0, return_hours=0.5)


class TestSimulation:
    def test_equal_workers_take_the_ideal_time(self):
        assert simulate(EQUAL, shards=8, work_hours=16.0, seed=0).hours == pytest.approx(4.0)
        assert simulate(EQUAL, shards=5, work_hours=16.0, seed=0).hours == pytest.approx(2 * 16 / 5)

    def test_one_shard_a_worker_takes_as_long_as_the_slow_one(self):
        slow = EQUAL._replace(slow_share=0.25, slow_factor=3.0)
        assert simulate(slow, shards=4, work_hours=16.0, seed=1).hours == pytest.approx(12.0)
        # One of four is at a third of the speed: 10 / 3 workers, and shards small enough to fill them.
        assert simulate(slow, shards=400, work_hours=16.0, seed=1).hours == pytest.approx(16 / (10 / 3), rel=0.03)

    @pytest.mark.parametrize("blocks", [1, 8])
    def test_every_shard_is_finished_once_whatever_is_lost(self, blocks):
        lost = 0
        for seed in range(40):
            outcome = simulate(BUSY._replace(blocks=blocks), shards=24, work_hours=40.0, seed=seed)
            assert outcome.done.tolist() == [1] * 24
            assert outcome.hours >= 40.0 / 8
            assert (outcome.lost_hours > 0) <= (outcome.losses > 0)
            lost += outcome.losses
        assert lost > 40

    def test_finished_blocks_that_survive_leave_less_to_do_again(self):
        found = [
            np.mean([simulate(BUSY._replace(blocks=blocks), 8, 40.0, seed).lost_hours for seed in range(60)])
            for blocks in (1, 8)
        ]
        assert found[1] < 0.5 * found[0]

    def test_a_start_counts_for_every_shard(self):
        assert simulate(EQUAL._replace(start_hours=0.5), shards=8, work_hours=16.0, seed=0).hours == pytest.approx(5.0)

    def test_the_same_seed_is_the_same_job(self):
        first, again, other = (simulate(BUSY, 16, 40.0, seed) for seed in (3, 3, 4))
        assert first.hours == again.hours != other.hours

    def test_rows_are_multiples_of_the_ideal(self):
        rows = cluster_simulation.sweep_shards(EQUAL, 16.0, seeds=2)
        assert [row["mean"] for row in rows] == pytest.approx([1.0] * len(cluster_simulation.SHARDS_PER_WORKER))
        assert all(row["lost"] == row["losses"] == 0 for row in rows)


class TestProjection:
    COSTS = projection.Costs(prepare_s=2e-3, pair_s=4e-5, raw_bytes=3e5, cache_bytes=5e4)
    SITE = projection.Site(nodes=4, cores=16, gpus=8, link=1e9, shared=2e9, opens=1e4, memory=1e9)

    def test_the_slowest_part_is_the_time_and_has_the_name(self):
        # Cores: 1e6 * 2 ms / 64 = 31 s; storage: 350 GB at 2 GB/s = 175 s; 2e6 files at 1e4 a second = 200 s.
        assert projection.prepare_stage(self.COSTS, self.SITE, 10**6) == (pytest.approx(200.0), "opening files")
        fast = self.SITE._replace(opens=1e6)
        assert projection.prepare_stage(self.COSTS, fast, 10**6) == (pytest.approx(175.0), "storage")
        assert projection.prepare_stage(self.COSTS, fast._replace(shared=1e12, link=1e12), 10**6) == (
            pytest.approx(31.25),
            "cores",
        )

    def test_a_node_gets_no_more_than_its_link(self):
        one = self.SITE._replace(nodes=1, opens=1e9)
        assert projection.prepare_stage(self.COSTS, one, 10**6).seconds == pytest.approx(350.0)

    def test_an_epoch_reads_storage_only_where_memory_is_too_small(self):
        one = self.SITE._replace(nodes=1, gpus=10**6)
        assert projection.epoch_stage(self.COSTS, one, 10**6) == (pytest.approx(50.0), "storage")
        assert projection.epoch_stage(self.COSTS, one._replace(memory=1e11), 10**6) == (pytest.approx(2.5), "cores")

    def test_gradients_cross_the_network_between_nodes_only(self):
        slow = self.SITE._replace(link=1e6, memory=1e12)
        steps = 10**6 / (8 * projection.BATCH_PER_GPU)
        expected = steps * 2 * projection.GRADIENT_BYTES / 1e6
        found = projection.epoch_stage(self.COSTS, slow, 10**6)
        assert found == (pytest.approx(expected), "gradients on the network")
        assert projection.epoch_stage(self.COSTS, slow._replace(nodes=1), 10**6).bound != found.bound

    def test_costs_are_measured(self):
        costs = projection.measure(40, 2000)
        assert 0 < costs.pair_s < costs.prepare_s < 1
        assert costs.raw_bytes > 5 * 2000
        # T x 2 x 48 x 48 bytes of counts, 48 x 48 of intensity, and less than a tenth for tables.
        assert 1 <= costs.cache_bytes / (10 * 2 * 48 * 48 + 48 * 48) < 1.1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (90, "1.5 min"), (7200, "2 h"), (86400 * 12.34, "12.3 days")]
)
def test_durations_have_one_unit(seconds, text):
    assert projection.duration(seconds) == text
