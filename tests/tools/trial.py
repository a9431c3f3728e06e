"""Tests of a module that is changed: each mutant in a fork of a process that has collected the tests."""

from __future__ import annotations

import ast
import functools
import gc
import importlib.util
import inspect
import json
import os
import select
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import hypothesis
import pytest
from hypothesis import Phase
from mutants import Mutant

_Cached = type(functools.cache(len))
_LOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Libraries that bring plugins are loaded before pytest."""


class Trial:
    """Runs the tests of one module on its mutants.

    A change in a function or a constant is put into the loaded module, after the tests have passed without it once:
    what they share is then made and loaded, and the quickest of them come first. Other changes are written into the
    file, and the tests collected anew; so is a constant that nobody noticed: what was made from it before is as it was.

    Args:
        tree: Copy of the tree, which is the working directory; the module is changed there.
        module: Path of the module in it.
        tests: What pytest is given.
    """

    def __init__(self, tree: Path, module: str, tests: Sequence[str]) -> None:
        self._path, self._tests, self._said = tree / module, list(tests), tree / "said.txt"
        self._name = module.removesuffix(".py").replace("/", ".")
        self._text = self._path.read_text(encoding="utf-8")

    def survivors(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        """Return the mutants that no test notices.

        Raises:
            RuntimeError: The tests fail on the module as it is.
        """
        # As mutants are written, without comments.
        self._path.write_text(ast.unparse(ast.parse(self._text)), encoding="utf-8")
        host = _Host(
            self._name, [mutant for mutant in mutants if _is_put_in(mutant)], self._said.with_name("told.json")
        )
        if not _passes(lambda: self._run(host), 86_400.0):
            raise RuntimeError(f"{self._path}: its tests fail without a mutant: {self._said.read_text()}")
        found, self._limit_s = json.loads(host.told.read_text())
        anew = [mutant for mutant in mutants if not _is_put_in(mutant) or (mutant.name in found and not _owner(mutant))]
        found = {*found} - {mutant.name for mutant in anew} | {each.name for each in anew if self._survives_anew(each)}
        self._path.write_text(self._text, encoding="utf-8")
        return [mutant for mutant in mutants if mutant.name in found]

    def _survives_anew(self, mutant: Mutant) -> bool:
        self._path.write_text(mutant.text(), encoding="utf-8")
        Path(importlib.util.cache_from_source(str(self._path))).unlink(missing_ok=True)
        return _passes(self._run, self._limit_s)

    def _run(self, *plugins: object) -> int:
        said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for handle in (1, 2):
            os.dup2(said, handle)
        # A mutant of the same second and size would be taken for the one before.
        sys.dont_write_bytecode = True
        # That a test fails is enough; looking for its smallest example takes minutes.
        hypothesis.settings.register_profile("mutants", phases=[Phase.explicit, Phase.reuse, Phase.generate])
        hypothesis.settings.load_profile("mutants")
        return int(pytest.main(["-x", "-q", *_LOADED, *self._tests], plugins=list(plugins)))


class _Host:
    """A plugin of pytest that runs the collected tests as they are, then once for each mutant, each time in a fork."""

    def __init__(self, module: str, mutants: Sequence[Mutant], told: Path) -> None:
        self._module, self._mutants, self.told, self._started = module, mutants, told, time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of the loop over the tests."""
        seconds = _first_run(session)
        in_file: dict[Path, float] = defaultdict(float)
        for item, took in seconds.items():
            in_file[item.path] += took
        session.items.sort(key=lambda item: (in_file[item.path], str(item.path), seconds[item]))
        limit_s = 20 + 10 * (time.monotonic() - self._started)
        # The collector would write to all pages that forks share.
        gc.freeze()
        # Tests that fail when they run again would kill everything.
        if not session.testsfailed and not self._passes(session, None, limit_s):
            session.testsfailed += 1
        if not session.testsfailed:
            survived = [mutant.name for mutant in self._mutants if self._passes(session, mutant, limit_s)]
            self.told.write_text(json.dumps([survived, limit_s]))
        return True

    def _passes(self, session: pytest.Session, mutant: Mutant | None, limit_s: float) -> bool:
        def run() -> int:
            if mutant is not None:
                _put_in(self._module, mutant)
            # The loop of pytest itself comes last in this list.
            session.config.pluginmanager.unregister(self)
            session.config.hook.pytest_runtestloop(session=session)
            return int(session.testsfailed > 0)

        return _passes(run, limit_s)


