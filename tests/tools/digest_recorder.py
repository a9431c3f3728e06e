"""Run command lines in a work folder and keep digests of what comes of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from PIL import Image

CHECKOUT = Path(__file__).resolve().parents[2]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
REMOVED_FROM_METRICS = ("samples_per_s", "wall_s")
REMOVED_FROM_RESULT = ("environment", "peak_memory_bytes", "wall_s")
REMOVED_FROM_CACHES = ("tool_version",)
"""Keys that depend on the clock, the machine or the version."""
LIMIT_S = 600

PRELOADED = (
    *("click", "h5py", "matplotlib.figure", "numba", "optuna", "PIL.Image", "pydantic", "rich.progress"),
    *("scipy.ndimage", "scipy.stats", "sklearn.datasets", "torch", "torch._inductor"),
)
"""Libraries that one process imports once, of which each command is a copy; nothing of tmkt is among them."""

_CHANGING = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\d+ (h|min) \d+ (min|s)\b"), "TIME"),
    (re.compile(r"\b[\d.,]+(/s| s)\b"), r"N\1"),
    (re.compile(r"[\d.]+ [kMG]B of memory"), "N MB of memory"),
    (re.compile(r"━+ *([\d,./]+) .*"), r"\1"),
)
"""What differs between two runs of one command, and what stands for it."""


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        code: Exit code.
        out: Standard output, as it was written.
        err: Standard error.
    """

    code: int
    out: str
    err: str


class Recorder:
    """Runs the two commands of this checkout and gathers digests by name.

    Args:
        work: Folder that the commands run in; caches go to `caches` in it.
        data: Folder of the real recordings.

    Attributes:
        digests: Digest, exit code or short text by name, such as `cache/digits/content`.
        texts: Longer texts by name, to be read where digests differ.
    """

    def __init__(self, work: Path, data: Path) -> None:
        self.work = work
        self.data = data
        self.caches = work / "caches"
        self.digests: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    def run(self, name: str, package: str, *arguments: str | Path) -> Outcome:
        """Run `python -m PACKAGE ARGUMENTS` to its end; record its exit code and keep its output as text.

        Args:
            name: Name of the command in the record.
            package: `tmkt_data` or `tmkt_train`.
            arguments: Its arguments.
        """
        with tempfile.TemporaryDirectory() as folder:
            streams = [str(Path(folder) / stream) for stream in ("out", "err")]
            given = (str(self.work), package, [*map(str, arguments)], *streams)
            process = multiprocessing.get_context("forkserver").Process(target=run_module, args=given)
            process.start()
            process.join(LIMIT_S)
            if process.is_alive():
                process.kill()
                process.join()
            texts = [Path(stream).read_text(encoding="utf-8") for stream in streams]
        outcome = Outcome(process.exitcode or 0, *texts)
        self.record_outcome(name, outcome)
        return outcome

    def record_outcome(self, name: str, outcome: Outcome) -> None:
        """Record the exit code of a command, and keep its output."""
        self.digests[f"{name}/exit"] = str(outcome.code)
        self.texts[name] = self.normalized(f"{outcome.out}{outcome.err}")

    def normalized(self, text: str) -> str:
        """Return a text without paths, times and colors."""
        for path, word in ((self.work, "WORK"), (self.data, "DATA"), (CHECKOUT, "CHECKOUT")):
            text = text.replace(str(path), word)
        for pattern, word in _CHANGING:
            text = pattern.sub(word, text)
        return text

    def record_value(self, name: str, value: Any) -> None:
        """Record the digest of a value that JSON can hold, and keep the value as text."""
        self.digests[name] = value_digest(value)
        self.texts[name] = self.normalized(json.dumps(value, indent=1, ensure_ascii=False))

    def record_file(self, name: str, path: Path) -> None:
        """Record the digest of the bytes of a file."""
        self.digests[name] = file_digest(path)

    def record_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Record one digest of arrays with their names, and keep names, types and shapes as text."""
        self.digests[name] = arrays_digest(arrays)
        lines = (f"{key} {np.asarray(arrays[key]).dtype} {np.shape(arrays[key])}" for key in sorted(arrays))
        self.texts[name] = "\n".join(lines)

    def record_weights(self, name: str, weights: Mapping[str, Any]) -> None:
        """Record the digest of named tensors twice: with names, and without in the order in which they are stored."""
        arrays = {key: value.numpy() for key, value in weights.items()}
        self.record_arrays(name, arrays)
        unnamed = {f"{place:06d}": array for place, array in enumerate(arrays.values())}
        self.digests[f"{name}_in_order"] = arrays_digest(unnamed)


def set_environment(work: Path) -> None:
    """Set what the commands find around them: this checkout, the caches of `work`, one thread, no colors."""
    for name in [name for name in os.environ if name.startswith("TMKT_")]:
        del os.environ[name]
    os.environ.update(dict.fromkeys(THREADS, "1"))
    paths = {"PYTHONPATH": str(CHECKOUT), "TMKT_CACHES": str(work / "caches")}
    os.environ.update(paths | {"COLUMNS": "100", "NO_COLOR": "1"})
    sys.path.insert(0, str(CHECKOUT))
    multiprocessing.set_forkserver_preload(list(PRELOADED))


def run_module(work: str, package: str, arguments: list[str], out: str, err: str) -> None:
    """Be `python -m PACKAGE ARGUMENTS` in the folder `work`, with its output in files."""
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), stream)
    os.chdir(work)
    sys.argv = [package, *arguments]
    runpy.run_module(package, run_name="__main__", alter_sys=True)


def bytes_digest(data: bytes) -> str:
    """Return 32 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """Return the digest of a file; `missing` where there is none."""
    return bytes_digest(path.read_bytes()) if path.is_file() else "missing"


def tree_digest(folder: Path) -> str:
    """Return the digest of all files below a folder, with their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return value_digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])


def value_digest(value: Any) -> str:
    """Return the digest of a value that JSON can hold; the order of keys does not count."""
    return bytes_digest(json.dumps(value, sort_keys=True).encode())


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """Return the digest of arrays by name: type, shape and content of each."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}\0".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def picture_digest(path: Path) -> str:
    """Return the digest of the pixels of a picture; `missing` where there is none."""
    return arrays_digest({"pixels": np.asarray(Image.open(path))}) if path.is_file() else "missing"


def cache_tables(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the frames of a cache by name, and its tables with the attributes."""
    frames: dict[str, Any] = {}
    with h5py.File(path) as file:
        removed = {"digest", *REMOVED_FROM_CACHES}
        tables = {f"@{key}": np.bytes_(value) for key, value in file.attrs.items() if key not in removed}

        def take(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset):
                (frames if name.endswith(("/frames", "/spikes")) else tables)[name] = item[...]

        file.visititems(take)
    return frames, tables


def without(table: Mapping[str, Any], removed: Sequence[str]) -> dict[str, Any]:
    """Return a table without some keys."""
    return {key: value for key, value in table.items() if key not in removed}


def leaves(value: Any) -> Iterator[Any]:
    """Yield the numbers and texts of nested tables and lists in their order, without names."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none where there is no file."""
    return list(csv.DictReader(io.StringIO(path.read_text()))) if path.is_file() else []


def visible_text(page: str) -> str:
    """Return what a page says, a line for each element, without styles and drawings."""
    page = re.sub(r"(?s)<(style|script|svg)\b.*?</\1>", " ", page)
    words = re.sub(r"<[^>]+>", "\n", page)
    return "\n".join(line.strip() for line in words.splitlines() if line.strip())
