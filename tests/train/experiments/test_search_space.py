import pytest

from tmkt_train.errors import RecipeError, RunError
from tmkt_train.experiments.search_space import Choices, Range, parse_dimensions

from .conftest import SHORT

RATIO = Range("mix.ratio", 0.1, 0.9, is_log=False, is_whole=False)


@pytest.mark.parametrize(
    ("dimension", "num", "expected"),
    [
        (RATIO, 9, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (Range("loss.modality", 0.01, 1.0, is_log=True, is_whole=False), 5, [0.01, 0.03162, 0.1, 0.3162, 1.0]),
        (Range("train.batch_size", 8, 10, is_log=False, is_whole=True), 5, [8, 9, 10]),
        (Range("x", 0.123456, 0.2, is_log=False, is_whole=False), 2, [0.123456, 0.2]),
        (Choices("mix.schedule", ("linear", "cubic")), 9, ["linear", "cubic"]),
    ],
)
def test_grids(dimension, num, expected):
    assert dimension.grid(num) == expected


def test_dimensions_are_read_as_written(recipe):
    over = ["mix.ratio=0.1:0.9", "loss.modality = 0.01 : 1 : log", "train.batch_size=8:64:log", "mix.ratio=0.5,1"]
    assert parse_dimensions(over[:3], recipe, ()) == (
        RATIO,
        Range("loss.modality", 0.01, 1.0, is_log=True, is_whole=False),
        Range("train.batch_size", 8.0, 64.0, is_log=True, is_whole=True),
    )
    assert parse_dimensions(over[3:], recipe, ()) == (Choices("mix.ratio", (0.5, 1)),)
    words = ["mix.schedule=constant, linear", "train.flip=true,false"]
    assert parse_dimensions(words, recipe, ()) == (
        Choices("mix.schedule", ("constant", "linear")),
        Choices("train.flip", (True, False)),
    )
    # Of a key that takes whole numbers or a word.
    assert parse_dimensions(["train.steps_per_epoch=2:5"], recipe, ())[0].is_whole


@pytest.mark.parametrize(
    ("over", "error", "message"),
    [
        ("mix.ratio", RunError, "--over mix.ratio: expected KEY=LOW:HIGH, KEY=LOW:HIGH:log or"),
        ("mix.ratio=", RunError, "expected KEY=LOW:HIGH"),
        ("mix.ratioo=0:1", RunError, "--over mix.ratioo: not a key of the recipe; did you mean mix.ratio"),
        ("epochs=1:3", RunError, r"did you mean train\.epochs"),
        ("mix=0:1", RunError, "not a key of the recipe"),
        ("mix.ratio=0.5:0.5", RunError, "found an empty range, expected LOW below HIGH"),
        ("mix.ratio=0.9:0.1", RunError, "found an empty range"),
        ("mix.ratio=nan:1", RunError, "found an empty range"),
        ("mix.ratio=0:1:log", RunError, "expected it above 0 for a logarithmic range"),
        ("mix.ratio=0:1:lin", RunError, "expected LOW:HIGH or LOW:HIGH:log"),
        ("mix.ratio=0:1:log:1", RunError, "expected LOW:HIGH or LOW:HIGH:log"),
        ("mix.ratio=a:b", RunError, "expected two numbers"),
        ("mix.ratio=:", RunError, "expected two numbers"),
        ("mix.ratio=0.5", RunError, "found one value, expected two or more, or a range"),
        ("mix.ratio=0.5,", RunError, "found '', expected values such as"),
        ("mix.ratio=0.5,0.5", RunError, "found 0.5 twice"),
        ("mix.ratio=0.5:1.5", RecipeError, "--over mix.ratio: found 1.5, expected a number from 0 to 1"),
        ("mix.schedule=linear,bent", RecipeError, "--over mix.schedule: found 'bent', expected one of"),
        ("mix.schedule=0:1", RunError, "found a range, expected values"),
        ("train.flip=0:1", RunError, "found a range, expected values"),
        ("train.batch_size=1.5:3", RunError, "expected whole numbers"),
        ("seed=1:3", RunError, "cannot be varied; give --seeds instead"),
        ("title=a,b", RunError, "cannot be varied; it only names the recipe"),
        ("data.protocol=kt-paper,twin-disjoint", RunError, "cannot be varied; it changes the validation split"),
        ("data.shrink_validation=true,false", RunError, "cannot be varied; it changes the validation split"),
        ("data.held_out_classes=0,2", RunError, "cannot be varied; it changes the validation split"),
        ("train.epochs=3:5", RunError, "also found in --set"),
    ],
)
def test_bad_dimensions_are_one_line(recipe, over, error, message):
    with pytest.raises(error, match=message) as caught:
        parse_dimensions([over], recipe, SHORT)
    assert str(caught.value).count("\n") == 0


def test_share_that_shrinks_the_validation_split_cannot_be_varied(recipe):
    over = ["data.event_share=0.1:1"]
    assert parse_dimensions(over, recipe, ())[0].key == "data.event_share"
    with pytest.raises(RunError, match=r"data.shrink_validation = true; it changes the validation split"):
        parse_dimensions(over, recipe, ["data.shrink_validation=true"])


def test_key_that_only_some_methods_use_may_be_varied_with_the_method(recipe):
    settings = ["method.name=event-only"]
    with pytest.raises(RunError, match="event-only does not use it"):
        parse_dimensions(["mix.ratio=0:1"], recipe, settings)
    with pytest.raises(RunError, match="images-only does not use it"):
        parse_dimensions(["train.image_epochs=2:3"], recipe, ["method.name=images-only"])
    assert parse_dimensions(["train.image_epochs=2:3"], recipe, ())[0].ends == (2, 3)
    over = ["mix.ratio=0.1:0.9", "method.name=event-only,tmkt"]
    assert parse_dimensions(over, recipe, ())[0] == RATIO
    with pytest.raises(RunError, match="found twice"):
        parse_dimensions(["mix.ratio=0.1:0.9", "mix.ratio=0.1,0.2"], recipe, ())
