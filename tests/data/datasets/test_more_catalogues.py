"""Fashion-MNIST, and the other layouts of N-Caltech101 and N-Omniglot."""

import os

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.completeness import completeness
from tmkt_data.datasets.fashion import open_fashion
from tmkt_data.datasets.ncaltech101 import open_ncaltech101
from tmkt_data.datasets.nomniglot import open_nomniglot
from tmkt_data.datasets.registry import default_spec
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CacheError, CatalogueError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare

from .published_trees import write_cifar10dvs, write_esimagenet, write_est


class TestFashion:
    def test_every_image_has_a_simulated_recording_of_its_own(self, tmp_path):
        pixels = trees.write_mnist_idx(tmp_path / "fashion-mnist", [3, 9, 0, 3])
        catalogue = open_fashion(tmp_path)
        assert [source.id for source in catalogue.recordings] == [
            "ankle_boot/train-00002", "dress/train-00001", "dress/train-00004", "t-shirt_top/train-00003",
        ]  # fmt: skip
        assert catalogue.num_twins == 4
        cache = Cache(build("fashion", tmp_path, tmp_path / "a.h5"))
        again = Cache(build("fashion", tmp_path, tmp_path / "b.h5"))
        assert cache.info.digest == again.info.digest
        assert (cache.tables["events/num_kept"] > 100).all()
        np.testing.assert_array_equal(cache.image_frames([1])[0][3:31, 3:31], pixels[0])
        assert any("SIMULATED" in note for note in cache.info.notes)

    def test_copied_images_are_the_same_and_edited_ones_others(self, tmp_path):
        trees.write_mnist_idx(tmp_path / "fashion-mnist", [3, 9], zipped=False)
        plan = plan_prepare(open_fashion(tmp_path), default_spec("fashion"), tmp_path / "a.h5")
        for _ in prepare_cache(plan):
            pass
        images = tmp_path / "fashion-mnist/train-images-idx3-ubyte"
        later = plan.path.stat().st_mtime + 100
        os.utime(images, (later, later))
        assert find_prepared(plan) is not None
        data = bytearray(images.read_bytes())
        data[-1] ^= 1
        images.write_bytes(data)
        os.utime(images, (later, later))
        with pytest.raises(CacheError, match=r"ankle_boot/train-00002 has changed since it was prepared \(1 in all\)"):
            find_prepared(plan)

    def test_nothing_to_list_names_the_package(self, tmp_path):
        with pytest.raises(CatalogueError, match="apt install dataset-fashion-mnist"):
            open_fashion(tmp_path)


class TestEstArrays:
    def test_the_three_parts_are_the_splits(self, tmp_path):
        catalogue = open_ncaltech101(write_est(tmp_path))
        assert catalogue.num_twins == 14
        assert any("times in s (inferred from the last time of each)" in note for note in catalogue.notes)
        cache = Cache(build("ncaltech101", tmp_path, tmp_path / "a.h5"))
        expected = {5: SplitCode.VAL, 6: SplitCode.TEST, 7: SplitCode.TEST}
        for protocol, val in (("twin-disjoint", SplitCode.VAL), ("kt-paper", SplitCode.TRAIN)):
            for sample, code in zip(cache.event_ids, cache.splits("events", protocol).tolist(), strict=True):
                wanted = expected.get(int(sample[-4:]), SplitCode.TRAIN)
                assert code == (val if wanted == SplitCode.VAL else wanted)
        assert (cache.tables["events/t_last_us"] < 300_000).all()
        assert (cache.tables["events/t_last_us"] > 200_000).all()

    def test_times_in_microseconds_are_told_by_their_range(self, tmp_path):
        catalogue = open_ncaltech101(write_est(tmp_path, unit=1e6))
        assert catalogue.reading.unit == "us"

    @pytest.mark.parametrize(("factor", "odd", "usual"), [(1.0, "us", "s"), (1e6, "s", "us")])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_one_recording_of_another_unit_is_named(self, tmp_path, factor, odd, usual, order):
        path = write_est(tmp_path, unit=factor) / "N-Caltech101" / "testing" / "ant" / "image_0006.npy"
        rows = np.load(path)
        rows[:, 2] *= 1e6 if usual == "s" else 1e-6
        np.save(path, np.asarray(rows, order=order))
        with pytest.raises(CatalogueError, match=rf"image_0006\.npy: times in {odd}, expected {usual} as in 13 other"):
            open_ncaltech101(tmp_path)

    def test_the_first_recording_alone_does_not_decide(self, tmp_path):
        path = write_est(tmp_path) / "N-Caltech101" / "training" / "airplanes" / "image_0001.npy"
        rows = np.load(path)
        rows[:, 2] *= 1e6
        np.save(path, rows)
        with pytest.raises(CatalogueError, match=r"airplanes/image_0001\.npy: times in us, expected s as in 13 other"):
            open_ncaltech101(tmp_path)

    def test_hidden_files_are_left_out(self, tmp_path):
        folder = write_est(tmp_path) / "N-Caltech101" / "training" / "ant"
        (folder / "._image_0009.npy").write_bytes(b"\x00\x05\x16\x07")
        catalogue = open_ncaltech101(tmp_path)
        assert len(catalogue.recordings) == 14
        assert "recordings: left out: training/ant/._image_0009.npy" in catalogue.notes

    def test_a_name_without_a_number_has_no_twin(self, tmp_path):
        folder = write_est(tmp_path) / "N-Caltech101" / "training" / "ant"
        (folder / "image_0001.npy").rename(folder / "somewhere.npy")
        catalogue = open_ncaltech101(tmp_path)
        assert "ant/somewhere" in {source.id for source in catalogue.recordings}
        assert catalogue.num_twins == 13

    def test_one_recording_in_two_parts_is_named(self, tmp_path):
        base = write_est(tmp_path) / "N-Caltech101"
        (base / "testing" / "ant" / "image_0001.npy").write_bytes((base / "training/ant/image_0001.npy").read_bytes())
        with pytest.raises(CatalogueError, match=r"duplicate sample ant/image_0001, also in .*; remove one"):
            open_ncaltech101(tmp_path)


