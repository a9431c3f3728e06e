from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


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
