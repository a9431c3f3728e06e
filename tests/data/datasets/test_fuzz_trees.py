"""Trees of files in any state: every catalogue lists them or says what is wrong with them."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tmkt_data.datasets.registry import DATASETS, open_catalogue
from tmkt_data.errors import TmktError
from tmkt_data.sources.locate import Locations, find_sources

FOLDERS = [
    "Caltech101", "101_ObjectCategories", "N-Caltech101", "training", "testing", "airplanes", "ant", "Faces", "N-MNIST",
    "MNIST_png", "MNIST", "Train", "Test", "5", "7", "11", "data", "MAT", "img", "dvs_background", "dvs_evaluation",
    "images_background", "omniglot-py", "events_npy", "background", "Greek", "character01", "CIFAR10DVS", "cat",
    "cifar-10-batches-bin", "DvsGesture", "ibmGestureTrain", "user01_led", "ES-imagenet-0.18", "train", "val", "class0",
    "n01440764", "fashion-mnist", "events", "images", "wave", "a\nb", "..x", "é", "\udcff",
]  # fmt: skip
FILES = [
    "image_0001.bin", "image_0001.jpg", "image_0001.npy", "00001.bin", "00001.png", "pathFile.csv", "01891.mat",
    "01891.jpg", "0394.aedat4", "0394.csv", "0394_01.png", "0394_01.npy", "cifar10_cat_0.aedat", "data_batch_1.bin",
    "data_batch_1", "user01_led.aedat", "user01_led_labels.csv", "trials_to_train.txt", "0.npy", "trainlabel.txt",
    "n01440764_10026.npz", "n01440764_10026.JPEG", "train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "tmkt.toml",
    "first.aedat4", "first.jpg", "archive.zip", "a\x1b[2J.bin", "x" * 200,
]  # fmt: skip
CONTENTS = [
    b"", b"\x00", b"12345", b"sensor_size = [4, 3]\n", b"h\n1,2,3\n12,5,9\n", b"h\n0    flowers\n", bytes(3073),
    b"\x00\x00\x08\x01\x00\x00\x00\x01\x05", b"\x00\x00\x08\x03\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x05",
    b"\x1f\x8b\x08\x00", b"PK\x03\x04", b"user01_led.aedat\n", b"n01440764_10026.npz 0 200 150\n", b"\xff" * 40,
]  # fmt: skip
PLACES = [
    "Caltech101/airplanes/image_0001.bin", "101_ObjectCategories/airplanes/image_0001.jpg",
    "N-Caltech101/training/ant/image_0001.npy", "N-MNIST/Train/5/00001.bin", "MNIST_png/Train/5/00001.png",
    "MNIST/train-images-idx3-ubyte", "MNIST/train-labels-idx1-ubyte", "pathFile.csv", "data/MAT/img/00000.mat",
    "data/img/00000.jpg", "dvs_background/Greek/character01/0394.aedat4", "dvs_background/Greek/character01/0394.csv",
    "images_background/Greek/character01/0394_01.png", "events_npy/background/Greek/character01/0394_01.npy",
    "CIFAR10DVS/cat/cifar10_cat_0.aedat", "cifar-10-batches-bin/data_batch_1.bin", "DvsGesture/user01_led.aedat",
    "DvsGesture/user01_led_labels.csv", "DvsGesture/trials_to_train.txt", "ibmGestureTrain/user01_led/0.npy",
    "trainlabel.txt", "train/class0/n01440764_10026.npz", "ILSVRC2012/train/n01440764/n01440764_10026.JPEG",
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "tmkt.toml", "events/wave/first.aedat4",
    "images/wave/first.jpg",
]  # fmt: skip
RIGHT = st.tuples(st.sampled_from(PLACES), st.sampled_from(CONTENTS)).map(
    lambda pair: (pair[0].split("/")[:-1], pair[0].split("/")[-1], pair[1])
)
PATHS = RIGHT | st.tuples(
    st.lists(st.sampled_from(FOLDERS), max_size=4), st.sampled_from(FILES), st.sampled_from(CONTENTS)
)


def grow(root: Path, files, links) -> None:
    for folders, name, content in files:
        path = root.joinpath(*folders)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            continue
    for folders, target in links:
        path = root.joinpath(*folders)
        if not os.path.lexists(path) and path.parent.is_dir():
            path.symlink_to(root / target)


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in ("digits", "caltech101-twins")])
@settings(
    max_examples=90, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    files=st.lists(PATHS, max_size=16),
    links=st.lists(
        st.tuples(st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=3), st.sampled_from([".", *FOLDERS[:20]])),
        max_size=3,
    ),
    sides=st.booleans(),
)
def test_any_tree_is_listed_or_refused(tmp_path_factory, name, files, links, sides):
    root = tmp_path_factory.mktemp("tree")
    grow(root, files, links)
    given_folders = {"events": root, "images": root} if sides else {"root": root}

    def found():
        with find_sources(name, Locations(**given_folders), unpack_to=root / "out") as sources:
            return sources.catalogue

    for opened in (lambda: open_catalogue(name, **given_folders), found):
        try:
            catalogue, text = opened(), ""
        except TmktError as refused:
            catalogue, text = None, str(refused)
        assert "\x1b" not in text
        assert (catalogue is None) == bool(text)
        for source in (*catalogue.recordings, *catalogue.images) if catalogue else ():
            assert 0 <= source.label < len(catalogue.class_names)
            assert source.path.is_file()
        for note in catalogue.notes if catalogue else ():
            assert "\n" not in note
            assert "\x1b" not in note
