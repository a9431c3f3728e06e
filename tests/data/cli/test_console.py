"""What both command lines print: color, progress."""

from __future__ import annotations

import io

import pytest
from click.testing import CliRunner
from rich.console import Console

from tmkt_data.cli import console
from tmkt_train.cli.main import main


def test_no_color_is_obeyed(monkeypatch):
    colored = CliRunner().invoke(main, ["recipes"], color=True)
    assert "\x1b[" in colored.output
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(main, ["recipes"])
    assert plain.output == CliRunner().invoke(main, ["recipes"], color=True).output
    assert "\x1b[" not in plain.output


def test_train_is_another_name_of_recipe():
    assert (
        CliRunner().invoke(main, ["train", "--help"]).output.splitlines()[2:]
        == (CliRunner().invoke(main, ["recipe", "--help"]).output.splitlines()[2:])
    )


@pytest.fixture
def shown(monkeypatch):
    """Return a function that shows a task after some seconds, as text."""
    text = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=text, width=80, force_terminal=False))

    def show(unit: str, total: int, done: int, seconds: float, **fields: int) -> str:
        now = [0.0]
        with console.progress_bar(unit) as bar:
            bar.get_time = lambda: now[0]
            task = bar.add_task("verify", total=total, completed=fields.get("resumed", 0), **fields)
            now[0] = seconds
            bar.update(task, completed=done)
        return text.getvalue()

    return show


def test_a_small_cache_is_counted_in_kilobytes(shown):
    assert "44.0/44.0 kB" in shown("bytes", 44_000, 44_000, 0.01)


def test_a_rate_is_of_what_was_done_now_and_not_shown_for_a_moment(shown):
    assert "50/s" in shown("", 200, 200, 2.0, resumed=100)


def test_no_rate_for_a_moment(shown):
    assert "/s" not in shown("", 200, 200, 0.1)


def test_slow_rates_have_a_digit_more(shown):
    assert "0.5/s" in shown("", 1, 1, 2.0)
