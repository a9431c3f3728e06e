from __future__ import annotations

from pathlib import Path

import pytest
import trees
from click.testing import CliRunner, Result

from tmkt_data.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tmkt-data")


def one_line(result: Result, exit_code: int = 1) -> str:
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    return errors[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return trees.write_nmnist(tmp_path / "root", per_digit=6, test_per_digit=1, digits=3)
