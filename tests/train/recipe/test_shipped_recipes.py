from pathlib import Path

import pytest

from tmkt_data.datasets.cameras import camera_of
from tmkt_data.datasets.registry import DATASETS, default_spec
from tmkt_data.spec import PrepareSpec
from tmkt_train.recipe.load import find_recipe, list_recipes, load_recipe, read_tables
from tmkt_train.recipe.recipe import Recipe, flat_items, recipe_text

from .conftest import write

FOLDER = Path(__file__).parents[3] / "recipes"
METHODS = ("event_only", "images_only", "fine_tune", "kt", "kt_tsm")
ABLATIONS = ("no_tsm", "no_cka", "no_mag", "no_mrp", "no_str")
PROTOCOLS = ("paper", "kt_paper")
SYSTEMS = {
    "resnet18_cepdvs": (*METHODS, *PROTOCOLS, "microsaccade"),
    "scnn_caltech_twins": (*METHODS, "repeat"),
    "scnn_cifar10dvs": ("event_only",),
    "scnn_digits": (*METHODS, "repeat"),
    "scnn_dvsgesture": (),
    "scnn_esimagenet": (),
    "scnn_fashion": ("event_only", "repeat"),
    "scnn_folder": ("event_only", "images_only", "fine_tune", "kt", "repeat"),
    "scnn_nmnist": (*METHODS, *ABLATIONS, "repeat", "after_images", "kt_distilled"),
    "scnn_nomniglot": (*METHODS, *PROTOCOLS, "microsaccade"),
    "vggsnn_ncaltech": (*METHODS, *ABLATIONS, *PROTOCOLS, "saccade", "kt_saccade", "fine_tune_saccade"),
}
CHOSEN_BY_VALIDATION = dict.fromkeys(
    ("scnn_caltech_twins", "scnn_digits", "scnn_fashion", "scnn_nmnist"), "saccade"
) | {"scnn_folder": "microsaccade"}
NAMES = [name for system, variants in SYSTEMS.items() for name in (system, *(f"{system}_{v}" for v in variants))]
CHANGES = {
    "event_only": {"method.name": "event-only"},
    "images_only": {"method.name": "images-only"},
    "fine_tune": {"method.name": "fine-tune"},
    "kt": {"method.name": "kt"},
    "kt_tsm": {"method.name": "kt+tsm"},
    "no_tsm": {"mix.time_step": False},
    "no_cka": {"loss.alignment": 0.0, "loss.coefficients": "off"},
    "no_mag": {"loss.modality": 0.0},
    "no_mrp": {"loss.ratio": 0.0},
    "no_str": {"loss.coefficients": "off"},
    "repeat": {"data.image_encoding": "repeat", "mix.ratio": 0.5},
    "after_images": {"train.image_epochs": 30},
    "kt_distilled": {"method.name": "kt", "train.image_epochs": 30, "loss.distillation": 1.0},
    "saccade": {"data.image_encoding": "saccade"},
    "kt_saccade": {"method.name": "kt", "data.image_encoding": "saccade"},
    "fine_tune_saccade": {"method.name": "fine-tune", "data.image_encoding": "saccade"},
    "microsaccade": {"data.image_encoding": "microsaccade"},
}


def test_every_name_is_listed_and_no_recipe_is_broken():
    recipes = {path.name: recipe for path, recipe in list_recipes() if path.file.resolve().parent == FOLDER}
    assert len(NAMES) == 75
    assert list(recipes) == NAMES
    assert all(isinstance(recipe, Recipe) and recipe.data.dataset in DATASETS for recipe in recipes.values())


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipe_comes_back_from_its_resolved_text(name, tmp_path):
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    assert not list(recipe.warnings())
    assert load_recipe(write(tmp_path, recipe_text(recipe))) == recipe


@pytest.mark.parametrize("system", SYSTEMS)
def test_variants_have_words_of_their_own_and_the_settings_of_their_name(system):
    base = {key: value for key, value, _ in flat_items(load_recipe(find_recipe(system)))}
    for name, table in read_tables(FOLDER / f"{system}.toml").get("variants", {}).items():
        assert {"title", "description"} <= set(table)
        recipe = load_recipe(find_recipe(f"{system}_{name}"))
        words = ("name", "title", "description")
        changed = {key: value for key, value, _ in flat_items(recipe) if value != base[key] and key not in words}
        if name in PROTOCOLS:
            assert changed.pop("data.prepare.bin_rule") in ("tonic", "spikingjelly")
            assert changed.pop("data.prepare.resize") == "bilinear"
            assert changed.pop("data.protocol") == "kt-paper"
            exact = {"vggsnn_ncaltech": ("image_decode", "full"), "resnet18_cepdvs": ("canvas", "max")}
            if system in exact:
                key, value = exact[system]
                assert changed.pop(f"data.prepare.{key}") == value
            assert "What differs: " in recipe.description
            assert changed == (CHANGES["kt"] if name == "kt_paper" else {})
        else:
            assert changed == {key: value for key, value in CHANGES[name].items() if base[key] != value}


@pytest.mark.parametrize("name", NAMES)
def test_recipes_repeat_images_unless_their_name_says_otherwise_or_validation_did(name):
    encoder = name.rpartition("_")[2]
    system = next(one for one in SYSTEMS if name.startswith(one))
    chosen = CHOSEN_BY_VALIDATION.get(system, "repeat")
    expected = encoder if encoder in ("repeat", "saccade", "microsaccade") else chosen
    recipe = load_recipe(find_recipe(name))
    assert recipe.data.image_encoding == expected
    said = recipe if expected == encoder else load_recipe(find_recipe(system))
    assert expected == "repeat" or "inferred" in said.description
    assert expected != "saccade" or camera_of(recipe.data.dataset) is not None


def test_paper_recipe_has_the_published_numbers():
    recipe = load_recipe(find_recipe("vggsnn_ncaltech"))
    assert recipe.optim.learning_rate == 5e-3 * 120 / 1024
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.crop_padding) == (300, 120, 4)
    assert (recipe.optim.min_learning_rate, recipe.optim.warmup_epochs) == (1e-5, 5)
    assert (recipe.optim.warmup_learning_rate, recipe.optim.weight_decay) == (1e-6, 0.01)
    assert recipe.optim.betas == (0.9, 0.999)
    assert recipe.train.sampler == "class-balanced"
    assert recipe.train.drop_last
    assert (recipe.model.backbone, recipe.model.batch_norm) == ("vgg-snn", "per-step")
    assert (recipe.loss.alignment, recipe.loss.coefficients, recipe.mix.ratio) == (0.5, "learned", 0.5)
    assert recipe.data.prepare.to_spec() == PrepareSpec(time_bins=10, size=48, canvas="tight", image_decode="scaled")


@pytest.mark.parametrize("name", ["scnn_digits", "scnn_nmnist", "vggsnn_ncaltech"])
def test_what_prepare_makes_by_default_is_what_the_recipe_needs(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe.data.prepare.to_spec() == default_spec(recipe.data.dataset)
