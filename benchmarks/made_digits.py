"""A cache of simulated digits, where a benchmark is given no other."""

from __future__ import annotations

from pathlib import Path

from tmkt_data import open_catalogue, plan_prepare, prepare_cache
from tmkt_data.datasets.digits_source import write_digits
from tmkt_data.spec import PrepareSpec


def made_digits(folder: Path, per_class: int, spec: PrepareSpec) -> Path:
    """Simulate digits in a folder and prepare them; return the cache, which is made only once."""
    cache = folder / "digits.h5"
    if not cache.is_file():
        for _ in write_digits(folder / "digits", per_class=per_class):
            pass
        for _ in prepare_cache(plan_prepare(open_catalogue("digits", folder / "digits"), spec, cache)):
            pass
    return cache
