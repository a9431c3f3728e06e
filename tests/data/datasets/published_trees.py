"""Small trees of CIFAR10-DVS, DVS128 Gesture, ES-ImageNet and the event stream arrays, as published.

The layouts are those that public readers of these sets have (DATASETS [S]); no original was at hand.
"""

import pickle
from pathlib import Path

import numpy as np
import trees


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
