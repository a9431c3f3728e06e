"""Write a stand-in for N-Caltech101 and Caltech-101: real layout, formats, classes and counts, drawn content.

    python tests/tools/make_ncaltech_tree.py OUT [--per-class N] [--events-per-recording 100000] [--seed 0]

OUT/Caltech101/<class>/image_NNNN.bin              8709 recordings, 101 classes
OUT/101_ObjectCategories/<class>/image_NNNN.jpg    9144 images: those classes and `Faces`
OUT/101_ObjectCategories/BACKGROUND_Google/tmp     the junk file of the real archive

Each class has a shape, a texture and colors of its own; each number varies them. Events are drawn where the
moving image changes, not simulated, so that the whole tree takes minutes. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.datasets.ncaltech101 import BACKGROUND, NUM_RECORDINGS
from tmkt_data.events.events import Events
from tmkt_data.events.formats.atis import encode_atis
from tmkt_data.simulate.saccade import SaccadePath

FITTED = (227, 167)
PATH = SaccadePath(corners=((0.0, 0.0), (3.0, 6.0), (6.0, 0.0), (0.0, 0.0)))
NOISE_SHARE = 0.02
HUGE = (2799, 3999)
HUGE_NUMBER = 451
SIZES = ((300, 225), (300, 300), (300, 200), (192, 128), (225, 300), (263, 170), (400, 160), (270, 320))
GRAY = {
    "car_side": 123,
    BACKGROUND: 30,
    "yin_yang": 18,
    "brain": 14,
    "revolver": 13,
    "menorah": 10,
    "soccer_ball": 10,
    "wrench": 10,
    "ant": 8,
    "Motorbikes": 7,
}
NUM_IMAGES = NUM_RECORDINGS | {"Faces": 435}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--per-class", type=int, help="only the first n of each class")
    parser.add_argument("--events-per-recording", type=int, default=100_000, help="mean (default 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    make_tree(
        given.out,
        per_class=given.per_class,
        num_events=given.events_per_recording,
        seed=given.seed,
        workers=given.workers,
    )
    return 0


def make_tree(
    out: Path, *, per_class: int | None = None, num_events: int = 100_000, seed: int = 0, workers: int = 1
) -> None:
    work = partial(write_class, out, per_class=per_class, num_events=num_events, seed=seed)
    names = sorted(NUM_IMAGES, key=lambda name: -NUM_IMAGES[name])
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            written = sum(pool.map(work, names))
    else:
        written = sum(map(work, names))
    Image.new("RGB", (184, 140), (90, 120, 60)).save(images_of(out, BACKGROUND) / "tmp", format="JPEG")
    sys.stdout.write(f"{out}: {written} recordings\n")


def images_of(out: Path, name: str) -> Path:
    return out / "101_ObjectCategories" / name


def write_class(out: Path, name: str, *, per_class: int | None, num_events: int, seed: int) -> int:
    """Write the images and recordings of one class; return the number of recordings."""
    count = NUM_IMAGES[name] if per_class is None else min(per_class, NUM_IMAGES[name])
    recordings = out / "Caltech101" / name
    images_of(out, name).mkdir(parents=True, exist_ok=True)
    if name in NUM_RECORDINGS:
        recordings.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        rng = np.random.default_rng([seed, sorted(NUM_IMAGES).index(name), number])
        picture = draw_image(name, rng)
        stem = f"image_{number:04d}"
        if name in NUM_RECORDINGS:
            events = sample_events(picture, rng, num_events)
            (recordings / f"{stem}.bin").write_bytes(encode_atis(events, place=stem))
        if name == BACKGROUND and number == min(HUGE_NUMBER, count):
            picture = picture.resize(HUGE, Image.Resampling.BILINEAR)
        elif is_gray(name, number):
            picture = picture.convert("L")
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=85)
        (images_of(out, name) / f"{stem}.jpg").write_bytes(buffer.getvalue())
    return count if name in NUM_RECORDINGS else 0


def is_gray(name: str, number: int) -> bool:
    """Spread the known number of gray images evenly over a class; the first one is among them."""
    num_gray, total = GRAY.get(name, 0), NUM_IMAGES[name]
    return (number - 1) * num_gray % total < num_gray


def draw_image(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one RGB image: a shape with a texture, both of the class, before a background of its own."""
    style = np.random.default_rng(sorted(NUM_IMAGES).index(name))
    base = SIZES[int(style.integers(len(SIZES)))]
    width, height = (max(80, round(side * rng.uniform(0.85, 1.1))) for side in base)
    lobes, depth = int(style.integers(2, 9)), style.uniform(0.1, 0.45)
    frequency, angle = style.uniform(0.03, 0.2), style.uniform(0.0, np.pi)
    colors = style.uniform(0.0, 255.0, (2, 3))
    x = (np.arange(width)[None, :] - width * rng.uniform(0.4, 0.6)) / min(width, height)
    y = (np.arange(height)[:, None] - height * rng.uniform(0.4, 0.6)) / min(width, height)
    turn = np.arctan2(y, x) * lobes + style.uniform(0.0, np.pi) + rng.uniform(-0.3, 0.3)
    inside = np.hypot(x, y * style.uniform(0.7, 1.4)) < rng.uniform(0.28, 0.4) * (1.0 + depth * np.cos(turn))
    stripes = np.sin(2.0 * np.pi * frequency * min(width, height) * (x * np.cos(angle) + y * np.sin(angle)))
    clutter = rng.uniform(0.0, 255.0, (6, 8, 3)).astype(np.uint8)
    background = Image.fromarray(clutter).resize((width, height), Image.Resampling.BICUBIC)
    canvas = np.asarray(background, dtype=np.float32) * 0.5 + 60.0
    texture = np.where(stripes[..., None] > 0.0, colors[0], colors[1])
    canvas = np.where(inside[..., None], texture, canvas) + rng.normal(0.0, 4.0, (height, width, 1))
    return Image.fromarray(np.clip(canvas, 0.0, 255.0).astype(np.uint8))


