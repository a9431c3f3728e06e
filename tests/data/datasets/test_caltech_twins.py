import numpy as np
import pytest
import trees
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

from tmkt_data import PairedFrames
from tmkt_data.cli.main import main
from tmkt_data.datasets.caltech_twins import list_photographs, open_caltech_twins
from tmkt_data.datasets.caltech_twins_source import simulate_twin, twins_folder, write_twins
from tmkt_data.datasets.registry import open_catalogue
from tmkt_data.datasets.shown import NCALTECH101_CAMERA
from tmkt_data.datasets.source_table import Source
from tmkt_data.errors import CatalogueError, ImageError, SpecError
from tmkt_data.events.formats.atis import read_atis


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(5)
    root = tmp_path / "root"
    for name, count in {"watch": 5, "Motorbikes": 4, "Faces": 3, "lonely": 2}.items():
        for number in range(1, count + 1):
            path = root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg"
            trees.random_picture(path, rng, int(rng.integers(40, 90)), 60, "L" if number == 2 else "RGB")
    return root


def test_classes_that_are_there_bytewise(photographs):
    names, sources, notes = list_photographs(photographs)
    assert names == ("Motorbikes", "watch")
    assert [source.id for source in sources][:2] == ["Motorbikes/image_0001", "Motorbikes/image_0002"]
    assert len(sources) == 9
    assert notes == [
        "images: Faces left out, other crops of Faces_easy",
        "images: classes of fewer than 3 photographs left out: lonely",
    ]
    same = list_photographs(photographs / "101_ObjectCategories")
    assert [source.id for source in same[1]] == [source.id for source in sources]


def test_a_class_that_is_a_broken_link_is_refused(photographs, tmp_path):
    (photographs / "101_ObjectCategories" / "lobster").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CatalogueError, match="the link lobster leads nowhere, expected folders of classes"):
        list_photographs(photographs)


def test_every_photograph_gets_its_recording_and_a_second_writing_does_nothing(photographs, tmp_path):
    _, sources, _ = list_photographs(photographs)
    folder = twins_folder(sources, tmp_path / "out")
    assert list(write_twins(sources, folder)) == list(range(1, 10))
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*/*.bin")}
    assert len(files) == 9
    assert list(write_twins(sources, folder)) == list(range(1, 10))
    assert files == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*/*.bin")}
    catalogue = open_catalogue("caltech101-twins", photographs, events=folder)
    assert catalogue.num_twins == len(catalogue.recordings) == 9
    assert "SIMULATED" in catalogue.notes[-1]


def test_the_name_of_a_class_may_begin_with_that_of_another(photographs, tmp_path):
    folder = photographs / "101_ObjectCategories"
    (folder / "Motorbikes").rename(folder / "watch-strap")
    _, sources, _ = list_photographs(photographs)
    list(write_twins(sources, tmp_path / "out"))
    catalogue = open_catalogue("caltech101-twins", photographs, events=tmp_path / "out")
    assert [source.id for source in catalogue.recordings][3:5] == ["watch-strap/image_0004", "watch/image_0001"]
    assert catalogue.num_twins == 9


def test_an_interrupted_writing_ends_with_the_same_bytes(photographs, tmp_path):
    _, sources, _ = list_photographs(photographs)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    list(write_twins(sources, whole))
    steps = write_twins(sources, cut)
    for _ in range(4):
        next(steps)
    steps.close()
    assert len(list(cut.glob("*/*.bin"))) == 4
    list(write_twins(sources, cut))
    for path in whole.glob("*/*.bin"):
        assert path.read_bytes() == (cut / path.relative_to(whole)).read_bytes()


def test_a_recording_depends_on_its_photograph_and_id_alone(photographs):
    _, sources, _ = list_photographs(photographs)
    first = simulate_twin(sources[0]).to_array()
    np.testing.assert_array_equal(simulate_twin(sources[0]).to_array(), first)
    renamed = simulate_twin(sources[0]._replace(id="watch/image_0009")).to_array()
    assert len(renamed) != len(first) or (renamed != first).any()


def test_other_photographs_go_to_another_folder(photographs, tmp_path):
    _, sources, _ = list_photographs(photographs)
    before = twins_folder(sources, tmp_path)
    trees.random_picture(sources[0].path, np.random.default_rng(9), 50, 60)
    assert twins_folder(sources, tmp_path) != before
    assert twins_folder(sources[1:], tmp_path) != before


