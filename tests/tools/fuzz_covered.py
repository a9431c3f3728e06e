"""Coverage-guided fuzzing of every reader, by atheris (pip install atheris).

    python tests/tools/fuzz_covered.py pickle -runs=1000000
    python tests/tools/fuzz_covered.py --all -runs=200000

A target is named as in `fuzz_targets`; options with one dash go to libFuzzer. It stops at the first fault.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def fuzz(name: str, options: list[str]) -> None:
    """Run one target until its runs are through; the process ends with it."""
    import atheris

    with atheris.instrument_imports(include=["tmkt_data"], enable_loader_override=False):
        import fuzz_targets

    target = fuzz_targets.targets()[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds):
            (Path(folder) / str(number)).write_bytes(seed)

        def one(data: bytes) -> None:
            fuzz_targets.ends_well(target, data)

        kept = f"-artifact_prefix={tempfile.gettempdir()}/"
        limits = ["-max_len=8192", "-timeout=20", "-rss_limit_mb=2048"]
        atheris.Setup([sys.argv[0], folder, kept, *limits, *options], one)
        atheris.Fuzz()


def main() -> None:
    """Run one target, or all, each in a process of its own."""
    name, *options = sys.argv[1:]
    if name != "--all":
        fuzz(name, options)
        return
    import fuzz_targets

    for target in fuzz_targets.targets():
        done = subprocess.run([sys.executable, __file__, target, *options], capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#"))]
        sys.stdout.write(f"{target:<20} {'ended well' if done.returncode == 0 else 'FAULT'}: {lines[-1:]}\n")
        sys.stdout.flush()
        if done.returncode:
            sys.stdout.write(done.stdout[-2000:] + done.stderr[-4000:])
            sys.exit(1)


if __name__ == "__main__":
    main()
