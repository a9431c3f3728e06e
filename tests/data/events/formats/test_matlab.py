"""What a MATLAB 5 file may not hold, each in one line; whole files are tested with the dataset that has them."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from scipy.io import savemat

from tmkt_data.errors import EventError
from tmkt_data.events.formats.matlab import decode_matlab

COLUMNS = {"ts": [10.0, 20.0], "x": [1.0, 2.0], "y": [3.0, 4.0], "p": [0.0, 1.0]}


def saved(*, packed=False, **changes):
    buffer = io.BytesIO()
    values = {name: np.array(value) for name, value in (COLUMNS | changes).items() if value is not None}
    savemat(buffer, values, do_compression=packed)
    return buffer.getvalue()


WHOLE = saved()


@pytest.mark.parametrize("packed", [False, True])
def test_columns_are_read(packed):
    events = decode_matlab(saved(packed=packed, note="text"))
    assert (events.t.tolist(), events.x.tolist(), events.p.tolist()) == ([10, 20], [1, 2], [False, True])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (saved(pol=[0.0, 1.0]), "variables p and pol, expected one of them; clear the other"),
        (saved(x=None, y=None), "variables x, y are missing, expected"),
        (saved(x=[1.0, 2.0, 3.0]), "columns of different length"),
        (saved(ts=[], x=[], y=[], p=[]), "no events, expected one or more; leave the file out"),
        (saved(p=[0.0, 2.0]), "polarities run from 0 to 2, expected -1, 0 or 1; check which variable is p"),
        (saved(ts=[0.5, 1.0]), "variable ts has fractions, expected whole numbers; give their unit, unit='s'"),
        (saved(x=[0.5, 1.0]), "variable x has fractions, expected whole numbers; check which variable it is"),
        (saved(x=[1.0, 1e30]), r"variable x runs to 1e\+30, expected less than 2\*\*62"),
        (saved(x=[1j, 2j]), "variable x is no array of real numbers; the file is of another dataset"),
        (saved(x="text"), "variable x is no array of real numbers"),
        (WHOLE[:100], "no whole header of a MATLAB 5 file; it is damaged, fetch it again"),
        (WHOLE[:126] + b"XX" + WHOLE[128:], "no whole header of a MATLAB 5 file"),
        (WHOLE[:-4], "found [0-9]+; the file is truncated"),
        (WHOLE + b"123", "3 bytes left, expected an element of 8 or more; the file is truncated"),
        (WHOLE + struct.pack("<HHI", 1, 7, 0), "a small element of 7 bytes, expected at most 4; it is damaged"),
        (WHOLE + struct.pack("<II", 14, 8) + struct.pack("<HHI", 1, 2, 0), "a variable without flags, dimensions and"),
        (WHOLE + struct.pack("<II", 15, 8) + b"notzlib!", "a compressed element is damaged"),
    ],
)
def test_errors_are_one_line(data, text):
    with pytest.raises(EventError, match=rf"^here: [^\n]*{text}[^\n]*$"):
        decode_matlab(data, place="here")


def test_a_shape_that_the_bytes_do_not_have_is_refused():
    at = WHOLE.index(struct.pack("<ii", 1, 2))
    changed = WHOLE[:at] + struct.pack("<ii", 1, 3) + WHOLE[at + 8 :]
    with pytest.raises(EventError, match="is 1 x 3 with 16 bytes of 8 each; it is damaged, fetch it again"):
        decode_matlab(changed)
