"""Plans of made trees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import PreparePlan, plan_prepare


def plan_of(root: Path, out: Path, **choices: object):
    return plan_prepare(open_catalogue("nmnist", root), dataclasses.replace(default_spec("nmnist"), **choices), out)


def stop_after(plan: PreparePlan, num_steps: int) -> None:
    """Prepare a cache up to a step, and stop there."""
    steps = prepare_cache(plan)
    for _ in range(num_steps):
        next(steps)
    steps.close()
