"""A calibration belongs to the weights that it was measured on."""

import copy
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from ssrnet_hub import AgeEstimator, from_pretrained, save_pretrained
from ssrnet_hub.errors import CalibrationError
from ssrnet_hub.hub.convert import convert_torch
from ssrnet_hub.hub.loading import get_extras, tensors_digest
from ssrnet_hub.models.zoo import ZOO
from ssrnet_hub.training.calibration import calibrate

CALIBRATED = ["ssrnet.utkface_fairface_aaf", "ssrnet_wide.utkface_fairface_aaf"]


def config_of(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def edit_config(folder, edit):
    config = config_of(folder)
    edit(config["ssrnet_hub"])
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def tells(model):
    """Whether there are intervals and flags; both or neither."""
    (face,) = AgeEstimator(model).crops([np.zeros((128, 128, 3), np.uint8)])
    assert (face.interval() is None) == (face.reliable is None) == (face.oddness is None)
    return face.interval() is not None


def train(model, steps=20):
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(4, 3, 64, 64)) - 30).abs().mean().backward()
        optimizer.step()
    return model.eval()


def nudge(model):
    """The smallest change: one bit of one weight."""
    with torch.no_grad():
        weight = model.stages[0].p.weight
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(1e9))
    return model


def shift_statistics(model):
    model.stream1[0][0].bn.running_mean.add_(0.1)
    return model


@pytest.fixture
def weights(tmp_path):
    """A folder that can be spoiled."""
    return Path(shutil.copytree(ZOO["ssrnet.utkface_fairface_aaf"].folder, tmp_path / "weights"))


@pytest.mark.parametrize("change", [train, nudge, shift_statistics])
def test_weights_that_were_changed_lose_their_calibration(tmp_path, change):
    model = from_pretrained(CALIBRATED[0])
    assert tells(model)
    change(model)
    assert not tells(model)
    saved = save_pretrained(model, tmp_path / "saved")
    assert not tells(saved)
    said, before = config_of(saved)["ssrnet_hub"], config_of(ZOO["ssrnet.utkface_fairface_aaf"].folder)["ssrnet_hub"]
    assert "calibration" not in said and said["framing"] == before["framing"] and said["training"] == before["training"]


def test_copies_and_averages_of_weights_that_were_changed(tmp_path):
    ema = timm.utils.ModelEmaV3(from_pretrained(CALIBRATED[0]), decay=0.5)
    ema.update(train(from_pretrained(CALIBRATED[0]), steps=2))
    assert not tells(save_pretrained(ema.module, tmp_path / "ema"))
    other = from_pretrained(CALIBRATED[0])
    other.load_state_dict(timm.create_model("ssrnet").state_dict())
    assert not tells(save_pretrained(other, tmp_path / "other"))


