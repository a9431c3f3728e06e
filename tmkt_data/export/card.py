"""The card of an exported dataset: README.md for readers and for the Hugging Face hub, Croissant for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tmkt_data.cache.reader import Cache
from tmkt_data.export.parquet import column_of
from tmkt_data.export.parts import Part

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "includes": "cr:includes",
    "recordSet": "cr:recordSet",
    "sc": "https://schema.org/",
    "source": "cr:source",
}


class Exported(NamedTuple):
    """A part as it was written: its files, in order."""

    part: Part
    files: tuple[str, ...]


def readme(cache: Cache, protocol: str, exported: Sequence[Exported], export_format: str) -> str:
    """Return README.md: YAML that names the files of each side and split, and where the data comes from."""
    info, spec = cache.info, cache.spec
    lines = ["---", f"pretty_name: {info.dataset}, prepared by tmkt", "license: other", "configs:"]
    for side in ("events", "images"):
        parts = [one for one in exported if one.part.side == side]
        if parts:
            suffix = "parquet" if export_format == "parquet" else "tar"
            lines += [f"- config_name: {side}", "  data_files:"]
            for one in parts:
                split = "validation" if one.part.split == "val" else one.part.split
                lines += [f"  - split: {split}", f"    path: {side}-{one.part.split}-*.{suffix}"]
    counts = [
        f"| {one.part.side} | {one.part.split} | {len(one.part.rows)} | {len(one.files)} | "
        f"{' x '.join(map(str, one.part.shape))} {one.part.dtype.name} |"
        for one in exported
    ]
    about = (
        f"Recordings of an event camera as frames of {spec.time_bins} time bins at {spec.size} x {spec.size} "
        f"({spec.representation}; OFF before ON), and the intensities of the images beside them. A recording and an "
        "image with the same id are twins; any image of a class can be paired with its recordings."
    )
    lines += ["---", "", f"# {info.dataset}, prepared by tmkt", "", about, ""]
    lines += [f"Splits: protocol `{protocol}`. The license of {info.dataset} holds; it is not known to tmkt.", ""]
    lines += ["| side | split | samples | files | array |", "|---|---|---:|---:|---|", *counts, ""]
    lines += [f"Cache digest: `{info.digest}`. Options of the preparation:", ""]
    lines += ["```json", json.dumps(spec.to_dict(), indent=2, sort_keys=True), "```", ""]
    return "\n".join(lines)


def croissant(cache: Cache, exported: Sequence[Exported], checksums: dict[str, str]) -> dict[str, Any]:
    """Return Croissant 1.0 metadata of Parquet files: every file with its SHA-256, and the columns of each side.

    Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
    """
    files = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "encodingFormat": "application/x-parquet",
            "sha256": checksums[name],
        }
        for one in exported
        for name in one.files
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": cache.info.dataset,
        "description": f"{cache.info.dataset}: recordings of an event camera as frames, and images beside them.",
        "version": "1.0.0",
        "distribution": files,
        "recordSet": [_record_set(one) for one in exported],
    }


def _record_set(one: Exported) -> dict[str, Any]:
    name = f"{one.part.side}-{one.part.split}"
    types = {"id": "sc:Text", "label": "sc:Integer", column_of(one.part.side): _croissant_type(one.part)}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "dataType": data_type,
            "source": {"fileObject": {"@id": one.files[0]}, "extract": {"column": column}},
        }
        for column, data_type in types.items()
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _croissant_type(part: Part) -> str:
    return "sc:Float" if part.dtype.kind == "f" else "sc:Integer"
