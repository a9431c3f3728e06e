"""The blocks of a plan hold every source once, in order."""

from __future__ import annotations

import pytest
from trees import write_nmnist

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.prepare import plan as plans


@pytest.mark.parametrize("block_bytes", [1, 1 << 16, 1 << 30])
@pytest.mark.parametrize("per_digit", [1, 5, 9])
def test_blocks_follow_each_other_and_hold_every_source_once(tmp_path, monkeypatch, block_bytes, per_digit):
    monkeypatch.setattr(plans, "BLOCK_BYTES", block_bytes)
    root = write_nmnist(tmp_path, per_digit=per_digit, test_per_digit=1, digits=4)
    plan = plans.plan_prepare(open_catalogue("nmnist", root), default_spec("nmnist"), tmp_path / "a.h5")
    for side, sources in (("events", plan.catalogue.recordings), ("images", plan.catalogue.images)):
        blocks = [block for block in plan.blocks if block.place.side == side]
        assert [source.id for block in blocks for source in block.sources] == [source.id for source in sources]
        starts = [sum(len(before.sources) for before in blocks[:at]) for at in range(len(blocks))]
        assert [block.place.first for block in blocks] == starts
    assert len({block.place.name for block in plan.blocks}) == len(plan.blocks)