def test_the_pickled_arrays_of_nomniglot_are_read_without_running_them(tmp_path):
    rng = np.random.default_rng(0)
    for part, alphabet, character in (("background", "Greek", 394), ("evaluation", "Angelic", 965)):
        images = tmp_path / "omniglot-py" / f"images_{part}" / alphabet / "character01"
        events = tmp_path / "events_npy" / part / alphabet / "character01"
        events.mkdir(parents=True)
        for drawer in range(1, 21):
            trees.random_picture(images / f"{character:04d}_{drawer:02d}.png", rng, 105, 105, "L")
            columns = {name: rng.integers(0, limit, 90) for name, limit in (("x", 346), ("y", 260), ("p", 2))}
            columns["t"] = np.sort(rng.integers(0, 10**6, 90))
            np.save(events / f"{character:04d}_{drawer:02d}.npy", np.array(columns, dtype=object), allow_pickle=True)
    catalogue = open_nomniglot(tmp_path)
    assert catalogue.num_twins == 40
    # Labels of the evaluation part go on where those of the background part end: no offset of 964 is lost.
    assert {source.label for source in catalogue.recordings} == {393, 964}
    cache = Cache(build("nomniglot", tmp_path, tmp_path / "a.h5", size=250, time_bins=1))
    path = tmp_path / "events_npy/background/Greek/character01/0394_03.npy"
    stored = np.load(path, allow_pickle=True).item()
    expected = np.zeros((2, 250, 250), int)
    for x, y, p in zip(stored["x"] - 54, stored["y"] - 4, stored["p"], strict=True):
        if 0 <= x < 250 and 0 <= y < 250:
            expected[p, y, x] += 1
    np.testing.assert_array_equal(cache.event_frames([cache.event_ids.index("0394/03")])[0, 0], expected)


def test_completeness_counts_and_names_what_is_missing():
    expected = [f"{name}/{number}" for name in "abc" for number in range(3)]
    assert completeness(set(expected), expected, "recordings") is None
    assert completeness({*expected} - {"b/1"}, expected, "recordings") == "8 of 9 recordings; missing: b/1"
    some = completeness({"a/0", "stranger"}, expected, "images")
    assert some == "1 of 9 images; missing: a/1, a/2, b (all 3), c (all 3)"


@pytest.mark.parametrize(
    ("name", "write", "lines"),
    [
        ("cifar10dvs", write_cifar10dvs, ["reader options    orientation cifar10dvs (of AEDAT 2.0)"]),
        ("ncaltech101", write_est, ["reader options    unit s, columns xytp, orientation raw", "times in s (inferred"]),
        (
            "esimagenet",
            write_esimagenet,
            ["unit us, columns yxt", "shift             each recording centered on the"],
        ),
    ],
)
def test_inspect_shows_what_the_readers_were_told(tmp_path, run_cli, name, write, lines):
    write(tmp_path)
    cache = build(name, tmp_path, tmp_path / "a.h5")
    shown = run_cli("inspect", cache).output
    for line in lines:
        assert line in shown
    assert "window  " not in shown
