"""`pip install tmkt` is the data half: what it brings, its size, and what training says where its packages lack."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
import trees
from packaging.requirements import Requirement

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

CHECKOUT = Path(__file__).parents[1]
MOST_BYTES = 400_000_000
NAMES = ("torch", "spikingjelly", "pydantic", "scipy", "matplotlib", "jinja2")


def brought_by(requirements: list[str], seen: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distributions that an installation of these brings."""
    for text in requirements:
        requirement = Requirement(text)
        name = requirement.name.lower()
        if name not in seen and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            seen[name] = distribution(name)
            brought_by(seen[name].requires or [], seen)
    return seen


@pytest.fixture(scope="module")
def brought():
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        return brought_by(tomllib.load(file)["project"]["dependencies"], {})


@pytest.fixture(scope="module")
def light(brought, tmp_path_factory):
    """A folder of links to those packages alone, as a site-packages."""
    folder = tmp_path_factory.mktemp("light")
    for package in brought.values():
        for file in package.files:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).is_symlink():
                (folder / top).symlink_to(Path(package.locate_file(top)))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    root = trees.write_nmnist(folder / "n", per_digit=4, test_per_digit=2, digits=3)
    plan = plan_prepare(open_catalogue("nmnist", root), default_spec("nmnist"), folder / "n.h5")
    for _ in prepare_cache(plan):
        pass
    return folder / "n.h5"


def python(light, *words):
    """Run Python with nothing but the standard library, those packages and this checkout."""
    env = os.environ | {"PYTHONPATH": f"{light}:{CHECKOUT}", "NO_COLOR": "1"}
    command = [sys.executable, "-S", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=light)


def test_it_brings_nothing_of_training(brought):
    assert not {name for name in NAMES if name in brought}
    assert {"numpy", "numba", "h5py", "click"} <= set(brought)


def test_it_is_light(brought):
    sizes = {}
    for name, package in brought.items():
        files = (Path(package.locate_file(file)) for file in package.files)
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
    assert 100_000_000 < sum(sizes.values()) < MOST_BYTES, sizes


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("inspect", "{}"), "recordings        18"),
        (("pairs", "{}"), "alignment"),
        (("preview", "{}", "--out", "{}.png"), ".png"),
        (("preview", "{}", "--animate", "{}.webp", "--html", "{}.html"), ".html"),
        (("verify", "{}"), "verified"),
        (("datasets",), "digits"),
    ],
    ids=lambda given: given[0] + ("-files" if "--html" in given else "") if isinstance(given, tuple) else "",
)
def test_the_data_half_runs(light, cache, words, printed):
    done = python(light, "-m", "tmkt_data", *(word.format(cache) for word in words))
    assert printed in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_pairs_are_read(light, cache):
    code = (
        "import sys; from tmkt_data import PairedFrames; frames = PairedFrames(sys.argv[1], encoder='poisson')\n"
        "print(frames[0].image.shape, [name for name in ('torch', 'scipy') if name in sys.modules])"
    )
    done = python(light, "-c", code, cache)
    assert done.stdout.strip() == "(10, 2, 34, 34) []", done.stderr


COMMANDS = [
    "recipes",
    "check x",
    "recipe x",
    "resume .",
    "evaluate .",
    "report x",
    "compare x y",
    "sweep x --over seed=1,2",
    "few-shot .",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_training_says_what_to_install(light, words):
    done = python(light, "-m", "tmkt_train", *words.split())
    assert done.returncode == 1
    assert done.stderr == (
        f"error: tmkt_train: found no {' and no '.join(NAMES)}; install what training needs with: "
        "pip install 'tmkt[train]'\n"
    )


def test_help_needs_nothing_of_training(light):
    assert "Usage" in python(light, "-m", "tmkt_train", "--help").stdout


def test_an_import_of_training_says_what_to_install(light):
    done = python(light, "-c", "import tmkt_train.method.losses")
    assert done.stderr.splitlines()[-1].endswith("install what training needs with: pip install 'tmkt[train]'")


def test_tensors_without_torch_say_what_to_install(light):
    done = python(light, "-c", "import tmkt_data.torch")
    advice = "install it with: pip install torch, or: pip install 'tmkt[train]'"
    assert done.stderr.splitlines()[-1] == f"ImportError: tmkt_data.torch: found no torch; {advice}"
