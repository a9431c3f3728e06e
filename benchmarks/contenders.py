"""What stands beside tmkt: a pass in C, tonic and spikingjelly, each as its users run it; and the made recordings."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EVENTS, WIDTH, HEIGHT, BINS, SIDE = 116_000, 240, 180, 10, 48
C_PASS = r"""
#include <stdint.h>
long count(const uint8_t *d, long n, int w, int h, int bins, uint32_t *out) {
    const uint8_t *e = d + 5 * (n - 1);
    int64_t first = ((d[2] & 0x7f) << 16) | (d[3] << 8) | d[4];
    int64_t span = (((e[2] & 0x7f) << 16) | (e[3] << 8) | e[4]) - first + 1, edges[65];
    for (int k = 0; k <= bins; k++) edges[k] = first + (k * span + bins - 1) / bins;
    int k = 0;
    for (long i = 0; i < n; i++, d += 5) {
        int64_t t = ((d[2] & 0x7f) << 16) | (d[3] << 8) | d[4];
        while (t >= edges[k + 1]) k++;
        out[((k * 2 + (d[2] >> 7)) * h + d[1]) * w + d[0]]++;
    }
    return n;
}
"""


def write_recording(path: Path, seed: int) -> None:
    """Write random events of a 240 x 180 sensor in order of time, as ATIS bytes."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, EVENTS))
    x, y, p = rng.integers(0, [[WIDTH], [HEIGHT], [2]], (3, EVENTS))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes())


def c_counter(folder: Path) -> Callable[[Path], Any] | None:
    """Compile a plain pass over the events, which checks none of them; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    (folder / "count.c").write_text(C_PASS)
    command = [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", "count.so", "count.c"]
    subprocess.run(command, cwd=folder, check=True)
    count = ctypes.CDLL(str(folder / "count.so")).count
    count.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]

    def run(path: Path) -> Any:
        data = path.read_bytes()
        out = np.zeros((BINS, 2, HEIGHT, WIDTH), np.uint32)
        count(data, len(data) // 5, WIDTH, HEIGHT, BINS, out.ctypes.data)
        return out

    return run


def our_frames(side: tuple[int, int]) -> Callable[[Path], Any]:
    """Return what `prepare` does to an ATIS recording, onto frames of the size (height, width)."""
    from tmkt_data.events.time_bins import bin_edges
    from tmkt_data.kernels import atis as kernels
    from tmkt_data.kernels.resize import axis_table

    height, width = side
    column, line = np.zeros(256, np.uint32), np.zeros((256, 2), np.uint32)
    column[:WIDTH] = axis_table(WIDTH, width, "sum").target
    line[:HEIGHT] = axis_table(HEIGHT, height, "sum").target[:, None] * width + np.array([0, height * width])
    offsets = column, line.reshape(-1)
    room = np.empty(kernels.EXTENT_ROOM, np.uint8)

    def run(path: Path) -> Any:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        _, _, x_last, y_last, first, last, _ = kernels.atis_extent(data, room)
        out = np.empty((BINS, 2, height, width), np.uint32)
        _, _, backwards = kernels.count_atis(data, bin_edges(first, last, BINS, "exact"), offsets, out.reshape(-1))
        if backwards or x_last >= WIDTH or y_last >= HEIGHT:
            raise ValueError(path)
        return out

    return run


def tonic_frames() -> Callable[[Path], Any] | None:
    """Return tonic's decoder followed by its frames; None where it is not installed."""
    try:
        import tonic
    except ImportError:
        return None
    to_frame = tonic.transforms.ToFrame(sensor_size=(WIDTH, HEIGHT, 2), n_time_bins=BINS)
    return lambda path: to_frame(tonic.io.read_mnist_file(str(path), dtype=tonic.io.events_struct))


def tonic_disk(paths: list[Path], folder: Path) -> tuple[Callable[[], Any], Callable[[int], Any]] | None:
    """Return tonic's first epoch of bilinear frames through a cache on disk, and the reading of one sample from it.

    The cache must not be there before a first epoch.
    """
    run = tonic_frames()
    if run is None:
        return None
    import tonic
    import torch

    class Recordings:
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            frames = torch.from_numpy(run(paths[index]).astype(np.float32))
            small = torch.nn.functional.interpolate(frames, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
            return small.numpy(), 0

    def first() -> None:
        dataset = tonic.DiskCachedDataset(Recordings(), cache_path=str(folder))
        for index in range(len(paths)):
            dataset[index]

    filled = tonic.DiskCachedDataset(Recordings(), cache_path=str(folder))
    return first, lambda index: filled[index][0]


class Jelly:
    """spikingjelly's functions for recordings, from their file alone: the package around it loads audio."""

    def __init__(self) -> None:
        home = importlib.util.find_spec("spikingjelly")
        if home is None or home.origin is None:
            raise ImportError("spikingjelly")
        package = types.ModuleType("spikingjelly.datasets")
        package.__path__ = [str(Path(home.origin).parent / "datasets")]
        sys.modules.setdefault(package.__name__, package)
        self.utils = importlib.import_module("spikingjelly.datasets.utils")

    def frames(self, path: Path) -> Any:
        """Decode and count, in memory."""
        events = self.utils.load_ATIS_bin(str(path))
        return self.utils.integrate_events_by_fixed_frames_number(events, "time", BINS, HEIGHT, WIDTH)

    def write_events(self, path: Path, out: Path) -> None:
        """Write the npz of events that its datasets make of every recording first."""
        self.utils.np_savez(str(out), **self.utils.load_ATIS_bin(str(path)))

    def frames_of_npz(self, path: Path) -> Any:
        """Count what such a npz holds."""
        return self.utils.integrate_events_by_fixed_frames_number(np.load(path), "time", BINS, HEIGHT, WIDTH)

    def write_frames(self, path: Path, out: Path) -> None:
        """Write the npz of frames that its datasets keep, of the sensor's size."""
        self.utils.np_savez(str(out), frames=self.frames(path))

    def read_frames(self, path: Path) -> Any:
        """Read it again."""
        return self.utils.load_npz_frames(str(path))


def jelly() -> Jelly | None:
    """Return spikingjelly's functions, or None where they cannot be loaded."""
    try:
        return Jelly()
    except ImportError:
        return None
