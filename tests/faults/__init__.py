"""Faults injected into whole commands; `python -m tests.faults --help` and docs/reliability.md."""
