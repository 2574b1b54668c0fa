"""Training on a few made-up pictures: that the parts fit together, one process or two, cut off or not."""

import ast
import csv
import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from accelerate.state import AcceleratorState, PartialState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssrnet_hub import AgeEstimator, Framing, from_pretrained
from ssrnet_hub.errors import ArchitectureError, ConfigError, DivergenceError, LabelsError, PhotoError, SSRNetHubError
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.models.ssrnet import StageHead
from ssrnet_hub.training import loop as training
from ssrnet_hub.training.labels import Label
from ssrnet_hub.training.loop import (
    Chips,
    Recipe,
    ShardedBatches,
    balanced_weights,
    make_augment,
    make_prepare,
    measure,
    read_recipe,
    set_aside,
    silent_units,
    train,
)
from ssrnet_hub.utils.metrics import age_metrics

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "scripts" / "recipes").glob("*.yaml"))
# one precision for all: accelerate keeps the first that it meets in a process
QUICK = Recipe(epochs=2, batch_size=8, seed=3, mixed_precision="no")
FILES = ["config.json", "log.csv", "model.safetensors", "tensorboard"]


def write_labels(folder, chips):
    """A labels file of (picture, age, split) or (picture, age, split, gender)."""
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", "split", "gender"])
        for i, (chip, *rest) in enumerate(chips):
            chip.save(folder / f"{i}.png")
            writer.writerow([f"{i}.png", *rest, *[""] * (3 - len(rest))])
    return folder / "labels.csv"


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))


def grey(value, size=128):
    return Image.new("RGB", (size, size), (value,) * 3)


def weights_of(output):
    return (output / "model.safetensors").read_bytes()


