from __future__ import annotations

from pathlib import Path

import pytest

from tmkt_data import Cache
from tmkt_data.datasets.digits import open_digits
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.spec import PrepareSpec

SPECS = {
    "bytes": PrepareSpec(time_bins=3, size=13, bake="poisson"),
    "overflow": PrepareSpec(time_bins=2, size=4, bake="repeat"),
    "halves": PrepareSpec(time_bins=3, size=12, resize="bilinear"),
    "voxels": PrepareSpec(time_bins=3, size=12, representation="voxel"),
}


@pytest.fixture(scope="session")
def stored_caches(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """One cache for each type that event frames are stored as, and one with counts above 255."""
    folder = tmp_path_factory.mktemp("stored")
    for name, spec in SPECS.items():
        for _ in prepare_cache(plan_prepare(open_digits(digits_root), spec, folder / f"{name}.h5")):
            pass
    return {name: Cache(folder / f"{name}.h5") for name in SPECS}
