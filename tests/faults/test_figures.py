"""The table of the campaign is that of the committed summaries."""

from __future__ import annotations

from tests.faults.figures import PAGE, merged, table, written


def row(scenario, fault, seed, **verdicts):
    return {"scenario": scenario, "fault": fault, "seed": seed, "verdicts": verdicts}


def test_the_page_holds_the_table_of_the_summaries():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "run: python -m tests.faults.figures"


def test_ways_of_a_command_are_added_up_and_bad_ends_are_wrong():
    rows = [
        row("prepare", "kill-before", 0, killed=3),
        row("prepare-voxel", "kill-before", 0, killed=1000, stuck=1, left=1),
        row("compress", "one-eio", 0, refused=2, survived=1),
    ]
    assert table(rows).splitlines()[2:] == [
        "| compress | `one-eio` | 3 | 0 | 2 | 1 | 0 |",
        "| prepare | `kill-before` | 1,005 | 1,003 | 0 | 0 | 2 |",
    ]


def test_a_later_run_of_the_same_seed_replaces_the_earlier_one():
    earlier = [row("prepare", "one-eio", 0, refused=1), row("prepare", "one-eio", 1, refused=1)]
    assert merged(earlier, [row("prepare", "one-eio", 0, refused=5)]) == [
        row("prepare", "one-eio", 0, refused=5),
        row("prepare", "one-eio", 1, refused=1),
    ]
