"""Compile the Triton kernels for GPUs that are not there, and read their registers and spills.

Run as a script, it compiles every variant that the shipped recipes launch, or every variant for some numbers of steps
and of channels, and fails if one spills; a variant takes half a second to two seconds:

    python tests/tools/compile_kernels.py --recipes
    python tests/tools/compile_kernels.py --arch 80 90 --steps 12 --channels 15 64 512
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tmkt_train.network.cuda.kernels import launch, operators
from tmkt_train.network.cuda.kernels.launch import Launch, Parameters, Surroundings
from tmkt_train.recipe.load import find_recipe, list_recipes, load_recipe
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.setup import build_network

DTYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
}


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel takes: registers of a thread, and bytes of its stack, where spills lie."""

    name: str
    registers: int
    stack: int


def source_of(one: Launch) -> ASTSource:
    """Return what Triton would compile for the arguments of a launch."""
    signature, constants, attributes = {}, dict(one.constants), {}
    for position, name in enumerate(one.kernel.arg_names):
        if name in one.constants:
            signature[name] = "constexpr"
            continue
        value = one.arguments[name]
        if isinstance(value, torch.Tensor):
            signature[name] = DTYPES[value.dtype]
            attributes[position,] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i32"
            if value % 16 == 0:
                attributes[position,] = [["tt.divisibility", 16]]
    return ASTSource(fn=one.kernel, signature=signature, constexprs=constants, attrs=attributes)


def compile_source(source: ASTSource, arch: int) -> Resources:
    """Compile for an architecture, such as 90."""
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": launch.NUM_WARPS})
    return Resources(source.fn.__name__, *_usage(compiled.asm["cubin"]))


