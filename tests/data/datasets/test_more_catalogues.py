"""CIFAR10-DVS, DVS128 Gesture, ES-ImageNet, Fashion-MNIST, and the other layouts of N-Caltech101 and N-Omniglot.

The layouts are those that public readers of these sets have (DATASETS [S]); no original was at hand.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.cifar10dvs import CLASS_NAMES as CIFAR_CLASSES
from tmkt_data.datasets.cifar10dvs import open_cifar10dvs
from tmkt_data.datasets.completeness import completeness
from tmkt_data.datasets.dvsgesture import CLASS_NAMES as GESTURES
from tmkt_data.datasets.dvsgesture import open_dvsgesture
from tmkt_data.datasets.esimagenet import center_shift, open_esimagenet, read_sizes
from tmkt_data.datasets.fashion import open_fashion
from tmkt_data.datasets.ncaltech101 import open_ncaltech101
from tmkt_data.datasets.nomniglot import open_nomniglot
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CatalogueError, ImageError
from tmkt_data.images.archives import read_archive, read_cifar
from tmkt_data.images.frames import ImageTarget, image_frame


def aedat2(rows, chip=b"DVS128"):
    """AEDAT 2.0 of a DVS128, word by word."""
    words = [((y << 8) | (x << 1) | p, t) for t, x, y, p in rows]
    return b"#!AER-DAT2.0\r\n# AEChip: " + chip + b"\r\n" + np.array(words, ">u4").tobytes()


def aedat3(rows):
    """AEDAT 3.1 with one packet of polarity events."""
    head = np.array([1, 0], "<i2").tobytes() + np.array([8, 4, 0, len(rows), len(rows), len(rows)], "<i4").tobytes()
    body = b"".join(np.array([1 | p << 1 | y << 2 | x << 17, t], "<u4").tobytes() for t, x, y, p in rows)
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + head + body


def random_rows(rng, count=300, span=100_000, start=0):
    t = start + np.sort(rng.integers(0, span, count))
    return list(zip(t.tolist(), *rng.integers(0, [[128], [128], [2]], (3, count)).tolist(), strict=True))


def write_cifar(folder: Path, labels, *, pickled=False, name="data_batch_1"):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(3).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    if pickled:
        batch = {b"batch_label": b"one", b"labels": list(labels), b"data": pixels, b"filenames": [b"a"] * len(labels)}
        (folder / name).write_bytes(pickle.dumps(batch, 2))
    else:
        records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def write_cifar10dvs(root: Path):
    rng = np.random.default_rng(0)
    for name in ("airplane", "cat"):
        folder = root / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in (0, 1, 2, 9, 10):
            (folder / f"cifar10_{name}_{number}.aedat").write_bytes(aedat2(random_rows(rng)))
    write_cifar(root / "cifar-10-batches-bin", [0, 3, 3, 0, 9, 0])
    write_cifar(root / "cifar-10-batches-bin", [0, 3], name="test_batch")
    return root


class TestCifar10Dvs:
    def test_sides_meet_by_class_and_numbers_sort_as_numbers(self, tmp_path):
        catalogue = open_cifar10dvs(write_cifar10dvs(tmp_path))
        assert [source.id for source in catalogue.recordings][:5] == [f"airplane/{n:04d}" for n in (0, 1, 2, 9, 10)]
        assert catalogue.num_twins == 0
        assert [source.id for source in catalogue.images] == [
            "airplane/test-00000", "airplane/train-00000", "airplane/train-00003", "airplane/train-00005",
            "cat/test-00001", "cat/train-00001", "cat/train-00002", "truck/train-00004",
        ]  # fmt: skip
        assert catalogue.notes[0].startswith("10 of 10000 recordings; missing: airplane/0003, airplane/0004, ")
        assert catalogue.notes[1] == "8 of 60000 images are here"

    def test_a_cache_counts_turned_events_and_holds_the_right_pixels(self, tmp_path):
        root = write_cifar10dvs(tmp_path)
        cache = Cache(build("cifar10dvs", root, tmp_path / "a.h5", size=128, time_bins=1))
        rows = random_rows(np.random.default_rng(0))
        expected = np.zeros((2, 128, 128), int)
        for _, x, y, p in rows:
            expected[1 - p, 127 - x, 127 - y] += 1
        np.testing.assert_array_equal(cache.event_frames([0])[0, 0], expected)
        at = cache.image_ids.index("cat/train-00002")
        pixels = write_cifar(tmp_path / "again", [0, 3, 3, 0, 9, 0])[2]
        placed = image_frame(pixels, ImageTarget(128, 128), "value")
        np.testing.assert_array_equal(cache.image_frames([at])[0], placed)

    def test_recordings_that_name_no_chip_are_read_as_those_that_do(self, tmp_path):
        root = write_cifar10dvs(tmp_path)
        named = Cache(build("cifar10dvs", root, tmp_path / "a.h5", size=128, time_bins=1)).event_frames([0])
        for path in root.rglob("*.aedat"):
            path.write_bytes(path.read_bytes().replace(b"# AEChip: DVS128\r\n", b""))
        unnamed = Cache(build("cifar10dvs", root, tmp_path / "b.h5", size=128, time_bins=1)).event_frames([0])
        np.testing.assert_array_equal(unnamed, named)

    def test_the_python_version_reads_as_the_binary_one(self, tmp_path):
        pixels = write_cifar(tmp_path / "a", [5, 0, 9])
        write_cifar(tmp_path / "b", [5, 0, 9], pickled=True)
        for path in (tmp_path / "a" / "data_batch_1.bin", tmp_path / "b" / "data_batch_1"):
            images, labels = read_cifar(path)
            np.testing.assert_array_equal(images, pixels)
            assert labels.tolist() == [5, 0, 9]
            np.testing.assert_array_equal(read_archive(path), pixels)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "0 bytes, expected 3073 an image"),
            (bytes(3072), "3072 bytes, expected 3073 an image"),
            (b"\x0a" + bytes(3072), "labels run from 10 to 10, expected 0 to 9"),
            (pickle.dumps({"data": np.zeros((2, 3072), "u1"), "labels": [1]}, 2), "no list 'labels' of 2 numbers"),
            (pickle.dumps({"data": np.zeros((2, 9), "u1"), "labels": [1, 2]}, 2), "no array 'data' of 3072 bytes"),
            (pickle.dumps({"data": np.zeros((1, 3072), "u1"), "labels": [10**40]}, 2), "labels run from 10 to 10"),
            (pickle.dumps([1]), "no array 'data'"),
            (b"\x80\x02cos\nsystem\n.", "the pickle names 'os system'"),
        ],
    )
    def test_broken_batches_are_one_line(self, tmp_path, data, message):
        path = tmp_path / "data_batch_1"
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"^data_batch_1: ") as raised:
            read_cifar(path)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


def write_gestures(root: Path):
    """Two long recordings of three slices each; the csv counts classes from 1, and one end exceeds the next start."""
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    for at, (user, trials) in enumerate((("user01_led", "trials_to_train.txt"), ("user24_lab", "trials_to_test.txt"))):
        rows = random_rows(np.random.default_rng(at), 900, 3_000_000, start=10**6)
        (folder / f"{user}.aedat").write_bytes(aedat3(rows))
        (folder / f"{user}_labels.csv").write_text(
            "class,startTime_usec,endTime_usec\n1,1000000,1900000\n2,1900000,3100000\n11,3000000,3999999\n"
        )
        (folder / trials).write_text(f"{user}.aedat\n")
    return root


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


def write_esimagenet(root: Path):
    base = root / "ES-imagenet-0.18"
    rng = np.random.default_rng(0)
    lists = {"train": [], "val": []}
    samples = [("train", 0, "n01440764_10026"), ("train", 1, "n01443537_2"), ("val", 0, "ILSVRC2012_val_00000293")]
    for part, label, stem in samples:
        folder = base / part / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        a, b = (200, 150) if label == 0 else (160, 224)
        sides = {name: rng.integers([0, 0, 1], [a, b, 9], (50, 3)).astype(np.int16) for name in ("pos", "neg")}
        np.savez(folder / f"{stem}.npz", **sides)
        lists[part].append(f"{stem}.npz {label} {a} {b}")
    for part, rows in lists.items():
        (base / f"{part}label.txt").write_text("\n".join(rows) + "\n")
    for synset, stem in (("n01440764", "n01440764_10026"), ("n01440764", "n01440764_5"), ("n01443537", "n01443537_2")):
        trees.random_picture(root / "ILSVRC2012" / "train" / synset / f"{stem}.JPEG", rng, 60, 50)
    return root


class TestEsImageNet:
    def test_sides_meet_by_the_name_of_the_photograph(self, tmp_path):
        catalogue = open_esimagenet(write_esimagenet(tmp_path))
        assert [(source.id, source.part) for source in catalogue.recordings] == [
            ("0000/ILSVRC2012_val_00000293", "test"), ("0000/n01440764_10026", "train"), ("0001/n01443537_2", "train"),
        ]  # fmt: skip
        assert [source.id for source in catalogue.images] == [
            "0000/n01440764_10026", "0000/n01440764_5", "0001/n01443537_2",
        ]  # fmt: skip
        assert catalogue.num_twins == 2

    def test_events_lie_in_the_middle_as_the_loader_of_the_authors_puts_them(self, tmp_path):
        root = write_esimagenet(tmp_path)
        cache = Cache(build("esimagenet", root, tmp_path / "a.h5", size=224))
        row = cache.event_ids.index("0000/n01440764_10026")
        with np.load(root / "ES-imagenet-0.18/train/class0/n01440764_10026.npz") as file:
            sides = [file["neg"], file["pos"]]
        full = np.zeros((8, 2, 256, 256), int)
        for polarity, side in enumerate(sides):
            for y, x, t in side.tolist():
                full[t - 1, polarity, y + (254 - 200) // 2, x + (254 - 150) // 2] += 1
        np.testing.assert_array_equal(cache.event_frames([row])[0], full[:, :, 16:240, 16:240])
        assert center_shift(200, 150) == (36, 11)

    def test_hidden_files_are_left_out(self, tmp_path):
        root = write_esimagenet(tmp_path)
        folder = next(root.rglob("class0"))
        (folder / "._n01440764_1.npz").write_bytes(b"\x00\x05\x16\x07")
        catalogue = open_esimagenet(root)
        assert not any("._" in source.id for source in catalogue.recordings)
        assert "recordings: 1 hidden files left out: train/class0/._n01440764_1.npz" in catalogue.notes

    def test_rows_that_are_none_are_named(self, tmp_path):
        path = write_esimagenet(tmp_path) / "ES-imagenet-0.18" / "trainlabel.txt"
        path.write_text("a.npz 1 2\n")
        with pytest.raises(CatalogueError, match=r"trainlabel\.txt, row 1: found 'a\.npz 1 2', expected file, class"):
            open_esimagenet(tmp_path)

    def test_without_photographs_the_catalogue_says_so(self, tmp_path):
        root = write_esimagenet(tmp_path)
        (root / "ILSVRC2012").rename(root / "elsewhere")
        catalogue = open_esimagenet(root)
        assert catalogue.images == ()
        assert any("give their folder with --images" in note for note in catalogue.notes)


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

    def test_nothing_to_list_names_the_package(self, tmp_path):
        with pytest.raises(CatalogueError, match="apt install dataset-fashion-mnist"):
            open_fashion(tmp_path)


def write_est(root: Path, unit=1.0):
    rng = np.random.default_rng(0)
    for part, numbers in (("training", (1, 2, 3, 4)), ("validation", (5,)), ("testing", (6, 7))):
        for name in ("airplanes", "ant"):
            folder = root / "N-Caltech101" / part / name
            folder.mkdir(parents=True)
            for number in numbers:
                t = np.sort(rng.random(80)) * 0.3 * unit
                rows = np.stack([rng.integers(0, 240, 80), rng.integers(0, 180, 80), t, rng.choice([-1, 1], 80)], 1)
                np.save(folder / f"image_{number:04d}.npy", rows.astype("<f8"))
    for name in ("airplanes", "ant"):
        for number in range(1, 8):
            trees.random_picture(root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg", rng, 60, 50)
    return root


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


def test_the_cifar_classes_are_those_of_both_sets():
    assert len(CIFAR_CLASSES) == 10
    assert list(CIFAR_CLASSES) == sorted(CIFAR_CLASSES)


@pytest.fixture
def run_cli():
    from click.testing import CliRunner

    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


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


class TestSizeList:
    def test_the_last_of_equal_names_holds(self, tmp_path):
        path = tmp_path / "trainlabel.txt"
        path.write_bytes(b"b.npz 2 200 150\na.npz 1 30 40\n\nb.npz 3 1 2\r\n\xff.npz 4 5 6\n")
        names = ["\udcff.npz", "b.npz", "c.npz", "a.npz"]
        assert read_sizes(path).of(names) == [(4, 5, 6), (3, 1, 2), None, (1, 30, 40)]
        assert read_sizes(tmp_path / "none.txt").of(["a.npz"]) == [None]

    @pytest.mark.parametrize(
        "row", ["a.npz 1 2", "a.npz 1000 2 3", "a.npz 1 257 3", "a.npz 1 -2 3", "a" * 300 + " 1 2 3"]
    )
    def test_what_is_no_row_is_refused(self, tmp_path, row):
        path = tmp_path / "trainlabel.txt"
        path.write_text(f"b.npz 1 2 3\n{row}\n")
        with pytest.raises(CatalogueError, match=r"^trainlabel.txt, row 2: found 'a"):
            read_sizes(path)
