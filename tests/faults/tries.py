"""One try: a command in a child process with one fault, then again without; and the verdict on both."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import io
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from tests.faults import shim
from tests.faults.faults import Fault, PowerLoss
from tests.faults.power_loss import leave
from tests.faults.scenarios import Scenario, State
from tests.faults.shim import Action, Call

Verdict = Literal["survived", "refused", "killed", "wrong", "signal", "traceback", "lines", "hang", "stuck", "left"]
GOOD: tuple[Verdict, ...] = ("survived", "refused", "killed")
TIMEOUT_S = 120
_PROGRAMS = {"tmkt-data": "tmkt_data.cli.main", "tmkt-train": "tmkt_train.cli.main"}


class Try(NamedTuple):
    """What one try gave: its verdict, and what was said."""

    verdict: Verdict
    said: str = ""


class Ended(NamedTuple):
    """How a child process ended: its exit status, negative for a signal, None for a timeout, and its error output."""

    status: int | None
    errors: str

    @property
    def lines(self) -> list[str]:
        """Its lines of errors."""
        return [line for line in self.errors.splitlines() if line.startswith("error: ")]


class Stage:
    """A scenario in a folder, warmed up: what its command does undisturbed, and tries of it.

    Attributes:
        calls: The calls that change the outputs, in order.
        read_calls: The calls that open and read the inputs.
        expected: What an undisturbed run leaves.
    """

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario, self.folder = scenario, folder
        self.inputs, self.out, self.start = folder / "inputs", folder / "out", folder / "start"
        for made in (self.inputs, self.start):
            made.mkdir(parents=True)
        scenario.inputs(self.inputs)
        scenario.before(self.inputs, self.start)
        scenario.set_up()
        os.environ.update(scenario.variables(self.inputs, self.out))
        self.before = scenario.finished(self.start)
        self.begin()
        # In this process: what it loads and compiles is there for the children.
        self._run_here()
        # A child that ends would visit, and so copy, each object that it shares with this process.
        gc.freeze()
        self.expected = scenario.finished(self.out)
        self.calls = self._recorded(self.out, reads=False)
        self.read_calls = self._recorded(self.inputs, reads=True)

    def begin(self) -> None:
        """Bring the outputs into the state before the command."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.start, self.out)

    def attempt(self, fault: type[Fault], at: int, seed: int) -> Try:
        """Run the command with a fault at a call, look at what it leaves, and run it again."""
        self.begin()
        if fault is PowerLoss:
            leave(self.calls, at, self.out, f"{seed}/{self.scenario.name}/{at}")
            tried = Try("killed")
        else:
            tried = self._verdict(self.child(lambda: fault.arm(self.inputs if fault.reads else self.out, at)))
        if tried.verdict in GOOD:
            tried = self._after_fault(tried)
        return self._run_again(tried) if tried.verdict in GOOD else tried

    def child(self, prepare: Callable[[], object] | None = None) -> Ended:
        """Run the command in a child process after `prepare`; without it, the interpreter is not torn down."""
        log = self.folder / "errors.txt"
        child = os.fork()
        if child == 0:
            _become(self.scenario.command(self.inputs, self.out), log, prepare)
        status = _wait(child)
        return Ended(status, log.read_text(errors="replace") if log.exists() else "")

    def _verdict(self, ended: Ended) -> Try:
        said = ended.errors.strip()[-2000:]
        if ended.status is None:
            return Try("hang", said)
        if ended.status == -signal.SIGKILL:
            return Try("killed")
        if ended.status < 0:
            return Try("signal", f"signal {-ended.status}: {said}")
        if "Traceback" in said or "internal error of tmkt" in said or "Exception ignored" in said:
            return Try("traceback", said)
        if ended.status == 0:
            found = self._state()
            return Try("survived") if found == self.expected else Try("wrong", f"exit 0, left {found}; {said}")
        return Try("refused", said) if len(ended.lines) == 1 else Try("lines", said)

    def _after_fault(self, tried: Try) -> Try:
        found = self._state()
        if isinstance(found, str):
            return Try("wrong", found)
        others = {
            name for name, digest in found.items() if digest not in (self.before.get(name), self.expected.get(name))
        }
        lost = {name for name in self.before if name not in found and name in self.expected}
        if others or lost:
            return Try("wrong", f"after {tried.verdict}: changed {sorted(others)}, lost {sorted(lost)}")
        return tried

    def _state(self) -> State | str:
        """Return what is there under final names, or why that cannot be said."""
        try:
            found = self.scenario.finished(self.out)
        except Exception as unreadable:  # noqa: BLE001 - a verdict
            return f"a file under its final name cannot be read: {unreadable}"
        return {name: digest for name, digest in found.items() if not name.startswith(self.scenario.unfinished or "\0")}

    def _run_again(self, tried: Try) -> Try:
        ended = self.child()
        again = self._verdict(ended)
        is_there = "already exists" in again.said and self._state() == self.expected
        if again.verdict != "survived" and not is_there:
            verdict: Verdict = "stuck" if again.verdict == "refused" else again.verdict
            return Try(verdict, f"run again after {tried.verdict} ({tried.said}): {again.said}")
        names = {str(path.relative_to(self.out)) for path in self.out.rglob("*")}
        left = names - self._undisturbed
        return Try("left", f"{sorted(left)} after {tried.verdict}") if left else tried

    def _run_here(self) -> None:
        words = self.scenario.command(self.inputs, self.out)
        program = importlib.import_module(_PROGRAMS[words[0]])
        sys.argv = words
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                program.main()
        except SystemExit as ended:
            if ended.code not in (0, None):
                raise RuntimeError(f"{words}: ended with {ended.code} without a fault: {said.getvalue()}") from None

    def _recorded(self, folder: Path, *, reads: bool) -> list[Call]:
        self.begin()
        log = self.folder / "calls.bin"
        ended = self.child(lambda: shim.arm(folder, Action.COUNT, 0, reads=reads, log=log))
        if ended.status != 0 or self.scenario.finished(self.out) != self.expected:
            raise RuntimeError(f"{self.scenario.name}: not the same twice without a fault: {ended}")
        self._undisturbed = {str(path.relative_to(self.out)) for path in self.out.rglob("*")}
        return list(shim.read_log(log))


