"""Recipes: what they may say, from files and from Python."""

from dataclasses import asdict

import pytest

from ssrnet_hub.errors import ArchitectureError, ConfigError
from ssrnet_hub.training.recipe import Recipe, read_recipe

from .runs import RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_ours_can_be_read(path):
    recipe = read_recipe(path)
    assert recipe.architecture == path.stem.split(".")[0]


def test_there_are_recipes():
    assert "ssrnet.utkface" in [path.stem for path in RECIPES]


def test_recipe_has_the_types_of_its_fields(tmp_path):
    path = tmp_path / "recipe.yaml"
    # 1e-4 without a dot is a string to YAML, and 1 no float
    path.write_text("epochs: '3'\nlr: 1e-4\naugment: 1\nmixed_precision: 'no'\n")
    recipe = read_recipe(path)
    assert recipe == Recipe(epochs=3, lr=1e-4, augment=1.0, mixed_precision="no")
    assert {k: type(v) for k, v in asdict(recipe).items()} == {k: type(v) for k, v in asdict(Recipe()).items()}


def test_changes_go_before_the_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 3\nlr: 0.1\n")
    assert read_recipe(path, epochs=4, seed=5) == Recipe(epochs=4, lr=0.1, seed=5)


BILLION_LAUGHS = "a: &a0 [x, x]\n" + "\n".join(f"b{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))
BILLION_MERGES = "a: &a0 {x: 1}\n" + "\n".join(f"b{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "epochs"),
        ("epochs: many", "many"),
        ("epochs:", ""),
        ("lr: [1]", ""),
        ("epochs: 0", "epochs"),
        ("batch_size: 0", "batch_size"),
        *(
            (f"epochs: {value}", "(epochs is not|number)")
            for value in (".inf", ".nan", "1.5", "true", "9" * 400, "[3]")
        ),
        *((f"lr: {value}", "(lr is not|number)") for value in (".inf", ".nan", "-1", "1e999", "true", "{a: 1}", "''")),
        ("epochs: 2024-02-30", ""),
        ("epochs: !!bool x", ""),
        ("epochs: !!int ''", ""),
        ("epochs: !!timestamp x", ""),
        ("epochs: !!python/object/apply:os.getcwd []", "python"),
        ("start: 2024-01-01", "date"),
        ("start: [a]", "start"),
        ("seed: 99999999999", "seed"),
        ("ema_decay: 2", "ema_decay"),
        ("augment: 7", "augment"),
        ("model_args: [1]", "model_args"),
        ("model_args: {stage_bins: many}", "stage_bins"),
        ("model_args: {unknown: 1}", "unknown"),
        ("model_args: {device: meta}", "device"),
        ("model_args: {img_size: 100000}", "img_size"),
        (f"model_args: {{layout: [C{'R' * 20_000}, CP, CPC]}}", "layout"),
        ("model_args: " + "[" * 100 + "]" * 100, "nested"),
        ("model_args: " + "{a: " * 3000 + "}" * 3000, ""),
        ("a: &a {}\nmodel_args: *a", "aliases"),
        (BILLION_LAUGHS, "aliases"),
        (BILLION_MERGES, "aliases"),
        (f"start: '{'a' * 200_000}'", "100,000 bytes"),
        ('start: "\\ud800"', ""),
        # what YAML makes of an unquoted no
        ("mixed_precision: no", "bf16"),
        ("mixed_precision: int8", "int8"),
        ("architecture: ssrnets", "ssrnet_dex"),
        ("- epochs", ""),
        ("epochs", ""),
        ("", ""),
        ("a: [", ""),
        ("? [a]\n: 1", ""),
        (b"\xff\xfe\x00", ""),
    ],
)
def test_recipe_that_is_none(tmp_path, text, said):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=rf"(?s)recipe\.yaml.*{said}"):
        read_recipe(path)


def test_recipe_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_recipe(tmp_path / "none.yaml")


def test_recipe_of_an_unknown_architecture():
    with pytest.raises(ArchitectureError, match="ssrnets"):
        Recipe(architecture="ssrnets")