def _first_run(session: pytest.Session) -> dict[pytest.Item, float]:
    """Run the tests, keep what the whole session shares, and return the seconds that each took."""
    seconds = {}
    # Nothing would be torn down before a test that follows itself.
    first = session.items[0] if len(session.items) > 1 else None
    for item, following in zip(session.items, [*session.items[1:], first], strict=True):
        started, test = time.monotonic(), getattr(item, "dtest", None)
        names = dict(test.globs) if test is not None else {}
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds[item] = time.monotonic() - started
        if test is not None:
            # An example loses its names when it was run.
            test.globs.update(names)
    return seconds


def _passes(run: Callable[[], int], limit_s: float) -> bool:
    """Call a function in a fork of this process; return whether it returns 0 in time."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            status = run()
        except BaseException:  # noqa: BLE001 - as the interpreter does
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            os._exit(status)
    ended, handle = select.poll(), os.pidfd_open(child)
    ended.register(handle, select.POLLIN)
    is_done = bool(ended.poll(1000 * limit_s))
    if not is_done:
        os.killpg(child, signal.SIGKILL)
    os.close(handle)
    _, status = os.waitpid(child, 0)
    return is_done and os.waitstatus_to_exitcode(status) == 0


def _put_in(name: str, mutant: Mutant) -> None:
    """Change a function or a constant of the loaded module, and forget what was computed with it before."""
    changed = ModuleType(name)
    changed.__dict__.update(__file__=sys.modules[name].__file__, __package__=sys.modules[name].__package__)
    exec(compile(mutant.text(), str(changed.__file__), "exec", dont_inherit=True), changed.__dict__)
    if owner := _owner(mutant):
        was, now = dict(_functions(sys.modules[name]))[owner], dict(_functions(changed))[owner]
        was.__code__, was.__defaults__, was.__kwdefaults__ = now.__code__, now.__defaults__, now.__kwdefaults__
    else:
        for constant in _constants(mutant):
            _put_in_constant(sys.modules[name], changed, constant)
    loaded = [module for key, module in sys.modules.items() if key.startswith(("tmkt_data", "tmkt_train"))]
    for value in [value for module in loaded for value in vars(module).values()]:
        if isinstance(value, _Cached):
            value.cache_clear()


def _put_in_constant(module: ModuleType, changed: ModuleType, name: str) -> None:
    """Change a constant in the module and wherever it was imported to."""
    was = vars(module)[name]
    for other in list(sys.modules.values()):
        if vars(other).get(name) is was:
            setattr(other, name, vars(changed)[name])


def _is_put_in(mutant: Mutant) -> bool:
    return bool(_owner(mutant) or _constants(mutant))


def _constants(mutant: Mutant) -> list[str]:
    """Return the names of the constants of the module that the changed statement sets, if it sets some."""
    match mutant.tree.body[mutant.path[0][1] or 0]:
        case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
            return [name.id for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


def _owner(mutant: Mutant) -> str:
    """Return the name of the function or method that holds the change, "" where it is in none."""
    words = mutant.name.partition(": ")[0].split(".")
    names = {".".join(words[:count]) for count in range(1, len(words) + 1)}
    return next((qualified for qualified in _defined(mutant.tree) if qualified in names), "")


def _defined(node: ast.AST, within: str = "") -> Iterator[str]:
    """Yield the functions of a module and the methods of its classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield f"{within}{child.name}"
        elif isinstance(child, ast.ClassDef):
            yield from _defined(child, f"{within}{child.name}.")


def _functions(owner: Any, within: str = "") -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions and methods of a loaded module by name."""
    for name, value in list(vars(owner).items()):
        if inspect.isclass(value):
            if value.__module__ == (owner.__name__ if isinstance(owner, ModuleType) else owner.__module__):
                yield from _functions(value, f"{within}{name}.")
            continue
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, cached_property):
            value = value.func
        value = getattr(value, "__func__", value)
        if callable(value) and isinstance(value := inspect.unwrap(value), FunctionType):
            yield f"{within}{name}", value
