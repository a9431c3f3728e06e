"""tonic's datasets go through prepare, and caches come back as such; with tonic itself where it is installed."""

import pickle

import naive
import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data import CacheInfo, PairedFrames, TonicFrames, from_tonic, read_cache_info
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.errors import CatalogueError, EventError, TmktError
from tmkt_data.events.read import load_events

DTYPE = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def events_of(number, count=200):
    rng = np.random.default_rng(number)
    events = np.zeros(count, DTYPE)
    events["t"] = np.sort(rng.integers(0, 90_000, count))
    for name, limit in (("x", 40), ("y", 30), ("p", 2)):
        events[name] = rng.integers(0, limit, count)
    return events


class Recordings:
    """Behaves as tonic's datasets do: fields x, y, t, p of int64, targets as numbers, a list of files."""

    sensor_size = (40, 30, 2)
    classes = ("wave", "clap: left/right")

    def __init__(self, count=8, fail_at=None):
        self.count, self.fail_at, self.asked = count, fail_at, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        if index == self.fail_at:
            raise KeyboardInterrupt
        return events_of(index), index % 2


def test_every_sample_goes_through_prepare_with_all_of_its_events(tmp_path):
    catalogue = from_tonic(Recordings(), tmp_path / "own")
    assert catalogue.class_names == ("clap_ left_right", "wave")
    assert [source.id for source in catalogue.recordings][-1] == "wave/000006"
    out = tmp_path / "a.h5"
    command = ["prepare", "folder", "--root", str(tmp_path / "own"), "--out", str(out), "--size", "16"]
    result = CliRunner().invoke(main, [*command, "--allow-unpaired"])
    assert result.exit_code == 0, result.output
    cache = Cache(out)
    for row, sample in enumerate(cache.event_ids):
        events = events_of(int(sample[-6:]))
        rows = [tuple(int(event[name]) for name in "txyp") for event in events]
        assert cache.tables["events/num_kept"][row] == len(rows)
        expected = np.zeros((10, 2, 16, 16))
        for t, x, y, p in rows:
            k = naive.bin_of(t, rows[0][0], rows[-1][0], 10, "exact")
            expected[k, p, y * 16 // 30, x * 16 // 40] += 1
        np.testing.assert_array_equal(cache.event_frames([row])[0], expected)


def test_an_interrupted_writing_goes_on_and_a_whole_one_asks_for_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        from_tonic(Recordings(fail_at=5), tmp_path / "own")
    assert not (tmp_path / "own" / "tmkt.toml").exists()
    again, seen = Recordings(), []
    from_tonic(again, tmp_path / "own", progress=lambda done, total: seen.append((done, total)))
    assert again.asked == [5, 6, 7]
    assert seen == [(number, 8) for number in range(1, 9)]
    third = Recordings()
    assert len(from_tonic(third, tmp_path / "own").recordings) == 8
    assert third.asked == []


def test_a_recording_that_was_written_and_not_noted_is_no_duplicate(tmp_path):
    ids = from_tonic(Recordings(4), tmp_path / "own").recordings.ids.tolist()
    # The second line was cut off with the power.
    (tmp_path / "own" / ".done").write_text("wave\ncla")
    again = Recordings(4)
    found = from_tonic(again, tmp_path / "own").recordings
    assert (found.ids.tolist(), again.asked) == (ids, [1, 2, 3])
    for number, source in enumerate(sorted(found, key=lambda source: source.path.stem)):
        np.testing.assert_array_equal(load_events(source.path).t, events_of(number)["t"])
    assert (tmp_path / "own" / ".done").read_text().split("\n")[0::2] == ["wave", "wave", ""]


def test_a_lost_recording_is_written_again_and_the_others_stay_known(tmp_path):
    next(iter(from_tonic(Recordings(2), tmp_path / "own").recordings)).path.unlink()
    for num_asked in (1, 0):
        again = Recordings(2)
        assert len(from_tonic(again, tmp_path / "own").recordings) == 2
        assert len(again.asked) == num_asked


def test_stems_of_files_make_twins(tmp_path):
    rng = np.random.default_rng(0)
    dataset = Recordings()
    dataset.data = [f"/somewhere/take_{number}.bin" for number in range(8)]
    for number in range(8):
        name = ("wave", "clap_ left_right")[number % 2]
        trees.random_picture(tmp_path / "pictures" / name / f"take_{number}.png", rng, 40, 30)
    catalogue = from_tonic(dataset, tmp_path / "own", images=tmp_path / "pictures")
    assert catalogue.num_twins == 8


CLASSES = ("0 - zero", "1 - one", "two", "Three")


@pytest.mark.parametrize(
    ("folders", "data"),
    [
        (("0", "1", "2", "3"), None),
        (("0", "01", "2", "3"), None),
        (("0", "1", "two", "three"), None),
        (("0 - zero", "1 - one", "two", "Three"), None),
        (("a", "b", "c", "d"), "abcd"),
    ],
)
def test_images_meet_classes_by_name_number_first_word_or_folder_of_the_file(tmp_path, folders, data):
    change = {"classes": CLASSES, "__getitem__": lambda _, i: (events_of(i), i % 4)}
    dataset = type("Recordings", (Recordings,), change)()
    if data:
        dataset.data = [f"/x/{data[number % 4]}/{number:06d}.bin" for number in range(8)]
    for number in range(8):
        path = tmp_path / "pictures" / folders[number % 4] / f"{number:06d}.png"
        trees.random_picture(path, np.random.default_rng(0), 40, 30)
    catalogue = from_tonic(dataset, tmp_path / "own", images=tmp_path / "pictures")
    assert catalogue.num_twins == 8
    assert catalogue.class_names == tuple(sorted(folders))


def test_images_copied_by_macos_meet_their_classes(tmp_path):
    change = {"classes": ("caf\u00e9", "th\u00e9"), "__getitem__": lambda _, i: (events_of(i), i % 2)}
    for number in range(8):
        path = tmp_path / "pictures" / ("cafe\u0301", "the\u0301")[number % 2] / f"{number:06d}.png"
        trees.random_picture(path, np.random.default_rng(0), 40, 30)
    catalogue = from_tonic(type("Recordings", (Recordings,), change)(), tmp_path / "own", images=tmp_path / "pictures")
    assert catalogue.num_twins == 8
    assert catalogue.class_names == ("caf\u00e9", "th\u00e9")


@pytest.mark.parametrize("folders", [("1", "2", "3", "4"), ("x", "y")])
def test_images_of_no_class_are_said_and_not_guessed(tmp_path, folders):
    change = {"classes": ("a", "b", "c", "d"), "__getitem__": lambda _, i: (events_of(i), i % 4)}
    for name in folders:
        trees.random_picture(tmp_path / "pictures" / name / "000000.png", np.random.default_rng(0), 40, 30)
    with pytest.raises(
        CatalogueError, match=rf"found folders {folders[0]}, .*expected those of classes \(a, b, c, d\)"
    ):
        from_tonic(type("Recordings", (Recordings,), change)(), tmp_path / "own", images=tmp_path / "pictures")


@pytest.mark.parametrize("kind", ["array", "numpy", "torch"])
def test_targets_may_be_arrays_without_dimensions(tmp_path, kind):
    torch = pytest.importorskip("torch") if kind == "torch" else None
    wrap = {"array": np.array, "numpy": np.int64}.get(kind) or torch.tensor
    dataset = type("Recordings", (Recordings,), {"__getitem__": lambda _, i: (events_of(i), wrap(i % 2))})()
    assert from_tonic(dataset, tmp_path / "own").class_names == ("clap_ left_right", "wave")


def test_a_sensor_of_one_row_needs_no_y(tmp_path):
    change = {"sensor_size": (40, 1, 1), "__getitem__": lambda _, i: (events_of(i)[["t", "x", "p"]], i % 2)}
    catalogue = from_tonic(type("Recordings", (Recordings,), change)(), tmp_path / "own")
    record = load_events(catalogue.recordings[0].path)
    assert record.sensor_size == (40, 1)
    assert not record.y.any()
    np.testing.assert_array_equal(record.x, events_of(1)["x"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensor_size": None}, "Recordings: sensor_size is None, expected width and height; give sensor_size="),
        ({"sensor_size": (0, 3, 2)}, "sensor_size is (0, 3, 2), expected width and height"),
        ({"__len__": lambda _: 0}, "Recordings: no samples, expected some"),
        (
            {"__getitem__": lambda _, i: (events_of(i), [1])},
            "Recordings[0]: target is list, expected the name or number",
        ),
        ({"__getitem__": lambda _, i: (events_of(i), "..")}, "Recordings[0]: class '..': not a valid file name"),
        ({"__getitem__": lambda _, i: (events_of(i), "a\nb")}, "Recordings[0]: class 'a\\nb': not a valid file name"),
        ({"__getitem__": lambda *_: (np.zeros((10, 2, 5, 5)), 0)}, "remove the transform of the dataset"),
        ({"__getitem__": lambda *_: (np.array([object()]), 0)}, "expected one array with fields t, x, y and p"),
        ({"__getitem__": lambda _, i: ((events_of(i), events_of(i)), 0)}, "of shape (2, 200), expected one array with"),
        (
            {"__getitem__": lambda _, i: (events_of(i)[["t", "x", "p"]], 0)},
            "Recordings[0]: found nothing for y among p, t, x",
        ),
        ({"__getitem__": lambda _, i: (events_of(i), np.array([0]))}, "Recordings[0]: target is ndarray, expected"),
        ({"classes": ("a/b", "a:b")}, "Recordings[1]: classes 0 and 1 have the same folder name"),
    ],
)
def test_what_is_no_dataset_of_events_is_one_line(tmp_path, change, message):
    kind = type("Recordings", (Recordings,), change)
    with pytest.raises((CatalogueError, EventError)) as raised:
        from_tonic(kind(), tmp_path / "own")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "own" / "tmkt.toml").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"own"}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TmktError, match="contains other files; give an empty folder"):
        from_tonic(Recordings(), tmp_path)
    from_tonic(Recordings(), tmp_path / "own")
    with pytest.raises(TmktError, match="contains another dataset"):
        from_tonic(Recordings(count=4), tmp_path / "own")


