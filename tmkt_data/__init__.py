"""Paired image and event data for spiking networks: decode, bin, align, cache, split, pair. Runs without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmkt_data.cache.find import cache_directory
    from tmkt_data.cache.reader import Cache, CacheInfo, read_cache_info
    from tmkt_data.datasets.prepared import find_caches
    from tmkt_data.datasets.registry import default_spec, open_catalogue
    from tmkt_data.errors import TmktError
    from tmkt_data.events.events import EVENT_DTYPE, Events, SensorSize
    from tmkt_data.events.read import load_events, read_events
    from tmkt_data.events.write import write_events
    from tmkt_data.pairs.paired_frames import PairedFrames
    from tmkt_data.pairs.report import PairReport, report_pairs
    from tmkt_data.pairs.samples import PairedBatch, PairedSample
    from tmkt_data.pairs.tonic import TonicFrames, from_tonic
    from tmkt_data.prepare.build import prepare_cache
    from tmkt_data.prepare.plan import PreparePlan, plan_prepare
    from tmkt_data.prepare.recording_frames import recording_frames
    from tmkt_data.spec import PrepareSpec

# Names are looked up on first use, so that importing one part does not load numba and h5py for all.
_HOMES = {
    "EVENT_DTYPE": "events.events",
    "Cache": "cache.reader",
    "CacheInfo": "cache.reader",
    "Events": "events.events",
    "PairReport": "pairs.report",
    "PairedBatch": "pairs.samples",
    "PairedFrames": "pairs.paired_frames",
    "PairedSample": "pairs.samples",
    "PreparePlan": "prepare.plan",
    "PrepareSpec": "spec",
    "SensorSize": "events.events",
    "TmktError": "errors",
    "TonicFrames": "pairs.tonic",
    "cache_directory": "cache.find",
    "default_spec": "datasets.registry",
    "find_caches": "datasets.prepared",
    "from_tonic": "pairs.tonic",
    "load_events": "events.read",
    "open_catalogue": "datasets.registry",
    "plan_prepare": "prepare.plan",
    "prepare_cache": "prepare.build",
    "read_cache_info": "cache.reader",
    "read_events": "events.read",
    "recording_frames": "prepare.recording_frames",
    "report_pairs": "pairs.report",
    "write_events": "events.write",
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
    "recording_frames",
    "report_pairs",
    "write_events",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home the first time it is asked for."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'tmkt_data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tmkt_data.{_HOMES[name]}"), name)
