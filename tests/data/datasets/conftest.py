"""The command for the tests of this folder."""

import pytest

from tmkt_data.cli.main import main


@pytest.fixture
def run_cli():
    from click.testing import CliRunner

    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])
