"""A run that has learned its classes, for the tests of this folder."""

import pytest

from tests.train.conftest import make_recipe
from tmkt_train.training.run import start_run


@pytest.fixture(scope="session")
def run(tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "tiny"
    for _ in start_run(make_recipe(train__epochs=12, optim__learning_rate=0.02), cache=tiny_cache, out=out).train():
        pass
    return out