def _become(words: list[str], log: Path, prepare: Callable[[], object] | None) -> None:
    """Run a command in this child process and end it as a process of its own would end."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        null, errors = os.open(os.devnull, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for handle, target in ((null, 0), (null, 1), (errors, 2)):
            os.dup2(handle, target)
        faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
        sys.argv = words
        program = importlib.import_module(_PROGRAMS[words[0]])
        if prepare is not None:
            prepare()
        program.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    if prepare is not None:
        # With all that is run at the end of a process, such as that of HDF5.
        ctypes.pythonapi.Py_Exit(status)
    # A third of a run is spent on freeing what the process that was forked had loaded.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stderr.flush()
    ctypes.CDLL(None).exit(status)


def _wait(child: int) -> int | None:
    """Return the exit status of a child; None where it hangs, with the stacks of its threads in its errors."""
    handle = os.pidfd_open(child)
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    used, is_hanging = -1.0, False
    while not is_hanging and not ended.poll(TIMEOUT_S * 1000):
        # On a busy machine it may only be slow.
        now = _cpu_s(child)
        is_hanging, used = now == used or now > TIMEOUT_S, now
    if is_hanging:
        os.kill(child, signal.SIGUSR1)
        time.sleep(1)
        os.kill(child, signal.SIGKILL)
    os.close(handle)
    _, status = os.waitpid(child, 0)
    return None if is_hanging else os.waitstatus_to_exitcode(status)


def _cpu_s(process: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
