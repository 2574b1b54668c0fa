"""Training on a few made-up pictures: that the parts fit together, one process or two, cut off or not."""

import math
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import timm
import torch
from accelerate.state import AcceleratorState, PartialState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssrnet_hub import AgeEstimator, Framing, from_pretrained
from ssrnet_hub.errors import ConfigError, DivergenceError, LabelsError, PhotoError, SSRNetHubError
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.models.layers import StageHead
from ssrnet_hub.training import loop as training
from ssrnet_hub.training.dataset import Chips, LabeledSet
from ssrnet_hub.training.loop import make_prepare, measure, silent_units, train
from ssrnet_hub.utils.metrics import age_metrics

from .runs import FILES, QUICK, grey, noise, read_log, trains, weights_of, write_labels

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


# preparing and measuring


def test_preparation_is_that_of_one_picture():
    model = timm.create_model("ssrnet")
    data = timm.data.resolve_model_data_config(model)
    chip = Image.fromarray(np.add.outer(np.arange(128), np.arange(128)).astype(np.uint8)).convert("RGB")
    chip.paste((255, 0, 0), (0, 0, 50, 20))
    prepared = make_prepare(model)(torch.from_numpy(np.array(chip)).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(prepared, timm.data.create_transform(**data)(chip), rtol=0, atol=2.5 / 127.5)


class Answers(torch.nn.Module):
    """Answers the first pixel of a chip, each a face of its own."""

    def __init__(self, V):
        super().__init__()
        self.V = V

    def forward(self, x):
        return x[:, 0, 0]


def made_up_chips(pixels, targets):
    chips = Chips.__new__(Chips)
    chips._chips = torch.tensor(pixels)[:, None, None, None]
    chips.targets = torch.tensor([(target, target) if isinstance(target, float) else target for target in targets])
    return chips


def test_mean_absolute_error_of_clamped_ages():
    chips = made_up_chips([-50.0, 20.0, 500.0], [2.0, 30.0, 100.0])
    answer = measure(Answers(101.0), lambda x: x, chips, torch.device("cpu"), "age")
    assert answer == pytest.approx((2 + 10 + 1) / 3)


def test_mean_distance_to_ranges():
    chips = made_up_chips([1.0, 5.0, 12.0, 80.0], [(3.0, 10.0), (3.0, 10.0), (3.0, 10.0), (70.0, math.inf)])
    answer = measure(Answers(101.0), lambda x: x, chips, torch.device("cpu"), "age")
    assert answer == pytest.approx((2 + 0 + 2 + 0) / 4)


def test_share_of_genders_told_rightly():
    chips = made_up_chips([-3.0, 0.49, 0.51, 0.7, 7.0], [0.0, 1.0, 1.0, 1.0, 0.0])
    assert measure(Answers(1.0), lambda x: x, chips, torch.device("cpu"), "gender") == pytest.approx(0.6)


def test_ages_within_one_year_are_no_genders():
    chips = made_up_chips([0.25, 0.75], [0.0, 1.0])
    assert measure(Answers(1.0), lambda x: x, chips, torch.device("cpu"), "age") == 0.25


def test_all_chips_are_measured():
    chips = made_up_chips([10.0] * 300, [10.0] * 257 + [40.0] * 43)
    assert measure(Answers(101.0), lambda x: x, chips, torch.device("cpu"), "age") == pytest.approx(43 * 30 / 300)


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
    val = Chips([LabeledSet("val", training.read_labels(labels, "val"))], "age", 128)
    model = from_pretrained(output)
    assert measure(model, make_prepare(model), val, torch.device("cpu"), "age") == pytest.approx(
        last["val_mae"], abs=1e-4
    )


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


@pytest.mark.parametrize("steps", [1, 5, 6])
def test_few_steps(tmp_path, steps):
    chips = [(grey(i), 20 + i, "train" if i < 4 * steps else "val") for i in range(4 * steps + 2)]
    last = train(write_labels(tmp_path / "grey", chips), tmp_path / "out", replace(QUICK, epochs=1, batch_size=4))
    assert math.isfinite(last["val_mae"])


def test_ages_of_a_range_of_one_year_are_learned(tmp_path):
    chips = [(grey(255 * (i % 2)), i % 2, "train" if i < 16 else "val", "female") for i in range(20)]
    labels = write_labels(tmp_path / "grey", chips)
    last = train(labels, tmp_path / "out", replace(QUICK, epochs=1, model_args={"V": 1.0}, task="age"))
    assert list(last) == ["epoch", "loss", "val_mae", "minutes"]
    model = from_pretrained(tmp_path / "out")
    assert get_extras(model)["task"] == "age"
    (face,) = AgeEstimator(model).crops([grey(0)])
    assert 0 <= face.age <= 1


def test_a_score_of_gender_ends_at_one(tmp_path, labels):
    with pytest.raises(ConfigError, match="the range V = 1, not 101"):
        train(labels, tmp_path / "out", replace(QUICK, task="gender"))


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
    assert last["val_accuracy"] == 1
    assert last["loss"] < 0.25
    assert list(read_log(tmp_path / "out")[0]) == ["epoch", "loss", "val_accuracy", "minutes"]
    model = from_pretrained(tmp_path / "out")
    assert get_extras(model)["task"] == "gender" and model.V == 1
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


def test_a_run_goes_on_when_its_start_has_moved(labels, unbroken, tmp_path, monkeypatch):
    output, moved = tmp_path / "out", tmp_path / "elsewhere" / unbroken.name
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, "measure", 2)
        with pytest.raises(Cut):
            train(labels, output, replace(LONGER, start=str(unbroken)))
    shutil.copytree(unbroken, moved)
    epochs = []
    monkeypatch.setattr(training, "measure", lambda *args: epochs.append(1) or measure(*args))
    train(labels, output, replace(LONGER, start=str(moved)))
    assert len(epochs) == 2


@pytest.mark.parametrize("content", [b"mine", b"", None])
def test_a_state_of_something_else_is_left(labels, tmp_path, content):
    state = tmp_path / "out" / "state.pt"
    state.parent.mkdir()
    if content is None:
        torch.save({"epoch": 3}, state)
    else:
        state.write_bytes(content)
    before = state.read_bytes()
    with pytest.raises(ConfigError, match=r"state\.pt is not a checkpoint of an interrupted run"):
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
        with pytest.raises(ConfigError, match=r"state\.pt belongs to a run with other options"):
            train(other[0], output, other[1])
    assert {path.name: path.read_bytes() for path in output.glob("*.*")} == before
