"""A folder of images as a dataset of simulated recordings: the tree, resuming, and images of every kind."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from pictures import encoded, photograph, png_file, turned
from PIL import Image

from tmkt_data.datasets.folder import open_folder
from tmkt_data.datasets.simulated import RecordedCamera, plan_simulation
from tmkt_data.datasets.simulated_source import light_of, simulate_folder
from tmkt_data.errors import CatalogueError, ImageError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.read import load_events
from tmkt_data.simulate.camera import CameraSettings
from tmkt_data.simulate.paths import Path as ImagePath
from tmkt_data.simulate.pixels import PixelModel

SMALL = RecordedCamera(sensor_size=SensorSize(40, 30))
SILENT = PixelModel(leak_hz=0, shot_hz=0, hot_share=0)


def write_images(folder, classes=("cat", "dog"), per_class=3):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            photograph(60, 80, seed=10 * label + number).save(folder / name / f"{number}.png")
    return folder


def run(images, out, camera=SMALL, workers=1, **options):
    return list(simulate_folder(plan_simulation(images, out, camera), workers, **options))


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestTree:
    def test_folder_dataset_finds_a_twin_of_every_recording(self, tmp_path):
        done = run(write_images(tmp_path / "in"), tmp_path / "out")
        catalogue = open_folder(tmp_path / "out")
        assert catalogue.class_names == ("cat", "dog")
        assert catalogue.sensor_size == (40, 30)
        assert (len(catalogue.recordings), len(catalogue.images), catalogue.num_twins) == (6, 6, 6)
        assert [entry.id for entry in done] == ["cat/0", "cat/1", "cat/2", "dog/0", "dog/1", "dog/2"]
        read = [len(load_events(source.path, sensor_size=SensorSize(40, 30))) for source in catalogue.recordings]
        assert read == [entry.num_events for entry in done]
        assert min(read) > 500
        assert content(tmp_path / "out" / "images") == content(tmp_path / "in")

    @pytest.mark.parametrize("suffix", [".bs2", ".npz"])
    def test_other_formats_hold_the_same_events(self, tmp_path, suffix):
        images = write_images(tmp_path / "in", per_class=1)
        run(images, tmp_path / "bin")
        run(images, tmp_path / "other", RecordedCamera(sensor_size=SensorSize(40, 30), suffix=suffix))
        one = load_events(tmp_path / "bin" / "events" / "cat" / "0.bin")
        other = load_events(tmp_path / "other" / "events" / "cat" / f"0{suffix}")
        assert (one.to_array() == other.to_array()).all()

    def test_folder_without_classes_is_one_class_with_its_name(self, tmp_path):
        images = write_images(tmp_path / "in") / "cat"
        done = run(images, tmp_path / "out")
        assert [entry.id for entry in done] == ["cat/0", "cat/1", "cat/2"]

    def test_any_number_of_workers_writes_the_same_bytes(self, tmp_path):
        images = write_images(tmp_path / "in", per_class=6)
        run(images, tmp_path / "one")
        run(images, tmp_path / "four", workers=4)
        assert content(tmp_path / "one") == content(tmp_path / "four")

    def test_recording_depends_on_its_id_and_not_on_the_others(self, tmp_path):
        images = write_images(tmp_path / "in")
        run(images, tmp_path / "all")
        shutil.rmtree(images / "cat")
        (images / "dog" / "0.png").unlink()
        run(images, tmp_path / "some")
        assert content(tmp_path / "some" / "events").items() <= content(tmp_path / "all" / "events").items()

    def test_what_is_no_image_is_left_out_with_a_note(self, tmp_path):
        images = write_images(tmp_path / "in", per_class=1)
        (images / "cat" / "notes.txt").write_text("x")
        (images / "empty").mkdir()
        photograph(9, 9).save(images / "beside.png")
        notes = plan_simulation(images, tmp_path / "out", SMALL).notes
        assert notes == (
            "1 image beside the class folders left out, such as beside",
            "1 folder without images left out: empty",
            "left out of cat: notes.txt",
        )


class TestResume:
    def test_interrupted_run_ends_with_the_same_bytes(self, tmp_path):
        images = write_images(tmp_path / "in")
        run(images, tmp_path / "whole")
        steps = simulate_folder(plan_simulation(images, tmp_path / "out", SMALL))
        next(steps)
        next(steps)
        steps.close()
        assert not (tmp_path / "out" / "tmkt.toml").exists()
        (tmp_path / "out" / "events" / "cat" / ".0.bin.1234.tmp").write_bytes(b"cut")
        done = run(images, tmp_path / "out")
        assert [entry.num_events is None for entry in done][:2] == [True, True]
        assert any(entry.num_events for entry in done)
        assert content(tmp_path / "out") == content(tmp_path / "whole")

    def test_changed_image_is_recorded_again(self, tmp_path):
        images = write_images(tmp_path / "in")
        run(images, tmp_path / "out")
        before = content(tmp_path / "out")
        photograph(60, 80, seed=99).save(images / "cat" / "1.png")
        assert [entry.num_events is None for entry in run(images, tmp_path / "out")] == [True, False] + [True] * 4
        changed = {name for name, data in content(tmp_path / "out").items() if before[name] != data}
        assert changed == {"events/cat/1.bin", "images/cat/1.png"}

    def test_other_settings_are_refused(self, tmp_path):
        images = write_images(tmp_path / "in")
        run(images, tmp_path / "out")
        others = {
            "seed: 0, not 1": RecordedCamera(sensor_size=SensorSize(40, 30), seed=1),
            "threshold_on: 0.2, not 0.3": RecordedCamera(
                CameraSettings(PixelModel(threshold_on=0.3)), SensorSize(40, 30)
            ),
            "path.kind: saccades, not jitter": RecordedCamera(
                CameraSettings(path=ImagePath(kind="jitter")), SensorSize(40, 30)
            ),
            "sensor_size": RecordedCamera(sensor_size=SensorSize(41, 30)),
        }
        for named, camera in others.items():
            with pytest.raises(CatalogueError, match=f"made with another {named}"):
                plan_simulation(images, tmp_path / "out", camera)

    def test_folder_with_other_files_is_refused_and_untouched(self, tmp_path):
        images = write_images(tmp_path / "in")
        run(images, tmp_path / "out")
        (images / "cat" / "2.png").unlink()
        with pytest.raises(CatalogueError, match=r"holds 2 other files, such as events.cat.2\.bin"):
            plan_simulation(images, tmp_path / "out", SMALL)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").write_text("x")
        with pytest.raises(CatalogueError, match=r"holds 1 other file, such as thesis\.tex"):
            plan_simulation(images, tmp_path / "mine", SMALL)
        assert content(tmp_path / "mine") == {"thesis.tex": b"x"}

    @pytest.mark.parametrize("out", [".", "cat", "new/deep", ".."])
    def test_out_within_the_images_is_refused(self, tmp_path, out):
        images = write_images(tmp_path / "in")
        with pytest.raises(CatalogueError, match="name a folder beside it"):
            plan_simulation(images, images / out, SMALL)


class TestImages:
    @pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
    def test_modes_are_seen_as_viewers_show_them(self, mode):
        image = photograph(60, 80).convert(mode)
        kind = "TIFF" if mode == "CMYK" else "PNG"
        light = light_of(encoded(image, kind), SensorSize(40, 30), "a")
        right = light_of(encoded(image.convert("RGB"), "PNG"), SensorSize(40, 30), "a")
        assert np.abs(light.astype(int) - right).max() <= 2
        assert light.shape == (30, 40)

    def test_transparent_parts_are_white(self):
        image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
        image.paste((0, 0, 0, 255), (0, 0, 20, 30))
        light = light_of(encoded(image, "PNG"), SensorSize(40, 30), "a")
        assert (light[:, :20] == 0).all()
        assert (light[:, 20:] == 255).all()

    def test_turned_by_exif(self):
        pixels = np.asarray(photograph(60, 80))
        exif = Image.Exif()
        exif[0x0112] = 6
        light = light_of(encoded(Image.fromarray(pixels), "PNG", exif=exif), SensorSize(40, 30), "a")
        right = light_of(encoded(Image.fromarray(turned(pixels, 6)), "PNG"), SensorSize(40, 30), "a")
        assert light.shape == (30, 22)
        assert (light == right).all()

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (encoded(Image.fromarray(np.zeros((9, 9), np.uint16)), "PNG"), "8 bits a channel"),
            (png_file(9000, 9000, color=0), "9000 x 9000 pixels, expected at most"),
            (b"no image", "no image that Pillow can read"),
        ],
    )
    def test_others_are_refused_in_one_line(self, data, named):
        with pytest.raises(ImageError, match=named) as caught:
            light_of(data, SensorSize(40, 30), "cat/a.png")
        assert str(caught.value).startswith("cat/a.png: ")

    def test_10_000_columns_are_one_row(self):
        wide = encoded(Image.fromarray(np.arange(10_000, dtype=np.uint32).view(np.uint8)[::4][None]), "PNG")
        assert light_of(wide, SensorSize(40, 30), "a").shape == (1, 40)

    def test_one_pixel_fills_the_sensor(self, tmp_path):
        (tmp_path / "in" / "a").mkdir(parents=True)
        Image.new("L", (1, 1), 100).save(tmp_path / "in" / "a" / "dot.png")
        (done,) = run(tmp_path / "in", tmp_path / "out")
        assert not done.has_contrast
        assert done.num_events

    def test_image_that_fires_nothing_is_a_problem_unless_the_format_holds_it(self, tmp_path):
        images = write_images(tmp_path / "in", per_class=1)
        Image.new("RGB", (80, 60), "gray").save(images / "cat" / "flat.png")
        silent = CameraSettings(SILENT)
        done = run(images, tmp_path / "out", RecordedCamera(silent, SensorSize(40, 30)))
        (problem,) = [entry.problem for entry in done if entry.problem]
        assert problem.startswith("cat/flat: the image has no contrast, and there is no noise: no events")
        assert not (tmp_path / "out" / "tmkt.toml").exists()
        done = run(images, tmp_path / "npz", RecordedCamera(silent, SensorSize(40, 30), ".npz"))
        assert [entry.num_events for entry in done if not entry.has_contrast] == [0]
        assert open_folder(tmp_path / "npz").num_twins == 3

    def test_bad_image_keeps_the_tree_open_unless_skipped(self, tmp_path):
        images = write_images(tmp_path / "in")
        (images / "cat" / "1.png").write_bytes(b"damaged")
        done = run(images, tmp_path / "out", workers=2)
        assert [entry.problem.split(":")[0] for entry in done if entry.problem] == ["cat/1.png"]
        assert not (tmp_path / "out" / "tmkt.toml").exists()
        run(images, tmp_path / "out", skip_bad=True)
        assert open_folder(tmp_path / "out").num_twins == 5


class TestArguments:
    @pytest.mark.parametrize("size", [SensorSize(257, 30), SensorSize(30, 241)])
    def test_format_that_cannot_hold_the_sensor_is_refused(self, size):
        with pytest.raises(SpecError, match=rf"{size.width} x {size.height}, a .bin file holds up to 256 x 240"):
            RecordedCamera(sensor_size=size)
        RecordedCamera(sensor_size=size, suffix=".npz")

    def test_folder_without_images_is_refused(self, tmp_path):
        with pytest.raises(CatalogueError, match="no such folder"):
            plan_simulation(tmp_path / "none", tmp_path / "out", SMALL)
        (tmp_path / "in" / "cat").mkdir(parents=True)
        with pytest.raises(CatalogueError, match="no images, expected class folders"):
            plan_simulation(tmp_path / "in", tmp_path / "out", SMALL)

    def test_class_that_is_a_broken_link_is_refused(self, tmp_path):
        images = write_images(tmp_path / "images")
        (images / "fox").symlink_to(tmp_path / "nowhere")
        with pytest.raises(CatalogueError, match="images: the link fox leads nowhere, expected folders of classes"):
            plan_simulation(images, tmp_path / "out", SMALL)

    def test_two_images_of_one_stem_are_refused(self, tmp_path):
        images = write_images(tmp_path / "in")
        photograph(9, 9).save(images / "cat" / "1.jpg")
        with pytest.raises(CatalogueError, match="two images with the stem '1'"):
            plan_simulation(images, tmp_path / "out", SMALL)