def test_a_cache_behaves_as_a_dataset_with_transforms(nmnist_cache):
    plain = PairedFrames(nmnist_cache, "train", pairing="none")
    frames = TonicFrames(nmnist_cache, "train", transform=lambda f: f.sum(axis=0), target_transform=str)
    assert len(frames) == len(plain)
    data, label = frames[3]
    np.testing.assert_array_equal(data, plain[3].events.sum(axis=0))
    assert label == str(plain[3].label)
    assert frames.sensor_size == (34, 34, 2)
    assert frames.classes == [str(digit) for digit in range(10)]
    both = TonicFrames(nmnist_cache, "train", pairing="twin", transforms=lambda data, label: (len(data), -label))
    assert both[0] == (2, -plain[0].label)
    with pytest.raises(IndexError):
        frames[len(frames)]
    assert isinstance(read_cache_info(nmnist_cache), CacheInfo)


def test_it_works_in_the_workers_of_a_loader(nmnist_cache):
    torch_data = pytest.importorskip("torch.utils.data")
    frames = TonicFrames(nmnist_cache, "train")
    copy = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(copy[0][0], frames[0][0])
    loader = torch_data.DataLoader(frames, batch_size=4, num_workers=2)
    seen = np.concatenate([labels.numpy() for _, labels in loader])
    assert seen.tolist() == [frames[i][1] for i in range(len(frames))]


