"""ES-ImageNet."""

import numpy as np
import pytest
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.esimagenet import center_shift, open_esimagenet, read_sizes
from tmkt_data.errors import CatalogueError

from .published_trees import write_esimagenet


class TestEsImageNet:
    def test_sides_meet_by_the_name_of_the_photograph(self, tmp_path):
        catalogue = open_esimagenet(write_esimagenet(tmp_path))
        assert [(source.id, source.part) for source in catalogue.recordings] == [
            ("0000/ILSVRC2012_val_00000293", "test"), ("0000/n01440764_10026", "train"), ("0001/n01443537_2", "train"),
        ]  # fmt: skip
        assert [source.id for source in catalogue.images] == [
            "0000/n01440764_10026", "0000/n01440764_5", "0001/n01443537_2",
        ]  # fmt: skip
        assert catalogue.num_twins == 2

    def test_events_lie_in_the_middle_as_the_loader_of_the_authors_puts_them(self, tmp_path):
        root = write_esimagenet(tmp_path)
        cache = Cache(build("esimagenet", root, tmp_path / "a.h5", size=224))
        row = cache.event_ids.index("0000/n01440764_10026")
        with np.load(root / "ES-imagenet-0.18/train/class0/n01440764_10026.npz") as file:
            sides = [file["neg"], file["pos"]]
        full = np.zeros((8, 2, 256, 256), int)
        for polarity, side in enumerate(sides):
            for y, x, t in side.tolist():
                full[t - 1, polarity, y + (254 - 200) // 2, x + (254 - 150) // 2] += 1
        np.testing.assert_array_equal(cache.event_frames([row])[0], full[:, :, 16:240, 16:240])
        assert center_shift(200, 150) == (36, 11)

    def test_hidden_files_are_left_out(self, tmp_path):
        root = write_esimagenet(tmp_path)
        folder = next(root.rglob("class0"))
        (folder / "._n01440764_1.npz").write_bytes(b"\x00\x05\x16\x07")
        catalogue = open_esimagenet(root)
        assert not any("._" in source.id for source in catalogue.recordings)
        assert "recordings: 1 hidden files left out: train/class0/._n01440764_1.npz" in catalogue.notes

    def test_rows_that_are_none_are_named(self, tmp_path):
        path = write_esimagenet(tmp_path) / "ES-imagenet-0.18" / "trainlabel.txt"
        path.write_text("a.npz 1 2\n")
        with pytest.raises(CatalogueError, match=r"trainlabel\.txt, row 1: found 'a\.npz 1 2', expected file, class"):
            open_esimagenet(tmp_path)

    def test_without_photographs_the_catalogue_says_so(self, tmp_path):
        root = write_esimagenet(tmp_path)
        (root / "ILSVRC2012").rename(root / "elsewhere")
        catalogue = open_esimagenet(root)
        assert catalogue.images == ()
        assert any("give their folder with --images" in note for note in catalogue.notes)


class TestSizeList:
    def test_the_last_of_equal_names_holds(self, tmp_path):
        path = tmp_path / "trainlabel.txt"
        path.write_bytes(b"b.npz 2 200 150\na.npz 1 30 40\n\nb.npz 3 1 2\r\n\xff.npz 4 5 6\n")
        names = ["\udcff.npz", "b.npz", "c.npz", "a.npz"]
        assert read_sizes(path).of(names) == [(4, 5, 6), (3, 1, 2), None, (1, 30, 40)]
        assert read_sizes(tmp_path / "none.txt").of(["a.npz"]) == [None]

    @pytest.mark.parametrize(
        "row", ["a.npz 1 2", "a.npz 1000 2 3", "a.npz 1 257 3", "a.npz 1 -2 3", "a" * 300 + " 1 2 3"]
    )
    def test_what_is_no_row_is_refused(self, tmp_path, row):
        path = tmp_path / "trainlabel.txt"
        path.write_text(f"b.npz 1 2 3\n{row}\n")
        with pytest.raises(CatalogueError, match=r"^trainlabel.txt, row 2: found 'a"):
            read_sizes(path)
