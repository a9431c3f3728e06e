"""Paths of both command lines: of a file system, and where URLs of object stores are taken, too."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from tmkt_data.cli.reporting import CacheUrl
from tmkt_data.errors import SpecError, TmktError
from tmkt_data.storage.store_urls import checked_url, is_url


class LocalPath(click.Path):
    """A path; of a URL, the system would make folders such as `s3:`, and of nothing the current one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a URL and an empty path; see `click.Path.convert`."""
        name = param.opts[0] if param is not None else "path"
        if value == "":
            raise SpecError(f"{name}: found an empty path, expected one; is a variable of the shell not set?")
        if is_url(value):
            raise SpecError(
                f"{name}: found the URL {value!r}, expected a path of a file system; mount what it names, or copy it"
            )
        return super().convert(value, param, ctx)


class SourcePath(LocalPath):
    """A folder or an archive, or the URL of an object store, which stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check a URL; see `click.Path.convert`."""
        return checked_url(value) if is_url(value) else super().convert(value, param, ctx)


class _File(LocalPath):
    """A file path; for a folder, click alone would print a usage error."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        # What the system refuses is told by who reads or writes the file.
        with suppress(OSError):
            if isinstance(path, Path) and path.is_dir():
                raise TmktError(f"{path}: a folder, expected a file; name one file in it")
        return path


class _Target(_File):
    """A file to write, or the URL of an object, which stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return checked_url(value) if is_url(value) else super().convert(value, param, ctx)


class _Cache(_File):
    """A cache to read; one in an object store is copied to the cache directory before the command runs."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return CacheUrl(checked_url(value)) if is_url(value) else super().convert(value, param, ctx)


FILE = _File(path_type=Path)
CACHE = _Cache(path_type=Path)
TARGET = _Target(path_type=Path)
