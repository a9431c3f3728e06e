"""Tests of stages under Triton's interpreter; `test_door.py` runs them in a process of their own."""

from __future__ import annotations

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
    Case(12, 128, size=(3, 4), is_pooled=True, surrogate="rectangle"),
    Case(16, 64, size=(4, 3), keeps=True, is_pooled=True),
    Case(4, 512, size=(1, 3), streams=BOTH, keeps=True),
    Case(4, 512, size=(3, 2), mode="evaluation", is_pooled=True),
    Case(6, 64, size=(3, 5), dtype=torch.float16, streams=BOTH, is_pooled=True),
    Case(4, 64, dtype=torch.float16, outputs=3),
    Case(3, 33, dtype=torch.float64, streams=BOTH, is_pooled=True, keeps=False),
    Case(3, 33, dtype=torch.float64, mode="fused", streams=BOTH, is_separate=True),
]


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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stage_equals_the_oracle(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    few_programs(monkeypatch, case)
    check(case, "cpu")
