"""The Triton kernels compiled for GPUs that are not there; `tests/tools/compile_kernels.py` compiles all variants."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton")

from compile_kernels import Case, compile_source, launches, source_of

HEAVY = ("gradient_sums", "input_gradient")
"""The kernels that keep something of every step in registers."""
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter is on")


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(
    "case",
    [
        Case(12, 64, torch.float32, keeps=True),
        Case(12, 128, torch.float16, "fused", is_triangle=False, is_pooled=True),
    ],
    ids=str,
)
def test_twelve_steps_do_not_spill(case, arch):
    sources = [source_of(one) for one in launches(case)]
    used = [compile_source(source, arch) for source in sources if source.fn.__name__ in HEAVY]
    assert [kernel.name for kernel in used] == list(HEAVY)
    assert [kernel for kernel in used if kernel.stack] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_compile(dtype):
    for one in launches(Case(2, 15, dtype, "evaluation", streams=1, is_pooled=True)):
        compile_source(source_of(one), 90)
