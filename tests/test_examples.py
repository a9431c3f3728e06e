from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_caches import write_small_digits

from tmkt_data import PairedFrames, load_events

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_digits(tmp_path_factory.mktemp("examples"))


def run(name: str, *arguments: str, without: str = "", strict: bool = True) -> str:
    """Run an example as a user does, with warnings as errors; `without` makes one module impossible to import."""
    start = f"import runpy, sys; sys.modules[{without!r}] = None; del sys.argv[0]; " if without else ""
    code = ["-c", f"{start}runpy.run_path(sys.argv[0], run_name='__main__')"] if without else []
    # Python 3.12 to 3.13 warn of any fork beside threads, which a DataLoader with workers does on Linux.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *(warnings if strict else ()), *code, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here_and_shown_in_the_docs() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in EXAMPLES.parent.glob("docs/**/*.md"))
    here = Path(__file__).read_text(encoding="utf-8")
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(names) == 10
    for name in names:
        assert f"examples/{name}\n" in shown, name
        assert f'"{name}"' in here, name


def test_inspect_recording(cache: Path) -> None:
    path = min(cache.parent.glob("digits-source/N-MNIST/Train/5/*.bin"))
    events = load_events(path)
    lines = run("inspect_recording.py", str(path), "--steps", "4", without="torch").splitlines()
    assert lines[0] == f"{path.name}: {len(events)} of {len(events)} events kept, dropped none"
    assert f"{int(events.p.sum())} ON" in lines[1]
    steps = [line for line in lines if line.startswith("step")]
    counts = [[int(number) for number in re.findall(r"(\d+) O", line)] for line in steps]
    assert len(steps) == 4
    assert [sum(side) for side in zip(*counts, strict=True)] == [int((~events.p).sum()), int(events.p.sum())]
    drawn = lines[4:20]
    assert all(len(row) == 32 for row in drawn)
    assert any("@" in row for row in drawn)


def test_reuse_pairs_in_numpy_without_torch(cache: Path) -> None:
    lines = run("reuse_pairs_in_numpy.py", str(cache), without="torch").splitlines()
    assert lines[0] == f"digits: {len(PairedFrames(cache))} pairs to fit, 10 recordings to check, 10 classes"
    accuracies = {line.split()[2].rstrip(":"): float(line.split(":")[1].split()[0]) for line in lines[1:]}
    assert set(accuracies) == {"events", "images", "both"}
    assert accuracies["events"] > 0.3, "three times what guessing gives"


def test_reuse_pairs_in_torch_gives_the_same_with_and_without_workers(cache: Path) -> None:
    alone = run("reuse_pairs_in_torch.py", str(cache), "--workers", "0", without="spikingjelly")
    shared = run("reuse_pairs_in_torch.py", str(cache), "--workers", "2")
    assert shared == alone
    assert re.fullmatch(r"epoch 0: loss \d\.\d{3} over 100 pairs\nvalidation: \d+ of 10 recordings right\n", alone), (
        alone
    )


def test_a_loop_of_ones_own_trains_with_the_whole_objective_in_under_60_lines(cache: Path) -> None:
    code = (EXAMPLES / "own_network.py").read_text(encoding="utf-8")
    assert len([line for line in code.splitlines() if line.strip()]) < 60
    assert set(re.findall(r"from (tmkt_train[.a-z]*)", code)) == {
        "tmkt_train.method.auxiliary", "tmkt_train.method.losses", "tmkt_train.method.mixing",
    }  # fmt: skip
    (line,) = run("own_network.py", str(cache), "6").splitlines()
    right, of = map(int, re.findall(r"\d+", line))
    assert of == len(PairedFrames(cache, "test", pairing="none"))
    assert right / of > 0.3, "ten classes: chance is 0.1"


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("pairs_in_spikingjelly.py", "spikingjelly"),
        ("pairs_in_snntorch.py", "snntorch"),
        ("pairs_in_norse.py", "norse"),
        ("pairs_in_spyx.py", "spyx"),
    ],
)
def test_a_network_of_another_library_learns_from_pairs(cache: Path, name: str, library: str) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed: pip install {library}")
    (line,) = run(name, str(cache), "6", strict=False).splitlines()
    right, of = map(int, re.findall(r"\d+", line))
    assert of == len(PairedFrames(cache, "test", pairing="none"))
    assert right / of > 0.3, "ten classes: chance is 0.1"


def test_lightning_sets_the_epoch_in_persistent_workers(cache: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    line = run("pairs_in_lightning.py", str(cache), "3", strict=False).splitlines()[-1]
    assert "'epoch_of_data': 2.0" in line


def test_grain_reads_each_pair_once(cache: Path) -> None:
    pytest.importorskip("grain", reason="grain is not installed: pip install grain")
    frames = PairedFrames(cache, "train")
    line = run("pairs_in_grain.py", str(cache), strict=False).splitlines()[-1]
    assert line == f"{len(frames)} pairs, the last batch {(len(frames) % 32 or 32, 10, 2, 34, 34)}"
