"""Paired samples: which image accompanies which recording, read from a cache."""
