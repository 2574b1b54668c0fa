"""The mean of weights."""

import pytest
import timm
import torch

from ssrnet_hub import from_pretrained, save_pretrained
from ssrnet_hub.cli import main
from ssrnet_hub.errors import ConfigError
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.training.average import average_weights


@pytest.fixture
def pair(tmp_path):
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = timm.create_model("ssrnet")
        training = {"data": "chips", "median_age": 27.0, "minutes": seed, "recipe": {"seed": seed}}
        folders.append(save_pretrained(model, tmp_path / f"run{seed}", extras={"training": training}))
    return folders


def test_every_weight_is_the_mean(pair, tmp_path):
    average_weights(pair, tmp_path / "mean")
    a, b, mean = (from_pretrained(folder).state_dict() for folder in (*pair, tmp_path / "mean"))
    for key in a:
        torch.testing.assert_close(mean[key].double(), (a[key].double() + b[key].double()) / 2, rtol=1e-6, atol=1e-7)
    assert not all(torch.equal(mean[key], a[key]) for key in a)


def test_the_config_says_what_it_is_the_mean_of(pair, tmp_path):
    training = get_extras(from_pretrained(average_weights(pair, tmp_path / "mean", command="this")))["training"]
    assert training["command"] == "this" and training["median_age"] == 27.0
    assert [run["recipe"]["seed"] for run in training["average_of"]] == [0, 1]


def test_of_one(pair, tmp_path):
    with pytest.raises(ConfigError, match="at least two weights"):
        average_weights(pair[:1], tmp_path / "mean")


@pytest.mark.parametrize("other", [{"name": "ssrnet_blog"}, {"name": "ssrnet", "framing": {"size": 64}}])
def test_what_is_not_alike(pair, tmp_path, other):
    other = dict(other)
    save_pretrained(timm.create_model(other.pop("name")), tmp_path / "other", extras=other)
    with pytest.raises(ConfigError, match="Cannot average"):
        average_weights([pair[0], tmp_path / "other"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_command(pair, tmp_path):
    assert main(["average", *map(str, pair), "--output", str(tmp_path / "mean")]) == 0
    said = get_extras(from_pretrained(tmp_path / "mean"))["training"]["command"]
    assert said == "ssrnet-hub average run0 run1 --output DIR"


def test_weights_with_a_training_of_odd_types(tmp_path):
    model = timm.create_model("ssrnet")
    folder = save_pretrained(model, tmp_path / "run", extras={"training": "none"})
    with pytest.raises(ConfigError, match="training is not an object"):
        average_weights([folder, folder], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
