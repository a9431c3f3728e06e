"""Small caches, made through the same functions as `tmkt-data prepare`."""

from __future__ import annotations

from pathlib import Path

from tmkt_data import default_spec, open_catalogue, plan_prepare, prepare_cache
from tmkt_data.datasets.digits_source import write_digits


def write_small_digits(folder: Path, per_class: int = 12) -> Path:
    """Write `folder/caches/digits-source` and a cache of it, named as the command names it; return the cache."""
    source = folder / "caches" / "digits-source"
    for _ in write_digits(source, per_class=per_class):
        pass
    name = plan_prepare(open_catalogue("digits", source), default_spec("digits")).path.name
    return write_cache("digits", source, folder / "caches" / name)


def write_cache(dataset: str, root: Path, out: Path) -> Path:
    """Prepare a dataset with its default choices."""
    for _ in prepare_cache(plan_prepare(open_catalogue(dataset, root), default_spec(dataset), out)):
        pass
    return out