class TestWithTonic:
    """These run where `tmkt[tonic]` is installed."""

    @pytest.fixture
    def tonic(self):
        return pytest.importorskip("tonic", reason="tonic is not installed: pip install 'tmkt[tonic]'")

    def test_a_dataset_of_tonic_becomes_a_catalogue(self, tonic, tmp_path, real_data):
        class Digits(tonic.Dataset):
            sensor_size, classes = (34, 34, 2), [str(digit) for digit in range(10)]

            def __init__(self, root):
                super().__init__(str(root))
                self.data = sorted(str(path) for path in root.rglob("*.bin"))

            def __len__(self):
                return len(self.data)

            def __getitem__(self, index):
                path = self.data[index]
                return tonic.io.read_mnist_file(path, dtype=tonic.io.events_struct), int(path.split("/")[-2])

            def _check_exists(self):
                return True

        dataset = Digits(real_data / "nmnist" / "N-MNIST" / "Test")
        catalogue = from_tonic(dataset, tmp_path / "own", images=real_data / "nmnist" / "MNIST_png" / "Test")
        assert len(catalogue.recordings) == catalogue.num_twins == 50

    def test_the_class_for_nmnist_meets_images_in_folders_of_digits(self, tonic, tmp_path, monkeypatch):
        root = trees.write_nmnist(tmp_path / "n", per_digit=2, test_per_digit=1, digits=3)
        (root / "N-MNIST").rename(root / "NMNIST")
        monkeypatch.setattr(tonic.datasets.NMNIST, "_check_exists", lambda _: True)
        dataset = tonic.datasets.NMNIST(str(root), train=True)
        assert dataset.classes[0] == "0 - zero"
        catalogue = from_tonic(dataset, tmp_path / "own", images=root / "MNIST_png" / "Train")
        assert catalogue.class_names == ("0", "1", "2")
        assert len(catalogue.recordings) == len(catalogue.images) == catalogue.num_twins == 6

    def test_tonic_caches_and_collates_the_frames(self, tonic, tmp_path, nmnist_cache):
        frames = TonicFrames(nmnist_cache, "train", transform=tonic.transforms.NumpyAsType(np.int16))
        cached = tonic.DiskCachedDataset(frames, cache_path=str(tmp_path / "disk"))
        for _ in range(2):
            data, label = cached[1]
            np.testing.assert_array_equal(data, frames[1][0])
            assert label == frames[1][1]
        batch, labels = tonic.collation.PadTensors(batch_first=True)([frames[0], frames[1]])
        assert tuple(batch.shape) == (2, 10, 2, 34, 34)
        assert labels.tolist() == [frames[0][1], frames[1][1]]
