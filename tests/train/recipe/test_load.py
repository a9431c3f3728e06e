import pytest

from tmkt_train.errors import RecipeError
from tmkt_train.recipe.load import (
    RecipePath,
    apply_overrides,
    find_recipe,
    list_recipes,
    load_recipe,
    read_tables,
    recipe_folders,
    split_setting,
)
from tmkt_train.recipe.recipe import recipe_text

from .conftest import PLAIN, problems, write


def test_recipe_extends_another_by_path_or_name(tmp_path):
    base = write(tmp_path, PLAIN)
    above = tmp_path / "above.toml"
    above.write_text(f'extends = "{base.stem}"\nname = "above"\n[method]\nname = "kt"\n[train]\nepochs = 7\n')
    recipe, below = load_recipe(above), load_recipe(base)
    assert (recipe.name, recipe.method.name, recipe.train.epochs) == ("above", "kt", 7)
    assert recipe.train.batch_size == below.train.batch_size
    assert recipe.data == below.data
    assert load_recipe(above, ["train.epochs=8"]).train.epochs == 8
    named = tmp_path / "named.toml"
    named.write_text('extends = "scnn_digits"\nname = "named"\n')
    assert load_recipe(named).model == load_recipe(find_recipe("scnn_digits")).model


def test_recipe_extends_a_variant_by_name_or_path(tmp_path):
    write(tmp_path, PLAIN + "[variants.short]\ntrain.epochs = 7\n")
    for given in ("plain_short", "plain.toml:short"):
        above = write(
            tmp_path, f'extends = "{given}"\nname = "above"\n[variants.kt]\nmethod.name = "kt"\n', "above.toml"
        )
        recipe = load_recipe(RecipePath(above, "kt"))
        assert (recipe.name, recipe.method.name, recipe.train.epochs) == ("above_kt", "kt", 7)
    assert load_recipe(write(tmp_path, 'extends = "scnn_digits_kt"\n', "named.toml")).name == "scnn_digits_kt"


def test_variant_goes_over_its_file_and_settings_over_both(tmp_path, monkeypatch):
    path = write(
        tmp_path,
        PLAIN
        + """
        [variants.kt]
        title = "Another"
        method.name = "kt"
        train.epochs = 7
        [variants.no_cka.loss]
        alignment = 0.0
        [variants.own]
        name = "own"
        """,
    )
    found = find_recipe(f"{path}:kt")
    assert (found, str(found), found.name) == (RecipePath(path, "kt"), f"{path}:kt", "plain_kt")
    recipe = load_recipe(found)
    assert (recipe.name, recipe.title, recipe.method.name, recipe.train.epochs) == ("plain_kt", "Another", "kt", 7)
    assert (recipe.seed, recipe.optim) == (load_recipe(path).seed, load_recipe(path).optim)
    assert load_recipe(found, ["train.epochs=8"]).train.epochs == 8
    assert load_recipe(path).method.name == "tmkt"
    assert load_recipe(RecipePath(path, "own")).name == "own"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    path.rename(tmp_path / "recipes" / "plain.toml")
    assert load_recipe(find_recipe("plain_no_cka")).loss.alignment == 0
    assert [path.variant for path, _ in list_recipes() if path.file.stem == "plain"] == ["", "kt", "no_cka", "own"]
    beside = write(tmp_path / "recipes", PLAIN.replace("plain", "file"), "plain_kt.toml")
    assert find_recipe("plain_kt").file.resolve() == beside


def test_unknown_variant_is_one_line_with_those_that_exist(tmp_path):
    path = write(tmp_path, PLAIN + "[variants.kt]\nseed = 1\n[variants.a-1]\nseed = 2\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(RecipePath(path, "kx"))
    assert caught.value.problems == (f"{path}: no variant kx; it has kt, a-1",)
    with pytest.raises(RecipeError, match=r"no recipe of this name; scnn_fashion has the variants event_only, repeat$"):
        find_recipe("scnn_fashion_kx")
    with pytest.raises(RecipeError, match=r"no recipe of this name; scnn_dvsgesture has no variants$"):
        find_recipe("scnn_dvsgesture_kt")
    with pytest.raises(RecipeError, match=r"nowhere\.toml:kt: no such recipe file"):
        find_recipe("nowhere.toml:kt")
    above = write(tmp_path, f'extends = "{path}:kx"', "above.toml")
    assert problems(above) == [f"{above}: extends: {path}: no variant kx; it has kt, a-1"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[[variants]]\nseed = 1", "variants: found [{'seed': 1}], expected tables such as [variants.kt]"),
        ("[variants]\nkt = 3", "variants.kt: found 3, expected a table"),
        ('[variants."k t"]', "variants: found the name 'k t', expected letters, digits, _ and -"),
    ],
)
def test_variants_that_are_none(text, line, tmp_path):
    path = write(tmp_path, PLAIN + text)
    assert problems(path) == [f"{path}: {line}"]


