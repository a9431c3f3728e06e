"""The commands of tmkt-train, called in this process and in others."""

import os
import shutil
import subprocess
import sys

from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe

PATIENCE_S = 240
"""How long a process may take on a busy machine, where its imports alone take a minute."""
PROGRAM = "import sys; sys.argv[0] = 'tmkt-train'; from tmkt_train.__main__ import main; main()"


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def call_program(code, folder, *arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def write_inputs(folder, cache):
    """Write a cache and a recipe where the commands look for them."""
    (folder / "caches").mkdir()
    shutil.copy(cache, folder / "caches")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "tiny.toml").write_text(recipe_text(make_recipe()), encoding="utf-8")
