"""Faults injected into whole commands; see `python -m tests.faults --help`."""