def test_a_change_that_is_undone():
    model, state = from_pretrained(CALIBRATED[0]), copy.deepcopy(from_pretrained(CALIBRATED[0]).state_dict())
    assert not tells(nudge(model))
    model.load_state_dict(state)
    assert tells(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_no_change(tmp_path, dtype):
    model = from_pretrained(CALIBRATED[0]).to(dtype)
    assert get_extras(model)["calibration"]
    saved = save_pretrained(model, tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tells(saved)
    # but what is changed in that precision is
    with torch.no_grad():
        model.stages[0].p.weight.mul_(1.5)
    assert "calibration" not in get_extras(model)


def test_what_is_no_change():
    model = from_pretrained(CALIBRATED[0])
    extras = get_extras(model)
    model.to(memory_format=torch.channels_last)
    model.drop_rate = 0.5
    model.stream1[0][0].bn.num_batches_tracked.add_(1)
    assert get_extras(model) == get_extras(torch.compile(model)) == get_extras(copy.deepcopy(model)) == extras
    assert "calibration" in extras


@pytest.mark.parametrize(("arguments", "kept"), [({"V": 50.0}, False), ({"drop_rate": 0.1}, True)])
def test_another_model_of_the_same_tensors(tmp_path, arguments, kept):
    model = from_pretrained(**arguments)
    assert tells(model) == kept
    assert tells(save_pretrained(model, tmp_path)) == kept


def test_other_weights_beside_the_config(weights):
    state = nudge(from_pretrained(CALIBRATED[0]))
    shutil.copy(save_pretrained(state, weights.parent / "other") / "model.safetensors", weights)
    with pytest.warns(UserWarning, match=r"config\.json: it was measured on different weights"):
        model = from_pretrained(weights)
    assert not tells(model)


def test_a_config_without_a_digest_loads_as_it_does(weights, tmp_path):
    expected = get_extras(from_pretrained(CALIBRATED[0]))
    edit_config(weights, lambda extras: extras["calibration"].pop("tensors_sha256"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = from_pretrained(weights)
    assert get_extras(model) == expected
    assert config_of(save_pretrained(model, tmp_path / "again"))["ssrnet_hub"] == expected
    assert not tells(save_pretrained(nudge(model), tmp_path / "changed"))


@pytest.mark.parametrize("digest", [None, 5, [], {}, "", "0" * 64], ids=str)
def test_a_digest_that_is_none(weights, digest):
    edit_config(weights, lambda extras: extras["calibration"].update(tensors_sha256=digest))
    with pytest.warns(UserWarning, match="measured on different weights"):
        assert not tells(weights)


def test_a_calibration_that_is_handed_in(tmp_path):
    calibration = get_extras(from_pretrained(CALIBRATED[0]))["calibration"]
    model = nudge(from_pretrained(CALIBRATED[0]))
    assert not tells(save_pretrained(model, tmp_path / "strange", extras={"calibration": calibration}))
    measured = {key: value for key, value in calibration.items() if key != "tensors_sha256"}
    saved = save_pretrained(model, tmp_path / "own", extras={"calibration": measured})
    assert tells(saved) and "tensors_sha256" not in measured
    assert config_of(saved)["ssrnet_hub"]["calibration"]["tensors_sha256"] == tensors_digest(model)


def test_a_checkpoint_beside_the_config_it_began_with(weights):
    torch.save(nudge(from_pretrained(CALIBRATED[0])).state_dict(), weights / "checkpoint.pt")
    assert not tells(convert_torch(weights / "checkpoint.pt", weights.parent / "converted"))
    torch.save(from_pretrained(CALIBRATED[0]).state_dict(), weights / "checkpoint.pt")
    assert tells(convert_torch(weights / "checkpoint.pt", weights.parent / "same"))


def test_what_a_recipe_starts_from(tmp_path):
    pytest.importorskip("accelerate")
    from PIL import Image

    from ssrnet_hub.training.loop import train as run
    from ssrnet_hub.training.recipe import Recipe

    rows = ["file,age,split", *(f"{i}.png,{20 + i},{'val' if i > 7 else 'train'}" for i in range(10))]
    for i in range(10):
        Image.new("RGB", (128, 128), (20 * i, 90, 90)).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    recipe = Recipe(start="ssrnet.utkface_fairface_aaf", epochs=1, batch_size=8, mixed_precision="no", augment=0.0)
    run(tmp_path / "labels.csv", tmp_path / "out", recipe, cpu=True)
    assert "calibration" not in config_of(tmp_path / "out")["ssrnet_hub"]


@pytest.mark.parametrize("name", CALIBRATED)
def test_the_embedded_weights_say_what_was_measured(name):
    said = config_of(ZOO[name].folder)["ssrnet_hub"]["calibration"]["tensors_sha256"]
    assert said == tensors_digest(from_pretrained(name)) == tensors_digest(timm.create_model(name, pretrained=True))


def test_the_digest_is_the_same_everywhere():
    """Configs have it: other machines and later versions have to find the same."""
    model = timm.create_model("ssrnet")
    model.load_state_dict({key: torch.full_like(value, 0.5) for key, value in model.state_dict().items()})
    assert tensors_digest(model) == "3e761081c6c08fe504af6b5ee74b90e96d1c5c42c5e090114e026ac962051a9a"


def test_a_folder_without_photos_is_told_first(tmp_path):
    with pytest.raises(CalibrationError, match="photos is not a folder with JPEG photos"):
        calibrate(from_pretrained(CALIBRATED[0]), tmp_path / "labels.csv", tmp_path / "out", tmp_path / "photos")
    assert not list(tmp_path.iterdir())
