"""Completion of names in a shell, see docs/how-to/completion.md."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem


def complete_dataset(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the datasets that begin like this, with their titles."""
    from tmkt_data.datasets.registry import DATASETS

    found = (info for info in DATASETS.values() if info.name.startswith(incomplete))
    return [CompletionItem(info.name, help=info.title) for info in found]


def complete_cache(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the datasets that begin like this, and what makes the shell complete file names."""
    names = [] if Path(incomplete).name != incomplete else complete_dataset(context, parameter, incomplete)
    return names or [CompletionItem(incomplete, type="file")]
