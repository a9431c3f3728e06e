"""What `prepare` and `doctor --deep` say of sets whose recordings decode well and look wrong."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main

EVEN = np.arange(0, 305_000, 500)


def write(root, **times):
    (root / "events" / "wave").mkdir(parents=True)
    (root / "tmkt.toml").write_text('sensor_size = [8, 8]\nimages = ""\n')
    for name, t in times.items():
        t, p = t if isinstance(t, tuple) else (t, np.arange(len(t)) % 2)
        at = np.arange(len(t))
        np.savez(root / "events" / "wave" / f"{name}.npz", t=np.array(t), x=at % 8, y=at % 5, p=np.array(p))
    return root


def warnings_of(*words):
    run = CliRunner().invoke(main, list(words))
    assert run.exit_code == 0, run.output
    heads = ("warning: ", "note: ")
    return [line.split(": ", 1)[1] for line in run.output.splitlines() if line.startswith(heads) and "wave/" in line]


STRETCHED = np.r_[EVEN, 3_200_000_000]
SETS = {
    "sound": ({"a": EVEN, "b": EVEN + 10**9, "c": EVEN // 3}, []),
    "stretched": (
        {"a": EVEN, "b": STRETCHED, "c": np.r_[STRETCHED, 3_300_000_000]},
        [
            (
                "2 of 3 recordings have more than 90% of their events in one of 10 time bins, such as wave/b (99.8%); "
                "a few stray times, such as those of an earlier clock, probably stretch the time: prepare "
                "--time-range robust leaves them out"
            ),
            (
                "1 of 3 recordings has a duration more than 10 times longer or shorter than the median of 3200 s, such "
                "as wave/a (0.3045 s); check the unit and the clock of their times"
            ),
        ],
    ),
    "instant": (
        {"a": EVEN, "b": np.full(40, 9)},
        ["1 of 2 recordings has all events at one time, such as wave/b; check the column of the times"],
    ),
    "one polarity": (
        {"a": EVEN, "b": (EVEN, np.ones(len(EVEN))), "c": (EVEN, np.zeros(len(EVEN)))},
        [
            "1 of 3 recordings has only OFF events, such as wave/c; check the column of the polarity",
            "1 of 3 recordings has only ON events, such as wave/b; check the column of the polarity",
        ],
    ),
    "nanoseconds": (
        {"a": EVEN * 1000, "b": EVEN * 1000},
        [
            (
                "2 of 2 recordings have a strange duration when their times are microseconds, such as wave/a (304.5 s)"
                "; if they are ns, say so (unit in tmkt.toml)"
            )
        ],
    ),
    "milliseconds": (
        {"a": EVEN // 1000},
        [
            (
                "1 of 1 recordings has a strange duration when their times are microseconds, such as wave/a "
                "(0.000304 s); if they are ms, say so (unit in tmkt.toml)"
            )
        ],
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_judged_in_a_line_a_kind(tmp_path, name):
    times, expected = SETS[name]
    root = str(write(tmp_path / "own", **times))
    prepared = ["prepare", "folder", "--root", root, "--out", str(tmp_path / "a.h5"), "--allow-unpaired"]
    assert warnings_of(*prepared) == expected
    assert warnings_of("doctor", "folder", "--root", root, "--deep") == expected


def test_a_robust_range_gives_the_frames_of_the_recording_without_stray_times(tmp_path):
    clean = write(tmp_path / "clean", a=EVEN, b=EVEN)
    strays = write(tmp_path / "strays", a=EVEN, b=STRETCHED)
    caches = []
    for root, rule in ((clean, "whole"), (strays, "robust"), (strays, "whole")):
        out = tmp_path / f"{root.name}-{rule}.h5"
        found = warnings_of("prepare", "folder", "--root", str(root), "--out", str(out), "--allow-unpaired",
                            "--time-range", rule)  # fmt: skip
        assert bool(found) == (out.name == "strays-whole.h5")
        caches.append(Cache(out))
    clean_cache, robust, whole = caches
    np.testing.assert_array_equal(robust.event_frames([0, 1]), clean_cache.event_frames([0, 1]))
    assert not np.array_equal(whole.event_frames([1]), clean_cache.event_frames([1]))
    counts = {name: robust.tables[f"events/{name}"].tolist() for name in ("num_kept", "num_outside_bins", "t_last_us")}
    assert counts == {"num_kept": [609 + 1, 610], "num_outside_bins": [0, 1], "t_last_us": [304500, 304500]}
    assert robust.tables["events/num_no_event"].tolist() == [0, 0]
