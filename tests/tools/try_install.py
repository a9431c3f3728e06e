"""Build the wheel and the source distribution, install each in bare environments, and use what is there.

    python tests/tools/try_install.py python3.11 python3.12 python3.13
    python tests/tools/try_install.py --train python3.11      # the extra `train` too: minutes, 6 GB

Prints a line per environment: the size of its site-packages, and the seconds of installing and of the commands.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MOST_BYTES = 400_000_000
LINE = "install what training needs with: pip install 'tmkt[train]'"
NOT_OURS = ("pip", "setuptools", "_distutils_hack", "distutils-precedence.pth")


def run(*words: str | Path, cwd: Path, code: int = 0) -> str:
    """Run a command, and stop with its output where the exit code is another."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode != code or "Traceback" in text:
        sys.exit(f"error: {' '.join(map(str, words))}: exit code {done.returncode}, expected {code}\n{text[-3000:]}")
    return text


def environment(folder: Path, python: str) -> Path:
    """Make a virtual environment; return its folder of commands."""
    run(python, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin"


def build(folder: Path) -> list[Path]:
    """Build both distributions from what git tracks."""
    source = folder / "source"
    source.mkdir()
    names = run("git", "ls-files", "-z", cwd=CHECKOUT).split("\0")
    for name in filter(None, names):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((CHECKOUT / name).read_bytes())
    commands = environment(folder / "build", sys.executable)
    run(commands / "python", "-m", "pip", "install", "-q", "hatchling", cwd=folder)
    run(commands / "hatchling", "build", cwd=source)
    return sorted((source / "dist").iterdir())


def size_of(packages: Path) -> int:
    files = (path for path in packages.rglob("*") if path.is_file())
    return sum(
        path.stat().st_size for path in files if path.relative_to(packages).parts[0].split("-")[0] not in NOT_OURS
    )


def use_data_half(commands: Path, folder: Path) -> None:
    (folder / "caches").mkdir(exist_ok=True)
    run(commands / "tmkt-data", "prepare", "digits", cwd=folder)
    cache = next((folder / "caches").glob("digits-*.h5"))
    for words in (["inspect"], ["verify"], ["pairs"], ["preview"], ["preview", "--html", "pairs.html"]):
        run(commands / "tmkt-data", *words, cache, cwd=folder)
    code = "import sys, tmkt_data; print(tmkt_data.PairedFrames(sys.argv[1], encoder='saccade')[0].image.shape)"
    run(commands / "python", "-c", code, cache, cwd=folder)


def try_one(package: Path, python: str, folder: Path, *, train: bool) -> None:
    """Install a distribution in a new environment, use it, print what it cost."""
    commands = environment(folder / "env", python)
    started = time.monotonic()
    wanted = f"{package}[train]" if train else package
    run(commands / "python", "-m", "pip", "install", "-q", wanted, cwd=folder)
    installed = time.monotonic() - started
    size = size_of(next((folder / "env/lib").glob("python*/site-packages")))
    use_data_half(commands, folder)
    if train:
        run(commands / "tmkt-train", "recipe", "scnn_digits", "--set", "train.epochs=2",
            "--set", "optim.warmup_epochs=0", cwd=folder)  # fmt: skip
    else:
        text = run(commands / "tmkt-train", "recipes", cwd=folder, code=1)
        if LINE not in text or len(text.splitlines()) != 1:
            sys.exit(f"error: tmkt-train without its extra: found {text!r}, expected one line with: {LINE}")
        if size > MOST_BYTES:
            sys.exit(f"error: {package.name}: {size / 1e6:.0f} MB installed, expected at most {MOST_BYTES / 1e6:.0f}")
    used = time.monotonic() - started - installed
    times = f"installed in {installed:4.0f} s, used for {used:4.0f} s"
    print(f"{package.name:<28} {Path(python).name:<12} {size / 1e6:6.0f} MB   {times}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreters: python3.11 python3.12 ...")
    parser.add_argument("--train", action="store_true", help="install the extra `train` too, and train two epochs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        packages = build(Path(made))
        for python in given.pythons:
            for package in packages:
                with tempfile.TemporaryDirectory() as folder:
                    try_one(package, python, Path(folder), train=given.train)


if __name__ == "__main__":
    main()
