"""WebDataset shards: tar files with one group of members per sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tmkt_data.errors import CacheError
from tmkt_data.export.parts import Sample
from tmkt_data.files import atomic_write


def write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples as members `KEY.npy`, `KEY.cls` (the label) and `KEY.json` (id, label, class).

    Keys are numbers, since ids may hold dots and slashes, which the format gives a meaning. The same samples give the
    same bytes.

    Raises:
        CacheError: The file cannot be written.
    """
    with atomic_write(path, error=CacheError) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for number, sample in enumerate(samples):
            array = io.BytesIO()
            np.save(array, sample.array, allow_pickle=False)
            about = {"id": sample.id, "label": sample.label, "class": sample.class_name}
            members = (
                ("npy", array.getvalue()),
                ("cls", str(sample.label).encode()),
                ("json", json.dumps(about).encode()),
            )
            for suffix, data in members:
                info = tarfile.TarInfo(f"{path.stem}-{number:06}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
