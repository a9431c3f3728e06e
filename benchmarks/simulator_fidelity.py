"""Compare simulated with real N-MNIST recordings of the same MNIST images, and print a table.

The real recordings are looked for in --real, in TMKT_REAL_DATA, and in ../shared/data, in this order; the
folder holds nmnist/N-MNIST and nmnist/MNIST_png. All 600 recordings take less than a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tmkt_data.events.events import Events
from tmkt_data.events.formats.atis import read_atis
from tmkt_data.random_keys import sample_uid
from tmkt_data.simulate.recording import NMNIST_SETTINGS, SimulatorSettings, simulate_recording

NUM_RATE_BINS = 30
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One image with its real recording."""

    digit: int
    stem: str
    image: NDArray[np.uint8]
    real: Events


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--real", type=Path, help="folder that holds nmnist/N-MNIST and nmnist/MNIST_png")
    parser.add_argument("--every", type=int, default=1, help="take every n-th recording (default 1)")
    arguments = parser.parse_args()
    root = find_real(arguments.real)
    if root is None:
        print(
            "no real recordings: give --real DIR or TMKT_REAL_DATA, a folder with nmnist/N-MNIST",
            file=sys.stderr,
        )
        return 1
    samples = load_samples(root, arguments.every)
    simulated = simulate(samples, NMNIST_SETTINGS)
    print_table(samples, simulated)
    return 0


def find_real(given: Path | None) -> Path | None:
    """Return the first folder that holds N-MNIST beside MNIST."""
    checkout = Path(__file__).resolve().parents[1]
    named = os.environ.get("TMKT_REAL_DATA")
    places = [given] if given else [*([Path(named)] if named else []), checkout.parent / "shared" / "data"]
    return next((place for place in places if (place / "nmnist" / "N-MNIST" / "Train").is_dir()), None)


def load_samples(root: Path, every: int) -> list[Sample]:
    """Read every n-th training recording with its image."""
    files = sorted((root / "nmnist" / "N-MNIST" / "Train").glob("[0-9]/*.bin"), key=lambda file: file.stem)
    samples = []
    for file in files[::every]:
        picture = root / "nmnist" / "MNIST_png" / "Train" / file.parent.name / f"{file.stem}.png"
        samples.append(Sample(int(file.parent.name), file.stem, np.array(Image.open(picture)), read_atis(file)))
    return samples


def simulate(samples: list[Sample], settings: SimulatorSettings) -> list[Events]:
    """Simulate a recording of each image."""
    return [simulate_recording(sample.image, key=sample_uid(sample.stem), settings=settings) for sample in samples]


def rate(recordings: list[Events]) -> FloatArray:
    """Mean events per recording in each 10 ms of the first 300 ms, shape (30,)."""
    edges = np.arange(NUM_RATE_BINS + 1) * 10_000
    return np.asarray(np.mean([np.histogram(events.t, edges)[0] for events in recordings], axis=0))


def density(events: Events) -> FloatArray:
    """Events per pixel, shape (34, 34)."""
    out = np.zeros((34, 34))
    np.add.at(out, (events.y, events.x), 1.0)
    return out


