"""Words read at any byte of an array."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def word_at(_context: Any, data: Any, at: Any) -> Any:  # noqa: ARG001 - its type is in the signature
    """Return the four bytes from `data[at]` on as one big-endian uint32.

    One load, where LLVM makes four of four bytes whose parts are used apart.

    Args:
        data: Contiguous bytes, uint8; nobody checks that `at + 3` lies inside.
        at: Byte, uint64.
    """
    signature = types.uint32(data, types.uint64)

    def generate(context: Any, builder: Any, given: Any, values: Any) -> Any:
        array = context.make_array(given.args[0])(context, builder, values[0])
        pointer = builder.bitcast(builder.gep(array.data, [values[1]]), cgutils.int32_t.as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 1
        return builder.bswap(loaded)

    return signature, generate
