"""Training and measuring on a few made-up pictures: that the parts fit together."""

import ast
import csv
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from ssrnet_hub import AgeEstimator, Framing, SSRNetHubError, from_pretrained, save_pretrained
from ssrnet_hub.hub import get_extras
from ssrnet_hub.metrics import age_metrics
from ssrnet_hub.training import Recipe, batches, make_prepare, mean_absolute_error, train

ROOT = Path(__file__).resolve().parent.parent
QUICK = Recipe(epochs=2, batch_size=8, seed=3)


def write_labels(folder, chips):
    """A labels file of (picture, age, split)."""
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", "split"])
        for i, (chip, age, split) in enumerate(chips):
            chip.save(folder / f"{i}.png")
            writer.writerow([f"{i}.png", age, split])
    return folder / "labels.csv"


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))


def grey(value, size=128):
    return Image.new("RGB", (size, size), (value,) * 3)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    chips = [(noise(), age, "train" if age <= 31 else "val") for age in range(1, 41)]
    return write_labels(tmp_path_factory.mktemp("noise"), chips)


@pytest.fixture(scope="module")
def trained(labels, tmp_path_factory):
    """The folder that training wrote and what it answered."""
    output = tmp_path_factory.mktemp("trained") / "new"
    return output, train(labels, output, QUICK)


