import pytest

from tmkt_train.recipe.load import list_recipes, load_noted, load_recipe
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.warmup import fit_warmup

from .conftest import PLAIN, problems, write


@pytest.mark.parametrize("path", [path for path, _ in list_recipes()], ids=lambda path: path.name)
def test_every_shipped_recipe_trains_for_one_epoch(path):
    recipe = load_recipe(path, ["train.epochs=1"])
    assert isinstance(recipe, Recipe)
    assert (recipe.train.epochs, recipe.optim.warmup_epochs) == (1, 0)


@pytest.mark.parametrize(
    ("settings", "warmup", "note"),
    [
        (["train.epochs=1"], 0, "optim.warmup_epochs is 0, not 5: train.epochs is 1"),
        (["train.epochs=5"], 4, "optim.warmup_epochs is 4, not 5: train.epochs is 5"),
        (["train.epochs=6"], 5, None),
        (["method.name=kt", "train.image_epochs=2"], 1, "optim.warmup_epochs is 1, not 5: train.image_epochs is 2"),
        (
            ["method.name=kt", "train.image_epochs=3", "train.epochs=2"],
            1,
            "optim.warmup_epochs is 1, not 5: train.epochs is 2",
        ),
        (["method.name=event-only", "train.image_epochs=2"], 5, None),
        (["train.epochs=1", "optim.warmup_epochs=0"], 0, None),
    ],
)
def test_warmup_fits_what_was_overridden(tmp_path, settings, warmup, note):
    recipe, notes = load_noted(write(tmp_path, PLAIN), settings)
    assert recipe.optim.warmup_epochs == warmup
    assert notes == (() if note is None else (note,))


def test_what_a_user_wrote_is_not_changed(tmp_path):
    path = write(tmp_path, PLAIN)
    assert problems(path, "train.epochs=1", "optim.warmup_epochs=5") == [
        "--set optim.warmup_epochs: found 5, expected fewer than train.epochs = 1, or 0 for no warm-up"
    ]
    path = write(tmp_path, PLAIN.replace("epochs = 9", "epochs = 3"))
    assert problems(path)[0].startswith(f"{path}: optim.warmup_epochs: found 5, expected fewer than train.epochs = 3")


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"train": 3, "optim": {}},
        {"train": {"epochs": "one"}, "optim": {"warmup_epochs": 5}},
        {"train": {"epochs": 0}, "optim": {"warmup_epochs": 5}},
        {"train": {"epochs": True}, "optim": {"warmup_epochs": 5}},
        {"train": {"epochs": 1}, "optim": {"warmup_epochs": "long"}, "method": 3},
        {"train": {"epochs": 1}, "optim": 3},
    ],
)
def test_tables_with_mistakes_are_left_to_the_validation(tables):
    assert fit_warmup(tables, ["train.epochs"]) == (tables, "")
