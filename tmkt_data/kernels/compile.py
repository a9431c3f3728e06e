"""How every kernel is compiled: without the interpreter lock, and cached on disk where that is possible.

Threads import kernels when they first need them. A module that takes names from a part of numba imports `numba` itself
first: that waits where another thread is importing it, while `from numba.core import x` alone does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function of arrays, scalars and plain tuples of them; it runs without holding the interpreter lock.

    The machine code is cached beside the source or in numba's own cache directory. Where neither can be written, each
    process compiles the kernel again.
    """
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return cast("Callable[_P, _R]", compiled)
