"""Batches of paired samples: open a cache, sample, augment."""
