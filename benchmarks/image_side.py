"""The image side of `prepare` beside loops over Pillow, in the same run, and where its time goes.

    python benchmarks/image_side.py
    python benchmarks/image_side.py --photographs 128 --repeats 3 --json image_side.json

Every figure is the median over repeats; a ratio is the median of the ratios inside each repeat, as machines are noisy.
Photographs are those of `--source`, repeated until there are enough; without any, they are made: 300 x 200, with the
spectrum of natural images. Frames are 48 x 48. The loops read, decode and resize, and keep nothing; `prepare` also
takes checksums and writes the cache. One thread each, but where two workers are said.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image, features
from timing import Case, ratio, summary, take_times, write_json

SIDE = 48
SOURCE = Path(__file__).parents[2] / "shared/data/caltech101"
BILINEAR = Image.Resampling.BILINEAR


def made_photograph(seed: int) -> Image.Image:
    """Return noise whose amplitude falls with the frequency, in three colors that go together."""
    rng = np.random.default_rng(seed)
    height, width = 200, 300
    fall = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    fall[0, 0] = 1
    shared, *own = (np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / fall) for _ in range(4))
    pixels = np.stack([shared + 0.3 * color for color in own], axis=2)
    return Image.fromarray(np.clip(128 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8))


def write_tree(folder: Path, source: Path, count: int) -> list[Path]:
    """Write one recording, and photographs in the layout of Caltech-101; return the photographs."""
    recording = folder / "Caltech101" / "airplanes" / "image_0001.bin"
    recording.parent.mkdir(parents=True)
    recording.write_bytes(bytes([1, 2, 128, 0, 1]))
    home = folder / "101_ObjectCategories" / "airplanes"
    home.mkdir(parents=True)
    found = sorted(source.rglob("*.jpg"))
    paths = [home / f"image_{number:04d}.jpg" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        if found:
            # Taken evenly from all, as they lie in folders by class.
            shutil.copyfile(found[number * 97 % len(found)], path)
        else:
            made_photograph(number).save(path, quality=85)
    return paths


def value_then_resize(path: Path) -> Any:
    """Take V of every pixel, then resize."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").convert("HSV").getchannel("V").resize((SIDE, SIDE), BILINEAR))


def resize_then_value(path: Path) -> Any:
    """Resize, then take V, as KT does; the order of `prepare`."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), BILINEAR).convert("HSV").getchannel("V"))


def each(run: Callable[[Any], Any], items: list[Any]) -> None:
    """Run over all items, keeping nothing: memory that is kept is memory that has to be fetched."""
    for item in items:
        run(item)


def show(title: str, times: dict[str, list[float]], rivals: list[str]) -> dict[str, Any]:
    """Print medians, the spread of the repeats, and how many times faster each is than the rivals."""
    print(f"\n{title}\n  {'':<30} {'ms an image':>24}  " + "".join(f"{name:>24}" for name in rivals))
    rows: dict[str, Any] = {}
    for name, taken in times.items():
        ratios = {rival: ratio(times[rival], taken) for rival in rivals}
        rows[name] = summary(taken) | {"ratio": ratios}
        spread = f"{rows[name]['ms']:.3f} ({min(taken) * 1e3:.3f} to {max(taken) * 1e3:.3f})"
        print(f"  {name:<30} {spread:>24}  " + "".join(f"{each:>22.2f} x" for each in ratios.values()))
    return rows


def prepare_images(folder: Path, paths: list[Path], repeats: int) -> dict[str, Any]:
    """Measure a whole `prepare` of nearly nothing but images beside the loops."""
    from tmkt_data import default_spec, open_catalogue, plan_prepare, prepare_cache

    catalogue = open_catalogue("ncaltech101", folder)

    def prepare(workers: int, decode: Any) -> float:
        (folder / "cache.h5").unlink(missing_ok=True)
        started = time.perf_counter()
        spec = dataclasses.replace(default_spec("ncaltech101"), image_decode=decode)
        for _ in prepare_cache(plan_prepare(catalogue, spec, folder / "cache.h5"), workers=workers, fresh=True):
            pass
        return time.perf_counter() - started

    loops = {"V, then resize": value_then_resize, "resize, then V": resize_then_value}
    case: Case = {
        f"tmkt, {decode}, {workers} worker{'s' * (workers > 1)}": partial(prepare, workers, decode)
        for decode in ("scaled", "full")
        for workers in (1, 2)
    }
    case |= {f"Pillow: {name}": partial(each, loop, paths) for name, loop in loops.items()}
    return show(
        f"prepare {len(paths)} images", take_times(case, repeats, len(paths)), [f"Pillow: {name}" for name in loops]
    )


def parts(paths: list[Path], repeats: int) -> dict[str, Any]:
    """Measure the parts of one image: what no order of them can be faster than, and what is ours."""
    from tmkt_data.images.decode import decode_by_pillow, decode_image, decode_scaled
    from tmkt_data.images.frames import ImageTarget, frame_of_pixels, image_frame

    files = [path.read_bytes() for path in paths]
    target = ImageTarget(SIDE, SIDE)
    smallest = target.smallest_pixels
    scaled = [decode_scaled(data, smallest) for data in files]
    whole = [decode_image(data) for data in files]

    def least(data: bytes) -> None:
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (1, 1))
            image.load()

    def frame(pixels: Any, extent: tuple[float, float]) -> Any:
        return frame_of_pixels(pixels, extent, target, "value")

    case: Case = {
        "open alone": partial(each, lambda data: Image.open(io.BytesIO(data)), files),
        "open and decode at 1/8": partial(each, least, files),
        "decode, scaled": partial(each, lambda data: decode_scaled(data, smallest), files),
        "decode, full": partial(each, decode_image, files),
        "decode, scaled, by Pillow": partial(each, lambda data: decode_by_pillow(data, smallest, ""), files),
        "decode, full, by Pillow": partial(each, lambda data: decode_by_pillow(data, None, ""), files),
        "frame, scaled": partial(each, lambda image: frame(image.pixels, image.extent), scaled),
        "frame, scaled, of full pixels": partial(each, lambda rgb: frame(rgb, rgb.shape[:2]), whole),
        "frame, full": partial(each, lambda rgb: image_frame(rgb, target, "value"), whole),
    }
    return show("parts", take_times(case, repeats, len(files)), [])


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=1024, help="images of the tree (default 1024)")
    parser.add_argument("--source", type=Path, default=SOURCE, help=f"folder with *.jpg in it (default {SOURCE})")
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each figure (default 9)")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_tree(folder, given.source, given.photographs)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        kind = "real" if any(given.source.rglob("*.jpg")) else "made"
        print(f"{kind} photographs, {size / 1e3:.1f} kB each, Pillow {version('pillow')}")
        found = {"prepare": prepare_images(folder, paths, given.repeats), "parts": parts(paths, given.repeats)}
    more = {"libjpeg_turbo": features.version("libjpeg_turbo"), "photographs": kind, "bytes": size}
    write_json(given.json, found, ("pillow", "simplejpeg"), more)


if __name__ == "__main__":
    main()
