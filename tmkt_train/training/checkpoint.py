"""Checkpoints: written whole or not at all, read without running code."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmkt_data.files import write_bytes
from tmkt_train.errors import NonFiniteError, RunError

FORMAT = 1

# What zipfile and torch raise for bytes that are no checkpoint, or were altered.
_UNREADABLE = (
    OSError,
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: File.
        state: Tensors, numbers, texts, and dicts and lists of them.

    Raises:
        RunError: It cannot be written; the checkpoint that was there stays as it was.
    """
    # In memory first: torch's own writer may end the process when the disk is full.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_bytes(path, buffer.getbuffer(), sync="name", error=RunError)


def load_checkpoint(path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        RunError: It is missing, cut, altered, or of another version.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; the run was stopped before it wrote one")
    try:
        file = io.BytesIO(path.read_bytes())
        _check_sums(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(file, map_location=device or "cpu", weights_only=True)
    except _UNREADABLE as error:
        raise RunError(f"{path}: no readable checkpoint ({_first_line(error)}); start the run anew") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"{path}: found another format, expected checkpoint format {FORMAT}; start the run anew")
    return state


def _check_sums(file: io.BytesIO) -> None:
    """Hold every part of the archive against its checksum, which torch does not."""
    with zipfile.ZipFile(file) as archive:
        altered = archive.testzip()
    if altered is not None:
        raise ValueError(f"{altered} was altered")
    file.seek(0)


def require_finite(parameters: Iterable[tuple[str, Tensor]], place: str) -> None:
    """Refuse weights that are no finite numbers.

    Raises:
        NonFiniteError: Names the first such parameter.
    """
    named = list(parameters)
    if not named:
        return
    finite = torch.stack([torch.isfinite(value).all() for _, value in named]).tolist()
    for (name, _), good in zip(named, finite, strict=True):
        if not good:
            raise NonFiniteError(f"{place}: {name} holds no finite numbers; lower optim.learning_rate or loss weights")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
