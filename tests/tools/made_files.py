"""Small recordings and datasets in every format and layout that tmkt reads, written without tmkt.

A change of tmkt cannot change these files. Events and pixels are random, seeded by the name of the file, so the same
file always has the same bytes.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import faery
import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

SENSOR = (34, 34)
_CLOTHES = 12
_ES_HEADER = b"Event Stream\x02\x00\x00\x01\x80\x00\x80\x00"
_SUPERCLASSES = ("aquatic_mammals", "fish", "vehicles_2")


class Columns(NamedTuple):
    """Events in time order.

    Attributes:
        t: Microseconds, int64.
        x: Columns, int64.
        y: Rows, int64.
        p: 1 where ON, int64.
    """

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.int64]


def random_of(name: str) -> np.random.Generator:
    """Return the generator of a file."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def random_events(name: str, count: int = 400, size: tuple[int, int] = SENSOR, first_us: int = 0) -> Columns:
    """Return events of 0.1 s, denser in the middle of the sensor."""
    rng = random_of(name)
    t = first_us + np.sort(rng.integers(0, 100_000, count))
    x, y = (np.clip(rng.normal(side / 2, side / 5, count), 0, side - 1).astype(np.int64) for side in size)
    return Columns(t, x, y, rng.integers(0, 2, count))


def write_image(path: Path, size: tuple[int, int], mode: str = "RGB") -> None:
    """Write a picture of large random blocks, which survive a resize."""
    blocks = random_of(path.name).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).convert(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="PNG" if path.suffix == ".png" else "JPEG")


# Recordings.


def atis(events: Columns) -> bytes:
    """Return ATIS words of 5 bytes."""
    words = events.x << 32 | events.y << 24 | events.p << 23 | events.t % 2**23
    return words.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 3:].tobytes()


def aedat2(events: Columns) -> bytes:
    """Return AEDAT 2.0 of a DVS128."""
    words = np.stack([events.y << 8 | events.x << 1 | events.p, events.t], axis=1)
    return b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + words.astype(">u4").tobytes()


def davis(events: Columns) -> bytes:
    """Return AEDAT 2.0 of a DAVIS346."""
    words = np.stack([events.y << 22 | events.x << 12 | events.p << 11, events.t], axis=1)
    return b"#!AER-DAT2.0\r\n# AEChip: DAVIS346B\r\n" + words.astype(">u4").tobytes()


def aedat3(events: Columns) -> bytes:
    """Return AEDAT 3.1 with one packet."""
    count = len(events.t)
    head = struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, count, count, count)
    words = np.stack([1 | events.p << 1 | events.y << 2 | events.x << 17, events.t], axis=1)
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + head + words.astype("<u4").tobytes()


def dat(events: Columns) -> bytes:
    """Return a Prophesee DAT file."""
    words = np.stack([events.t, events.p << 28 | events.y << 14 | events.x], axis=1)
    return b"% Version 2\n% Width 34\n% Height 34\n\x0c\x08" + words.astype("<u4").tobytes()


def evt3(events: Columns) -> bytes:
    """Return EVT 3, four words an event: high and low time, row, column."""
    high, low = 0x8000 | events.t >> 12 & 0xFFF, 0x6000 | events.t & 0xFFF
    words = np.stack([high, low, events.y, 0x2000 | events.p << 11 | events.x], axis=1)
    return b"% format EVT3;height=34;width=34\n% end\n" + words.astype("<u2").tobytes()


def evt21(events: Columns) -> bytes:
    """Return EVT 2.1, a time word and a vector of one pixel for each event."""
    t, x, y, p = (column.astype("<u8") for column in events)
    one, high = np.uint64(1), np.uint64(8 << 60) | t >> 6 << 32
    vector = p << 60 | (t & 63) << 54 | x // 32 * 32 << 43 | y << 32 | one << x % 32
    return b"% evt 2.1\n% geometry 34x34\n% end\n" + np.stack([high, vector], axis=1).tobytes()


def npy(events: Columns) -> bytes:
    """Return a structured array."""
    rows = np.zeros(len(events.t), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])
    for name, column in events._asdict().items():
        rows[name] = column
    return _saved(np.save, rows)


def npz(events: Columns) -> bytes:
    """Return columns in an archive."""
    return _saved(np.savez_compressed, **events._asdict())


def matlab(events: Columns) -> bytes:
    """Return a MATLAB 5 file as CEP-DVS has it."""
    columns = {"x": events.x, "y": events.y, "ts": events.t, "p": 2 * events.p - 1}
    # The header holds the time of writing; a fixed text keeps the bytes the same.
    data = _saved(savemat, {name: column[:, None].astype(np.float64) for name, column in columns.items()})
    return b"MATLAB 5.0 MAT-file".ljust(116) + data[116:]


