"""Processes of their own for libraries that damaged files may crash or stall: they may die without harm.

A question and an answer are one line of JSON each; the columns of an answer follow it as bytes.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.files import is_refused

START_LIMIT_S = 120.0
"""How long a process may take to start, before it is asked anything."""
TIME_LIMIT_S = 10.0
BYTES_PER_S = 5e6
"""An answer may take `TIME_LIMIT_S` plus the time of the file at this rate, a twentieth of the usual one."""
MAX_RATIO = 200
"""Columns may have this many times the size of the file, plus `FREE_BYTES`."""
FREE_BYTES = 1 << 20
_SPARE_BYTES = 1 << 30
_PACKAGES = str(Path(__file__).parents[3])
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import serve; serve()"


class Answer(NamedTuple):
    """What a process found in a file.

    Attributes:
        columns: Arrays by name, shape (N,) each.
        about: What else there is to know, plain values.
    """

    columns: dict[str, NDArray[Any]]
    about: list[Any]


class Worker:
    """A process that reads files with a foreign library; started when first needed, and again where it has died.

    Args:
        module: Module whose function `serve` it runs.
        library: Name of the library for error messages.
    """

    def __init__(self, module: str, library: str) -> None:
        self._command, self._library = _START.format(module=module), library
        self._child: subprocess.Popen[bytes] | None = None
        self._inherited: subprocess.Popen[bytes] | None = None
        self._alone = threading.Lock()
        _WORKERS.add(self)

    def ask(self, path: Path, question: list[Any], limit_s: float) -> Answer:
        """Ask the process about a file.

        Args:
            path: The file.
            question: Plain values; the path goes before them.
            limit_s: Seconds that the answer may take.

        Raises:
            EventError: The process refuses the file, crashes, or does not finish in time.
        """
        with self._alone, contextlib.closing(self._answers(path, question, limit_s)) as answers:
            return next(answers)

    def ask_for_pieces(self, path: Path, question: list[Any], limit_s: float) -> Iterator[Answer]:
        """Ask for answers until the process has no more; `limit_s` is for each. Stops the process in the end."""
        try:
            yield from self._answers(path, question, limit_s)
        finally:
            self.stop()

    def _answers(self, path: Path, question: list[Any], limit_s: float) -> Generator[Answer, None, None]:
        child = self._start()
        assert child.stdin is not None and child.stdout is not None  # noqa: PT018 - both are pipes
        asked = json.dumps([str(path.absolute()), *question]).encode() + b"\n"
        while True:
            timer = threading.Timer(limit_s, child.kill)
            timer.start()
            try:
                if asked:
                    child.stdin.write(asked)
                    child.stdin.flush()
                    asked = b""
                answer = _receive_answer(child.stdout)
            except (EOFError, OSError, ValueError):
                self.stop()
                raise EventError(
                    f"{path.name}: the {self._library} library crashed or did not finish within {limit_s:.0f} s; the "
                    "file is damaged, fetch it again"
                ) from None
            except BaseException as stopped:
                # The rest of an answer read halfway would be taken for the answer to the next question.
                if not isinstance(stopped, EventError):
                    self.stop()
                raise
            finally:
                timer.cancel()
            if answer is None:
                return
            yield answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.stop()
            # Isolated (-I): otherwise modules would first be looked for in the current folder, among foreign files.
            paths = [*(path for path in sys.path if path), _PACKAGES]
            command = [sys.executable, "-I", "-c", self._command, json.dumps(paths)]
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._wait_for_start(self._child)
        return self._child

    def _wait_for_start(self, child: subprocess.Popen[bytes]) -> None:
        # Loading the library takes long on a busy machine, which says nothing of a file.
        timer = threading.Timer(START_LIMIT_S, child.kill)
        timer.start()
        try:
            assert child.stdout is not None
            child.stdout.readline()
        except BaseException:
            self.stop()
            raise
        finally:
            timer.cancel()

    def forget(self) -> None:
        """Leave the process to its parent: after a fork it is not ours to ask, kill or wait for."""
        self._inherited, self._child = self._child, None
        self._alone = threading.Lock()

    def stop(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with contextlib.suppress(OSError):
                child.communicate()


_WORKERS: weakref.WeakSet[Worker] = weakref.WeakSet()


def _stop_all() -> None:
    for worker in list(_WORKERS):
        worker.stop()


def _forget_all() -> None:
    for worker in list(_WORKERS):
        worker.forget()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _receive_answer(stream: IO[bytes]) -> Answer | None:
    answer = json.loads(stream.readline())
    if answer is None:
        return None
    if isinstance(answer, dict):
        # Whether the system refused to read the file is asked of the cause.
        raise EventError(answer["error"]) from (OSError(errno.EIO, "") if answer["is_refused"] else None)
    columns, about = answer
    return Answer({name: _receive(stream, dtype, count) for name, dtype, count in columns}, about)


def _receive(stream: IO[bytes], dtype: str, count: int) -> NDArray[Any]:
    data = stream.read(count * np.dtype(dtype).itemsize)
    if len(data) < count * np.dtype(dtype).itemsize:
        raise EOFError
    return np.frombuffer(data, dtype)


def serve_answers(answers_to: Callable[[Path, list[Any]], Iterable[Answer | None]]) -> None:
    """Answer questions until the input ends: what a worker runs.

    Args:
        answers_to: Yields the answers to a question about a file, None after the last of several; may raise
            `EventError`.
    """
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        name, *question = json.loads(line)
        try:
            for answer in answers_to(Path(name), question):
                _send(out, answer)
        except EventError as refused:
            out.write(json.dumps({"error": str(refused), "is_refused": is_refused(refused)}).encode() + b"\n")
        out.flush()


def _send(out: IO[bytes], answer: Answer | None) -> None:
    if answer is None:
        out.write(b"null\n")
        return
    plain = {name: np.ascontiguousarray(column) for name, column in answer.columns.items()}
    columns = [(name, column.dtype.str, len(column)) for name, column in plain.items()]
    out.write(json.dumps([columns, answer.about]).encode() + b"\n")
    for column in plain.values():
        out.write(column.data)
    out.flush()


def limit_memory(path: Path, largest: int) -> None:
    """Limit the memory of this process to what the columns of a file may need, where the system supports it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        needed = 3 * min(MAX_RATIO * path.stat().st_size + FREE_BYTES, largest)
        limit = pages * os.sysconf("SC_PAGE_SIZE") + needed + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
