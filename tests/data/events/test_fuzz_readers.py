"""A short run of the campaign in `tests/tools/fuzz_readers.py`, and that its seeds are whole recordings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fuzz_readers
import pytest
from fuzz_readers import check, fuzz, seeds


@pytest.mark.parametrize("kind", seeds())
def test_the_seed_of_a_format_decodes(kind):
    assert check(*seeds()[kind]) == "decoded"


@pytest.mark.parametrize("kind", [kind for kind in seeds() if kind != "mat"])
def test_damaged_recordings_end_in_pieces_as_they_do_at_once(kind):
    ((_, ends, _),) = fuzz(200, 2027, [kind], in_pieces=True)
    assert ends["decoded"] + ends["refused"] == 200


CHECKED = """
import numpy as np
from tmkt_data.kernels.decode import decode_es
from tmkt_data.kernels.event_columns import empty_columns
try:
    decode_es(np.zeros(5, np.uint8), 9, np.zeros(1, np.int64), empty_columns(0))
except IndexError:
    print("checked")
import fuzz_readers
for kind, ends, _ in fuzz_readers.fuzz(7500, 2028, in_pieces=True):
    print(kind, ends.total())
"""


@pytest.mark.slow
def test_kernels_whose_indices_are_checked_end_well_too(request):
    folder = request.config.cache.mkdir("numba-checked")
    tools = str(Path(fuzz_readers.__file__).parent)
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": tools}
    done = subprocess.run(
        [sys.executable, "-c", CHECKED], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[0] == "checked"
    assert done.stdout.count(" 500\n") == len(seeds()) - 1


@pytest.mark.parametrize("kind", seeds())
def test_damaged_recordings_decode_or_are_one_line(kind):
    ((_, ends, _),) = fuzz(400, 2026, [kind])
    assert ends["decoded"] + ends["refused"] == 400
    assert ends["decoded"]
    assert ends["refused"]
