"""A short run of the campaign in `tests/tools/fuzz_readers.py`, and that its seeds are whole recordings."""

from __future__ import annotations

import pytest
from fuzz_readers import check, fuzz, seeds


@pytest.mark.parametrize("kind", seeds())
def test_the_seed_of_a_format_decodes(kind):
    assert check(*seeds()[kind]) == "decoded"


@pytest.mark.parametrize("kind", seeds())
def test_damaged_recordings_decode_or_are_one_line(kind):
    ((_, ends, _),) = fuzz(400, 2026, [kind])
    assert ends["decoded"] + ends["refused"] == 400
    assert ends["decoded"]
    assert ends["refused"]
