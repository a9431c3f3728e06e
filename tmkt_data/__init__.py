"""Paired image and event data for spiking networks: decode, bin, align, cache, split, pair. Runs without torch."""
