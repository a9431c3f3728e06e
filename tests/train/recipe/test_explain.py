import pytest

from tmkt_train.errors import RecipeError
from tmkt_train.recipe.load import RecipePath, load_recipe

from .conftest import PLAIN, problems, write


def test_all_mistakes_come_at_once_each_with_file_and_key(tmp_path):
    text = PLAIN.replace('"tmkt"', '"tkmt"').replace("epochs = 9", 'epochs = "ten"').replace("batch_size", "bach_size")
    path = write(tmp_path, "seed = -1\n" + text + "[loss]\nalignment = nan\n")
    assert problems(path) == [
        f"{path}: seed: found -1, expected a whole number of 0 or more",
        (
            f"{path}: method.name: found 'tkmt', expected one of 'event-only', 'images-only', 'fine-tune', 'kt', "
            "'kt+tsm', 'tmkt'"
        ),
        f"{path}: loss.alignment: found nan, expected a number of 0 or more",
        f"{path}: train.epochs: found 'ten', expected a whole number of 1 or more",
        f"{path}: train.batch_size: found nothing, expected a whole number of 1 or more",
        (
            f"{path}: train.bach_size: found an unknown key, expected one of epochs, image_epochs, steps_per_epoch, "
            "batch_size, sampler, drop_last, crop_padding, flip, rotation, select, final_split, eval_batch_size, "
            "device, precision, num_threads; did you mean batch_size?"
        ),
    ]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("train.epochs=0", "train.epochs: found 0, expected a whole number of 1 or more"),
        ("train.epochs=1.5", "train.epochs: found 1.5, expected a whole number of 1 or more"),
        ("train.drop_last=1", "train.drop_last: found 1, expected true or false"),
        (
            "mix.schedule=self-setting",
            "mix.schedule: found 'self-setting', expected one of 'constant', 'linear', 'cubic'",
        ),
        ("data=3", "data: found 3, expected a key inside this table, such as data.NAME=VALUE"),
        ("optim.betas=[0.9]", "optim.betas: found [0.9], expected a list of 2 numbers"),
        ("optim.betas=[-0.5, 0.5]", "optim.betas: found [-0.5, 0.5], expected two numbers from 0 to below 1"),
        ("optim.betas=[1.0, 0.5]", "optim.betas: found [1.0, 0.5], expected two numbers from 0 to below 1"),
        (
            "data.recordings_per_class=most",
            "data.recordings_per_class: found 'most', expected a whole number of 1 or more or 'all'",
        ),
        (
            "optim.warmup_epochs=9",
            "optim.warmup_epochs: found 9, expected fewer than train.epochs = 9, or 0 for no warm-up",
        ),
        (
            "optim.min_learning_rate=0.5",
            "optim.min_learning_rate: found 0.5, expected at most optim.learning_rate = 0.001",
        ),
        ("train.crop_padding=25", "train.crop_padding: found 25, expected at most half of data.prepare.size = 48"),
        (
            "data.camera.corners=[[1, 2]]",
            "data.camera.corners: found (1.0, 2.0) alone, expected two or more, or none",
        ),
        (
            "data.camera.rest_us=100000",
            "data.camera.rest_us: found 100000, expected less than data.camera.saccade_us = 100000",
        ),
        (
            "data.camera.threshold=1e-45",
            "data.camera.threshold: found 1e-45, expected a number from 0.001 to 8 or 'default'",
        ),
        (
            "data.camera.background_rate=1e-5",
            "data.camera.background_rate: found 1e-05, expected 0 or a number from 0.0001 to 10",
        ),
        (
            "optim.step_epochs=[1.5]",
            "optim.step_epochs: found [1.5], expected a list of whole numbers of 1 or more",
        ),
        (
            "data.image_encoding=baked",
            "data.image_encoding: found 'baked', expected 'repeat' or 'poisson' with data.prepare.bake = 'none'",
        ),
    ],
)
def test_mistake_in_a_setting_names_its_key(setting, line, tmp_path):
    assert problems(write(tmp_path, PLAIN), setting) == [f"--set {line}"]


def test_bad_setting_hides_no_mistake_of_the_file(tmp_path):
    path = write(tmp_path, "seed = -1\n" + PLAIN)
    found = problems(path, "train.epochs=[1", "mix.ratio=2.0")
    assert [line.split(":")[0] for line in found] == ["--set train.epochs", str(path), "--set mix.ratio"]


def test_cross_field_problems_come_with_other_mistakes_where_their_tables_are_valid(tmp_path):
    path = write(tmp_path, "seed = -1\n" + PLAIN + "crop_padding = 30\n[mix]\nlaw = 'renormalised'\nratio = 0.5\n")
    found = problems(path, "optim.schedule=sine")
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in found] == [
        "seed", "--set optim.schedule", "train.crop_padding", "mix.ratio",
    ]  # fmt: skip


@pytest.mark.parametrize("setting", ["a.b=1", "data.prepar.size=3"])
def test_unknown_table_of_a_setting_is_blamed_on_it(tmp_path, setting):
    table = setting.rpartition(".")[0]
    assert problems(write(tmp_path, PLAIN), setting)[0].startswith(f"--set {table}: found an unknown key")
    path = write(tmp_path, PLAIN + "[a]\nc = 1\n")
    assert problems(path, "a.b=1")[0].startswith(f"{path}: a: found an unknown key")


def test_threads_have_an_upper_bound(tmp_path):
    path = write(tmp_path, PLAIN)
    assert load_recipe(path, ["train.num_threads=1024"]).train.num_threads == 1024
    assert problems(path, "train.num_threads=1025") == [
        "--set train.num_threads: found 1025, expected a whole number from 1 to 1024 or 'auto'"
    ]


