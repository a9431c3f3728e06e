"""A short run over everything that reads foreign bytes; the long one is `tests/tools/fuzz_covered.py`."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import fuzz_hdf5
import fuzz_targets

TARGETS = fuzz_targets.targets()


@pytest.mark.parametrize("name", TARGETS)
def test_valid_bytes_are_taken_and_damaged_ones_end_well(name):
    target = TARGETS[name]
    for seed in target.seeds:
        assert fuzz_targets.ends_well(target, seed)
    rng = random.Random(name)
    refused = 0
    for _ in range(300):
        data = fuzz_hdf5.mutate(rng, rng.choice(target.seeds), list(target.seeds))
        refused += not fuzz_targets.ends_well(target, data)
    assert refused
