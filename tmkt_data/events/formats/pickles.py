"""Arrays in pickles, parsed without running them: N-Omniglot's `.npy` dictionaries and the batches of CIFAR-10.

A pickle is a program, and loading it runs it. Here its operations are only interpreted: a function becomes its name, a
call becomes a record of the call, and nothing is imported or called. Records that describe an array then become one.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tmkt_data.errors import EventError, TmktError

MAX_OPERATIONS = 2_000_000
"""Limit of operations, and of values built from them; a batch of CIFAR-10 has about 40 000."""
_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_EMPTY_BYTES = {"__builtin__ bytes", "builtins bytes"}
_FROM_BUFFER = {"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"}
_MAX_DEPTH = 8
_NUMBERS = frozenset({"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"})


@dataclass(frozen=True)
class _Name:
    name: str


class _Call:
    """A call that the pickle would make, and the state that it would set afterwards."""

    def __init__(self, function: object, arguments: object) -> None:
        self.function, self.arguments = function, arguments
        self.state: object = None


class _Mark:
    pass


_MARK = _Mark()


def read_pickle(data: bytes, place: str, error: type[TmktError] = EventError) -> Any:
    """Read a pickle of dictionaries, lists, numbers, text, bytes and NumPy arrays of numbers.

    Args:
        data: The pickle, of protocol 2 to 5.
        place: Prefix of error messages.
        error: Class of the error.

    Returns:
        The object. Text of Python 2 becomes bytes.

    Raises:
        TmktError: Of class `error`: no pickle, a damaged one, or one that names anything else. Nothing in it was run.
    """
    try:
        return _Resolver(place, error).value(_follow(data, place, error))
    except TmktError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, Warning) as broken:
        # Warning: Python's tokenizer warns about unknown escapes, and the caller may have made warnings errors.
        reason = (str(broken).splitlines() or [type(broken).__name__])[0][:80]
        raise error(f"{place}: no readable pickle ({reason}); the file is damaged, fetch it again") from None


def read_pickled_npy(data: bytes, place: str) -> dict[str, NDArray[Any]]:
    """Read a `.npy` file that holds a pickled dictionary of arrays, such as N-Omniglot's `events_npy`.

    Returns:
        The arrays by name.

    Raises:
        EventError: No such file, or a pickle of anything but plain arrays; nothing in it was run.
    """
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as broken:  # noqa: BLE001 - NumPy's parser raises whatever Python's tokenizer raises
        raise EventError(f"{place}: no readable npy header ({str(broken)[:80]}); the file is damaged") from None
    if shape != () or not dtype.hasobject:
        raise EventError(f"{place}: shape {shape} of {dtype}, expected one pickled dictionary; read it as plain .npy")
    value = read_pickle(data[stream.tell() :], place)
    value = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(value, dict) or not all(
        isinstance(v, np.ndarray) and isinstance(k, str) for k, v in value.items()
    ):
        raise EventError(f"{place}: found {type(value).__name__}, expected a dictionary of arrays t, x, y and p")
    return value


def _follow(data: bytes, place: str, error: type[TmktError]) -> object:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if count > MAX_OPERATIONS:
            raise error(f"{place}: a pickle of more than {MAX_OPERATIONS:,} operations, expected some arrays")
        name = operation.name
        if name == "STOP":
            return stack.pop()
        if name in _PUSH:
            stack.append(_PUSH[name](argument))
        elif name in _EDIT:
            _EDIT[name](stack)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name not in ("PROTO", "FRAME"):
            raise error(f"{place}: pickle operation {name}, expected plain data; nothing in it was run")
    raise error(f"{place}: a pickle without an end; the file is truncated, fetch it again")


def _constant(value: object) -> Callable[[object], object]:
    return lambda _: value


def _given(value: object) -> object:
    return value


def _text(value: object) -> object:
    return value.encode("latin-1") if isinstance(value, str) else value


_PUSH: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _given),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _given),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _given),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": _constant(()),
    "MARK": _constant(_MARK),
    "GLOBAL": _Name,
}


def _to_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise IndexError("the stack is empty")
    items = stack[-count:]
    del stack[-count:]
    return items


def _call(stack: list[Any]) -> None:
    stack.append(_Call(*_last(stack, 2)))


def _build(stack: list[Any]) -> None:
    target, state = _last(stack, 2)
    if not isinstance(target, _Call) or target.state is not None:
        raise ValueError("state for what is no call")
    target.state = state
    stack.append(target)


def _set_items(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict) or len(items) % 2:
        raise ValueError("items for what is no dictionary")
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _append(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise TypeError("items for what is no list")
    stack[-1].extend(items)


_EDIT: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": lambda stack: stack.append(tuple(_to_mark(stack))),
    "TUPLE1": lambda stack: stack.append(tuple(_last(stack, 1))),
    "TUPLE2": lambda stack: stack.append(tuple(_last(stack, 2))),
    "TUPLE3": lambda stack: stack.append(tuple(_last(stack, 3))),
    "APPEND": lambda stack: _append(stack, _last(stack, 1)),
    "APPENDS": lambda stack: _append(stack, _to_mark(stack)),
    "SETITEM": lambda stack: _set_items(stack, _last(stack, 2)),
    "SETITEMS": lambda stack: _set_items(stack, _to_mark(stack)),
    "POP": lambda stack: _last(stack, 1),
    "STACK_GLOBAL": lambda stack: stack.append(_Name(" ".join(_last(stack, 2)))),
    "REDUCE": _call,
    "BUILD": _build,
}


class _Resolver:
    """Turn records of calls into values; an error names what is neither a plain value nor an array."""

    def __init__(self, place: str, error: type[TmktError]) -> None:
        self._place, self._error, self._left = place, error, MAX_OPERATIONS

    def value(self, value: Any, depth: int = 0) -> Any:
        # A list may hold another one many times, or itself: the depth alone would not bound the work.
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            raise self._error(f"{self._place}: a pickle nested more than {_MAX_DEPTH} deep, expected some arrays")
        if isinstance(value, dict):
            return {_text_of(self.value(key, depth + 1)): self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([self.value(item, depth + 1) for item in value])
        if isinstance(value, _Call):
            return self._array(value, depth)
        if isinstance(value, _Name):
            raise self._refuse(f"names {value.name[:60]!r}")
        return value

    def _refuse(self, what: str) -> TmktError:
        return self._error(f"{self._place}: the pickle {what}, expected plain data; nothing in it was run")

    def _array(self, call: _Call, depth: int) -> Any:
        name = call.function.name if isinstance(call.function, _Name) else "what is no function"
        arguments = call.arguments if isinstance(call.arguments, tuple) else ()
        state = call.state if isinstance(call.state, tuple) else ()
        if name == "_codecs encode" and len(arguments) == 2 and arguments[1] == "latin1":
            return str(arguments[0]).encode("latin-1")
        if name in _EMPTY_BYTES and not arguments:
            return b""
        if name in _RECONSTRUCT and len(state) == 5:
            _, shape, dtype, is_fortran, content = state
        elif name in _FROM_BUFFER and len(arguments) == 4:
            content, dtype, shape, order = arguments
            is_fortran = order == "F"
        else:
            raise self._refuse(f"calls {name[:60]!r}")
        if _dtype_name(dtype) == "O8":
            return self.value(content, depth + 1)
        return self._numbers(self.value(content, depth + 1), _dtype(dtype), shape, "F" if is_fortran else "C")

    def _numbers(self, content: object, dtype: np.dtype[Any] | None, shape: object, order: Literal["C", "F"]) -> Any:
        if dtype is None or not isinstance(content, (bytes, bytearray)) or not isinstance(shape, tuple):
            raise self._refuse("holds an array of no numbers")
        sides = [side for side in shape if type(side) is int and side >= 0]
        if len(sides) < len(shape) or math.prod(sides) * dtype.itemsize != len(content):
            raise self._error(
                f"{self._place}: an array of shape {shape} with {len(content)} bytes; the file is damaged"
            )
        return np.frombuffer(bytes(content), dtype).reshape(sides, order=order)


def _text_of(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _dtype_name(call: object) -> str | None:
    """Return the name in a call of `numpy dtype`."""
    if not isinstance(call, _Call) or call.function != _Name("numpy dtype") or not isinstance(call.arguments, tuple):
        return None
    name = _text_of(call.arguments[0]) if call.arguments else None
    return name if isinstance(name, str) else None


def _dtype(call: Any) -> np.dtype[Any] | None:
    """Return the type that a call of `numpy dtype` describes, or None for any but plain numbers."""
    name = _dtype_name(call)
    if name is None or name not in _NUMBERS:
        return None
    is_big = isinstance(call.state, tuple) and len(call.state) > 1 and _text_of(call.state[1]) == ">"
    return np.dtype(f"{'>' if is_big else '<'}{name}")
