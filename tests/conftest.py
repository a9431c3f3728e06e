from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

# Modules and tests that are collected stay: looking for garbage among them took a fifth of the collection.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage from here on, of what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    given = os.environ.get("TMKT_REAL_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "nmnist").is_dir():
        pytest.skip(f"no real recordings in {folder}; set TMKT_REAL_DATA to the folder that holds nmnist/")
    return folder


def pytest_configure() -> None:
    """Give processes that tests start the signals of a terminal, also where nohup or a script's `&` ignores some."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: a file made at collection may hold the time, and workers must agree on names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless chromium, for a module: while it is open, asyncio cannot run."""
    reason = "playwright drives the browser; pip install 'tmkt[test]'"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if program is None:
        pytest.skip("no chromium on PATH; on Debian: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note on a test whether it failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def _no_program_outlives_a_failed_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """End what a failed test had started: a training of thousands of epochs would go on beside all later tests."""
    before = _programs()
    yield
    if request.node.stash.get(_FAILED, False):
        for number in _programs() - before:
            os.kill(number, signal.SIGKILL)


def _programs() -> set[int]:
    """Return the processes that this one has started, on Linux; those of multiprocessing serve other tests too."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    numbers = listed.read_text().split() if listed.exists() else []
    commands = {int(number): Path(f"/proc/{number}/cmdline") for number in numbers}
    shown = {number: path.read_bytes() for number, path in commands.items() if path.exists()}
    return {number for number, command in shown.items() if b"multiprocessing" not in command}
