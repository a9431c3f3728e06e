"""The start of both programs: Ctrl-C while their commands are imported ends them as it does later."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

STOPPED = 130
"""Exit code of an interrupted command: 128 + SIGINT, as in shells."""


def run_program(program: Callable[[], None]) -> None:
    """Run a program that imports its commands itself, which takes half a second; exit with `STOPPED` on Ctrl-C."""
    try:
        program()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(STOPPED)
    finally:
        # Looking for garbage among a million objects of torch takes half a second; the system frees all of it.
        gc.freeze()
