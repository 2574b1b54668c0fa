"""ssrnet-hub train: the options; what training does is tested in tests/training."""

import ast
import csv
import re

import pytest
from PIL import Image

from ssrnet_hub import from_pretrained
from ssrnet_hub.cli.train import RECIPES, find_recipe, recipe_names
from ssrnet_hub.errors import ConfigError
from ssrnet_hub.hub.cards import render_card
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.training import loop

QUICK = ("--cpu", "--batch-size", "8", "--set-aside", "0", "--mixed-precision", "no")


@pytest.fixture
def train(run, labels):
    def train(output, *options):
        return run("train", "--labels", labels, "--output", output, *QUICK, *options)

    return train


def epochs_of(output):
    with (output / "log.csv").open(newline="") as file:
        return [line["epoch"] for line in csv.DictReader(file)]


def test_a_run_that_is_there_is_kept_unless_it_is_to_be_overwritten(train, tmp_path):
    output = tmp_path / "out"
    code, out, err = train(output, "--epochs", "2")
    assert code == 0, err
    assert ast.literal_eval(out.splitlines()[-1])["epoch"] == 2
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    for options in ([], ["--resume"]):
        code, out, err = train(output, "--epochs", "1", *options)
        assert (code, out) == (1, "") and err.count("\n") == 1
        assert "already contains trained weights" in err and "--overwrite" in err
    # what is wrong with the call is found before anything is removed
    code, _, err = train(output, "--overwrite", "--set-aside", "31")
    assert code == 1 and "nothing is left" in err
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    (output / "notes.txt").write_text("mine")
    code, _, err = train(output, "--epochs", "1", "--overwrite")
    assert code == 0, err
    assert epochs_of(output) == ["1"] and (output / "notes.txt").exists()
    assert len(list((output / "tensorboard").iterdir())) == 1


def test_a_run_that_was_cut_off(train, tmp_path, monkeypatch):
    output, write_log = tmp_path / "out", loop.write_log

    def interrupted(path, log):
        if len(log) == 2:
            raise KeyboardInterrupt
        write_log(path, log)

    monkeypatch.setattr(loop, "write_log", interrupted)
    code, _, err = train(output, "--epochs", "2")
    assert code == 130 and err.endswith("error: interrupted; continue with --resume\n")
    monkeypatch.undo()
    code, out, err = train(output, "--epochs", "2")
    assert (code, out) == (1, "")
    assert "contains an interrupted run: --resume continues it, --overwrite starts over" in err
    code, out, err = train(output, "--epochs", "2", "--resume")
    assert code == 0, err
    assert re.findall(r"epoch (\d)  loss", out) == ["2"] and epochs_of(output) == ["1", "2"]


def test_resume_and_overwrite_exclude_each_other(run, tmp_path):
    with pytest.raises(SystemExit) as e:
        run("train", "--labels", "labels.csv", "--output", tmp_path, "--resume", "--overwrite")
    assert e.value.code == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--labels", "{tmp}/none.csv"], r"none\.csv cannot be read"),
        (["--labels", "{labels}", "--recipe", "{tmp}/none.yaml"], r"none\.yaml cannot be read"),
        (["--labels", "{labels}", "--recipe", "ssrnet.nothing"], r"ssrnet\.nothing.* nor a recipe .*ssrnet\.utkface"),
        (["--labels", "{labels}", "--epochs", "0"], "epochs is not a whole number from 1"),
        (["--labels", "{labels}", "--architecture", "ssrnets"], "ssrnets"),
        (["--labels", "{labels}", "--set-aside", "31"], "nothing is left"),
    ],
)
def test_train_refuses(run, labels, tmp_path, args, said):
    args = [arg.format(labels=labels, tmp=tmp_path) for arg in args]
    code, out, err = run("train", "--output", tmp_path / "out", *args)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: .*{said}.*\n", err)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("form", ["{}", "{}.yaml", "scripts/recipes/{}.yaml"])
def test_recipes_of_the_package_by_name(name, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(form.format(name)) == RECIPES / f"{name}.yaml"


def test_recipes_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ssrnet.utkface").mkdir()
    assert find_recipe("ssrnet.utkface").parent == RECIPES
    (tmp_path / "ssrnet.utkface.yaml").write_text("epochs: 1")
    assert find_recipe("ssrnet.utkface.yaml").absolute() == tmp_path / "ssrnet.utkface.yaml"
    assert find_recipe(str(tmp_path / "none.yaml")) == tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match="nor a recipe of this package"):
        find_recipe("none")


def test_several_sets_and_a_teacher(run, labels, tmp_path):
    ranges = tmp_path / "ranges"
    ranges.mkdir()
    lines = ["file,age_min,age_max,split"]
    for number in range(12):
        Image.new("RGB", (128, 128), (20 * number, 90, 40)).save(ranges / f"{number}.png")
        lines.append(f"{number}.png,20,29,{'train' if number < 8 else 'val'}")
    (ranges / "labels.csv").write_text("\n".join(lines))
    both = "--labels", labels, "--labels", ranges / "labels.csv"
    code, out, err = run(
        *("train", *both, "--output", tmp_path / "out", *QUICK, "--epochs", "1"),
        *("--teacher", "ssrnet.utkface_fairface_aaf", "--teaching", "0.5", "--copies", "1"),
        *("--sets", '{"ranges": {"weight": 0.5}}'),
    )
    assert code == 0, err
    assert {"val_mae_" + labels.parent.name, "val_distance_ranges"} < ast.literal_eval(out.splitlines()[-1]).keys()
    said = get_extras(from_pretrained(tmp_path / "out"))["training"]
    assert (
        f"--labels {labels.parent.name}/labels.csv --labels ranges/labels.csv --teacher ssrnet.utkface_fairface_aaf"
        in said["command"]
    )
    assert """--sets '{"ranges": {"weight": 0.5}}' --teaching 0.5 --copies 1""" in said["command"]
    card = render_card(tmp_path / "out", "me/mine")
    assert "the weights were trained on the mean prediction of `ssrnet.utkface_fairface_aaf`" in card


def test_teachers_that_are_not_there(run, labels, tmp_path):
    call = "train", "--labels", labels, "--output", tmp_path / "out", *QUICK
    code, _, err = run(*call, "--teaching", "0.5")
    assert code == 1 and "set both or neither" in err
    code, _, err = run(*call, "--teaching", "0.5", "--teacher", tmp_path / "none.tgz")
    assert code == 1 and "none.tgz is not the archive of @vladmandic/face-api" in err