def read_log(output):
    with (output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    chips = [(noise(), age, "train" if age <= 31 else "val") for age in range(1, 41)]
    return write_labels(tmp_path_factory.mktemp("noise"), chips)


@pytest.fixture(scope="module")
def trained(labels, tmp_path_factory):
    """The folder that training wrote and what it answered."""
    output = tmp_path_factory.mktemp("trained") / "new"
    return output, train(labels, output, QUICK)


def call(monkeypatch, script, *args):
    """The exit code of a script that is run in this process."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    try:
        return runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))["main"]() or 0
    except SystemExit as e:
        return e.code or 0


# recipes


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


# what is set aside


def rows(*names):
    return [Label(Path("folder", name), age=age) for age, name in enumerate(names)]


def test_set_aside_is_the_smallest_digests():
    names = [f"{i}.png" for i in range(20)]
    chosen = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:6]
    others, aside = set_aside(rows(*names), 6)
    assert [label.path.name for label in aside] == sorted(chosen, key=names.index)
    assert [label.path.name for label in others] == [name for name in names if name not in chosen]


def test_set_aside_known_answer():
    # SHA-256 of these names begins with 92b3, 7a11 and 509b
    labels = rows("c.jpg", "b.jpg", "a.jpg")
    assert set_aside(labels, 1) == (labels[:2], labels[2:])
    assert set_aside(labels, 2) == (labels[:1], labels[1:])


def test_set_aside_does_not_depend_on_the_order_or_on_other_rows():
    labels = rows(*[f"{i}.png" for i in range(30)])
    others, aside = set_aside(labels, 7)
    assert len(aside) == 7 and len(others) == 23
    assert not set(others) & set(aside)
    for again in (labels[::-1], labels[11:] + labels[:11], others[::2] + aside):
        assert set(set_aside(again, 7)[1]) == set(aside)


def test_set_aside_does_not_depend_on_folders_and_ages():
    labels = rows(*[f"{i}.png" for i in range(30)])
    moved = [replace(label, path=Path("elsewhere", label.path.name), age=1.0) for label in labels]
    assert [x.path.name for x in set_aside(moved, 7)[1]] == [x.path.name for x in set_aside(labels, 7)[1]]


def test_nothing_set_aside():
    labels = rows("b.png", "a.png")
    assert set_aside(labels, 0) == (labels, [])


@pytest.mark.parametrize("count", [2, 3])
def test_too_many_set_aside(count):
    with pytest.raises(LabelsError, match=f"2 rows.*{count}"):
        set_aside(rows("b.png", "a.png"), count)


def test_set_aside_chips_are_never_trained_on(labels, tmp_path):
    recipe = replace(QUICK, epochs=1, set_aside=10)
    train(labels, tmp_path / "out", recipe)
    extras = get_extras(from_pretrained(tmp_path / "out"))["training"]
    assert extras["set_aside"] == 10
    assert extras["data"].startswith("21 ")

    # the same without their pictures and with other ages
    train_rows = [replace(label, age=99.0) for label in training.read_labels(labels, "train")]
    aside = {label.path.name for label in set_aside(train_rows, 10)[1]}
    with labels.open(newline="") as file:
        lines = list(csv.DictReader(file))
    folder = tmp_path / "cut"
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        for line in lines:
            if line["file"] in aside:
                line["age"] = "99"
            else:
                (folder / line["file"]).write_bytes((labels.parent / line["file"]).read_bytes())
            writer.writerow(line)
    train(folder / "labels.csv", tmp_path / "again", recipe)
    assert weights_of(tmp_path / "again") == weights_of(tmp_path / "out")
    assert get_extras(from_pretrained(tmp_path / "again"))["training"]["median_age"] == extras["median_age"]


# chips, their weights and batches


def test_weights_are_1_on_average():
    targets = torch.randint(1, 90, (500,), generator=torch.Generator().manual_seed(0)).float()
    for balance in (0.3, 1.0):
        assert balanced_weights(targets, balance).mean() == pytest.approx(1)
    assert balanced_weights(targets, 0.0).tolist() == [1.0] * 500


def test_rare_ages_weigh_more():
    # too far apart for one to be near the other
    targets = torch.tensor([20.0] * 50 + [80.0])
    weights = balanced_weights(targets, 1.0)
    assert weights[:50].sum() == pytest.approx(weights[50])
    half = balanced_weights(targets, 0.5)
    assert half[50] / half[0] == pytest.approx(50**0.5)


def test_ages_as_frequent_as_each_other_weigh_the_same():
    weights = balanced_weights(torch.arange(1.0, 101.0).repeat(3), 1.0)
    torch.testing.assert_close(weights, torch.ones(300))


def test_neighbours_share_their_weight():
    # once each, but one of them amid others
    targets = torch.tensor([*[20.0] * 50, 21.0, 80.0])
    weights = balanced_weights(targets, 1.0)
    assert weights[0].item() == pytest.approx(weights[50].item(), rel=0.1)
    assert weights[51] > 10 * weights[50]


def test_weights_are_in_the_order_of_their_ages():
    targets = torch.tensor([3.0, 70.0, 5.0, 3.0, 30.0, 3.0])
    weights = balanced_weights(targets, 0.7)
    order = torch.tensor([5, 1, 4, 0, 2, 3])
    torch.testing.assert_close(balanced_weights(targets[order], 0.7), weights[order])
    assert weights[0] == weights[3] == weights[5] < weights[1]


def test_chips_are_as_asked_for(tmp_path):
    path = write_labels(tmp_path / "chips", [(grey(10 * i, 64), i, "train") for i in range(6)])
    chips = Chips(training.read_labels(path), 101.0, 128, balance=0.5)
    assert len(chips) == 6
    pictures, targets, weights = chips.__getitems__([4, 1])
    assert pictures.shape == (2, 3, 128, 128) and pictures.dtype == torch.uint8
    assert pictures.amin((1, 2, 3)).tolist() == pictures.amax((1, 2, 3)).tolist() == [40, 10]
    assert targets.tolist() == [4, 1]
    assert weights.tolist() == chips.weights[[4, 1]].tolist()


def test_chips_of_more_than_a_group_are_all_augmented(labels):
    chips = Chips(training.read_labels(labels, "train"), 101.0, 128, augment=lambda chips: 255 - chips)
    pictures, targets, _ = chips.__getitems__(list(range(20)))
    assert torch.equal(pictures, 255 - chips.chips[:20])
    assert targets.tolist() == list(range(1, 21))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch_size"), [(103, 10), (20, 10), (64, 64), (7, 10), (5, 2)])
def test_every_chip_is_seen_once_an_epoch(count, batch_size, world):
    shares = [ShardedBatches(count, batch_size, rank, world) for rank in range(world)]
    whole = ShardedBatches(count, batch_size)
    orders = []
    for epoch in (1, 2, 3):
        for share in (*shares, whole):
            share.epoch = epoch
        of_ranks = [list(share) for share in shares]
        assert {len(batches) for batches in of_ranks} == {len(whole)} == {len(share) for share in shares}
        order = [i for batch in whole for i in batch]
        assert sorted(order) == list(range(count))
        # the ranks part one order between them
        steps = [list(chain(*parts)) for parts in zip(*of_ranks, strict=True)]
        assert steps == list(whole)
        for sizes in ([len(step) for step in steps], [len(batch) for batches in of_ranks for batch in batches]):
            assert max(sizes) - min(sizes) <= 1
        assert list(shares[0]) == of_ranks[0]  # asked again
        orders.append(order)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_batches_are_no_smaller_than_asked_for():
    assert [len(batch) for batch in ShardedBatches(103, 10)] == [11, 11, 11, *[10] * 7]


# units that are silent


@pytest.fixture
def head():
    """A stage whose every unit answers, and what it reads."""
    head = StageHead(20, 3, 1, drop_rate=0.0, dynamic_range=True, hidden=None)
    with torch.no_grad():
        for layer in (head.fc1, head.fc2, head.fc, head.p):
            layer.weight.clamp_(-0.1, 0.1)
            layer.bias.fill_(3.0)
    return head, (torch.rand(32, 20), torch.rand(32, 20))


def silence(head):
    with torch.no_grad():
        head.fc1.bias[1] = -4.0


def test_no_penalty_on_units_that_answer(head):
    head, x = head
    with silent_units(head) as penalty:
        head(*x)
    assert penalty() == 0


def test_penalty_is_how_far_a_unit_is_from_answering(head):
    head, x = head
    silence(head)
    with silent_units(head) as penalty:
        head(*x)
    inputs = head.fc1(x[0])[:, 1]
    assert penalty().item() == pytest.approx(-(inputs.mean() + inputs.std(correction=0)).item())


def test_penalty_brings_a_silent_unit_back(head):
    head, x = head
    silence(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)

    # the answer itself has no gradient there, which is why it would stay silent
    head(*x)[0].sum().backward()
    assert not head.fc1.weight.grad[1].any()
    assert head.fc1.weight.grad[0].any()

    others = head.fc1.bias[[0, 2]].tolist()
    for _ in range(200):
        with silent_units(head) as penalty:
            head(*x)
        optimizer.zero_grad()
        penalty().backward()
        optimizer.step()
    assert penalty() == 0
    assert (head.fc1(x[0])[:, 1] > 0).any()
    assert head.fc1.bias[[0, 2]].tolist() == others


@pytest.mark.parametrize("architecture", ["ssrnet", "ssrnet_blog", "ssrnet_dex"])
def test_watching_leaves_nothing_behind(architecture):
    model = timm.create_model(architecture)
    with silent_units(model) as penalty:
        model(torch.randn(2, 3, 64, 64))
        assert any(module._forward_hooks for module in model.modules()) == (architecture != "ssrnet_dex")
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ZeroDivisionError), silent_units(model):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in model.modules())
    # of a model without such stages: there is nothing to keep alive
    assert architecture != "ssrnet_dex" or penalty() == 0


# pictures


def augment_with(seed, strength, chips):
    torch.manual_seed(seed)
    return make_augment(strength)(chips)


def test_augmentation_keeps_the_form(labels):
    chips = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    given = chips.clone()
    answers = [augment_with(seed, 1.0, chips) for seed in range(60)]
    assert all(answer.shape == chips.shape and answer.dtype == torch.uint8 for answer in answers)
    assert not any(torch.equal(answer, chips) for answer in answers)
    assert torch.equal(chips, given)
    assert torch.equal(augment_with(7, 1.0, chips), answers[7])
    assert not torch.equal(answers[7], answers[8])


def test_augmentation_without_strength_only_mirrors_and_moves():
    colours = torch.tensor([[200, 120, 40], [20, 60, 220]], dtype=torch.uint8)
    # one colour on the left, the other on the right; away from the seam and the borders
    chip = colours.T[None, :, None, :].repeat_interleave(64, 3).repeat(1, 1, 128, 1)
    parts = [(slice(None), slice(None), slice(40, 88), side) for side in (slice(20, 40), slice(88, 108))]

    def sides(strength, seed):
        answer = augment_with(seed, strength, chip)
        return [{tuple(pixel) for pixel in answer[part][0].flatten(1).T.tolist()} for part in parts]

    as_it_was = [{tuple(colour)} for colour in colours.tolist()]
    found = [sides(0.0, seed) for seed in range(40)]
    assert all(there in (as_it_was, as_it_was[::-1]) for there in found)
    assert as_it_was in found and as_it_was[::-1] in found

    changed = [
        sum(sides(strength, seed) not in (as_it_was, as_it_was[::-1]) for seed in range(60)) for strength in (0.3, 1.0)
    ]
    assert 0 < changed[0] < changed[1]


def test_preparation_is_that_of_one_picture():
    model = timm.create_model("ssrnet")
    data = timm.data.resolve_model_data_config(model)
    chip = Image.fromarray(np.add.outer(np.arange(128), np.arange(128)).astype(np.uint8)).convert("RGB")
    chip.paste((255, 0, 0), (0, 0, 50, 20))
    prepared = make_prepare(model)(torch.from_numpy(np.array(chip)).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(prepared, timm.data.create_transform(**data)(chip), rtol=0, atol=2.5 / 127.5)


# what is measured


class Answers(torch.nn.Module):
    """Answers the first pixel of a chip, each a face of its own."""

    def __init__(self, V):
        super().__init__()
        self.V = V

    def forward(self, x):
        return x[:, 0, 0]


def made_up_chips(pixels, targets):
    chips = Chips.__new__(Chips)
    chips.chips = torch.tensor(pixels)[:, None, None, None]
    chips.targets = torch.tensor(targets)
    return chips


def test_mean_absolute_error_of_clamped_ages():
    chips = made_up_chips([-50.0, 20.0, 500.0], [2.0, 30.0, 100.0])
    answer = measure(Answers(101.0), lambda x: x, chips, torch.device("cpu"))
    assert answer == pytest.approx((2 + 10 + 1) / 3)


def test_share_of_genders_told_wrongly():
    chips = made_up_chips([-3.0, 0.49, 0.51, 7.0], [0.0, 1.0, 1.0, 0.0])
    assert measure(Answers(1.0), lambda x: x, chips, torch.device("cpu")) == 0.5


def test_all_chips_are_measured():
    chips = made_up_chips([10.0] * 300, [10.0] * 257 + [40.0] * 43)
    assert measure(Answers(101.0), lambda x: x, chips, torch.device("cpu")) == pytest.approx(43 * 30 / 300)


# training


def test_weights(trained):
    output, _ = trained
    assert sorted(path.name for path in output.iterdir()) == FILES
    model = from_pretrained(output)
    assert model(torch.randn(2, 3, 64, 64)).isfinite().all()
    # 31 chips are three batches of 10 or 11, twice
    assert model.state_dict()["stream1.0.0.bn.num_batches_tracked"] == 6


def test_config(trained):
    extras = get_extras(from_pretrained(trained[0]))
    assert Framing.from_dict(extras["framing"]) == Framing()
    assert extras["training"]["median_age"] == 16  # of the ages 1 .. 31; those of the split val do not count
    assert extras["training"]["recipe"] == asdict(QUICK)
    assert extras["training"]["data"].startswith("31 ")
    assert extras["training"]["set_aside"] == 0
    assert extras["training"]["minutes"] == trained[1]["minutes"]
    assert "processes" not in extras["training"]["device"]
    assert "command" not in extras["training"]


def test_log(trained):
    output, last = trained
    lines = read_log(output)
    assert list(lines[0]) == ["epoch", "loss", "val_mae", "minutes"]
    assert [line["epoch"] for line in lines] == ["1", "2"]
    assert {key: float(value) for key, value in lines[-1].items()} == last
    assert 0 < last["loss"] < 101 and 0 < last["val_mae"] < 101


def test_tensorboard(trained):
    output, _ = trained
    events = EventAccumulator(str(output / "tensorboard")).Reload()
    for name in ("loss", "val_mae"):
        found = [(event.step, pytest.approx(event.value, rel=1e-5)) for event in events.Scalars(name)]
        assert [(int(line["epoch"]), float(line[name])) for line in read_log(output)] == found


def test_val_mae_is_that_of_the_written_weights(trained, labels):
    output, last = trained
    faces = AgeEstimator(output, detector=lambda image: []).crops(labels.parent / f"{i}.png" for i in range(31, 40))
    # here the chips are scaled by Pillow, there by torchvision
    assert age_metrics([face.age for face in faces], range(32, 41))["mae"] == pytest.approx(last["val_mae"], abs=0.2)
    val = Chips(training.read_labels(labels, "val"), 101.0, 128)
    model = from_pretrained(output)
    assert measure(model, make_prepare(model), val, torch.device("cpu")) == pytest.approx(last["val_mae"], abs=1e-4)


def test_same_seed_same_weights(trained, labels, tmp_path):
    output, last = trained
    assert train(labels, tmp_path / "same", QUICK, cpu=True)["val_mae"] == last["val_mae"]
    train(labels, tmp_path / "other", replace(QUICK, seed=4))
    assert weights_of(tmp_path / "same") == weights_of(output) != weights_of(tmp_path / "other")


def test_workers_prepare_chips(labels, tmp_path):
    for name in ("one", "again"):
        train(labels, tmp_path / name, replace(QUICK, epochs=1), workers=1, command="this")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == FILES
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "again")
    assert get_extras(from_pretrained(tmp_path / "one"))["training"]["command"] == "this"


@pytest.mark.parametrize(
    "changes",
    [{"drop_rate": 0.0}, {"balance": 0.5}, {"augment": 0.0}, {"keep_alive": 10.0}, {"ema_decay": 0.1}],
    ids=str,
)
def test_fields_of_a_recipe_have_an_effect(trained, labels, tmp_path, changes):
    # ages of which none is rarer than others weigh the same, so some are left out
    labels = write_few(labels, tmp_path / "few")
    weights = []
    for recipe in (replace(QUICK, epochs=1), replace(QUICK, epochs=1, **changes)):
        weights.append(weights_of(trains(labels, tmp_path / str(len(weights)), recipe)))
    assert weights[0] != weights[1]


def write_few(labels, folder):
    """Sixteen chips, of which one is far older than the others."""
    return write_labels(folder, [(noise(), 90 if i == 3 else 20, "val" if i > 15 else "train") for i in range(18)])


def trains(labels, output, recipe):
    train(labels, output, recipe)
    return output


def test_a_silent_unit_comes_back_in_training(labels, tmp_path, monkeypatch):
    make = training.new_model

    def new_model(*args, **kwargs):
        model = make(*args, **kwargs)
        with torch.no_grad():
            model.stages[0].fc1.bias[0] = -30.0
        return model

    monkeypatch.setattr(training, "new_model", new_model)
    bias = {}
    for keep_alive in (0.0, 0.1):
        recipe = replace(QUICK, epochs=1, lr=0.1, weight_decay=0.0, ema_decay=0.1, keep_alive=keep_alive)
        output = trains(labels, tmp_path / str(keep_alive), recipe)
        bias[keep_alive] = from_pretrained(output).stages[0].fc1.bias[0].item()
    assert bias[0.0] == -30
    assert bias[0.1] > -29.98


@pytest.mark.parametrize("architecture", ["ssrnet", "ssrnet_dex"])
def test_something_is_learned(tmp_path, architecture):
    ages = np.random.default_rng(0).integers(5, 85, 48)
    chips = [(grey(3 * int(age)), age, "val" if i % 4 == 0 else "train") for i, age in enumerate(ages)]
    recipe = replace(
        QUICK, architecture=architecture, epochs=9, batch_size=4, ema_decay=0.5, augment=0.0, keep_alive=0.1
    )
    last = train(write_labels(tmp_path / "grey", chips), tmp_path / "out", recipe)
    by_median = np.abs(np.median(ages) - ages[::4]).mean()
    assert last["val_mae"] < 0.7 * by_median


def test_gender_is_learned(tmp_path):
    # what is light here is male; the ages say nothing
    genders = {"female": 20, "male": 235}
    chips = [
        (grey(value), 30, "train" if i < 16 else "val", gender) for i in range(20) for gender, value in genders.items()
    ]
    recipe = replace(
        QUICK, architecture="ssrnet_gender", epochs=12, batch_size=4, lr=0.02, drop_rate=0.0, ema_decay=0.5, augment=0.0
    )
    last = train(write_labels(tmp_path / "grey", chips), tmp_path / "out", recipe)
    assert last["val_mae"] == 0
    assert last["loss"] < 0.25
    model = from_pretrained(tmp_path / "out")
    assert model.V == 1
    chip = torch.ones(1, 3, 128, 128, dtype=torch.uint8)
    female, male = (model(make_prepare(model)(chip * value)) for value in genders.values())
    assert female < 0.5 < male


@pytest.mark.parametrize("split", ["train", "val"])
def test_gender_must_be_known(tmp_path, split):
    chips = [(grey(60), 30, "train" if i < 8 else "val", "female") for i in range(10)]
    chips[0 if split == "train" else 9] = (grey(60), 30, split, "")
    with pytest.raises(LabelsError, match="gender"):
        train(write_labels(tmp_path / "grey", chips), tmp_path / "out", replace(QUICK, architecture="ssrnet_gender"))


def test_training_starts_from_weights(trained, labels, tmp_path):
    # with a rate so low that nothing moves; the buffers of the batch normalisation do
    recipe = replace(QUICK, epochs=1, lr=1e-9, seed=5, start=str(trained[0]))
    start, after = (from_pretrained(path) for path in (trained[0], trains(labels, tmp_path / "out", recipe)))
    for name, parameter in start.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), parameter, rtol=0, atol=1e-6)
    extras = get_extras(after)["training"]
    assert extras["start"] == get_extras(start)["training"]
    # by its name: where it lies says nothing to others
    assert extras["recipe"] == {**asdict(recipe), "start": trained[0].name}


def test_training_starts_from_weights_of_its_architecture(trained, labels, tmp_path):
    with pytest.raises(ConfigError, match="another architecture"):
        train(labels, tmp_path / "out", replace(QUICK, architecture="ssrnet_dex", start=str(trained[0])))
    with pytest.raises(SSRNetHubError, match="nowhere"):
        train(labels, tmp_path / "out", replace(QUICK, start=str(tmp_path / "nowhere")))


@pytest.fixture
def afresh():
    """A process in which accelerate knows of no training yet, which is how it is left as well."""
    for state in (AcceleratorState, PartialState):
        state._reset_state()
    yield
    for state in (AcceleratorState, PartialState):
        state._reset_state()


def test_mixed_precision(afresh, labels, tmp_path):
    recipe = replace(QUICK, epochs=1, mixed_precision="bf16")
    output = trains(write_few(labels, tmp_path / "few"), tmp_path / "out", recipe)
    model = from_pretrained(output)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(torch.randn(2, 3, 64, 64)).isfinite().all()


def test_training_that_leaves_the_numbers(labels, tmp_path):
    with pytest.raises(DivergenceError, match=r"Epoch 1 .*--lr"):
        train(labels, tmp_path / "out", replace(QUICK, lr=1e30))
    assert not list(tmp_path.glob("out/*.*"))


def test_too_few_pictures_for_a_batch(labels, tmp_path):
    with pytest.raises(LabelsError, match="32"):
        train(labels, tmp_path / "out", replace(QUICK, batch_size=32))
    with pytest.raises(LabelsError, match="15"):
        train(labels, tmp_path / "out", replace(QUICK, set_aside=16, batch_size=16))
    with pytest.raises(LabelsError, match="31"):
        train(labels, tmp_path / "out", replace(QUICK, set_aside=31))


def test_a_chip_that_is_none(tmp_path):
    labels = write_labels(tmp_path / "broken", [(grey(60), 30, "val" if i == 8 else "train") for i in range(9)])
    (labels.parent / "3.png").write_bytes(b"no picture")
    with pytest.raises(PhotoError, match=r"3\.png"):
        train(labels, tmp_path / "out", QUICK)


# a run that is cut off


class Cut(BaseException):
    """What no code here expects."""


LONGER = replace(QUICK, epochs=3, set_aside=15, batch_size=8, keep_alive=0.1, balance=0.3)


@pytest.fixture(scope="module")
def unbroken(labels, tmp_path_factory):
    output = tmp_path_factory.mktemp("unbroken") / "out"
    train(labels, output, LONGER)
    return output


def cut_at(monkeypatch, place, calls):
    """Let the so-manieth call of a function fail."""
    owner, name = (training.torch, "save") if place == "torch.save" else (training, place)
    if place == "end_training":
        owner, name = training.Accelerator, place
    function = getattr(owner, name)
    left = [calls]

    def wrapped(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            raise Cut
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("place", "calls", "done"),
    [
        ("measure", 1, 0),  # nothing is written yet
        ("silent_units", 4, 1),  # amid the second epoch
        ("write_log", 2, 1),  # the weights are of the second epoch, the state is of the first
        ("torch.save", 2, 1),  # the log is, too
        ("measure", 3, 2),
        ("end_training", 1, 3),  # nothing is left to do but to clean up
    ],
)
def test_a_run_goes_on_after_its_last_whole_epoch(labels, unbroken, tmp_path, place, calls, done):
    output = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, place, calls)
        with pytest.raises(Cut):
            train(labels, output, LONGER)
    assert (output / "state.pt").exists() == (done > 0)

    epochs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "measure", lambda *args: epochs.append(1) or measure(*args))
        last = train(labels, output, LONGER)
    assert len(epochs) == 3 - done
    assert weights_of(output) == weights_of(unbroken)
    assert sorted(path.name for path in output.iterdir()) == FILES
    columns = ("epoch", "loss", "val_mae")
    assert [[line[k] for k in columns] for line in read_log(output)] == [
        [line[k] for k in columns] for line in read_log(unbroken)
    ]
    assert last == {key: float(value) for key, value in read_log(output)[-1].items()}


@pytest.mark.parametrize("content", [b"mine", b"", None])
def test_a_state_of_something_else_is_left(labels, tmp_path, content):
    state = tmp_path / "out" / "state.pt"
    state.parent.mkdir()
    if content is None:
        torch.save({"epoch": 3}, state)
    else:
        state.write_bytes(content)
    before = state.read_bytes()
    with pytest.raises(ConfigError, match=r"state\.pt is not what a run leaves"):
        train(labels, state.parent, LONGER)
    assert state.read_bytes() == before


def test_a_run_does_not_go_on_with_another_recipe_or_other_chips(labels, tmp_path, monkeypatch):
    output = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, "measure", 2)
        with pytest.raises(Cut):
            train(labels, output, LONGER)
    before = {path.name: path.read_bytes() for path in output.glob("*.*")}
    fewer = write_labels(tmp_path / "fewer", [(grey(60), 30, "val" if i == 30 else "train") for i in range(31)])
    for other in ((labels, replace(LONGER, seed=4)), (labels, replace(LONGER, epochs=9)), (fewer, LONGER)):
        with pytest.raises(ConfigError, match=r"state\.pt is of another run"):
            train(other[0], output, other[1])
    assert {path.name: path.read_bytes() for path in output.glob("*.*")} == before


# the script, in processes of its own

DRIVER = '''
"""scripts/train.py that notes which chips it trains on, and is killed: FOLDER NAME CALLS SCRIPT [ARGUMENTS]."""

import json
import os
import runpy
import signal
import sys
from pathlib import Path

from ssrnet_hub import training

folder, name, calls, script = sys.argv[1:5]
sys.argv[:5] = [script]
rank = int(os.environ.get("RANK", 0))
left = int(calls)


def counted(*args, **kwargs):
    global left
    left -= 1
    if not left and rank == 0:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # of torchrun, which would else start to clean up; the other process loses its partner
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)


def noted(self, indices):
    with Path(folder, f"{rank}.jsonl").open("a") as file:
        print(json.dumps(indices), file=file)
    return getitems(self, indices)


function = getattr(training, name)
setattr(training, name, counted)
getitems = training.Chips.__getitems__
training.Chips.__getitems__ = noted
runpy.run_path(script, run_name="__main__")
'''

SCRIPT = "scripts/train.py"
CHANGES = {"epochs": 3, "batch_size": 8, "set_aside": 10, "seed": 7}


@pytest.fixture(scope="module")
def runs(labels, tmp_path_factory):
    """What the script printed, run again and again: by one process and by two, cut off and not."""
    top = tmp_path_factory.mktemp("runs")
    (top / "driver.py").write_text(DRIVER)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    changes = [f"--{name.replace('_', '-')}={value}" for name, value in CHANGES.items()]

    def driver(folder, name="measure", calls=0):
        (top / folder).mkdir(exist_ok=True)
        return (top / "driver.py", top / folder, name, calls, SCRIPT)

    def run(output, *start):
        command = [sys.executable, *start, "--labels", labels, "--output", top / output, "--cpu", *changes]
        # they run side by side
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run([*map(str, command)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)

    def one():
        answers = [run("one", *driver("seen-one", "save_pretrained", 1))]
        assert not list((top / "one").glob("*.*")), "nothing is written yet"
        answers.append(run("one", *driver("seen-one", "write_log", 2)))
        assert (top / "one" / "state.pt").exists()
        return [*answers, run("one", SCRIPT)]

    def two():
        answers = [run("two", *torchrun, *driver("seen-cut", "write_log", 2))]
        assert (top / "two" / "state.pt").exists()
        return [*answers, run("two", *torchrun, SCRIPT)]

    def whole():
        return [run("whole", *torchrun, *driver("seen"))]

    with ThreadPoolExecutor() as pool:
        running = {function.__name__: pool.submit(function) for function in (one, two, whole)}
    return top, {name: answers.result() for name, answers in running.items()}


def test_train_script(runs, labels):
    top, answers = runs
    done = answers["one"][-1]
    assert done.returncode == 0, done.stderr
    extras = get_extras(from_pretrained(top / "one"))["training"]
    # of the recipe that is the default, and what was to be otherwise
    recipe = read_recipe(ROOT / "scripts" / "recipes" / "ssrnet.utkface.yaml", **CHANGES)
    assert extras["recipe"] == asdict(recipe)
    assert extras["command"] == (
        f"python scripts/train.py --recipe scripts/recipes/ssrnet.utkface.yaml --labels {labels.parent.name}/labels.csv"
        " --output DIR --epochs 3 --batch-size 8 --set-aside 10 --seed 7"
    )
    assert ast.literal_eval(done.stdout.splitlines()[-1])["epoch"] == 3


def test_killed_script_goes_on(runs, labels, tmp_path):
    top, answers = runs
    assert [done.returncode for done in answers["one"]] == [-9, -9, 0], answers["one"][-1].stderr
    assert re.findall(r"epoch (\d)  loss", answers["one"][-1].stdout) == ["2", "3"]
    recipe = read_recipe(ROOT / "scripts" / "recipes" / "ssrnet.utkface.yaml", **CHANGES)
    unbroken = trains(labels, tmp_path / "unbroken", recipe)
    assert weights_of(top / "one") == weights_of(unbroken)
    assert sorted(path.name for path in (top / "one").glob("[!.]*")) == FILES
    assert [line["epoch"] for line in read_log(top / "one")] == ["1", "2", "3"]


def test_two_processes(runs):
    top, answers = runs
    (done,) = answers["whole"]
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (top / "whole").iterdir()) == FILES
    assert len(list((top / "whole" / "tensorboard").iterdir())) == 1
    assert [line["epoch"] for line in read_log(top / "whole")] == ["1", "2", "3"]
    model = from_pretrained(top / "whole")
    assert model(torch.randn(2, 3, 64, 64)).isfinite().all()
    # 21 chips are two batches, for both
    assert model.state_dict()["stream1.0.0.bn.num_batches_tracked"] == 6
    assert get_extras(model)["training"]["device"].endswith(", 2 processes")
    assert weights_of(top / "whole") != weights_of(top / "one")


def test_two_processes_share_the_chips(runs):
    top, _ = runs
    seen = [[json.loads(line) for line in (top / "seen" / f"{rank}.jsonl").open()] for rank in (0, 1)]
    assert [len(batches) for batches in seen] == [6, 6]
    assert {len(batch) for batches in seen for batch in batches} == {5, 6}
    for epoch in range(3):
        of_both = [batch for batches in seen for batch in batches[2 * epoch : 2 * epoch + 2]]
        assert sorted(chain(*of_both)) == list(range(21))


def test_two_killed_processes_go_on(runs):
    top, answers = runs
    killed, done = answers["two"]
    assert (killed.returncode, done.returncode) == (-9, 0), done.stderr
    assert re.findall(r"epoch (\d)  loss", done.stdout) == ["2", "3"]
    assert weights_of(top / "two") == weights_of(top / "whole")
    assert sorted(path.name for path in (top / "two").glob("[!.]*")) == FILES
    assert [line["epoch"] for line in read_log(top / "two")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--labels", "{tmp}/none.csv"], r"none\.csv cannot be read"),
        (["--labels", "{labels}", "--recipe", "{tmp}/none.yaml"], r"none\.yaml cannot be read"),
        (["--labels", "{labels}", "--epochs", "0"], "epochs is not a whole number from 1"),
        (["--labels", "{labels}", "--architecture", "ssrnets"], "ssrnets"),
        (["--labels", "{labels}", "--set-aside", "31"], "nothing is left"),
    ],
)
def test_train_script_refuses(monkeypatch, capsys, labels, tmp_path, args, said):
    args = [arg.format(labels=labels, tmp=tmp_path) for arg in args]
    assert call(monkeypatch, "train", "--output", tmp_path / "out", *args) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"error: .*{said}.*\n", printed.err)
    assert not list((tmp_path / "out").glob("*"))
