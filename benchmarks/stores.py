"""Prepare a dataset from local files and from a store that answers late: files per second.

    python benchmarks/stores.py
    python benchmarks/stores.py --recordings 5000 --latency-ms 50

The set is that of archives.py. The store is a folder whose every answer waits; it gives no MD5, so each file takes two
answers. The last row asks for one file at a time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from archives import make_tree
from fsspec.implementations.local import LocalFileSystem

from tmkt_data.datasets.registry import default_spec
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.sources.locate import Locations, find_sources
from tmkt_data.storage import member_files


class LateFiles(LocalFileSystem):
    """Files that are read `latency_s` after they are asked for."""

    protocol = "late"
    latency_s: ClassVar[float] = 0.0

    def cat_file(self, path: str, **options: Any) -> bytes:
        """Return a file; see `AbstractFileSystem.cat_file`."""
        time.sleep(self.latency_s)
        return super().cat_file(path, **options)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return size and time of a file; see `AbstractFileSystem.info`."""
        time.sleep(self.latency_s)
        return super().info(path, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("late://"))


def files_per_s(given: Path | str, workers: int, latency_s: float) -> float:
    """Prepare the set once; the listing is not timed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        find_sources("nmnist", Locations(given), unpack_to=Path(folder)) as found,
    ):
        plan = plan_prepare(found.catalogue, default_spec("nmnist"), Path(folder) / "a.h5")
        LateFiles.latency_s, started = latency_s, time.perf_counter()
        for _ in prepare_cache(plan, workers=workers):
            pass
        took, LateFiles.latency_s = time.perf_counter() - started, 0.0
        return (len(plan.catalogue.recordings) + len(plan.catalogue.images)) / took


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=2000)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    options = parser.parse_args()
    fsspec.register_implementation("late", LateFiles)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "nmnist"
        make_tree(root, options.recordings, 1000)
        files_per_s(root, 1, 0.0)
        latency_s = options.latency_ms / 1000
        for workers in (1, 2, 4):
            print(f"local files, {workers} workers: {files_per_s(root, workers, 0.0):.0f} files/s")
            print(f"store, {workers} workers: {files_per_s(f'late://{root}', workers, latency_s):.0f} files/s")
        member_files.AHEAD_FILES = 1
        print(f"store, 2 workers, one file ahead: {files_per_s(f'late://{root}', 2, latency_s):.0f} files/s")


if __name__ == "__main__":
    main()