def test_mistake_is_blamed_on_the_file_table_and_key_that_has_it(tmp_path):
    base = write(tmp_path, "seed = -1\n" + PLAIN + "[loss]\nratio = -1\n", "base.toml")
    text = """
        extends = "base"
        [loss]
        cka = "debased"
        [mix]
        rato = 0.5
        [variants.kt]
        seeds = 3
        loss.modality = -0.1
        optim.warmup_epochs = 9
        train.epochs = 1.5
        [variants.kt.data.prepare]
        size = 2
        sensor_size = "wide"
        """
    above = write(tmp_path, text, "above.toml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(RecipePath(above, "kt"), ["train.epochs=0", "mix.rato=1"])
    assert [problem.partition(": found")[0] for problem in caught.value.problems] == [
        f"{base}: seed",
        f"{above}: variants.kt.data.prepare.size",
        f"{above}: variants.kt.data.prepare.sensor_size",
        f"{above}: mix.rato",
        f"{above}: loss.cka",
        f"{above}: variants.kt.loss.modality",
        f"{base}: loss.ratio",
        "--set train.epochs",
        f"{above}: variants.kt.seeds",
    ]
    assert caught.value.problems[2].endswith("expected width and height such as '240x180', or 'default'")


def test_default_that_fails_a_cross_field_check_is_blamed_on_the_file(tmp_path):
    path = write(tmp_path, PLAIN + "[variants.kt.train]\nepochs = 3\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(RecipePath(path, "kt"))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: optim.warmup_epochs: found 5, expected fewer than train.epochs = 3")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("time_bins", "0", "a whole number from 1 to 1000"),
        ("resize", '"Sum"', "one of 'sum', 'bilinear', 'area'"),
        ("val_share", "0.9", "a number from 0 to 0.8"),
        ("test_share", "0.9", "a number from 0 to 0.8 or 'default'"),
        ("time_unit", '"min"', "one of 's', 'ms', 'us', 'ns' or 'default'"),
        ("time_offset_us", "0.5", "a whole number"),
        ("hot_pixels", "0.5", "0 (off) or a number from 1 to 1000"),
        ("sensor_size", '"0x3"', "width and height such as '240x180', or 'default'"),
        ("sensor_size", '"90000x3"', "width and height, 1 to 65536 each"),
    ],
)
def test_mistake_in_an_option_of_prepare_says_what_it_takes(tmp_path, name, text, expected):
    (problem,) = problems(write(tmp_path, PLAIN + f"[data.prepare]\n{name} = {text}\n"))
    assert problem.startswith(f"{tmp_path / 'plain.toml'}: data.prepare.{name}: found ")
    assert problem.endswith(f", expected {expected}")


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("epochs=2", "train.epochs"),
        ("data.epochs=2", "train.epochs"),
        ("ratio=0.5", "mix.ratio or loss.ratio"),
        ("size=16", "data.prepare.size"),
        ("learning_rat=1", "optim.learning_rate"),
        ("train.epoch=2", "train.epochs"),
        ("train.bach_size=2", "train.batch_size"),
        ("sead=2", "seed"),
    ],
)
def test_unknown_key_of_a_setting_is_explained_by_keys_that_can_be_typed(tmp_path, setting, hint):
    found = problems(write(tmp_path, PLAIN), setting)
    assert len(found) == 1
    assert found[0].startswith(f"--set {setting.partition('=')[0]}: found an unknown key, expected one of ")
    assert found[0].endswith(f"; did you mean {hint}?")


def test_key_like_no_other_has_no_hint(tmp_path):
    assert "did you mean" not in problems(write(tmp_path, PLAIN), "zzzzzz=2")[0]


@pytest.mark.parametrize(
    "settings",
    [
        ["train.crop_padding=24"],
        ["optim.min_learning_rate=0.001"],
        ["optim.betas=[0, 0.9]"],
        ["train.final_split=val"],
        ["data.protocol=kt-paper"],
        ["data.camera.rest_us=99999"],
        ["data.camera.threshold=0.001"],
        ["data.image_encoding=saccade", "data.camera.background_rate=0.0001"],
        ["data.camera.corners=[[0, 0], [1, 2]]"],
        ["mix.law=renormalised", "mix.ratio=0.55"],
        ["mix.law=renormalised", "mix.ratio=0.6", "mix.end_ratio=0.1"],
        ["mix.law=renormalised", "mix.ratio=by-count", "mix.time_step=false"],
        ["optim.warmup_epochs=8"],
        ["optim.warmup_epochs=0", "train.image_epochs=1"],
        ["method.name=kt", "optim.warmup_epochs=2", "train.image_epochs=3"],
        ["method.name=event-only", "loss.classification=mean-logits"],
        ["data.pairing=twin", "data.event_share=0.5", "data.shrink_validation=true"],
    ],
)
def test_what_lies_at_a_limit_is_accepted(settings, tmp_path):
    load_recipe(write(tmp_path, PLAIN), settings)


@pytest.mark.parametrize("name", ["ratio", "end_ratio"])
def test_each_end_of_a_schedule_has_the_minimum_of_its_distribution(name, tmp_path):
    settings = ["mix.law=renormalised", "mix.schedule=linear", "mix.ratio=0.6", f"mix.{name}=0.54"]
    (line,) = problems(write(tmp_path, PLAIN), *settings)
    assert line == f"--set mix.{name}: found 0.54, expected at least 0.55 with mix.law = 'renormalised' and T = 10"


def test_a_protocol_without_validation_has_none_to_end_on(tmp_path):
    found = problems(write(tmp_path, PLAIN), "train.final_split=val", "data.protocol=kt-paper")
    assert [line.partition(",")[0] for line in found] == ["--set train.final_split: found 'val'"]