def run(script, *args):
    command = [sys.executable, f"scripts/{script}.py", *map(str, args)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}  # they run side by side
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def call(monkeypatch, script, *args):
    """The exit code of a script that is run in this process."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    try:
        return runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))["main"]() or 0
    except SystemExit as e:
        return e.code or 0


# training


def test_weights(trained):
    output, _ = trained
    assert sorted(path.name for path in output.iterdir()) == ["config.json", "log.csv", "model.safetensors"]
    model = from_pretrained(output)
    assert model(torch.randn(2, 3, 64, 64)).isfinite().all()
    # 31 chips are three whole batches of 8, twice
    assert model.state_dict()["stream1.0.0.bn.num_batches_tracked"] == 6


def test_config(trained):
    extras = get_extras(from_pretrained(trained[0]))
    assert Framing.from_dict(extras["framing"]) == Framing()
    assert extras["training"]["median_age"] == 16  # of the ages 1 .. 31; those of the split val do not count
    assert extras["training"]["recipe"] == asdict(QUICK)
    assert extras["training"]["data"].startswith("31 ")


def test_log(trained):
    output, last = trained
    with (output / "log.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["1", "2"]
    assert {key: float(value) for key, value in lines[-1].items()} == last
    assert 0 < last["loss"] < 101 and 0 < last["val_mae"] < 101


def test_val_mae_is_that_of_the_written_weights(trained, labels):
    output, last = trained
    faces = AgeEstimator(output, detector=lambda image: []).crops(labels.parent / f"{i}.png" for i in range(31, 40))
    # here the chips are scaled by Pillow, there by torchvision
    assert age_metrics([face.age for face in faces], range(32, 41))["mae"] == pytest.approx(last["val_mae"], abs=0.2)


def test_same_seed_same_weights(labels, tmp_path):
    weights = []
    for seed in (0, 0, 1):
        output = tmp_path / str(len(weights))
        train(labels, output, Recipe(epochs=1, batch_size=8, seed=seed))
        weights.append((output / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_something_is_learned(tmp_path):
    ages = np.random.default_rng(0).integers(5, 85, 96)
    chips = [(grey(3 * int(age)), age, "val" if i % 4 == 0 else "train") for i, age in enumerate(ages)]
    last = train(
        write_labels(tmp_path / "grey", chips), tmp_path / "out", Recipe(epochs=12, batch_size=8, ema_decay=0.9)
    )
    by_median = np.abs(np.median(ages) - ages[::4]).mean()
    assert last["val_mae"] < 0.7 * by_median


def test_too_few_pictures_for_a_batch(labels, tmp_path):
    with pytest.raises(SSRNetHubError, match="32"):
        train(labels, tmp_path / "out", Recipe(epochs=1, batch_size=32))


def test_preparation_is_that_of_one_picture():
    model = timm.create_model("ssrnet")
    data = timm.data.resolve_model_data_config(model)
    chip = Image.fromarray(np.add.outer(np.arange(128), np.arange(128)).astype(np.uint8)).convert("RGB")
    chip.paste((255, 0, 0), (0, 0, 50, 20))
    prepared = make_prepare(model)(torch.from_numpy(np.array(chip)).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(prepared, timm.data.create_transform(**data)(chip), rtol=0, atol=2.5 / 127.5)


def test_batches_are_whole_and_shuffled():
    order = torch.cat(list(batches(103, 10)))
    assert len(order) == 100
    assert len(set(order.tolist())) == 100
    assert order.tolist() != sorted(order.tolist())
    assert [len(batch) for batch in batches(20, 10)] == [10, 10]


def test_mean_absolute_error_of_clamped_ages():
    class Model(torch.nn.Module):
        V = 101.0

        def forward(self, x):
            return x[:, 0, 0]

    chips = torch.tensor([-50.0, 20.0, 500.0])[:, None, None, None]
    ages = torch.tensor([2.0, 30.0, 100.0])
    assert mean_absolute_error(Model(), lambda x: x, chips, ages, "cpu") == pytest.approx((2 + 10 + 1) / 3)


# the scripts


@pytest.fixture(scope="module")
def scripts(trained, labels, astronaut, tmp_path_factory):
    """Exit code, output and messages of the scripts, run side by side."""
    top = tmp_path_factory.mktemp("scripts")
    photos = write_labels(top / "photos", [(grey(128, 300), 40, "test"), (astronaut, 50, "test")])
    recipe = ("--epochs", 1, "--batch-size", 8, "--lr", 0.001, "--seed", 7, "--no-bfloat16")
    weights = ("--weights", trained[0])
    running = {
        "train": run("train", "--labels", labels, "--output", top / "out", *recipe),
        "evaluate": run("evaluate", *weights, "--labels", photos, "--split", "test", "--detect", "--json"),
    }
    done = {name: (*process.communicate(), process.returncode) for name, process in running.items()}
    return {"top": top, **done}


def test_train_script(scripts):
    out, errors, code = scripts["train"]
    assert code == 0, errors
    model = from_pretrained(scripts["top"] / "out")
    recipe = Recipe(epochs=1, batch_size=8, lr=0.001, seed=7, bfloat16=False)
    assert get_extras(model)["training"]["recipe"] == asdict(recipe)
    assert ast.literal_eval(out.splitlines()[-1])["epoch"] == 1


def test_train_script_without_labels(monkeypatch, capsys, tmp_path):
    code = call(monkeypatch, "train", "--labels", tmp_path / "none.csv", "--output", tmp_path / "out")
    assert code == 1
    assert re.fullmatch(r"error: .*none\.csv cannot be read.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_evaluate_script(monkeypatch, capsys, trained, labels):
    assert call(monkeypatch, "evaluate", "--weights", trained[0], "--labels", labels, "--json") == 0
    printed = capsys.readouterr()
    assert "warning: the split train is among these rows" in printed.err
    result = json.loads(printed.out)
    faces = AgeEstimator(trained[0], detector=lambda image: []).crops(labels.parent / f"{i}.png" for i in range(40))
    expected = age_metrics([face.age for face in faces], range(1, 41))
    assert result == {
        "mae": pytest.approx(expected["mae"], abs=1e-3),
        "cs5": pytest.approx(expected["cs5"], abs=1e-3),
        "bias": pytest.approx(expected["bias"], abs=1e-3),
        "n": 40,
        "missed": 0,
        "split": None,
        "weights": str(trained[0]),
    }


def test_evaluate_script_counts_missed_faces_as_the_median(scripts, trained, astronaut):
    out, errors, code = scripts["evaluate"]
    assert code == 0, errors
    assert "warning" not in errors
    result = json.loads(out)
    assert (result["n"], result["missed"], result["split"]) == (2, 1, "test")
    (face,) = AgeEstimator(trained[0])(astronaut)
    assert result["mae"] == pytest.approx((abs(16 - 40) + abs(face.age - 50)) / 2, abs=1e-3)
    assert result["bias"] == pytest.approx((16 - 40 + face.age - 50) / 2, abs=1e-3)


def test_evaluate_script_for_people(monkeypatch, capsys, labels):
    assert call(monkeypatch, "evaluate", "--labels", labels, "--split", "val") == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    assert dict(line.split() for line in printed.out.splitlines()).items() >= {"n": "9", "split": "val"}.items()


def test_evaluate_script_on_weights_that_state_no_median(tmp_path):
    answer_missing = runpy.run_path(str(ROOT / "scripts" / "evaluate.py"))["answer_missing"]
    folder = save_pretrained(timm.create_model("ssrnet"), tmp_path)
    assert answer_missing(AgeEstimator(folder, detector=lambda image: [])) == 29


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--labels", "none.csv"], r"none\.csv"),
        (["--labels", "{labels}", "--split", "test"], "no rows of split 'test'"),
        (["--labels", "{labels}", "--weights", "ssrnet.nothing"], r"ssrnet\.nothing"),
        (["--labels", "{broken}"], r"0\.png"),
    ],
)
def test_evaluate_script_refuses(monkeypatch, capsys, tmp_path, labels, args, said):
    broken = write_labels(tmp_path / "broken", [(grey(0), 1, "val")])
    (broken.parent / "0.png").write_bytes(b"no picture")
    assert call(monkeypatch, "evaluate", *[arg.format(labels=labels, broken=broken) for arg in args]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(rf"^error: .*{said}", printed.err, re.MULTILINE)
