"""Export a cache: every recording and image of every split, a card, and the metadata of the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from tmkt_data.cache.reader import Cache
from tmkt_data.errors import CacheError, SpecError
from tmkt_data.export import parquet, webdataset
from tmkt_data.export.card import Exported, croissant, readme
from tmkt_data.export.new_folder import make_new_folder
from tmkt_data.export.parts import parts_of, samples
from tmkt_data.files import file_digest, write_bytes

ExportFormat = Literal["webdataset", "parquet"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)


def export_cache(
    path: str | Path,
    out: str | Path,
    export_format: ExportFormat,
    *,
    protocol: str = "twin-disjoint",
    shard_bytes: int = 256_000_000,
) -> Iterator[tuple[int, int]]:
    """Export a cache to a new folder; nothing is written before the first step.

    README.md is written last, so a folder that has one is complete. The same cache gives the same bytes.

    Args:
        path: The cache.
        out: Folder to write; it must not exist, or be empty.
        export_format: `webdataset`: tar files that any WebDataset loader streams; `parquet`: columns that Hugging Face
            `datasets` loads with their types, and Croissant metadata.
        protocol: Whose splits the files have.
        shard_bytes: Bytes of uncompressed arrays in a file, at most, but for a file of one sample.

    Yields:
        Samples that are done, and their number.

    Raises:
        CacheError: The cache is damaged, or a file cannot be written.
        SpecError: An unknown format, a library is missing, or the folder is not empty.
    """
    if export_format not in EXPORT_FORMATS:
        raise SpecError(f"format: found {export_format!r}, expected one of {', '.join(EXPORT_FORMATS)}")
    if export_format == "parquet":
        parquet.require_pyarrow()
    cache, out = Cache(path), Path(out)
    parts = parts_of(cache, protocol)
    make_new_folder(out, SpecError)
    exported: list[Exported] = []
    total, done = sum(len(part.rows) for part in parts), 0
    for part in parts:
        shards = part.shards(shard_bytes)
        # As `datasets` names files, and as loaders of WebDataset take them: events-train-{00000..00003}.tar.
        end = f"-of-{len(shards):05}.parquet" if export_format == "parquet" else ".tar"
        names = tuple(f"{part.side}-{part.split}-{number:05}{end}" for number in range(len(shards)))
        for name, rows in zip(names, shards, strict=True):
            found = samples(cache, part, rows)
            if export_format == "parquet":
                parquet.write_file(out / name, found, part, cache.class_names)
            else:
                webdataset.write_shard(out / name, found)
            done += len(rows)
            yield done, total
        exported.append(Exported(part, names))
    if export_format == "parquet":
        sums = {name: file_digest(out / name, "sha256", error=CacheError) for one in exported for name in one.files}
        metadata = json.dumps(croissant(cache, exported, sums), indent=1)
        write_bytes(out / "croissant.json", f"{metadata}\n".encode(), error=CacheError)
    card = readme(cache, protocol, exported, export_format)
    write_bytes(out / "README.md", card.encode(), error=CacheError)
