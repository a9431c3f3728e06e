"""Settings of a simulated camera as a TOML file, and values given by name."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any

from tmkt_data.errors import SpecError
from tmkt_data.files import decode_text, read_bytes
from tmkt_data.simulate.camera import CameraSettings
from tmkt_data.simulate.paths import PATH_KINDS, Path
from tmkt_data.simulate.pixels import PixelModel

_MAX_BYTES = 1 << 20
PIXEL_VALUES = {option.name: option for option in dataclasses.fields(PixelModel)}
"""Fields of the pixel model by name, with their text and range."""
_OF_A_RUN = ("version", "seed", "sensor_size", "format")
"""Keys of `simulate.toml` beside the camera."""
_PATH_VALUES = [option.name for option in dataclasses.fields(Path)]


def read_camera(file: FilePath) -> CameraSettings:
    """Read a camera: keys of `PixelModel`, and a table `[path]` with those of `Path`; what is absent is the default.

    Raises:
        SpecError: The file is missing or not valid TOML, or has unknown keys or values out of range.
    """
    values = _read_toml(file)
    for name in _OF_A_RUN:
        values.pop(name, None)
    path = values.pop("path", {})
    if not isinstance(path, dict):
        raise SpecError(f"{file.name}: path: found {path!r}, expected a table such as [path] with kind = 'saccades'")
    return CameraSettings(_pixels_of(values, file.name), _path_of(path, f"{file.name}: [path]"))


def read_path(name_or_file: str) -> Path:
    """Return the path of a name, such as `random-walk`, or of a TOML file with the keys of `Path`.

    Raises:
        SpecError: Neither, or a file with unknown keys or values out of range.
    """
    if name_or_file in PATH_KINDS and name_or_file != "points":
        return Path(kind=name_or_file)
    file = FilePath(name_or_file)
    if file.suffix.lower() != ".toml":
        names = ", ".join(kind for kind in PATH_KINDS if kind != "points")
        raise SpecError(f"path: found {name_or_file!r}, expected {names}, or a file such as path.toml")
    values = _read_toml(file)
    return _path_of({"kind": "points"} | values if "points" in values else values, file.name)


def with_values(settings: CameraSettings, given: Iterable[str]) -> CameraSettings:
    """Return settings with some values replaced.

    Args:
        settings: The settings.
        given: Such as `threshold_on=0.3` or `path.scale=0.8`.

    Raises:
        SpecError: Unknown names, or values out of range.

    Example:
        >>> with_values(CameraSettings(), ["shot_hz=0", "path.kind='jitter'"]).path.kind
        'jitter'
    """
    pixels: dict[str, Any] = {}
    path: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise SpecError(f"camera: found {text!r}, expected a name and a value such as threshold_on=0.3")
        (path if name.startswith("path.") else pixels)[name.removeprefix("path.")] = _value_of(value)
    return CameraSettings(
        _pixels_of(dataclasses.asdict(settings.pixels) | pixels, "camera"),
        _path_of(dataclasses.asdict(settings.path) | path, "camera: path"),
    )


def camera_text(settings: CameraSettings) -> str:
    """Return settings as TOML, every value stated and explained, which `read_camera` reads to the same settings.

    Example:
        >>> print(camera_text(CameraSettings()).splitlines()[1])
        threshold_on = 0.2
    """
    lines = [
        line
        for name, value in dataclasses.asdict(settings.pixels).items()
        for line in (f"# {PIXEL_VALUES[name].metadata['text']}", f"{name} = {_toml(value)}")
    ]
    path = dataclasses.asdict(settings.path)
    if not path["points"]:
        del path["points"]
    return "\n".join([*lines, "", "[path]", *(f"{name} = {_toml(value)}" for name, value in path.items())]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str([list(row) for row in value]) if isinstance(value, tuple) else repr(value)


def _value_of(text: str) -> Any:
    """Return a value as TOML reads it; a bare word is text."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()


def _read_toml(file: FilePath) -> dict[str, Any]:
    data = read_bytes(file, limit=_MAX_BYTES + 1, error=SpecError)
    if len(data) > _MAX_BYTES:
        raise SpecError(f"{file}: more than {_MAX_BYTES:,} bytes, expected some lines of settings")
    try:
        return tomllib.loads(decode_text(data))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise SpecError(f"{file}: not valid TOML ({str(broken).splitlines()[0]}); fix it") from None


def _require_known(values: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    known = list(known)
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise SpecError(f"{place}: unknown {name!r}, expected {', '.join(known)}{hint}")


def _pixels_of(values: Mapping[str, Any], place: str) -> PixelModel:
    _require_known(values, PIXEL_VALUES, place)
    return PixelModel(**values)


def _path_of(values: Mapping[str, Any], place: str) -> Path:
    _require_known(values, _PATH_VALUES, place)
    points = values.get("points", ())
    if not isinstance(points, (list, tuple)) or not all(isinstance(row, (list, tuple)) for row in points):
        raise SpecError(f"{place}: points: found {points!r}, expected rows such as [0, 0.0, 0.0]")
    return Path(**{**values, "points": tuple(map(tuple, points))})