def hdf5(events: Columns) -> bytes:
    """Return columns of an HDF5 file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, column in events._asdict().items():
            file.create_dataset(f"events/{name}", data=column.astype("<i8" if name == "t" else "<u2"), chunks=(100,))
    return buffer.getvalue()


def event_stream(_events: Columns) -> bytes:
    """Return an Event Stream file of three events, written by hand."""
    return _ES_HEADER + bytes([255, 7, 5, 0, 9, 0, 2, 6, 0, 9, 0])


def _saved(save: Callable[..., None], *values: object, **named: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *values, **named)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Columns], bytes]] = {
    "atis.bin": atis,
    "aedat2.aedat": aedat2,
    "davis.aedat": davis,
    "aedat3.aedat": aedat3,
    "prophesee.dat": dat,
    "evt21.raw": evt21,
    "evt3.raw": evt3,
    "rows.npy": npy,
    "columns.npz": npz,
    "matlab.mat": matlab,
    "columns.h5": hdf5,
    "stream.es": event_stream,
}


def write_recordings(folder: Path) -> list[Path]:
    """Write a recording of each format; return the files."""
    folder.mkdir(parents=True)
    for name, encode in FORMATS.items():
        (folder / name).write_bytes(encode(random_events(name)))
    return sorted(folder.iterdir())


# Datasets.


def write_folder(root: Path) -> None:
    """Write a dataset of one's own: two classes, ten recordings each, of four formats."""
    suffixes = {".npz": npz, ".bin": atis, ".dat": dat, ".npy": npy}
    root.mkdir(parents=True)
    (root / "tmkt.toml").write_text("sensor_size = [34, 34]\n")
    for name in ("clap", "wave"):
        for number in range(10):
            suffix, encode = list(suffixes.items())[number % len(suffixes)]
            path = root / "events" / name / f"take-{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(random_events(f"{name}{number}")))
            write_image(root / "images" / name / f"take-{number}.png", (40, 30))


def write_nmnist(root: Path) -> None:
    """Write N-MNIST with the IDX files of MNIST."""
    labels = [number % 3 for number in range(24)]
    for part, stem, count in (("Train", "train", 18), ("Test", "t10k", 6)):
        for number, label in enumerate(labels[:count], start=1):
            path = root / "N-MNIST" / part / str(label) / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(atis(random_events(f"{part}{number}")))
        write_idx(root / "MNIST" / "raw", stem, labels[:count])


def write_idx(folder: Path, stem: str, labels: list[int]) -> None:
    """Write the two IDX files of some 28 x 28 images."""
    folder.mkdir(parents=True, exist_ok=True)
    coarse = random_of(stem).integers(0, 256, (len(labels), 7, 7), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((1, 4, 4), np.uint8))
    images = struct.pack(">4I", 2051, len(labels), 28, 28) + pixels.tobytes()
    numbers = struct.pack(">2I", 2049, len(labels)) + bytes(labels)
    for kind, data in (("images-idx3", images), ("labels-idx1", numbers)):
        (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(data, mtime=0))


