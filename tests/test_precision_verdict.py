"""Accuracies of precisions beside tf32, and what benchmarks conclude from them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("precision_verdict")


def rows_of(accuracies):
    return [
        {"precision": name, "seed": seed, "test_accuracy": value}
        for name, values in accuracies.items()
        for seed, value in enumerate(values)
    ]


def test_means_are_compared_with_the_spread_of_tf32(module):
    accuracies = {"tf32": (0.90, 0.92, 0.94), "float16": (0.91, 0.93, 0.95), "bfloat16": (0.80, 0.90, 0.94)}
    found = module.beside_tf32(rows_of(accuracies), "test_accuracy")
    assert found["tf32"].text == "92.0 ± 2.0       3 seeds"
    assert found["float16"].text == "93.0 ± 2.0       3 seeds   +1.0 [+1.0, +1.0]"
    assert found["bfloat16"].to_json()["difference"] == pytest.approx(-0.04)
    assert "difference" not in found["tf32"].to_json()
    assert module.verdict(found) == "float16 within, bfloat16 outside the spread of tf32 over seeds, 2.0 points"


@pytest.mark.parametrize(
    "accuracies",
    [
        {"tf32": (0.90, 0.92), "float16": (0.91, 0.93)},
        {"tf32": (0.90, 0.92, 0.94), "float16": (0.91, 0.93)},
        {"tf32": (0.90, 0.92, 0.94)},
        {"float16": (0.90, 0.92, 0.94)},
        {},
    ],
)
def test_too_few_seeds_give_no_verdict(module, accuracies):
    found = module.beside_tf32(rows_of(accuracies), "test_accuracy")
    assert module.verdict(found) == "no verdict: it takes 3 seeds of tf32 and of a fast precision"
