"""Settings of a camera as TOML."""

from __future__ import annotations

import pytest

from tmkt_data.errors import SpecError
from tmkt_data.simulate.camera import CameraSettings
from tmkt_data.simulate.camera_file import camera_text, read_camera, read_path, with_values
from tmkt_data.simulate.paths import Path
from tmkt_data.simulate.pixels import PixelModel


@pytest.mark.parametrize(
    "settings",
    [
        CameraSettings(),
        CameraSettings(PixelModel(threshold_on=0.37, negative=True, blur=0), Path(kind="jitter", scale=0.3)),
        CameraSettings(path=Path(kind="points", points=((0, 0.5, -1), (200, 3, 4)))),
    ],
)
def test_text_is_read_to_the_same_settings(settings, tmp_path):
    file = tmp_path / "camera.toml"
    file.write_text(camera_text(settings), encoding="utf-8")
    assert read_camera(file) == settings


def test_absent_values_are_defaults_and_those_of_a_run_are_ignored(tmp_path):
    file = tmp_path / "camera.toml"
    file.write_text('seed = 3\nsensor_size = [4, 4]\nshot_hz = 0\n[path]\nkind = "jitter"\n', encoding="utf-8")
    assert read_camera(file) == CameraSettings(PixelModel(shot_hz=0.0), Path(kind="jitter"))


def test_path_of_a_name_or_a_file(tmp_path):
    assert read_path("random-walk") == Path(kind="random-walk")
    file = tmp_path / "path.toml"
    file.write_text("points = [[0, 0, 0], [150, 4.5, -2]]\n", encoding="utf-8")
    assert read_path(str(file)) == Path(kind="points", points=((0, 0, 0), (150, 4.5, -2)))
    file.write_text('kind = "saccades"\nscale = 0.8\n', encoding="utf-8")
    assert read_path(str(file)) == Path(scale=0.8)


@pytest.mark.parametrize("name", ["circle", "points", "path.json"])
def test_other_names_of_paths_are_refused(name):
    with pytest.raises(SpecError, match=r"expected saccades, random-walk, jitter, or a file such as path\.toml"):
        read_path(name)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("threshold = 0.2", "unknown 'threshold', .*did you mean 'threshold_on'"),
        ("threshold_on = 0", "threshold_on 0 "),
        ("path = 3", r"path: found 3, expected a table"),
        ("[path]\nspeed = 3", r"\[path\]: unknown 'speed'"),
        ('[path]\nkind = "points"\npoints = 3', "points: found 3"),
        ("threshold_on =", "not valid TOML"),
    ],
)
def test_wrong_files_are_refused_in_one_line(text, named, tmp_path):
    file = tmp_path / "camera.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=named) as caught:
        read_camera(file)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        read_camera(tmp_path / "camera.toml")


def test_values_by_name():
    found = with_values(CameraSettings(), ["threshold-on=0.3", "path.kind=jitter", "negative=true"])
    assert found == CameraSettings(PixelModel(threshold_on=0.3, negative=True), Path(kind="jitter"))
    for wrong, named in (
        ("threshold_on", "expected a name and a value"),
        ("x=1", "unknown 'x'"),
        ("blur=b", "blur 'b'"),
    ):
        with pytest.raises(SpecError, match=named):
            with_values(CameraSettings(), [wrong])
