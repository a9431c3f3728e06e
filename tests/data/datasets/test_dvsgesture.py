"""DVS128 Gesture."""

import os

import numpy as np
import pytest
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.dvsgesture import CLASS_NAMES as GESTURES
from tmkt_data.datasets.dvsgesture import open_dvsgesture
from tmkt_data.datasets.registry import default_spec
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CacheError, CatalogueError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare

from .published_trees import random_rows, write_gestures


class TestDvsGesture:
    def test_slices_of_the_long_recordings_are_samples_and_classes_count_from_one(self, tmp_path):
        catalogue = open_dvsgesture(write_gestures(tmp_path))
        assert [(source.id, source.part, source.label) for source in catalogue.recordings] == [
            ("hand_clapping/user01_led-01", "train", 0), ("hand_clapping/user24_lab-01", "test", 0),
            ("other_gestures/user01_led-03", "train", 10), ("other_gestures/user24_lab-03", "test", 10),
            ("right_hand_wave/user01_led-02", "train", 1), ("right_hand_wave/user24_lab-02", "test", 1),
        ]  # fmt: skip
        assert catalogue.notes == ("6 of 1464 recordings are here",)

    def test_a_cache_without_images_has_the_events_of_each_slice(self, tmp_path):
        cache = Cache(build("dvsgesture", write_gestures(tmp_path), tmp_path / "a.h5", size=128, time_bins=1))
        assert cache.info.num_images == 0
        for row, sample in enumerate(cache.event_ids):
            user = 0 if "user01" in sample else 1
            start, end = {"01": (10**6, 1_900_000), "02": (1_900_000, 3_100_000), "03": (3_000_000, 3_999_999)}[
                sample[-2:]
            ]
            expected = np.zeros((2, 128, 128), int)
            for t, x, y, p in random_rows(np.random.default_rng(user), 900, 3_000_000, start=10**6):
                if start <= t < end:
                    expected[p, y, x] += 1
            np.testing.assert_array_equal(cache.event_frames([row])[0, 0], expected)
        codes = cache.splits("events", "kt-paper")
        assert [code == SplitCode.TEST for code in codes] == ["user24" in sample for sample in cache.event_ids]

    def test_touched_slices_are_the_same_and_slices_at_other_times_are_others(self, tmp_path):
        root = write_gestures(tmp_path)
        plan = plan_prepare(open_dvsgesture(root), default_spec("dvsgesture"), tmp_path / "a.h5")
        for _ in prepare_cache(plan):
            pass
        recording = root / "DvsGesture/user01_led.aedat"
        rows = recording.with_name("user01_led_labels.csv")
        later = plan.path.stat().st_mtime + 100
        os.utime(recording, (later, later))
        assert find_prepared(plan) is not None
        os.utime(recording, (1, 1))
        # The same samples of the same classes, of which one begins later.
        rows.write_text(rows.read_text().replace("2,1900000,", "2,2000000,"))
        os.utime(rows, (later, later))
        with pytest.raises(CacheError, match=r"right_hand_wave/user01_led-02 has changed since .* \(1 in all\)"):
            find_prepared(plan)

    def test_the_command_asks_for_allow_unpaired(self, tmp_path, run_cli):
        root = write_gestures(tmp_path / "data")
        refused = run_cli("prepare", "dvsgesture", "--root", root, "--out", tmp_path / "a.h5")
        assert refused.exit_code == 1
        assert "3 classes with recordings but no images" in refused.output
        assert "--allow-unpaired" in refused.output
        taken = run_cli("prepare", "dvsgesture", "--root", root, "--out", tmp_path / "a.h5", "--allow-unpaired")
        assert taken.exit_code == 0, taken.output
        assert run_cli("inspect", tmp_path / "a.h5").exit_code == 0
        assert run_cli("preview", tmp_path / "a.h5", "--pairing", "none").exit_code == 0
        refused = run_cli("preview", tmp_path / "a.h5")
        assert refused.exit_code != 0
        assert refused.output.startswith("error: ")

    def test_arrays_as_tonic_unpacks_them_are_in_milliseconds(self, tmp_path):
        for part, user in (("ibmGestureTrain", "user01_led"), ("ibmGestureTest", "user24_lab")):
            folder = tmp_path / part / user
            folder.mkdir(parents=True)
            for label in (0, 10):
                np.save(folder / f"{label}.npy", np.array([[5, 6, 1, 0.0], [7, 8, 0, 12.5]]))
        catalogue = open_dvsgesture(tmp_path)
        assert [source.part for source in catalogue.recordings] == ["train", "test"] * 2
        assert {source.label for source in catalogue.recordings} == {0, 10}
        cache = Cache(build("dvsgesture", tmp_path, tmp_path / "a.h5", size=128, time_bins=2))
        assert cache.tables["events/t_last_us"].tolist() == [12_500] * 4
        frame = cache.event_frames([0])[0]
        assert frame[0, 1, 6, 5] == 1
        assert frame[1, 0, 8, 7] == 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda f: (f / "user01_led.aedat").unlink(), "lists 'user01_led.aedat', which is missing"),
            (lambda f: (f / "user01_led_labels.csv").unlink(), "no such file"),
            (lambda f: (f / "user01_led_labels.csv").write_text("h\n12,1,2\n"), "row 1: class 12, expected 1 to 11"),
            (lambda f: (f / "trials_to_train.txt").write_text("../../etc/passwd\n"), "which is missing"),
        ],
    )
    def test_what_is_missing_is_one_line(self, tmp_path, change, message):
        change(write_gestures(tmp_path) / "DvsGesture")
        with pytest.raises(CatalogueError) as raised:
            open_dvsgesture(tmp_path)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_eleven_gestures(self):
        assert len(set(GESTURES)) == 11
