"""Tutorials run from the first line to the last: commands and Python, on small data and with short trainings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_caches import write_small_digits

from tmkt_data.cli.main import main as data_command
from tmkt_train.cli.main import main as train_command

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
COMMANDS = {"tmkt-data": data_command, "tmkt-train": train_command}
BLOCK = re.compile(r"^ *```(python|console)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
# Later settings win: a training is two steps, whatever the page says.
SHORT = {"train.epochs": 1, "train.steps_per_epoch": 2, "train.batch_size": 8, "train.num_threads": 1}
LINES = {"own-data": 7, "few-recordings": 5, "read-a-result": 4}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorials")
    write_small_digits(folder)
    return folder / "caches"


@pytest.mark.parametrize("name", LINES)
def test_a_tutorial_runs(name: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMKT_CACHES", str(digits))
    torch.set_num_threads(1)
    names: dict[str, Any] = {"__name__": "tutorial"}
    text, num_lines = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8"), 0
    for kind, block in BLOCK.findall(text):
        if kind == "python":
            exec(compile(block, f"{name}.md", "exec"), names)
        for line in block.splitlines() if kind == "console" else ():
            program, command, *words = shlex.split(line.strip().removeprefix("$ "))
            num_lines += 1
            if [command, *words] == ["prepare", "digits"]:
                continue  # Simulates 1797 recordings; the cache is there, of a few of them.
            shorter = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
            words += shorter if program == "tmkt-train" and command in ("recipe", "compare") else []
            words += ["--seeds", "1"] if command == "compare" else []
            found = CliRunner().invoke(COMMANDS[program], [command, *words])
            assert found.exit_code == 0, f"{line}\n{found.output}"
    assert num_lines == LINES[name]
