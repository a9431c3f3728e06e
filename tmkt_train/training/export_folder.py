"""The folder that `tmkt-train export --safetensors` writes: names of its files; imports no torch."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
RECIPE = "recipe.toml"
CARD = "README.md"


def is_exported(folder: Path) -> bool:
    """Return whether a folder is one that a network was exported to."""
    return (folder / CONFIG).is_file()
