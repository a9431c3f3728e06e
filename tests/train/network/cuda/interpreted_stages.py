"""Tests of stages under Triton's interpreter; `test_door.py` runs them in a process of their own."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
import triton

from tmkt_train.network.cuda.kernels import launch

from .stage_checks import BOTH, Case, check

CASES = [
    Case(4, 15, surrogate="rectangle", mode="none", is_pooled=True, outputs=5),
    Case(4, 15, mode="fused", streams=BOTH, surrogate="rectangle"),
    Case(6, 40, streams=BOTH, is_separate=True, is_pooled=True),
    Case(6, 40, mode="evaluation", streams=BOTH, is_separate=True, surrogate="rectangle", keeps=True),
    Case(10, 64, size=(3, 5), streams=BOTH, is_pooled=True, outputs=3),
    Case(10, 64, batch=3, mode="fused", is_separate=True, streams=("image",), outputs=2),
    Case(10, 300, batch=3, size=(1, 1), mode="none", surrogate="rectangle", keeps=True),
    Case(4, 512, batch=1, size=(1, 3), streams=BOTH, keeps=True),
    Case(6, 64, size=(3, 5), dtype=torch.float16, streams=BOTH, is_pooled=True),
    Case(4, 64, dtype=torch.float16, outputs=3),
    Case(3, 33, dtype=torch.float64, streams=BOTH, is_pooled=True, keeps=False),
    Case(3, 33, dtype=torch.float64, mode="fused", streams=BOTH, is_separate=True),
]

CHOICES = (
    (4, 6, 10, 12, 16),
    (15, 40, 64, 128, 512),
    ("per-step", "fused", "none", "evaluation"),
    ("triangle", "rectangle"),
    (False, True),
    (False, True),
    ((3, 5), (4, 2)),
)
"""Steps, channels, mode, surrogate, whether pooled, whether potentials are kept, size."""
# fmt: off
PAIRS = [
    (4, 15, "per-step", "triangle", False, False, (3, 5)),
    (4, 40, "fused", "rectangle", True, True, (4, 2)),
    (4, 64, "none", "triangle", False, True, (4, 2)),
    (4, 128, "evaluation", "rectangle", True, False, (3, 5)),
    (4, 512, "none", "triangle", True, False, (3, 5)),
    (6, 40, "evaluation", "triangle", False, False, (4, 2)),
    (6, 64, "per-step", "rectangle", True, True, (3, 5)),
    (6, 128, "fused", "triangle", False, False, (3, 5)),
    (6, 512, "per-step", "rectangle", False, True, (4, 2)),
    (6, 15, "none", "rectangle", True, True, (4, 2)),
    (10, 64, "fused", "rectangle", True, False, (3, 5)),
    (10, 128, "none", "triangle", False, True, (4, 2)),
    (10, 512, "evaluation", "triangle", False, True, (3, 5)),
    (10, 15, "evaluation", "triangle", True, False, (4, 2)),
    (10, 40, "per-step", "triangle", False, False, (3, 5)),
    (12, 128, "per-step", "triangle", True, True, (4, 2)),
    (12, 512, "fused", "rectangle", False, False, (3, 5)),
    (12, 15, "fused", "rectangle", False, False, (4, 2)),
    (12, 40, "none", "triangle", False, True, (3, 5)),
    (12, 64, "evaluation", "triangle", False, False, (3, 5)),
    (16, 512, "evaluation", "triangle", True, False, (3, 5)),
    (16, 15, "per-step", "rectangle", False, True, (4, 2)),
    (16, 40, "fused", "triangle", False, False, (3, 5)),
    (16, 64, "none", "triangle", False, False, (3, 5)),
    (16, 128, "fused", "rectangle", False, False, (3, 5)),
]
# fmt: on
"""Rows in which every pair of choices occurs: the product has 1600."""


def few_programs(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    """Use wide blocks and few programs, as each operation costs some 0.1 ms here, but more than one tile.

    Rows of 512 channels are cut into two blocks, as on a GPU.
    """
    monkeypatch.setattr(launch, "BLOCK", 256 if case.channels > 256 else 1024)
    monkeypatch.setattr(launch, "GRADIENT_BLOCK", launch.BLOCK)
    monkeypatch.setattr(launch, "_UNROLL", 2)
    monkeypatch.setattr(launch, "_SUMMING", 12)
    monkeypatch.setattr(launch, "_WRITING", 4)
    monkeypatch.setattr(launch, "_LEAST_GROUPS", 1)
    monkeypatch.setattr(launch, "_WIDTH", 256)


def test_the_interpreter_runs() -> None:
    assert os.environ["TRITON_INTERPRET"] == "1"
    assert triton.knobs.runtime.interpret


def test_every_pair_of_choices_occurs() -> None:
    for (i, first), (j, second) in itertools.combinations(enumerate(CHOICES), 2):
        assert {(row[i], row[j]) for row in PAIRS} == set(itertools.product(first, second))


@pytest.mark.parametrize("row", PAIRS, ids=str)
def test_a_stage_of_any_choices_equals_the_oracle(row: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, channels, mode, surrogate, is_pooled, keeps, size = row
    batch = 2
    if channels == 512:
        # Two blocks of channels take long enough with fewer pixels.
        batch, size = 1, {(3, 5): (2, 3), (4, 2): (2, 2)}[size]
    case = Case(steps, channels, batch, size, mode, surrogate=surrogate, is_pooled=is_pooled, keeps=keeps)
    few_programs(monkeypatch, case)
    check(case, "cpu")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stage_equals_the_oracle(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    few_programs(monkeypatch, case)
    check(case, "cpu")
