import shutil

import pytest
import torch

from .commands import call, write_inputs


@pytest.fixture
def here(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMKT_CACHES", "caches")
    monkeypatch.delenv("TMKT_DEBUG", raising=False)
    write_inputs(tmp_path, tiny_cache)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tiny_cache, tmp_path_factory):
    """The folder where a run was trained by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("trained")
    write_inputs(folder, tiny_cache)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TMKT_CACHES", "caches")
        code, out, err = call("recipe", "tiny", "--set", "train.epochs=2", "--out", "run")
    assert (code, err) == (0, "")
    return folder, out


@pytest.fixture
def run(here, trained):
    shutil.copytree(trained[0] / "run", here / "run")
    return trained[1]
