"""Pair the recordings of a cache with images."""
