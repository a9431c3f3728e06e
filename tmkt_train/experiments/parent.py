"""The tie between a run in a child process and the process that started it: a pipe that ends with the latter."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread

_VARIABLE = "TMKT_STOP_AT_END_OF_INPUT"


def tied(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child process that stops when its standard input ends.

    The input has to be a pipe whose other end the parent alone holds open: the system closes it whatever the parent
    dies of.
    """
    return {**environment, _VARIABLE: "1"}


def stop_with_parent() -> None:
    """Ask this process to stop, as SIGTERM does, once its parent is gone; does nothing unless it was started `tied`."""
    if os.environ.pop(_VARIABLE, ""):
        Thread(target=_stop_at_end, name="parent", daemon=True).start()


def _stop_at_end() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    # Before the training has begun, there is nothing to save: the signal ends the process.
    signal.raise_signal(signal.SIGTERM)
