"""What HDF5 cannot write is an error of one line, and the process that asked for it ends as usual."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from file_limits import file_size_limit

from tmkt_data.cache.format import LEADING_BYTES
from tmkt_data.cache.hdf5_output import hdf5_output, writing
from tmkt_data.errors import CacheError

WRITE = """
import resource, sys
import numpy as np
from pathlib import Path
from tmkt_data.cache.writer import write_tables
from tmkt_data.errors import CacheError
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write_tables(Path(sys.argv[1]), {"dataset": "a" * 500}, ((f"events/{k}", np.arange(50 + k)) for k in range(20)))
    print("whole")
except CacheError as refused:
    print(refused)
"""


def write_file(path: Path) -> Path:
    with hdf5_output(path, "w") as file:
        file.create_dataset("events/frames", data=np.zeros(64, "u1"))
    return path


def test_a_file_is_written_behind_an_empty_leading_block_and_added_to(tmp_path):
    path = write_file(tmp_path / "a.h5")
    with hdf5_output(path, "r+") as file:
        file.create_dataset("class_names", data=np.arange(5))
    assert path.read_bytes()[:LEADING_BYTES] == bytes(LEADING_BYTES)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["class_names"][...], np.arange(5))


def test_a_file_that_may_not_grow_is_one_line_wherever_it_ends(tmp_path):
    start = write_file(tmp_path / "start.h5").read_bytes()
    path = tmp_path / "a.h5"
    said = set()
    for limit in [*range(len(start), len(start) + 16_384, 2100), 1 << 20]:
        path.write_bytes(start)
        command = [sys.executable, "-c", WRITE, str(path), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        said.add(done.stdout.strip())
    assert said == {
        "whole",
        f"{path}: cannot be written (File too large); free some space and run it again",
    }


def test_an_error_in_the_block_is_raised_and_the_file_closed(tmp_path):
    path = write_file(tmp_path / "a.h5")
    with pytest.raises(TypeError, match="unsupported"), hdf5_output(path, "r+") as file:
        file.create_dataset("class_names", data="a" - 1)
    assert not file.id.valid


def test_a_folder_that_is_missing_is_one_line(tmp_path):
    with (
        pytest.raises(CacheError, match=r"a\.h5: cannot be written \(.*No such file"),
        hdf5_output(tmp_path / "none" / "a.h5", "w"),
    ):
        pass


def test_errors_that_are_not_of_the_system_are_not_taken_for_it(tmp_path):
    with pytest.raises(ValueError, match="ours"), writing(tmp_path):
        raise ValueError("ours")


def test_other_files_of_the_process_are_left_alone(tmp_path):
    path, other = write_file(tmp_path / "a.h5"), (tmp_path / "other").open("wb", buffering=0)
    limit = file_size_limit(path.stat().st_size)
    with limit, pytest.raises(CacheError), hdf5_output(path, "r+") as file, writing(path):
        file.create_dataset("class_names", data=np.arange(5000))
    other.write(b"mine")
    other.close()
    assert (tmp_path / "other").read_bytes() == b"mine"