def _usage(cubin: bytes) -> tuple[int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        done = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    if found is None:
        raise RuntimeError(f"cuobjdump: found {done.stdout!r}, expected REG and STACK")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class Case:
    """One layer."""

    steps: int
    channels: int
    dtype: torch.dtype = torch.float16
    mode: str = "per-step"
    streams: int = 2
    is_triangle: bool = True
    is_pooled: bool = False
    keeps: bool = False
    size: int = 12
    has_spike_grad: bool = True


def launches(case: Case) -> Iterator[Launch]:
    """Yield every launch of a layer, forward and backward, on meta tensors."""
    wide = torch.float64 if case.dtype == torch.float64 else torch.float32

    def empty(*shape: int, dtype: torch.dtype = wide) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    values = empty(case.steps, case.streams * 120, case.size, case.size, case.channels, dtype=case.dtype)
    found = [empty(case.streams, case.steps, case.channels) for _ in range(3)]
    affine = [empty(case.channels) for _ in range(4)]
    parameters = Parameters(found[0], found[2], *affine[:2])
    if case.mode in ("per-step", "fused"):
        running, count = (*affine, *affine)[: 2 * case.streams], empty(dtype=torch.int64)
        yield from launch.batch_statistics(
            values, (found[0], found[1], found[2]), running, count, case.steps, 0.1, 1e-5, case.mode == "fused"
        )
    elif case.mode == "none":
        parameters = Parameters(*[empty(0) for _ in range(4)])
    half = case.size // 2
    spikes = empty(*values.shape[:2], half, half, case.channels, dtype=case.dtype) if case.is_pooled else values
    yield from launch.fire(
        values, parameters, spikes, values if case.keeps else values[:0], case.streams, case.is_pooled
    )
    how = Surroundings(
        case.streams, case.is_triangle, case.is_pooled, case.mode in ("per-step", "fused"), case.mode == "fused"
    )
    grads = spikes if case.has_spike_grad else None, values if case.keeps else None
    yield from launch.fire_gradient(values, parameters, *grads, how, values, affine[2], affine[3])


def variants(steps: list[int], channels: list[int]) -> Iterator[Case]:
    """Yield layers that need every variant of the kernels."""
    dtypes = (torch.float16, torch.bfloat16, torch.float32)
    modes = ("per-step", "fused", "evaluation", "none")
    forms = ((False, False), (True, False), (False, True), (True, True))
    for num_steps, num_channels, dtype, mode in itertools.product(steps, channels, dtypes, modes):
        layer = Case(num_steps, num_channels, dtype, mode)
        yield replace(layer, streams=1)
        for is_triangle, (is_pooled, keeps) in itertools.product((True, False), forms):
            yield replace(layer, is_triangle=is_triangle, is_pooled=is_pooled, keeps=keeps)
        yield replace(layer, keeps=True, has_spike_grad=False)


def of_cases(steps: list[int], channels: list[int]) -> Iterator[Launch]:
    """Yield the launches of every variant."""
    for case in variants(steps, channels):
        yield from launches(case)


def of_recipe(name: str, dtype: torch.dtype) -> list[Launch]:
    """Return the launches of a training step and of an evaluation by a recipe, run on meta tensors."""
    recipe = load_recipe(find_recipe(name))
    prepare = recipe.data.prepare
    shape = SimpleNamespace(num_time_bins=prepare.time_bins, num_channels=2, size=(prepare.size,) * 2, num_classes=10)
    with torch.device("meta"):
        model = build_network(recipe, shape)
        frames = torch.empty(prepare.time_bins, recipe.train.batch_size, 2, *shape.size)
    model.compute_dtype = dtype
    found: list[Launch] = []
    with recorded(found):
        if recipe.has_two_streams:
            outputs = model.forward_pair(frames, frames, tap=True)
            sum(output.logits.sum() + output.alignment.sum() for output in outputs).backward()
        else:
            model(frames).logits.sum().backward()
        with torch.no_grad():
            model.eval()(frames)
    return found


@contextmanager
def recorded(found: list[Launch]) -> Iterator[None]:
    """Note the launches of the kernels, and launch nothing."""
    names = ("batch_statistics", "fire", "fire_gradient")
    before = {name: getattr(operators, name) for name in names}
    operators.batch_statistics = lambda values, mean, variance, inverse, *rest: found.extend(
        launch.batch_statistics(values, (mean, variance, inverse), *rest)
    )
    operators.fire = lambda values, *rest: found.extend(launch.fire(values, Parameters(*rest[:4]), *rest[4:]))
    operators.fire_gradient = lambda values, *rest: found.extend(
        launch.fire_gradient(values, Parameters(*rest[:4]), *rest[4:6], Surroundings(rest[9], *rest[10:]), *rest[6:9])
    )
    try:
        yield
    finally:
        for name, operator in before.items():
            setattr(operators, name, operator)


def main() -> int:
    """Compile everything, print the kernels that spill and the most registers of each; return 1 if one spills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90])
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 6, 10, 12])
    parser.add_argument("--channels", type=int, nargs="+", default=[15, 40, 64, 128, 256, 300, 512])
    parser.add_argument("--recipes", nargs="*", metavar="NAME", help="compile what these recipes launch; all if none")
    given = parser.parse_args()
    wanted = of_cases(given.steps, given.channels)
    if given.recipes is not None:
        names = given.recipes or [str(path) for path, recipe in list_recipes() if isinstance(recipe, Recipe)]
        dtypes = (torch.float32, torch.float16, torch.bfloat16)
        wanted = (one for name, dtype in itertools.product(names, dtypes) for one in of_recipe(name, dtype))
    most: dict[tuple[int, int, str], int] = {}
    seen, spills = set(), 0
    for one, arch in itertools.product(wanted, given.arch):
        source = source_of(one)
        key = arch, source.hash()
        if key in seen:
            continue
        seen.add(key)
        used = compile_source(source, arch)
        row = arch, one.constants.get("T", 0), used.name
        most[row] = max(most.get(row, 0), used.registers)
        if used.stack:
            spills += 1
            print("spills:", arch, one.constants, used, flush=True)
    for row, registers in sorted(most.items()):
        print(*row, registers)
    print(f"{len(seen)} variants, {spills} with spills")
    return int(spills > 0)


if __name__ == "__main__":
    sys.exit(main())
