"""Pairs as torch tensors: batches, their order, a loader. The one place of tmkt_data that imports torch."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError(
        "tmkt_data.torch: found no torch; install it with: pip install torch, or: pip install 'tmkt[train]'"
    )

from tmkt_data.torch.loading import EpochBatches, PairedTensors, collate_pairs, pair_loader

__all__ = ["EpochBatches", "PairedTensors", "collate_pairs", "pair_loader"]