def sample_events(picture: Image.Image, rng: np.random.Generator, num_events: int) -> Events:
    """Draw events where the image, fitted into 227 x 167 and led along the saccades, changes."""
    scale = min(FITTED[0] / picture.width, FITTED[1] / picture.height)
    size = (max(2, round(picture.width * scale)), max(2, round(picture.height * scale)))
    small = np.asarray(picture.convert("L").resize(size, Image.Resampling.BILINEAR), dtype=np.float64)
    slope_y, slope_x = np.gradient(np.log(small + 20.0))
    total = max(4, round(num_events * float(np.clip(rng.lognormal(-0.08, 0.4), 0.2, 4.0))))
    num_noise = round(total * NOISE_SHARE)
    moved = np.array_split(np.arange(total - num_noise), 3)
    legs = [sample_leg(slope_x, slope_y, leg, len(part), rng) for leg, part in enumerate(moved)]
    noise = (
        rng.integers(0, PATH.duration_us, num_noise),
        rng.integers(0, size[0] + 6, num_noise),
        rng.integers(0, size[1] + 6, num_noise),
        rng.random(num_noise) < 0.5,
    )
    t, x, y, p = (np.concatenate(column) for column in zip(*legs, noise, strict=True))
    order = np.argsort(t, kind="stable")
    return Events(t[order], x[order].astype(np.uint16), y[order].astype(np.uint16), p[order])


def sample_leg(
    slope_x: NDArray[np.float64], slope_y: NDArray[np.float64], leg: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Draw the events of one saccade: each pixel as often as the image changes there along the motion."""
    (from_x, from_y), (to_x, to_y) = PATH.corners[leg : leg + 2]
    change = -((to_x - from_x) * slope_x + (to_y - from_y) * slope_y)
    reach = np.cumsum(np.abs(change).ravel() + 1e-6)
    pixel = np.searchsorted(reach, rng.random(count) * reach[-1], side="right")
    y, x = np.divmod(np.minimum(pixel, change.size - 1), change.shape[1])
    # Equal shares of the way are equally likely, so that the rate follows the speed.
    instants = np.arange(0, PATH.saccade_us + 1, 500)
    dx, dy = PATH.displacement(instants + leg * PATH.saccade_us - (instants == PATH.saccade_us))
    way = np.hypot(dx - from_x, dy - from_y)
    share = rng.random(count) * way[-1]
    t = leg * PATH.saccade_us + np.minimum(np.interp(share, way, instants), PATH.saccade_us - 1).astype(np.int64)
    shift_x, shift_y = PATH.displacement(t)
    return t, np.rint(x + shift_x).astype(np.int64), np.rint(y + shift_y).astype(np.int64), change[y, x] > 0.0


if __name__ == "__main__":
    sys.exit(main())
