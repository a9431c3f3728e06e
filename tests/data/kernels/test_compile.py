"""Kernels are imported by threads at the same time: the first blocks of a cache are made so."""

import subprocess
import sys

import pytest

IMPORT = """
import importlib, sys, threading

names = sys.argv[1:]
start, problems = threading.Barrier(len(names)), []

def load(name):
    start.wait()
    try:
        importlib.import_module("tmkt_data.kernels." + name)
    except BaseException as error:
        problems.append(f"{name}: {error!r}")

sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=load, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("; ".join(problems))
"""


@pytest.mark.parametrize(
    "names", [("frames", "atis", "read_files"), ("atis", "frames"), ("read_files", "image", "atis")]
)
def test_threads_that_import_kernels_at_the_same_time_all_get_them(names):
    command = [sys.executable, "-c", IMPORT, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
