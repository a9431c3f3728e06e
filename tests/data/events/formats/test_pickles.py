"""Pickles are taken apart on paper: what NumPy 1 and 2 write comes back, and nothing in a hostile one runs."""

import io
import os
import pickle
import pickletools
import warnings

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.formats import pickles
from tmkt_data.events.formats.pickles import MAX_OPERATIONS, read_pickle, read_pickled_npy
from tmkt_data.events.read import Reading, decode_recording, read_events

DTYPES = ["u1", "<u2", ">u2", "<i4", "<i8", ">i8", "<f4", "<f8", "?"]


def columns(dtype="<i8"):
    return {
        "t": np.arange(5, dtype="<i8"),
        "x": np.arange(5).astype(dtype),
        "y": np.ones(5, dtype),
        "p": np.zeros(5, "<u1"),
    }


def plain(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def saved(value, protocol=None):
    """A `.npy` of one object, as N-Omniglot's code writes it, or with a pickle of another protocol in its place."""
    stream = io.BytesIO()
    np.save(stream, np.array(value, dtype=object), allow_pickle=True)
    data = stream.getvalue()
    if protocol is None:
        return data
    header = data[: data.index(b"\n") + 1]
    return header + pickle.dumps(np.array(value, dtype=object), protocol)


@pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_numpy_pickles_comes_back(dtype, protocol):
    found = read_pickled_npy(saved(columns(dtype), protocol), "a.npy")
    for name, array in columns(dtype).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner),
        max_leaves=20,
    ),
    protocol=st.integers(2, 5),
)
def test_plain_values_come_back(value, protocol):
    def depth(item):
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    data = pickle.dumps(value, protocol)
    if depth(value) <= 7:
        assert read_pickle(data, "here") == value


def test_arrays_in_fortran_order_and_of_two_dimensions_come_back():
    array = np.asfortranarray(np.arange(6, dtype="<i4").reshape(2, 3))
    for protocol in (2, 3, 4, 5):
        np.testing.assert_array_equal(read_pickle(pickle.dumps(array, protocol), "here"), array)


def test_a_recording_of_nomniglot_reads_with_the_choice_alone(tmp_path):
    path = tmp_path / "0709_01.npy"
    path.write_bytes(saved(columns()))
    with pytest.raises(EventError, match="which are never loaded"):
        read_events(path)
    events = decode_recording(path.read_bytes(), path, Reading(pickled=True))
    assert events.to_array().tolist() == [(t, t, 1, False) for t in range(5)]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "system": lambda mark: Evil(os.system, f"touch {mark}"),
    "exec": lambda mark: Evil(exec, f"open({str(mark)!r}, 'w')"),
    "inside the dictionary": lambda mark: columns() | {"x": Evil(os.system, f"touch {mark}")},
    "open": lambda mark: Evil(open, str(mark), "w"),
    "numpy's loader": lambda mark: Evil(np.load, str(mark)),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, name, protocol):
    mark = tmp_path / "ran"
    data = pickle.dumps(HOSTILE[name](mark), protocol)
    with pytest.raises(
        EventError, match=r"^evil: the pickle calls '[^\n]*', expected plain data; nothing in it was run$"
    ):
        read_pickle(data, "evil")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a pickle without an end|no readable pickle"),
        (b"\x80\x04", "a pickle without an end|no readable pickle"),
        (b"\x80\x04.", "no readable pickle"),
        (b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01u", "no readable pickle"),
        (b"\x80\x02cos\nsystem\n.", "the pickle names 'os system'"),
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "the pickle calls 'os system'"),
        (b"\x80\x02K\x01K\x02R.", "the pickle calls 'what is no function'"),
        (b"\x80\x02)\x81.", "pickle operation NEWOBJ"),
        (b"\x80\x02K\x01Q.", "pickle operation BINPERSID"),
        (b"\x80\x02K\x01}b.", "no readable pickle"),
        (b"\x80\x02]K\x01K\x02s.", r"no readable pickle \(items for what is no dictionary\); the file is damaged"),
        (b"\x80\x02}K\x01a.", r"no readable pickle \(items for what is no list\); the file is damaged"),
    ],
)
def test_what_is_no_pickle_of_arrays_is_one_line(data, message):
    with pytest.raises(EventError, match=message) as raised:
        read_pickle(data, "here")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x93NUMPY\x01\x00", r"^a\.npy: no readable npy header \(.+\); the file is damaged$"),
        (plain(np.arange(5, dtype="<i8")), r"shape \(5,\) of int64, expected one pickled dictionary; read it"),
        (saved("text"), "found str, expected a dictionary of arrays t, x, y and p"),
        (saved({"t": 1}), "found dict, expected a dictionary of arrays t, x, y and p"),
        (saved({1: np.arange(2)}), "found dict, expected a dictionary of arrays t, x, y and p"),
    ],
    ids=["no header", "plain", "text", "number", "key"],
)
def test_what_is_no_dictionary_of_arrays_is_one_line(data, message):
    with pytest.raises(EventError, match=message):
        read_pickled_npy(data, "a.npy")


def test_text_of_python_2_is_bytes():
    assert read_pickle(b"\x80\x02U\x02\xe9b.", "here") == b"\xe9b"
    assert read_pickle(b"\x80\x02}U\x01aK\x07s.", "here") == {"a": 7}


def test_more_operations_than_any_recording_has_are_refused(monkeypatch):
    data = pickle.dumps([1, 2, 3, 4], 2)
    num_operations = len(list(pickletools.genops(data)))
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", num_operations - 1)
    assert read_pickle(data, "here") == [1, 2, 3, 4]
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", num_operations - 2)
    with pytest.raises(EventError, match=f"more than {num_operations - 2} operations, expected some arrays"):
        read_pickle(data, "here")


def test_a_list_that_holds_itself_or_others_many_times_ends():
    loop = []
    loop.append(loop)
    with pytest.raises(EventError, match="nested more than 8 deep"):
        read_pickle(pickle.dumps(loop), "loop")
    many = [0] * 50
    for _ in range(7):
        many = [many] * 50
    data = pickle.dumps(many)
    assert len(data) < 2000
    with pytest.raises(EventError, match="nested more than 8 deep"):
        read_pickle(data, "laughs")


def test_shapes_that_claim_more_than_is_there_are_refused():
    data = pickle.dumps(np.zeros(3, "u1"), 2)
    assert b"K\x03\x85" in data
    with pytest.raises(EventError, match=r"an array of shape \(9,\) with 3 bytes"):
        read_pickle(data.replace(b"K\x03\x85", b"K\x09\x85", 1), "here")
    with pytest.raises(EventError, match="an array of no numbers"):
        read_pickle(pickle.dumps(np.zeros(3, "M8[s]"), 2), "here")


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_escapes_that_python_does_not_know_are_an_error_of_ours(action):
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(EventError, match="here: "):
            read_pickle(b"\x80\x02cnumpy.core.m\\ultiarray\n_reconstruct\n.", "here")


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_pickles_end_well(data):
    seed = bytearray(pickle.dumps(columns(), data.draw(st.integers(2, 5))))
    for _ in range(data.draw(st.integers(1, 6))):
        seed[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    naive.decodes_or_says_why(lambda: read_pickle(bytes(seed), "here"), "here")


def test_the_limit_on_operations_holds():
    assert len(list(pickletools.genops(pickle.dumps(list(range(10_000)), 2)))) < MAX_OPERATIONS
