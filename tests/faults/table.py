"""The table of all scenarios."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults import data_scenarios, train_scenarios
from tests.faults.scenarios import Scenario


def scenarios() -> Iterator[Scenario]:
    """Yield all scenarios."""
    yield from data_scenarios.SCENARIOS
    yield from train_scenarios.SCENARIOS
