"""A finished run for the tests of this folder."""

import pytest
import torch

from ..conftest import make_recipe
from .runs import train


@pytest.fixture(scope="session")
def finished(tiny_cache, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(make_recipe(), tiny_cache, out)
    return out
