"""Warnings of libraries that threads ignore at the same time."""

from __future__ import annotations

import threading
import warnings

import pytest

from tmkt_data.errors import warnings_ignored


def test_the_last_thread_to_leave_restores_the_filters_that_the_first_one_found():
    entered, left, done = threading.Event(), threading.Event(), []

    def other():
        with warnings_ignored:
            entered.set()
            assert left.wait(10)
            # The first thread has left: this one still ignores.
            warnings.warn("not shown", UserWarning, stacklevel=1)
        done.append(True)

    before = list(warnings.filters)
    thread = threading.Thread(target=other)
    with warnings_ignored:
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join(10)
    assert done == [True]
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="shown again"):
        warnings.warn("shown again", UserWarning, stacklevel=1)


def test_an_error_inside_restores_them_too():
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="broken"), warnings_ignored, warnings_ignored:
        raise ValueError("broken")
    assert list(warnings.filters) == before