def write_fashion(root: Path) -> None:
    """Write the IDX files of Fashion-MNIST."""
    for stem, count in (("train", _CLOTHES), ("t10k", _CLOTHES // 2)):
        write_idx(root / "fashion-mnist", stem, [number % 10 for number in range(count)])


def write_ncaltech101(root: Path) -> None:
    """Write N-Caltech101 and Caltech-101; one class has large photographs, one gray ones."""
    sizes = {"airplanes": (400, 160), "ant": (1300, 1000), "brain": (190, 128)}
    for name, size in sizes.items():
        for number in range(1, 13):
            stem = f"image_{number:04d}"
            path = root / "Caltech101" / name / f"{stem}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(atis(random_events(f"{name}{number}", 3000, (150 + number, 120 + 2 * number))))
            write_image(root / "101_ObjectCategories" / name / f"{stem}.jpg", size, "L" if name == "brain" else "RGB")


def write_est(root: Path) -> None:
    """Write the arrays of EST, whose three parts are the splits."""
    for part, numbers in (("training", (1, 2, 3, 4)), ("validation", (5,)), ("testing", (6, 7))):
        for name in ("airplanes", "ant"):
            for number in numbers:
                events = random_events(f"{part}{name}{number}", 300, (240, 180))
                rows = np.stack([events.x, events.y, events.t / 1e6, 2 * events.p - 1], axis=1)
                path = root / "N-Caltech101" / part / name / f"image_{number:04d}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, rows)
                write_image(root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg", (60, 50))


def write_cepdvs(root: Path) -> None:
    """Write CEP-DVS with three of its classes in blocks."""
    rows = ["number    class"]
    for name in _SUPERCLASSES:
        for _ in range(10):
            number = len(rows) - 1
            rows.append(f"{number}    {name}")
            path = root / "data" / "MAT" / "img" / f"{number:05d}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(matlab(random_events(f"{number}", 600, (240, 180))))
            write_image(root / "data" / "img" / f"{number:05d}.jpg", (40, 40))
    (root / "pathFile.csv").write_text("\n".join(rows) + "\n")


def write_nomniglot(root: Path) -> None:
    """Write two characters of N-Omniglot, 20 drawers each, one of the evaluation set."""
    for number, part in ((709, "background"), (1001, "evaluation")):
        folder = Path("Alphabet_(made)") / f"character{number:04d}"
        stem = f"{number:04d}"
        for drawer in range(1, 21):
            image = root / "omniglot-py" / f"images_{part}" / folder / f"{stem}_{drawer:02d}.png"
            write_image(image, (105, 105), "1")
        _write_drawers(root / f"dvs_{part}" / folder / f"{stem}.aedat4")


def _write_drawers(path: Path) -> None:
    """Write the recordings of 20 drawers one after the other, and where each begins and ends."""
    rows, pieces = ["index,Start_Timestamp,End_Timestamp"], []
    for index in range(20):
        events = random_events(f"{path.stem}{index}", 200, (340, 250), first_us=10**15 + index * 1_000_000)
        piece = np.zeros(len(events.t), faery.EVENTS_DTYPE)
        piece["t"], piece["x"], piece["y"], piece["on"] = events
        pieces.append(piece)
        rows.append(f"{index},{events.t[0]},{events.t[-1] + 1}")
    path.parent.mkdir(parents=True, exist_ok=True)
    faery.events_stream_from_array(np.concatenate(pieces), dimensions=(346, 260)).to_file(str(path))
    path.with_suffix(".csv").write_text("\n".join(rows) + "\n")


def write_cifar10dvs(root: Path) -> None:
    """Write CIFAR10-DVS as AEDAT 2.0, and CIFAR-10 in its binary version."""
    for name in ("airplane", "cat"):
        for number in range(10):
            path = root / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(aedat2(random_events(path.name, size=(128, 128))))
    pixels = random_of("cifar").integers(0, 256, (8, 3072), dtype=np.uint8)
    labels = np.array([0, 3, 3, 0, 9, 0, 3, 3], np.uint8)
    path = root / "cifar-10-batches-bin" / "data_batch_1.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(np.concatenate([labels[:, None], pixels], axis=1).tobytes())


def write_dvsgesture(root: Path) -> None:
    """Write two recordings of DVS128 Gesture, three gestures each; the csv counts classes from 1."""
    root = root / "DvsGesture"
    root.mkdir(parents=True)
    for user, trials in (("user01_led", "trials_to_train.txt"), ("user24_lab", "trials_to_test.txt")):
        events = random_events(user, 3000, (128, 128), first_us=10**6)
        (root / f"{user}.aedat").write_bytes(aedat3(events))
        ends = "1,1000000,1030000\n2,1030000,1070000\n11,1060000,1099999\n"
        (root / f"{user}_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{ends}")
        (root / trials).write_text(f"{user}.aedat\n")


def write_esimagenet(root: Path) -> None:
    """Write ES-ImageNet and the photographs of ImageNet that it was made of."""
    base, lists = root / "ES-imagenet-0.18", {"train": [], "val": []}
    for number in range(12):
        label, part = number % 2, "val" if number > 8 else "train"
        synset = ("n01440764", "n01443537")[label]
        stem = f"{synset}_{number}" if part == "train" else f"ILSVRC2012_val_{number:08d}"
        height, width = (200, 150) if label == 0 else (160, 224)
        path = base / part / f"class{label}" / f"{stem}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = random_of(stem)
        sides = {side: rng.integers([0, 0, 1], [height, width, 9], (90, 3)).astype(np.int16) for side in ("pos", "neg")}
        np.savez(path, **sides)
        lists[part].append(f"{stem}.npz {label} {height} {width}")
        if part == "train":
            write_image(root / "ILSVRC2012" / "train" / synset / f"{stem}.JPEG", (60, 50))
    for part, rows in lists.items():
        (base / f"{part}label.txt").write_text("\n".join(rows) + "\n")


DATASETS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "folder": ("folder", write_folder),
    "nmnist": ("nmnist", write_nmnist),
    "fashion": ("fashion", write_fashion),
    "ncaltech101": ("ncaltech101", write_ncaltech101),
    "est": ("ncaltech101", write_est),
    "cepdvs": ("cepdvs", write_cepdvs),
    "nomniglot": ("nomniglot", write_nomniglot),
    "cifar10dvs": ("cifar10dvs", write_cifar10dvs),
    "dvsgesture": ("dvsgesture", write_dvsgesture),
    "esimagenet": ("esimagenet", write_esimagenet),
}
"""What is written under which name, and the dataset that it is a layout of."""
