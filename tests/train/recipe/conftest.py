from __future__ import annotations

from pathlib import Path

import pytest

from tmkt_train.errors import RecipeError
from tmkt_train.recipe.load import load_recipe

PLAIN = """
name = "plain"
title = "A plain one"
[data]
dataset = "digits"
[model]
backbone = "scnn"
[method]
name = "tmkt"
[optim]
learning_rate = 0.001
[train]
epochs = 9
batch_size = 8
"""


def write(folder: Path, text: str, name: str = "plain.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, settings)
    return list(caught.value.problems)