def frames(events: Events) -> FloatArray:
    """Events per 30 ms, polarity and pixel, shape (10, 2, 34, 34)."""
    out = np.zeros((10, 2, 34, 34))
    np.add.at(out, (np.minimum(events.t // 30_000, 9), events.p.astype(int), events.y, events.x), 1.0)
    return out


def stabilized(events: Events) -> FloatArray:
    """Events per image pixel after removing the published linear motion, smoothed, shape (28, 28)."""
    u = np.minimum(events.t / 105_000.0, 3.0)
    dx = np.interp(u, [0, 1, 2, 3], [0, 3.5, 7, 0])
    dy = np.interp(u, [0, 1, 2, 3], [0, 7, 0, 0])
    x, y = np.rint(events.x - dx).astype(int), np.rint(events.y - dy).astype(int)
    inside = (x >= 0) & (x < 28) & (y >= 0) & (y < 28)
    out = np.zeros((28, 28))
    np.add.at(out, (y[inside], x[inside]), 1.0)
    return np.asarray(ndimage.gaussian_filter(out, 0.7))


def standardize(stack: FloatArray) -> FloatArray:
    """Bring each map to mean 0 and norm 1, so that a dot product is Pearson's correlation."""
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def alignment(samples: list[Sample], recordings: list[Events]) -> FloatArray:
    """Correlate each recording (row) with the gradient of each image, best over shifts of 3 pixels."""
    maps = standardize(np.stack([stabilized(events) for events in recordings]))
    images = np.stack([ndimage.gaussian_gradient_magnitude(s.image.astype(np.float64), 1.0) for s in samples])
    best = np.full((len(samples), len(samples)), -1.0)
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            best = np.maximum(best, maps @ standardize(np.roll(images, (dy, dx), (1, 2))).T)
    return best


def own_and_other(scores: FloatArray, digits: NDArray[np.int64]) -> tuple[float, float, float, int]:
    """Mean on the diagonal, off it within a digit, across digits, and how often the diagonal is the best."""
    same = digits[:, None] == digits[None, :]
    own = np.eye(len(digits), dtype=bool)
    first = int(np.count_nonzero(scores.argmax(axis=1) == np.arange(len(digits))))
    return float(scores[own].mean()), float(scores[same & ~own].mean()), float(scores[~same].mean()), first


def gaps(recordings: list[Events]) -> FloatArray:
    """Times between successive events of a pixel, percentiles 2, 10, 25, 50, 75, in milliseconds."""
    out = []
    for events in recordings:
        pixel = events.y.astype(np.int64) * 34 + events.x
        order = np.lexsort((events.t, pixel))
        out.append(np.diff(events.t[order])[np.diff(pixel[order]) == 0])
    return np.asarray(np.percentile(np.concatenate(out), [2, 10, 25, 50, 75]) / 1000.0)


def correlate(rows: NDArray[np.generic]) -> float:
    """Pearson's correlation of two rows."""
    left, right = standardize(rows.astype(np.float64))
    return float(left @ right)


def print_table(samples: list[Sample], simulated: list[Events]) -> None:
    """Print real beside simulated, then the correlations between the two."""
    digits = np.array([sample.digit for sample in samples])
    real = [sample.real for sample in samples]
    columns = [describe(samples, recordings, digits) for recordings in (real, simulated)]
    print(f"{len(samples)} images\n{'':44}{'real':>24}{'simulated':>24}")
    for (name, left), (_, right) in zip(*columns, strict=True):
        print(f"{name:44}{left:>24}{right:>24}")
    counts = np.array([[len(events) for events in side] for side in (real, simulated)])
    rates = np.stack([rate(real), rate(simulated)])
    print(f"\ncorrelation of the counts over images: {correlate(counts):.3f}")
    print(f"correlation of the rate over {NUM_RATE_BINS} bins of 10 ms: {correlate(rates):.3f}")
    print(f"\n{'simulated with real, correlation':44}{'twin':>10}{'same digit':>12}{'others':>10}{'twin best':>14}")
    for name, reduce in (("events per pixel", density), ("10 frames of OFF and ON", frames)):
        left, right = (standardize(np.stack([reduce(events) for events in side])) for side in (simulated, real))
        own, same, other, first = own_and_other(left @ right.T, digits)
        print(f"{name:44}{own:>10.3f}{same:>12.3f}{other:>10.3f}{first:>7} of {len(samples)}")
    print("\nevents per 10 ms   real  simulated")
    for index, (left_rate, right_rate) in enumerate(rates.T):
        bars = "#" * round(left_rate / 8) + " / " + "#" * round(right_rate / 8)
        print(f"{10 * index:>4}..{10 * index + 10:<4} ms  {left_rate:>8.1f}  {right_rate:>8.1f}  {bars}")


def describe(samples: list[Sample], recordings: list[Events], digits: NDArray[np.int64]) -> list[tuple[str, str]]:
    """Return the lines of one column of the table."""
    counts = np.array([len(events) for events in recordings])
    polarity = np.concatenate([events.p for events in recordings])
    per_pixel = np.stack([density(events) for events in recordings])
    own, same, other, first = own_and_other(alignment(samples, recordings), digits)
    extent = np.array([events.extent for events in recordings])
    times = ([events.t[0] for events in recordings], [events.t[-1] for events in recordings])
    spread = " ".join(f"{gap:.1f}" for gap in gaps(recordings))
    return [
        ("events, min / median / max", f"{counts.min()} / {np.median(counts):.0f} / {counts.max()}"),
        ("share of ON events", f"{polarity.mean():.3f}"),
        ("pixels with an event, mean", f"{(per_pixel > 0).sum(axis=(1, 2)).mean():.0f}"),
        ("events of the busiest pixel, mean", f"{per_pixel.max(axis=(1, 2)).mean():.1f}"),
        ("gap in a pixel, percentiles 2 10 25 50 75, ms", spread),
        ("x and y", f"{extent[:, :2].min()} to {extent[:, 2:].max()}"),
        ("first and last time, ms", " ".join(f"{np.median(ends) / 1000:.1f}" for ends in times)),
        ("alignment with own image", f"{own:.3f}"),
        ("alignment, same digit / other digits", f"{same:.3f} / {other:.3f}"),
        ("own image is the best of all", f"{first} of {len(samples)}"),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
