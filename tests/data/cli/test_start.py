from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
SCRIPTS = tomllib.loads(PROJECT.read_text())["project"]["scripts"]
INTERRUPTED_IMPORT = """
import signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


def stopped_while_importing(start: str) -> None:
    code = INTERRUPTED_IMPORT + start
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_an_interrupted_import_of_a_script_is_one_line(name):
    module, _, function = SCRIPTS[name].partition(":")
    stopped_while_importing(f"from {module} import {function}; {function}()")


@pytest.mark.parametrize("package", ["tmkt_data", "tmkt_train"])
def test_an_interrupted_import_of_a_module_is_one_line(package):
    stopped_while_importing(f"import runpy; runpy.run_module({package!r}, run_name='__main__', alter_sys=True)")


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_are_named_as_typed(name):
    module, _, function = SCRIPTS[name].partition(":")
    code = f"import sys; sys.argv = ['x', '--help']; from {module} import {function}; {function}()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Usage: {name} ")
