"""Experiments of many runs: comparisons of recipes over shares of the event data and seeds, and sweeps of settings."""
