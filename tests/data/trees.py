"""Small datasets in the real layouts and byte formats, for tests."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from tmkt_data.datasets.nmnist import SENSOR_SIZE
from tmkt_data.datasets.shown import NMNIST_CAMERA
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.simulate.camera import CameraSettings, SimulatedCamera
from tmkt_data.simulate.paths import Path as CameraPath
from tmkt_data.simulate.saccade import SaccadePath, published_path


def random_recording(path: Path, rng: np.random.Generator, width: int, height: int, num_events: int) -> None:
    t = np.sort(rng.integers(0, 300_000, num_events))
    x = rng.integers(0, width, num_events)
    y = rng.integers(0, height, num_events)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atis(path, validate_events(t, x, y, rng.random(num_events) < 0.5))


def random_picture(path: Path, rng: np.random.Generator, width: int, height: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if mode == "L" else (height, width, 3)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)


def write_nmnist(root: Path, *, per_digit: int = 4, test_per_digit: int = 2, digits: int = 3, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    number = 0
    for part, count in (("Train", per_digit), ("Test", test_per_digit)):
        for digit in range(digits):
            for _ in range(count):
                number += 1
                recording = root / "N-MNIST" / part / str(digit) / f"{number:05d}.bin"
                random_recording(recording, rng, 34, 34, int(rng.integers(50, 400)))
                random_picture(root / "MNIST_png" / part / str(digit) / f"{number:05d}.png", rng, 28, 28, "L")
    return root


def write_mnist_idx(folder: Path, labels: list[int], *, part: str = "train", zipped: bool = True) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    header = b"\x00\x00\x08\x03" + np.array([len(labels), 28, 28], ">u4").tobytes()
    files = {
        f"{part}-images-idx3-ubyte": header + pixels.tobytes(),
        f"{part}-labels-idx1-ubyte": b"\x00\x00\x08\x01" + np.array([len(labels)], ">u4").tobytes() + bytes(labels),
    }
    for name, data in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return pixels


def write_ncaltech(root: Path, counts: dict[str, int], *, images: dict[str, int] | None = None, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        for number in range(1, count + 1):
            random_recording(
                root / "Caltech101" / name / f"image_{number:04d}.bin",
                rng,
                int(rng.integers(60, 233)),
                int(rng.integers(60, 173)),
                int(rng.integers(100, 500)),
            )
    for name, count in (counts if images is None else images).items():
        for number in range(1, count + 1):
            path = root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg"
            random_picture(
                path, rng, int(rng.integers(80, 300)), int(rng.integers(80, 300)), "L" if number == 2 else "RGB"
            )
    return root


def scene(number: int, height: int = 30, width: int = 40) -> np.ndarray:
    """Return a grey picture of a few rectangles, shape (H, W), uint8; another number is another picture."""
    rng = np.random.default_rng([number, 14])
    picture = np.full((height, width), 40, np.uint8)
    for _ in range(4):
        top, left = int(rng.integers(0, height - 10)), int(rng.integers(0, width - 10))
        picture[top : top + int(rng.integers(5, 14)), left : left + int(rng.integers(5, 14))] = rng.integers(80, 256)
    return picture


def write_scene(path: Path, number: int) -> None:
    """Write the picture of a number, or the recording of its edges, by the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = scene(number)
    if path.suffix != ".bin":
        Image.fromarray(picture).save(path)
        return
    rng = np.random.default_rng([number, 15])
    rows, columns = np.gradient(picture.astype(float))
    edges = np.flatnonzero(np.hypot(rows, columns).reshape(-1) > 10)
    at = rng.choice(edges, 600)
    t = np.sort(rng.integers(0, 100_000, len(at)))
    y, x = np.divmod(at, picture.shape[1])
    write_atis(path, validate_events(t, x, y, rng.random(len(at)) < 0.5))


def write_folder(root: Path, recordings: dict[str, int], images: dict[str, int]) -> Path:
    """Write a dataset `folder`: ids such as `"wave/first"`, each with the number of its scene."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "tmkt.toml").write_text("sensor_size = [40, 30]\n")
    for side, suffix, scenes in (("events", "bin", recordings), ("images", "png", images)):
        for name, number in scenes.items():
            write_scene(root / side / f"{name}.{suffix}", number)
    return root


def camera_along(path: SaccadePath, *, negative: bool) -> SimulatedCamera:
    """Return a camera like that of N-MNIST on a path about its mean position."""
    times = np.arange(0, path.duration_us + 1, 1000)
    dx, dy = path.displacement(times)
    points = tuple(zip((times / 1000).tolist(), (dx - dx.mean()).tolist(), (dy - dy.mean()).tolist(), strict=True))
    pixels = dataclasses.replace(NMNIST_CAMERA.pixels, negative=negative)
    return SimulatedCamera(CameraSettings(pixels, CameraPath(kind="points", points=points)), SENSOR_SIZE)


def write_simulated_nmnist(root, *, negative=True, path=None):
    """Bars on black, in two classes, each recorded by a camera that moves as that of N-MNIST."""
    camera = camera_along(published_path(NMNIST_CAMERA.path.scale) if path is None else path, negative=negative)
    rng = np.random.default_rng(0)
    for number in range(24):
        digit, image = number % 2, np.zeros((28, 28), np.uint8)
        for _ in range(3):
            at, end = rng.integers(4, 20, 2), rng.integers(6, 18)
            rows, columns = (slice(at[0], at[0] + 3), slice(at[1], at[1] + end))
            image[(rows, columns) if digit else (columns, rows)] = rng.integers(100, 256)
        image[25:], image[:, 25:] = 0, 0
        place = f"Train/{digit}/{number + 1:05d}"
        picture = root / "MNIST_png" / f"{place}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(picture)
        recording = root / "N-MNIST" / f"{place}.bin"
        recording.parent.mkdir(parents=True, exist_ok=True)
        write_atis(recording, camera.record(np.pad(image, 3, mode="edge"), number))
    return root