def test_prepare_makes_everything_in_one_command(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    out = tmp_path / "twins.h5"
    result = CliRunner().invoke(
        main, ["prepare", "caltech101-twins", "--root", str(photographs), "--out", str(out), "--test-share", "0.3"]
    )
    assert result.exit_code == 0, result.output
    assert "simulating recordings of 9 photographs" in result.output
    assert "tmkt-train recipe scnn_caltech_twins" in result.output
    frames = PairedFrames(out, "train", pairing="twin")
    assert frames.size == (32, 32)
    batch = frames.read(np.arange(len(frames)))
    assert (batch.events.sum((1, 2, 3, 4)) > 500).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no images (class folders with image_0001.jpg) found"),
        (["--root", "EMPTY"], "no images (class folders with image_0001.jpg) found"),
        (["--root", "ROOT", "--events", "EMPTY"], "simulates its recordings; omit --events"),
    ],
)
def test_wrong_folders_are_named(photographs, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "ROOT": str(photographs)}
    result = CliRunner().invoke(main, ["prepare", "caltech101-twins", *(places.get(a, a) for a in arguments)])
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_one_class_or_a_broken_photograph_is_refused(photographs, tmp_path):
    lonely = tmp_path / "lonely"
    (photographs / "101_ObjectCategories" / "watch").rename(lonely)
    with pytest.raises(CatalogueError, match="no two classes of 3 photographs or more found"):
        list_photographs(photographs)
    lonely.rename(photographs / "101_ObjectCategories" / "watch")
    (photographs / "101_ObjectCategories" / "watch" / "image_0003.jpg").write_bytes(b"no picture")
    _, sources, _ = list_photographs(photographs)
    with pytest.raises(ImageError, match=r"image_0003\.jpg"):
        list(write_twins(sources, tmp_path / "out"))


def test_recordings_that_are_missing_are_named(photographs, tmp_path):
    with pytest.raises(CatalogueError, match="no simulated recording of Motorbikes/image_0001"):
        open_caltech_twins(photographs, tmp_path)
    with pytest.raises(SpecError, match="no folder of simulated recordings"):
        open_catalogue("caltech101-twins", photographs)


def blurred(events, size, chosen):
    width, height = size
    at = events.y[chosen].astype(np.int64) * width + events.x[chosen]
    counts = np.bincount(at, minlength=width * height).reshape(height, width).astype(float)
    return ndimage.gaussian_filter(counts, 1.0)


def test_the_simulated_recording_is_near_the_real_one_of_the_same_photograph(real_data):
    real = read_atis(real_data / "ncaltech101" / "Caltech101" / "Faces_easy" / "image_0001.bin")
    path = real_data / "caltech101" / "101_ObjectCategories" / "Faces_easy" / "image_0001.jpg"
    made = simulate_twin(Source("Faces_easy/image_0001", 0, str(path), 0))
    # The real recording was cropped to one row and column more.
    assert made.sensor_size == (150, 172)
    assert real.extent[2:] == (150, 172)
    assert len(made) / len(real) == pytest.approx(1, abs=0.15)
    assert made.p.mean() == pytest.approx(real.p.mean(), abs=0.02)
    thirds = [np.histogram(events.t, [0, 105_000, 210_000, 315_000])[0] / len(events) for events in (made, real)]
    np.testing.assert_allclose(*thirds, atol=0.08)
    size = (151, 173)
    whole = [blurred(events, size, np.ones(len(events), bool)) for events in (made, real)]
    assert np.corrcoef(whole[0].ravel(), whole[1].ravel())[0, 1] > 0.8
    # The polarity of a saccade: light over dark, not the negative.
    first = [blurred(events, size, (events.t < 105_000) & ~events.p) for events in (made, real)]
    assert np.corrcoef(first[0].ravel(), first[1].ravel())[0, 1] > 0.8


def test_a_blank_photograph_gives_noise_alone(tmp_path):
    path = tmp_path / "image_0001.jpg"
    Image.new("RGB", (60, 40), (128, 128, 128)).save(path)
    events = simulate_twin(Source("blank/image_0001", 0, str(path), 0))
    # Shot noise below its rate in black, leak, and hot pixels.
    pixels = NCALTECH101_CAMERA.pixels
    most = pixels.shot_hz + pixels.leak_hz + 4 * pixels.hot_share * pixels.hot_hz
    area = events.sensor_size.width * events.sensor_size.height
    assert 0.2 * pixels.shot_hz * 0.3 * area < len(events) < most * 0.3 * area


@pytest.mark.parametrize("shape", [(1, 1), (300, 4), (3, 200)])
def test_a_thin_photograph_is_recorded(tmp_path, shape):
    path = tmp_path / "image_0001.jpg"
    trees.random_picture(path, np.random.default_rng(2), *shape)
    events = simulate_twin(Source("thin/image_0001", 0, str(path), 0))
    assert len(events)
    assert events.x.max() < events.sensor_size.width
    assert events.y.max() < events.sensor_size.height
