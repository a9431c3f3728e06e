"""Paired image and event data for spiking networks: decode, bin, align, cache, split, pair. Runs without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmkt_data.cache.reader import Cache, CacheInfo, read_cache_info
    from tmkt_data.datasets.open import default_spec, open_catalogue
    from tmkt_data.errors import TmktError
    from tmkt_data.events import EVENT_DTYPE, Events, SensorSize
    from tmkt_data.io.read import load_events, read_events
    from tmkt_data.io.write import write_events
    from tmkt_data.pair_report import PairReport, report_pairs
    from tmkt_data.paired import PairedBatch, PairedFrames, PairedSample
    from tmkt_data.plan import PreparePlan, cache_directory, find_caches, plan_prepare
    from tmkt_data.prepare import prepare_cache
    from tmkt_data.spec import PrepareSpec
    from tmkt_data.tonic_bridge import TonicFrames, from_tonic

# Names are looked up on first use, so that importing one part does not load numba and h5py for all.
_HOMES = {
    "EVENT_DTYPE": "events",
    "Cache": "cache.reader",
    "CacheInfo": "cache.reader",
    "Events": "events",
    "PairReport": "pair_report",
    "PairedBatch": "paired",
    "PairedFrames": "paired",
    "PairedSample": "paired",
    "PreparePlan": "plan",
    "PrepareSpec": "spec",
    "SensorSize": "events",
    "TmktError": "errors",
    "TonicFrames": "tonic_bridge",
    "cache_directory": "plan",
    "default_spec": "datasets.open",
    "find_caches": "plan",
    "from_tonic": "tonic_bridge",
    "load_events": "io.read",
    "open_catalogue": "datasets.open",
    "plan_prepare": "plan",
    "prepare_cache": "prepare",
    "read_cache_info": "cache.reader",
    "read_events": "io.read",
    "report_pairs": "pair_report",
    "write_events": "io.write",
}

__all__ = [
    "EVENT_DTYPE",
    "Cache",
    "CacheInfo",
    "Events",
    "PairReport",
    "PairedBatch",
    "PairedFrames",
    "PairedSample",
    "PreparePlan",
    "PrepareSpec",
    "SensorSize",
    "TmktError",
    "TonicFrames",
    "cache_directory",
    "default_spec",
    "find_caches",
    "from_tonic",
    "load_events",
    "open_catalogue",
    "plan_prepare",
    "prepare_cache",
    "read_cache_info",
    "read_events",
    "report_pairs",
    "write_events",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home the first time it is asked for."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'tmkt_data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tmkt_data.{_HOMES[name]}"), name)