def test_variant_of_a_broken_file_is_not_hidden_by_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    broken = write(tmp_path / "recipes", "x = = 1", "scnn_digits.toml")
    assert find_recipe("scnn_digits_kt").file.resolve() != broken
    assert find_recipe("scnn_digits").file.resolve() == broken
    with pytest.raises(RecipeError, match="not valid TOML"):
        find_recipe("scnn_digits_kx")


def test_written_recipe_extends_nothing(tmp_path):
    recipe = load_recipe(find_recipe("scnn_digits_kt"))
    written = write(tmp_path, recipe_text(recipe))
    assert "extends" not in read_tables(written)
    assert load_recipe(written) == recipe


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('extends = "nowhere"', "extends: nowhere: no recipe of this name"),
        ("extends = 3", "extends: found 3, expected the name or the path of a recipe"),
        ('extends = "below"', "extends below, which extends 'scnn_digits'; expected one level"),
        ('extends = "above"', "extends above, which extends 'above'; expected one level"),
    ],
)
def test_what_cannot_be_extended(line, message, tmp_path):
    path = tmp_path / "above.toml"
    write(tmp_path, 'extends = "scnn_digits"', "below.toml")
    path.write_text(f'{line}\nname = "above"\n')
    [problem] = problems(path)
    assert problem.startswith(f"{path}: ")
    assert message in problem


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("a.b=0.8", 0.8),
        ("a.b=3", 3),
        ("a.b=true", True),
        ("a.b=1e-3", 1e-3),
        ("a.b = [1, 2]", [1, 2]),
        ('a.b="x y"', "x y"),
        ("a.b=event-only", "event-only"),
        ("a.b=runs/x.h5", "runs/x.h5"),
        ("a.b=Größe 2", "Größe 2"),
    ],
)
def test_values_of_settings_are_toml_or_bare_words(setting, value):
    assert split_setting(setting) == ("a.b", value)


@pytest.mark.parametrize("setting", ["a", "=3", "a..b=3", "a=", "a=[1", "a=1\nb=2", "a='", "a b=3"])
def test_setting_that_is_none_is_refused_by_name(setting):
    with pytest.raises(RecipeError, match="--set") as caught:
        split_setting(setting)
    assert len(caught.value.problems) == 1


def test_all_bad_settings_come_at_once_and_the_tables_stay():
    tables = {"seed": 1}
    _, keys, left_out = apply_overrides(tables, ["a", "seed.x=3", "seed=2", "b=[1"])
    assert (keys, len(left_out)) == (["seed"], 3)
    assert tables == {"seed": 1}


def test_no_toml_and_no_file_are_one_line_each(tmp_path):
    assert "not valid TOML" in problems(write(tmp_path, "a = = 3"))[0]
    assert "cannot be read" in problems(tmp_path)[0]
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    assert "cannot be read" in problems(tmp_path / "latin.toml")[0]


def test_recipe_here_comes_before_the_packaged_one_and_a_path_before_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    here = write(tmp_path / "recipes", PLAIN, "scnn_digits.toml")
    assert find_recipe("scnn_digits").file.resolve() == here
    other = write(tmp_path, PLAIN, "other.toml")
    assert find_recipe("other.toml").file.resolve() == other
    assert find_recipe("vggsnn_ncaltech").file.parent.resolve() in [f.resolve() for f in recipe_folders()[1:]]
    write(tmp_path / "recipes", "x = 1", "broken.toml")
    assert isinstance({path.name: recipe for path, recipe in list_recipes()}["broken"], RecipeError)


def test_unknown_recipe_suggests_a_near_name():
    with pytest.raises(RecipeError, match="did you mean scnn_digits"):
        find_recipe("scnn_digit")
    with pytest.raises(RecipeError, match="no such recipe file"):
        find_recipe("nowhere/x.toml")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seed = " + "9" * 5000, "found a huge integer"),
        ("seed = 0x" + "f" * 5000, "found a huge integer"),
        ("seed = " + str(2**63), "found a huge integer"),
        ("x = " + "[" * 5000 + "]" * 5000, "deep"),
        (".".join("a" * 60) + " = 1", "deep"),
    ],
    ids=["digits", "hex", "65 bits", "lists", "tables"],
)
def test_toml_beyond_reason_is_one_line(tmp_path, text, found):
    path = write(tmp_path, text + "\n")
    (line,) = problems(path)
    assert line.startswith(f"{path}: ")
    assert found in line
    key, _, value = text.partition(" = ")
    if not key.startswith("a."):
        left_out = problems(write(tmp_path, PLAIN), f"{key}={value}")
        assert len(left_out) == 1
        assert left_out[0].startswith(f"--set {key}: ")
        assert found in left_out[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark_is_passed_over(tmp_path, encoding):
    path = tmp_path / "windows.toml"
    path.write_text(PLAIN, encoding=encoding)
    assert load_recipe(path).name == "plain"


def test_huge_file_is_refused_by_its_size(tmp_path):
    path = write(tmp_path, PLAIN + "#" * 1_000_000)
    assert "expected a recipe of at most 1,000,000" in problems(path)[0]
