"""From a photo to faces with ages, and what is told about each."""

import copy
import csv
import dataclasses
import hashlib
import json
import math
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import ssrnet_hub
from ssrnet_hub import AgeEstimator, Face, Framing, Stage
from ssrnet_hub.errors import (
    ArchitectureError,
    BoxError,
    ConfigError,
    DeviceError,
    PhotoError,
    PhotoTooLargeError,
    SSRNetHubError,
    UnknownModelError,
)
from ssrnet_hub.hub.convert import convert_keras
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.images.alignment import AUTHORS_FRAMING, iou, turn_points
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.detector import Detection, MTCNNDetector
from ssrnet_hub.inference.stages import explain
from ssrnet_hub.models.layers import StageOutput, StagewiseOutput
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.models.zoo import DEFAULT

from ..pictures import UNDO, encode, turned


@pytest.fixture(scope="module")
def photo(astronaut):
    """The astronaut's face and little else, to be quick; not a square."""
    return astronaut.crop((120, 20, 320, 220 + 30))


@pytest.fixture(scope="module")
def face(estimator, photo):
    (face,) = estimator(photo)
    return face


@pytest.fixture(scope="module")
def pair(astronaut):
    """Two faces, the smaller one on the left."""
    image = Image.new("RGB", (380, 230))
    image.paste(astronaut.resize((384, 384)).crop((90, 15, 240, 165)), (0, 0))
    image.paste(astronaut.crop((120, 20, 320, 250)), (170, 0))
    return image


class Found:
    """A detector that answers what it was told, and remembers what it was shown."""

    def __init__(self, *detections: Detection):
        self.detections = list(detections)
        self.shown: list[Image.Image] = []

    def __call__(self, image: Image.Image) -> list[Detection]:
        self.shown.append(image)
        return self.detections


def detections(count: int) -> list[Detection]:
    points = ((0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.3, 0.7), (0.7, 0.7))
    return [
        Detection((float(i), 0.0, i + 40.0, 40.0), tuple((i + 40 * x, 40 * y) for x, y in points), 1.0)
        for i in range(count)
    ]


class Says(nn.Module):
    """A model that answers the same contributions for every face."""

    V = 101.0
    in_chans = 3
    img_size = (64, 64)

    def __init__(self, *contributions: float):
        super().__init__()
        self.contributions = nn.Parameter(torch.tensor(contributions))

    def forward_stages(self, x: torch.Tensor) -> StagewiseOutput:
        n, none = len(x), torch.zeros(len(x), 3)
        parts = [c.expand(n, 1) for c in self.contributions]
        stages = [StageOutput(none, none, none[:, :1], none[:, :1], c) for c in parts]
        return StagewiseOutput(sum(parts), stages)


def answer(*contributions: float) -> Face:
    (face,) = AgeEstimator(Says(*contributions), detector=Found()).crops([np.zeros((64, 64, 3), np.uint8)])
    return face


def assert_same(a: list[Face], b: list[Face]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.raw_age == pytest.approx(other.raw_age, abs=1e-3)
        assert one.box == pytest.approx(other.box, abs=1e-3)
        assert np.array(one.landmarks) == pytest.approx(np.array(other.landmarks), abs=1e-3)
        assert one.score == pytest.approx(other.score, abs=1e-4)


def stages_of(*contributions: float) -> tuple[Stage, ...]:
    return tuple(Stage((0.0,) * 3, (0.0,) * 3, 0.0, 1.0, c) for c in contributions)


def test_astronaut(estimator, astronaut):
    (face,) = estimator(astronaut)
    assert face.score > 0.99
    assert iou(face.box, (181, 62, 268, 172)) > 0.9
    # Eileen Collins was 37
    assert 20 < face.age < 50


@pytest.mark.parametrize(
    "kind", ["str", "Path", "bytes", "RGBA", "array", "float array", "reversed array", "tensor", "float tensor"]
)
def test_every_kind_of_photo_gives_the_same_faces(kind, estimator, photo, face, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    array = np.asarray(photo)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    same = {
        "str": str(path),
        "Path": path,
        "bytes": path.read_bytes(),
        "RGBA": photo.convert("RGBA"),
        "array": array,
        "float array": array / 255,
        "reversed array": array[::-1].copy()[::-1],
        "tensor": tensor,
        "float tensor": tensor / 255,
    }[kind]
    assert_same(estimator(same), [face])


def test_fields(face, photo):
    assert face.age == face.raw_age
    assert face.in_range is True
    assert face.V == 101
    assert face.aligned is True
    assert face.gender_score is None
    x1, y1, x2, y2 = face.box
    assert 0 <= x1 < x2 <= photo.width and 0 <= y1 < y2 <= photo.height
    assert len(face.landmarks) == 5
    assert 0.9 <= face.score <= 1
    assert len(face.stages) == 3
    assert face.crop.size == (128, 128) and face.crop.mode == "RGB"
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.age = 3


def test_the_crop_is_the_aligned_face(estimator, face, photo):
    expected = estimator.framing.crop(photo, face.box, face.landmarks)
    assert face.crop.tobytes() == expected.tobytes()


def test_stages(face):
    for stage in face.stages:
        assert len(stage.p) == len(stage.eta) == 3
        assert min(stage.p) >= 0
        assert all(-1 < v < 1 for v in (*stage.eta, stage.delta))
        shifted = sum(p * (i + eta) for i, (p, eta) in enumerate(zip(stage.p, stage.eta, strict=True)))
        assert stage.contribution == pytest.approx(shifted * stage.width, abs=1e-4)
    width = face.V
    for stage in face.stages:
        width /= 3 * (1 + stage.delta)
        assert stage.width == pytest.approx(width, rel=1e-5)
    assert sum(stage.contribution for stage in face.stages) == pytest.approx(face.raw_age, abs=1e-4)


@pytest.mark.parametrize("raw, age", [(150.0, 101.0), (10705.0, 101.0), (-7.5, 0.0), (1e30, 101.0), (math.inf, 101.0)])
def test_age_is_clamped_and_it_is_told(raw, age):
    face = answer(raw, 0.0, 0.0)
    assert face.raw_age == pytest.approx(raw)
    assert face.age == age
    assert type(face.age) is float
    assert face.in_range is False
    assert face.explain().endswith(f" years, out of range and shown as {age:.1f}")


@pytest.mark.parametrize("raw", [0.0, 101.0, 33.3])
def test_age_within_the_range_is_left_alone(raw):
    face = answer(raw, 0.0, 0.0)
    assert face.age == face.raw_age == pytest.approx(raw)
    assert face.in_range is True
    assert "out of range" not in face.explain()


def test_the_weights_range_counts():
    model = Says(30.0, 0.0, 0.0)
    model.V = 10.0
    (face,) = AgeEstimator(model, detector=Found()).crops([np.zeros((64, 64, 3), np.uint8)])
    assert (face.age, face.raw_age, face.in_range, face.V) == (10.0, 30.0, False, 10.0)


def test_a_network_that_overshoots(face):
    model = ssrnet_hub.from_pretrained()
    with torch.no_grad():
        # delta of the first stage close to -1
        model.stages[0].delta.bias.fill_(-4)
    (huge,) = AgeEstimator(model, detector=Found()).crops([face.crop])
    assert huge.raw_age > 1000
    assert (huge.age, huge.in_range) == (101.0, False)
    assert sum(stage.contribution for stage in huge.stages) == pytest.approx(huge.raw_age, rel=1e-5)
    with torch.no_grad():
        model.stages[0].p.weight.zero_()
        model.stages[0].p.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        model.stages[0].eta.bias.fill_(-20)
    (negative,) = AgeEstimator(model, detector=Found()).crops([face.crop])
    assert negative.raw_age < 0
    assert (negative.age, negative.in_range) == (0.0, False)


def test_an_answer_that_is_no_number_is_null_in_json():
    face = answer(math.nan, 1.0, 1.0)
    assert math.isnan(face.age) and math.isnan(face.raw_age)
    assert face.in_range is False
    assert isinstance(face.explain(), str)
    told = json.loads(face.to_json(allow_nan=False))
    assert (told["age"], told["raw_age"], told["in_range"]) == (None, None, False)
    assert [stage["contribution"] for stage in told["stages"]] == [None, 1.0, 1.0]


def test_an_infinite_answer_is_null_in_json_but_its_age_is_not():
    told = json.loads(answer(math.inf, 1.0, 1.0).to_json(allow_nan=False))
    assert (told["age"], told["raw_age"], told["in_range"]) == (101.0, None, False)


def test_explain_word_for_word():
    assert explain(stages_of(23.1, 5.0, 0.4)) == "stage 1 says 23.1, stage 2 adds 5.0, stage 3 adds 0.4: 28.5 years"
    assert explain(stages_of(30.0, -4.2, 1.0)) == "stage 1 says 30.0, stage 2 takes 4.2, stage 3 adds 1.0: 26.8 years"
    assert answer(23.125, 5.0, -0.5).explain() == ("stage 1 says 23.1, stage 2 adds 5.0, stage 3 takes 0.5: 27.6 years")
    assert answer(100.0, 15.0, 5.0).explain() == (
        "stage 1 says 100.0, stage 2 adds 15.0, stage 3 adds 5.0: 120.0 years, out of range and shown as 101.0"
    )


def test_explain_has_as_many_stages_as_there_are():
    assert explain(stages_of(20.0)) == "stage 1 says 20.0: 20.0 years"
    assert explain(stages_of(20.0, 1.0)) == "stage 1 says 20.0, stage 2 adds 1.0: 21.0 years"


def test_the_numbers_of_explain_add_up():
    rng = np.random.default_rng(0)
    for _ in range(500):
        contributions = rng.normal((30, 3, 0), (20, 5, 1)).tolist()
        said = explain(stages_of(*contributions))
        number = r"(-?\d+\.\d)"
        match = re.fullmatch(
            rf"stage 1 says {number}, stage 2 (adds|takes) {number}, stage 3 (adds|takes) {number}: {number} years",
            said,
        )
        assert match, said
        first, sign2, second, sign3, third, total = match.groups()
        signs = {"adds": 1, "takes": -1}
        assert float(second) >= 0 and float(third) >= 0
        tenths = [round(10 * float(v)) for v in (first, second, third, total)]
        assert tenths[0] + signs[sign2] * tenths[1] + signs[sign3] * tenths[2] == tenths[3], said
        # and they are the contributions, but for the rounding
        assert float(total) == pytest.approx(sum(contributions), abs=0.05 + 1e-9)
        for said_number, sign, contribution in zip(
            (first, second, third), ("adds", sign2, sign3), contributions, strict=True
        ):
            assert signs[sign] * float(said_number) == pytest.approx(contribution, abs=0.1 + 1e-9)


@pytest.mark.parametrize("contributions", [(-0.04, 0.0, 0.0), (-0.04, 0.01, -0.01), (1.0, -0.04, 0.0)])
def test_explain_knows_no_minus_zero(contributions):
    said = explain(stages_of(*contributions))
    assert "-0.0" not in said
    assert "takes 0.0" not in said


def test_explain_of_a_face_tells_its_age(face):
    assert face.explain().endswith(f": {face.age:.1f} years")
    assert face.explain().startswith(f"stage 1 says {face.stages[0].contribution:.1f}, stage 2 ")


def plain(value) -> bool:
    if type(value) is dict:
        return all(type(k) is str and plain(v) for k, v in value.items())
    if type(value) is list:
        return all(map(plain, value))
    return value is None or type(value) in (int, float, bool, str)


def test_to_dict_and_to_json(face):
    told = face.to_dict()
    assert set(told) == {field.name for field in dataclasses.fields(Face)} - {"crop", "calibration"} | {
        *("interval", "oddness", "reliable", "doubts")
    }
    assert plain(told)
    assert told["age"] == face.age and told["raw_age"] == face.raw_age and told["in_range"] is True
    assert told["box"] == list(face.box)
    assert told["landmarks"] == [list(point) for point in face.landmarks]
    assert told["aligned"] is True and told["gender_score"] is None
    assert len(told["stages"]) == 3
    for said, stage in zip(told["stages"], face.stages, strict=True):
        assert set(said) == {"p", "eta", "delta", "width", "contribution"}
        assert said["p"] == list(stage.p) and said["contribution"] == stage.contribution
    assert json.loads(face.to_json()) == told
    assert json.loads(face.to_json(indent=2)) == told
    assert "\n" in face.to_json(indent=2)


@pytest.mark.parametrize("name", ["batch", "crops"])
@pytest.mark.parametrize(
    "kind",
    [
        np.asarray,
        lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1),
        lambda image: np.asarray(image)[..., 0],
        bytearray,
    ],
)
def test_one_photo_is_not_several(estimator, photo, name, kind):
    one = kind(encode(photo, "PNG") if kind is bytearray else photo)
    with pytest.raises(PhotoError, match="Expected a list of photos, got a single"):
        getattr(estimator, name)(one)


def test_a_stack_of_gray_pictures(estimator, photo):
    gray = np.stack([np.asarray(photo.convert("L"))] * 2)
    assert len(estimator.crops(gray)) == 2
    assert [len(faces) for faces in estimator.batch(gray)] == [1, 1]


def test_batch_is_as_single_calls(estimator, photo, pair):
    photos = [photo, Image.new("RGB", (50, 60)), pair, encode(photo, "PNG")]
    single = [estimator(p) for p in photos]
    assert [len(faces) for faces in single] == [1, 0, 2, 1]
    for batch in (estimator.batch(photos), estimator.batch(iter(photos))):
        assert len(batch) == len(photos)
        for one, other in zip(batch, single, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_photos_is_a_batch(kind, estimator, photo, pair):
    answers = estimator(kind([photo, pair]))
    for faces, expected in zip(answers, estimator.batch([photo, pair]), strict=True):
        assert_same(faces, expected)
    boxes = [[(0, 0, 100, 100)], None]
    for faces, expected in zip(
        estimator(kind([photo, pair]), boxes), estimator.batch([photo, pair], boxes), strict=True
    ):
        assert_same(faces, expected)
    assert estimator(kind([])) == []


def test_nothing_in_nothing_out(estimator):
    assert estimator.batch([]) == []
    assert estimator.crops([]) == []
    assert estimator.batch(iter(())) == []


def test_more_faces_than_one_forward_pass_takes(estimator, photo):
    several = AgeEstimator(estimator.model, detector=Found(*detections(7)))
    expected = several.batch([photo, photo])
    assert [len(faces) for faces in expected] == [7, 7]
    assert len({face.raw_age for face in expected[0]}) == 7
    several.batch_size = 3
    for one, other in zip(several.batch([photo, photo]), expected, strict=True):
        assert_same(one, other)
        assert [face.crop.tobytes() for face in one] == [face.crop.tobytes() for face in other]


def test_fewer_faces_at_once_of_a_model_that_takes_more_memory(estimator):
    model = timm.create_model("ssrnet", img_size=200)
    seen = []
    forward_stages = model.forward_stages
    model.forward_stages = lambda x: seen.append(len(x)) or forward_stages(x)
    costly = AgeEstimator(model, framing=Framing(), runtime="eager")
    assert estimator.batch_size > 40 > 20 > costly.batch_size
    assert len(costly.crops([np.zeros((64, 64, 3), np.uint8)] * 30)) == 30
    assert sum(seen) == 30 and max(seen) == costly.batch_size


@pytest.mark.parametrize("channels", [2, 4])
def test_models_that_take_no_pictures(channels):
    with pytest.raises(ArchitectureError, match=f"input channels are supported, not {channels}"):
        AgeEstimator(timm.create_model("ssrnet", in_chans=channels), framing=Framing())


def test_crops_are_as_the_photos_faces(estimator, pair):
    faces = estimator(pair)
    crops = estimator.crops([face.crop for face in faces])
    assert len(crops) == 2
    for crop, face in zip(crops, faces, strict=True):
        assert crop.raw_age == pytest.approx(face.raw_age, abs=1e-3)
        assert (crop.box, crop.landmarks, crop.score, crop.aligned) == (None, None, None, False)
        assert crop.crop.tobytes() == face.crop.tobytes()
        told = crop.to_dict()
        assert plain(told)
        assert (told["box"], told["landmarks"], told["score"]) == (None, None, None)


def test_crops_of_any_kind_and_size(estimator, face):
    crop = face.crop
    for same in (np.asarray(crop), encode(crop, "PNG"), crop.convert("RGBA")):
        (answer,) = estimator.crops([same])
        assert answer.raw_age == pytest.approx(face.raw_age, abs=1e-3)
    for size in ((64, 64), (300, 300), (64, 100), (1, 1)):
        (answer,) = estimator.crops([crop.resize(size)])
        assert math.isfinite(answer.raw_age)
        assert answer.crop.size == size


def test_nothing_is_looked_for_in_crops():
    detector = Found()
    AgeEstimator(detector=detector).crops([Image.new("RGB", (64, 64))])
    assert not detector.shown


def test_no_face(estimator):
    assert estimator(Image.new("RGB", (100, 100), "green")) == []
    assert estimator(Image.new("L", (1, 1))) == []


def test_largest_face_first(estimator, pair):
    faces = estimator(pair)
    assert len(faces) == 2
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (face.box for face in faces)]
    assert areas[0] > areas[1]
    assert faces[0].box[0] > 170 > faces[1].box[2]


def test_a_threshold_on_the_score(photo, face):
    assert_same(AgeEstimator(min_score=face.score - 1e-6)(photo), [face])
    assert AgeEstimator(min_score=min(face.score + 1e-6, 1))(photo) == []
    assert AgeEstimator().detector.min_score == 0.9
    assert AgeEstimator(min_score=0).detector.min_score == 0


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_what_is_no_score(score):
    with pytest.raises(ValueError, match="min_score"):
        AgeEstimator(min_score=score)


@pytest.mark.parametrize("option", [{"min_score": 0.5}, {"min_face": 20}], ids=str)
def test_the_default_detectors_options_are_not_dropped(option):
    with pytest.raises(ValueError, match="default detector"):
        AgeEstimator(detector=Found(), **option)


def test_own_detector(estimator, photo):
    detector = Found(*detections(2))
    faces = AgeEstimator(estimator.model, detector=detector)(turned(photo, 6))
    # it is shown the upright picture
    (shown,) = detector.shown
    assert shown.mode == "RGB" and shown.tobytes() == photo.tobytes()
    assert [(f.box, f.landmarks, f.score) for f in faces] == [
        (d.box, d.landmarks, d.score) for d in detector.detections
    ]
    own = AgeEstimator(estimator.model, detector=lambda image: [])
    assert own(photo) == []


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_device(device, photo, face):
    estimator = AgeEstimator(device=device)
    assert estimator.device == torch.device("cpu")
    assert {p.device for p in estimator.model.parameters()} == {torch.device("cpu")}
    assert_same(estimator(photo), [face])


def test_to_a_device(photo, face):
    estimator = AgeEstimator(gender="ssrnet_gender.fairface", min_face=0.3)
    before, upright = estimator(photo), estimator.upright_only()
    models = estimator.model, upright.model
    assert estimator.to(torch.device("cpu")) is estimator
    assert_same(estimator(photo), before)
    assert estimator(photo)[0].gender_score == pytest.approx(before[0].gender_score, abs=1e-5)
    assert estimator.detector.min_face == 0.3
    assert_same(copy.deepcopy(estimator)(photo), before)
    assert upright.model is models[1] and upright.detector.upright_only


def test_to_a_device_moves_all_but_a_detector_of_ones_own(monkeypatch):
    # without another device on every machine, one that keeps no values
    monkeypatch.setattr("ssrnet_hub.inference.torch_network.make_runtime", lambda model, kind: None)
    estimator, own = AgeEstimator(gender="ssrnet_gender.fairface"), MTCNNDetector()
    given = AgeEstimator(detector=own)
    upright, shared = estimator.upright_only(), estimator.detector
    estimator.to("meta")
    assert str(estimator.device) == estimator.detector.device == "meta"
    assert {network.device.type for network in (estimator._age, estimator._gender)} == {"meta"}
    assert str(upright.device) == upright.detector.device == shared.device == "cpu"
    assert given.to("meta").detector is own and own.device == "cpu"


def test_to_a_device_that_is_not_there(photo, face):
    estimator = AgeEstimator()
    with pytest.raises(DeviceError, match="is not available"):
        estimator.to("cuda:99")
    assert_same(estimator(photo), [face])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("given", ["device", "model"])
def test_gpu(given, photo, face):
    estimator = AgeEstimator(device="cuda") if given == "device" else AgeEstimator(ssrnet_hub.from_pretrained().cuda())
    assert estimator.device.type == "cuda"
    (seen,) = estimator(photo)
    assert seen.raw_age == pytest.approx(face.raw_age, abs=0.5)
    assert iou(seen.box, face.box) > 0.98
    assert plain(seen.to_dict())


def test_the_framing_of_the_weights_is_used(estimator):
    assert estimator.framing == Framing.from_dict(get_extras(estimator.model)["framing"])


def test_framing_can_be_given(estimator, photo):
    framing = Framing(size=48, template=None, margin=0.25)
    detector = Found(Detection((20.0, 30.0, 100.0, 150.0), detections(1)[0].landmarks, 0.5))
    (seen,) = AgeEstimator(estimator.model, detector=detector, framing=framing)(photo)
    assert seen.crop.size == (48, 48)
    expected = photo.resize((48, 48), Image.Resampling.BICUBIC, box=(0, 0, 120, 180))
    assert np.abs(np.asarray(seen.crop, float) - np.asarray(expected)).mean() < 3


def test_framing_travels_with_the_weights(estimator, tmp_path):
    framing = Framing(size=32, template=None, margin=0.4)
    ssrnet_hub.save_pretrained(estimator.model, tmp_path, extras={"framing": framing.to_dict()})
    assert AgeEstimator(tmp_path).framing == framing
    assert AgeEstimator(tmp_path, framing=Framing()).framing == Framing()


def test_model_by_name_folder_and_as_a_module(estimator, face, tmp_path):
    folder = ssrnet_hub.save_pretrained(estimator.model, tmp_path / "weights")
    for model in (None, DEFAULT, folder, str(folder), copy.deepcopy(estimator.model)):
        (answer,) = AgeEstimator(model, detector=Found()).crops([face.crop])
        assert answer.raw_age == pytest.approx(face.raw_age, abs=1e-3)


def test_unknown_model():
    with pytest.raises(UnknownModelError):
        AgeEstimator("no such model")


@pytest.mark.parametrize("runtime", ["auto", "torch", "eager"])
def test_a_model_that_is_given_is_left_alone(runtime, face):
    model = ssrnet_hub.from_pretrained().train()
    state = copy.deepcopy(model.state_dict())
    estimator = AgeEstimator(model, detector=Found(), runtime=runtime)
    first, second = (estimator.crops([face.crop])[0].raw_age for _ in range(2))
    assert first == second == pytest.approx(face.raw_age, abs=1e-3)
    assert not estimator.model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    # nor does what becomes of it change an answer
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    assert estimator.crops([face.crop])[0].raw_age == first


def test_a_model_of_gender_that_is_given_is_left_alone(photo):
    model = ssrnet_hub.from_pretrained("ssrnet_gender.fairface").train()
    AgeEstimator(gender=model)(photo)
    assert all(module.training for module in model.modules())


def test_a_model_that_is_given_is_not_moved(monkeypatch):
    # without another device on every machine, one that keeps no values
    monkeypatch.setattr("ssrnet_hub.inference.torch_network.make_runtime", lambda model, kind: None)
    model = new_model("ssrnet")
    estimator = AgeEstimator(model, detector=Found(), framing=Framing(), device="meta")
    assert estimator.device.type == estimator.model.stages[0].p.weight.device.type == "meta"
    assert model.stages[0].p.weight.device.type == "cpu"


def test_a_model_that_looks_at_grey(face):
    model = timm.create_model("ssrnet", in_chans=1)
    estimator = AgeEstimator(model, detector=Found())
    (colour,) = estimator.crops([face.crop])
    (grey,) = estimator.crops([face.crop.convert("L")])
    assert math.isfinite(colour.raw_age)
    assert colour.raw_age == pytest.approx(grey.raw_age, abs=1e-3)
    assert colour.crop.mode == "RGB"


def test_a_model_of_another_input_size(face):
    estimator = AgeEstimator(timm.create_model("ssrnet", img_size=(96, 80)), detector=Found())
    (answer,) = estimator.crops([face.crop])
    assert math.isfinite(answer.raw_age)


def test_a_model_of_half_precision(face):
    estimator = AgeEstimator(ssrnet_hub.from_pretrained().bfloat16(), detector=Found())
    (answer,) = estimator.crops([face.crop])
    assert answer.raw_age == pytest.approx(face.raw_age, abs=3)


@pytest.mark.parametrize("orientation", [3, 6, 8, 5])
def test_boxes_are_in_upright_coordinates(orientation, estimator, photo, face):
    assert orientation in UNDO
    assert_same(estimator(turned(photo, orientation)), [face])


def test_broken_photos(estimator, photo, tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    for broken in (tmp_path / "text.jpg", tmp_path / "missing.jpg", b"", encode(photo, "JPEG")[:500], 5):
        for call in (estimator, lambda p: estimator.batch([photo, p]), lambda p: estimator.crops([photo, p])):
            with pytest.raises(PhotoError):
                call(broken)


def test_the_limit_on_pixels(estimator, photo):
    small = AgeEstimator(estimator.model, detector=Found(), max_pixels=100)
    for call in (small, lambda p: small.batch([p]), lambda p: small.crops([p])):
        with pytest.raises(PhotoTooLargeError):
            call(photo)
        assert call(photo.resize((10, 10))) is not None


def test_the_same_again(estimator, photo, face):
    assert estimator(photo) == [face]
    assert AgeEstimator()(photo) == [face]


def test_no_gradient_is_kept(estimator, photo):
    model = ssrnet_hub.from_pretrained()
    AgeEstimator(model, detector=Found(*detections(1)))(photo)
    assert all(p.grad is None for p in model.parameters())


def test_the_photo_is_not_changed(estimator, photo):
    before = photo.tobytes()
    estimator(photo)
    assert photo.tobytes() == before


def test_a_photo_of_100_megapixels(estimator, astronaut, tmp_path):
    image = Image.new("L", (12000, 8400))
    image.paste(astronaut.convert("L").resize((1536, 1536)), (7000, 4000))
    path = tmp_path / "large.png"
    image.save(path, compress_level=1)
    del image
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (face,) = estimator(path)
    expected = [7000 + 3 * 181, 4000 + 3 * 62, 7000 + 3 * 268, 4000 + 3 * 172]
    assert iou(face.box, expected) > 0.8
    # the crop is taken from the photo itself, not from what the detector saw
    (small,) = estimator(astronaut.convert("L"))
    assert face.raw_age == pytest.approx(small.raw_age, abs=5)


def test_the_estimator_imports_what_it_needs():
    code = (
        "import sys, ssrnet_hub; ssrnet_hub.AgeEstimator; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert {"ssrnet_hub", "onnxruntime"} <= loaded
    assert not loaded & {"gradio", "matplotlib", "onnx", "facenet_pytorch", "h5py", "skimage"}


def test_defaults(estimator):
    assert isinstance(estimator.detector, MTCNNDetector)
    assert estimator.max_pixels >= 100_000_000


def test_a_framing_that_nothing_tells_is_not_guessed_in_silence(recwarn):
    for model in (new_model("ssrnet"), timm.create_model("ssrnet_blog")):
        with pytest.warns(UserWarning, match="framing=") as warned:
            AgeEstimator(model, detector=lambda image: [])
        assert [w.filename for w in warned] == [__file__]
    recwarn.clear()
    AgeEstimator(model, detector=lambda image: [], framing=Framing())
    AgeEstimator(timm.create_model("ssrnet", pretrained=True), detector=lambda image: [])
    AgeEstimator(detector=lambda image: [])
    assert not recwarn.list


# boxes of one's own


BACKGROUND = (300.0, 10.0, 380.0, 90.0)
"""Where the astronaut's photo has no face."""


class FoundAndLocated(Found):
    """The same with landmarks for any box."""

    def locate(self, image: Image.Image, boxes: list) -> list[Detection]:
        self.shown.append(image)
        return [dataclasses.replace(detections(1)[0], box=box) for box in boxes]


class NeverSearches(MTCNNDetector):
    def __call__(self, image: Image.Image) -> list[Detection]:
        raise AssertionError("this was not to be searched")


@pytest.fixture(scope="module")
def whole(estimator, astronaut):
    """The face in the whole photo."""
    (face,) = estimator(astronaut)
    return face


def near(face: Face, expected: Face, years: float = 3, pixels: float = 3) -> bool:
    apart = np.abs(np.array(face.landmarks) - expected.landmarks).max()
    return abs(face.raw_age - expected.raw_age) < years and apart < pixels


def test_a_box_of_ones_own(estimator, astronaut, whole):
    (face,) = estimator(astronaut, boxes=[whole.box])
    assert near(face, whole, years=2)
    assert face.box == whole.box
    assert face.aligned is True and face.score > 0.99
    assert face.crop.tobytes() == estimator.framing.crop(astronaut, whole.box, face.landmarks).tobytes()
    assert plain(face.to_dict())


@pytest.mark.parametrize("right, down", [(0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)])
def test_a_box_that_is_off(estimator, astronaut, whole, right, down):
    x1, y1, x2, y2 = whole.box
    width, height = x2 - x1, y2 - y1
    left, top = x1 + (right - 0.1) * width, y1 + (down - 0.1) * height
    box = (left, top, left + 1.2 * width, top + 1.2 * height)
    (face,) = estimator(astronaut, boxes=[box])
    assert near(face, whole)
    assert face.box == box and face.aligned is True


def test_nothing_is_searched_with_boxes(estimator, astronaut, whole):
    own = AgeEstimator(estimator.model, detector=NeverSearches())
    assert len(own(astronaut, boxes=[whole.box])) == 1
    with pytest.raises(AssertionError):
        own(astronaut)


def test_a_box_without_a_face(estimator, astronaut):
    (face,) = estimator(astronaut, boxes=[BACKGROUND])
    assert (face.box, face.landmarks, face.aligned) == (BACKGROUND, None, False)
    assert 0 <= face.score < 0.3
    assert math.isfinite(face.age)
    assert face.crop.tobytes() == estimator.framing.crop(astronaut, BACKGROUND, None).tobytes()
    assert estimator.crops([face.crop])[0].raw_age == pytest.approx(face.raw_age, abs=1e-3)
    told = face.to_dict()
    assert plain(told) and (told["landmarks"], told["aligned"]) == (None, False)


def test_faces_in_the_order_of_their_boxes(estimator, pair):
    large, small = estimator(pair)
    background = (0.0, 170.0, 50.0, 220.0)
    boxes = [small.box, background, large.box, small.box]
    faces = estimator(pair, boxes=boxes)
    assert [face.box for face in faces] == boxes
    assert [face.aligned for face in faces] == [True, False, True, True]
    assert near(faces[0], small, years=5) and near(faces[2], large, years=5)
    assert faces[3].raw_age == pytest.approx(faces[0].raw_age, abs=1e-3)


def test_no_boxes_no_faces(estimator, astronaut):
    for none in ([], (), np.zeros((0, 4)), torch.zeros(0, 4), iter(())):
        assert estimator(astronaut, boxes=none) == []


@pytest.mark.parametrize(
    "kind", [tuple, iter, np.array, lambda boxes: np.array(boxes, np.float32), torch.tensor, lambda b: [map(str, b[0])]]
)
def test_boxes_of_every_kind(kind, estimator, astronaut):
    boxes = [[181, 62, 268, 172]]
    (face,) = estimator(astronaut, boxes=kind(boxes))
    assert face.box == (181.0, 62.0, 268.0, 172.0)
    assert {type(v) for v in face.box} == {float}
    assert face == estimator(astronaut, boxes=boxes)[0]


@pytest.mark.parametrize(
    "box, said",
    [
        ((1, 2, 3), "four numbers.*(1, 2, 3)"),
        ((1, 2, 3, 4, 5), "four numbers"),
        ((), "four numbers"),
        (5, "four numbers.*got 5"),
        (None, "four numbers"),
        ("face", "four numbers"),
        ((1, 2, 3, None), "four numbers"),
        ((1, 2, 3, "4px"), "four numbers.*4px"),
        (("", "", "", ""), "four numbers"),
        ((1, 2, math.nan, 4), "four numbers"),
        ((-math.inf, 2, 3, 4), "four numbers"),
        ((1, 2, 3, math.inf), "four numbers"),
        ((-1e308, -1e308, 1e308, 1e308), "four numbers"),
        (("1", "2", "3", "1e999"), "four numbers"),
        ([[1, 2], [3, 4]], "four numbers"),
        ((10, 10, 10, 20), "10, 10, 10, 20: it has no area"),
        ((10, 10, 20, 10), "no area"),
        ((20, 10, 10, 20), "no area"),
        ((10, 20, 20, 10), "no area"),
        ((200, 10, 220, 30), "outside the photo of 200x230"),
        ((10, 230, 20, 240), "outside"),
        ((-20, 10, 0, 20), "outside"),
        ((10, -20, 20, 0), "outside"),
        ((1000, 1000, 1100, 1100), "outside"),
    ],
    ids=repr,
)
def test_what_is_no_box(estimator, photo, box, said):
    good = (60.0, 40.0, 145.0, 155.0)
    for call in (
        lambda: estimator(photo, boxes=[good, box]),
        lambda: estimator.batch([photo, photo], boxes=[None, [box]]),
    ):
        with pytest.raises(BoxError, match=said) as e:
            call()
        assert isinstance(e.value, SSRNetHubError) and isinstance(e.value, ValueError)


def test_one_box_instead_of_a_list_of_them(estimator, photo):
    for box in ([60, 40, 145, 155], np.array([60, 40, 145, 155]), torch.tensor([60, 40, 145, 155])):
        with pytest.raises(BoxError, match="four numbers"):
            estimator(photo, boxes=box)


@pytest.mark.parametrize(
    "box", [(-30.0, -30.0, 60.0, 60.0), (199.9, 229.9, 300.0, 300.0), (-1e4, -1e4, 1e4, 1e4), (0.0, 0.0, 1e9, 1.0)]
)
def test_boxes_over_the_edge(estimator, photo, box):
    (face,) = estimator(photo, boxes=[box])
    assert face.box == box
    assert math.isfinite(face.age)


def test_boxes_are_in_upright_coordinates_too(estimator, photo):
    box = (60.0, 40.0, 145.0, 155.0)
    assert_same(estimator(turned(photo, 6), boxes=[box]), estimator(photo, boxes=[box]))


def test_a_detector_that_only_searches(estimator, astronaut, whole):
    detector = Found()
    own = AgeEstimator(estimator.model, detector=detector)
    assert own(astronaut, boxes=[whole.box]) == estimator(astronaut, boxes=[whole.box])
    assert not detector.shown
    assert own(astronaut) == []


def test_a_detector_that_locates(estimator, photo):
    detector = FoundAndLocated()
    (face,) = AgeEstimator(estimator.model, detector=detector)(turned(photo, 6), boxes=[(5, 6, 70, 80)])
    assert (face.box, face.landmarks, face.aligned) == ((5.0, 6.0, 70.0, 80.0), detections(1)[0].landmarks, True)
    (shown,) = detector.shown
    assert shown.tobytes() == photo.tobytes()


def test_a_detector_that_finds_no_landmarks(estimator, photo):
    found = dataclasses.replace(detections(1)[0], landmarks=None)
    (face,) = AgeEstimator(estimator.model, detector=Found(found))(photo)
    assert (face.box, face.landmarks, face.aligned) == (found.box, None, False)
    assert face.crop.tobytes() == estimator.framing.crop(photo, found.box, None).tobytes()


def test_weights_that_want_the_box_alone(estimator, astronaut, whole):
    boxed = AgeEstimator(estimator.model, framing=AUTHORS_FRAMING)
    for face in (*boxed(astronaut), *boxed(astronaut, boxes=[whole.box]), *boxed.crops([astronaut], align=True)):
        assert face.aligned is False
        assert len(face.landmarks) == 5
        assert face.crop.tobytes() == AUTHORS_FRAMING.crop(astronaut, whole.box, None).tobytes()


def test_batch_with_boxes(estimator, photo, pair):
    boxes = [[(60, 40, 145, 155)], None, [], [(10, 10, 60, 60), (60, 40, 145, 155)]]
    photos = [photo, pair, photo, photo]
    single = [estimator(p, boxes=own) for p, own in zip(photos, boxes, strict=True)]
    assert [len(faces) for faces in single] == [1, 2, 0, 2]
    for batch in (estimator.batch(photos, boxes), estimator.batch(iter(photos), boxes=iter(boxes))):
        assert [[face.box for face in faces] for faces in batch] == [[face.box for face in faces] for faces in single]
        for faces, expected in zip(batch, single, strict=True):
            assert [face.raw_age for face in faces] == pytest.approx([face.raw_age for face in expected], abs=1e-3)
            assert [face.aligned for face in faces] == [face.aligned for face in expected]
    for one, other in zip(estimator.batch([photo, pair], [None, None]), estimator.batch([photo, pair]), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_lists_of_boxes_as_photos(estimator, photo, count):
    with pytest.raises(ValueError):
        estimator.batch([photo, photo], boxes=[[(60, 40, 145, 155)]] * count)


# faces that the photo's edge cuts


@pytest.mark.parametrize(
    "cut",
    [(0, y, 512, 512) for y in (80, 92, 100)]
    + [(0, 0, 512, y) for y in (135, 140, 155)]
    + [(x, 0, 512, 512) for x in (190, 205, 225)]
    + [(0, 0, x, 512) for x in (225, 240, 255)],
    ids=str,
)
def test_a_face_that_the_edge_cuts(estimator, astronaut, whole, cut):
    (face,) = estimator(astronaut.crop(cut))
    landmarks = np.array(face.landmarks) + cut[:2]
    assert np.hypot(*(landmarks - whole.landmarks).T).max() < 8
    assert face.turned == 0
    assert abs(face.age - whole.age) < 6 or face.reliable is False


@pytest.mark.parametrize("cut", [(0, 0, 512, 140), (205, 0, 512, 512)], ids=str)
def test_a_face_of_which_too_little_is_left_is_not_reliable(estimator, astronaut, whole, cut):
    (face,) = estimator(astronaut.crop(cut))
    assert whole.visible == 1 and whole.reliable is True
    assert 0.4 < face.visible < 5 / 6
    assert face.reliable is False and face.doubts == ("cut off",)
    assert json.loads(face.to_json())["visible"] == face.visible


def test_a_close_up_without_a_border(estimator, astronaut, whole):
    close = astronaut.crop((176, 56, 274, 180))
    for side in (98, 60, 400):
        (face,) = estimator(close.resize((side, side * 124 // 98), Image.Resampling.BICUBIC))
        assert abs(face.age - whole.age) < 6 and face.score > 0.9


# turned photos


@pytest.mark.parametrize("turned_by", [90, 180, 270])
def test_a_turned_photo(estimator, astronaut, whole, turned_by):
    (face,) = estimator(astronaut.rotate(turned_by))
    assert face.turned == turned_by
    assert face.age == pytest.approx(whole.age, abs=1)
    assert face.to_dict()["turned"] == turned_by
    # drawn the right way round
    assert np.abs(np.asarray(face.crop, float) - np.asarray(whole.crop, float)).mean() < 6


@pytest.mark.parametrize("turned_by", [90, 180, 270])
@pytest.mark.parametrize("framing", [None, AUTHORS_FRAMING], ids=["aligned", "box"])
def test_a_box_of_ones_own_in_a_turned_photo(estimator, astronaut, whole, framing, turned_by):
    est = estimator if framing is None else AgeEstimator(framing=framing)
    (upright,) = est(astronaut, boxes=[whole.box])
    ends = turn_points(np.array(whole.box).reshape(2, 2), turned_by, astronaut.size)
    (face,) = est(astronaut.rotate(turned_by), boxes=[(*ends.min(0), *ends.max(0))])
    assert face.turned == turned_by
    assert face.age == pytest.approx(upright.age, abs=1.5)


def test_a_turned_crop_is_turned_back(estimator, astronaut, whole):
    for crop in (astronaut.crop((120, 20, 320, 250)), astronaut.crop((176, 56, 274, 180))):
        for turned_by in (0, 90, 180, 270):
            (face,) = estimator.crops([crop.rotate(turned_by, expand=True)], align=True)
            assert face.turned == turned_by
            assert face.age == pytest.approx(whole.age, abs=4)


def test_an_estimator_for_upright_faces(estimator, astronaut, whole):
    upright = estimator.upright_only()
    assert (upright.detector.upright_only, estimator.detector.upright_only) == (True, False)
    assert upright.model is estimator.model
    assert near(upright(astronaut)[0], whole, years=0.1, pixels=0.1)
    assert upright(astronaut.rotate(180)) == []


def test_a_detector_of_ones_own_is_left_as_it_is(photo):
    def detect(image):
        return detections(1)

    assert AgeEstimator(detector=detect).upright_only().detector is detect


# crops to be aligned


def test_a_loose_crop_is_aligned(estimator, astronaut, whole):
    crop = astronaut.crop((150, 30, 300, 210))
    (face,) = estimator.crops([crop], align=True)
    moved = dataclasses.replace(whole, landmarks=tuple((x - 150, y - 30) for x, y in whole.landmarks))
    assert near(face, moved)
    assert iou(face.box, tuple(np.array(whole.box) - (150, 30, 150, 30))) > 0.8
    assert face.box[0] >= 0 and face.box[2] <= crop.width and face.score > 0.9
    assert face.aligned is True
    assert face.crop.tobytes() == estimator.framing.crop(crop, face.box, face.landmarks).tobytes()
    # as it is, it is in the wrong frame
    assert abs(estimator.crops([crop])[0].raw_age - whole.raw_age) > 0.3


def test_a_tight_crop_is_aligned_by_the_last_network(estimator, astronaut, whole):
    crop = astronaut.crop((195, 85, 258, 155))
    blind = AgeEstimator(estimator.model, detector=lambda image: [])
    (face,) = blind.crops([crop], align=True)
    assert face.box == (0.0, 0.0, 63.0, 70.0)
    assert face.aligned is True and face.score > 0.9
    moved = dataclasses.replace(whole, landmarks=tuple((x - 195, y - 85) for x, y in whole.landmarks))
    # the crop leaves black what it cut away, which costs years
    assert near(face, moved, years=8, pixels=9)


def test_a_crop_without_a_face_is_taken_as_it_is(estimator, astronaut):
    for crop in (astronaut.crop((300, 10, 420, 150)), Image.new("RGB", (64, 64), "green"), Image.new("RGB", (1, 1))):
        (face,), (plain_face,) = estimator.crops([crop], align=True), estimator.crops([crop])
        assert face == plain_face
        assert (face.box, face.landmarks, face.score, face.aligned) == (None, None, None, False)
        assert face.crop.tobytes() == crop.tobytes()


def test_a_long_crop_is_taken_as_well(estimator):
    (face,) = estimator.crops([Image.new("RGB", (20000, 500))], align=True)
    assert face.aligned is False


def test_aligned_crops_keep_their_order(estimator, photo, pair):
    crops = [Image.new("RGB", (30, 30)), pair, encode(photo, "PNG"), np.asarray(photo)]
    faces = estimator.crops(iter(crops), align=True)
    assert [face.aligned for face in faces] == [False, True, True, True]
    assert_same(faces[1:], [estimator.crops([crop], align=True)[0] for crop in crops[1:]])
    # of several faces the largest
    assert [face.box for face in faces[1:]] == [estimator(pair)[0].box, *[estimator(photo)[0].box] * 2]
    assert estimator.crops([], align=True) == []


# gender


@pytest.fixture(scope="module")
def gender(tmp_path_factory):
    """Folders of the same random weights of gender, by who is at 0 of their score."""
    torch.manual_seed(0)
    model = new_model("ssrnet_gender")
    with torch.no_grad():
        # near the middle, and not at it
        model.stages[0].p.weight.mul_(0.3)
    folder, extras = tmp_path_factory.mktemp("gender"), {"framing": AUTHORS_FRAMING.to_dict()}
    ssrnet_hub.save_pretrained(model, folder / "unsaid", extras=extras)
    extras["task"] = "gender"
    ssrnet_hub.save_pretrained(model, folder / "female", extras={**extras, "ends": ["female", "male"]})
    ssrnet_hub.save_pretrained(model, folder / "male", extras={**extras, "ends": ["male", "female"]})
    return folder


def score_of(folder, crop: Image.Image) -> float:
    """What weights of gender answer for a crop, by timm's means alone, within [0, 1]."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        return model(transform(crop)[None]).clamp(0, 1).item()


@pytest.mark.parametrize("zero", ["unsaid", "female", "male"])
def test_gender(zero, gender, estimator, pair):
    faces = AgeEstimator(gender=gender / zero)(pair)
    # the ages are the same, and the weights of gender have the frame that they want
    assert_same(faces, estimator(pair))
    scores = [score_of(gender / zero, AUTHORS_FRAMING.crop(pair, face.box, None)) for face in faces]
    assert 0 < min(scores) < max(scores) - 1e-3 < 1 and abs(scores[0] - 0.5) > 0.01
    expected = [1 - score for score in scores] if zero == "male" else scores
    assert [face.gender_score for face in faces] == pytest.approx(expected, abs=1e-4)
    assert {type(face.gender_score) for face in faces} == {float}
    told = faces[0].to_dict()
    assert plain(told) and told["gender_score"] == faces[0].gender_score
    assert json.loads(faces[0].to_json())["gender_score"] == faces[0].gender_score


def test_gender_by_boxes_and_of_crops(gender, astronaut, whole):
    estimator = AgeEstimator(gender=gender / "female")
    found, boxed = *estimator(astronaut), *estimator(astronaut, boxes=[whole.box])
    assert boxed.gender_score == pytest.approx(found.gender_score, abs=1e-4)
    crop = astronaut.crop((150, 30, 300, 210))
    (as_it_is,) = estimator.crops([crop])
    assert as_it_is.gender_score == pytest.approx(score_of(gender / "female", crop), abs=1e-4)
    (aligned,) = estimator.crops([crop], align=True)
    expected = score_of(gender / "female", AUTHORS_FRAMING.crop(crop, aligned.box, None))
    assert aligned.gender_score == pytest.approx(expected, abs=1e-4)


def test_gender_in_parts_of_a_batch(gender, estimator, photo):
    several = AgeEstimator(estimator.model, detector=Found(*detections(7)), gender=gender / "male")
    expected = [face.gender_score for face in several(photo)]
    assert len(set(expected)) == 7
    several.batch_size = 3
    assert [face.gender_score for face in several(photo)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bias", [5.0, -5.0])
@pytest.mark.parametrize("zero", ["female", "male"])
def test_gender_is_clamped(zero, bias, gender, photo):
    model = ssrnet_hub.from_pretrained(gender / zero)
    with torch.no_grad():
        # p of 5, or eta of -1 under a p of its middle and last bin, leave [0, 1]
        model.stages[0].p.weight.zero_()
        model.stages[0].p.bias.copy_(torch.tensor([0.0, 0.0, 5.0] if bias > 0 else [5.0, 0.0, 0.0]))
        model.stages[0].eta.bias.fill_(bias)
    assert not 0 <= model(torch.zeros(1, 3, 64, 64)).item() <= 1
    (face,) = AgeEstimator(gender=model)(photo)
    assert face.gender_score == ((bias > 0) is (zero == "female"))


def test_gender_as_a_module_and_on_a_device(gender, photo):
    model = ssrnet_hub.from_pretrained(gender / "male").train()
    (expected,) = AgeEstimator(gender=gender / "male")(photo)
    for device in (None, "cpu"):
        assert AgeEstimator(gender=model, device=device)(photo) == [expected]
        assert model.training
    (half,) = AgeEstimator(gender=model.bfloat16())(photo)
    assert half.gender_score == pytest.approx(expected.gender_score, abs=0.05)


def test_without_weights_of_gender_there_is_no_score(estimator, photo):
    for face in (*estimator(photo), *estimator(photo, boxes=[(60, 40, 145, 155)]), *estimator.crops([photo])):
        assert face.gender_score is None


def test_the_task_is_that_of_the_config(tmp_path, photo):
    # ages of infants, within one year
    model = new_model("ssrnet", model_args={"V": 1.0})
    extras = {"framing": AUTHORS_FRAMING.to_dict(), "task": "age"}
    weights = ssrnet_hub.save_pretrained(model, tmp_path / "infants", extras)
    (face,) = AgeEstimator(weights)(photo)
    assert face.V == 1 and 0 <= face.age <= 1
    with pytest.raises(ArchitectureError, match="predict age"):
        AgeEstimator(gender=weights)


@pytest.mark.parametrize("task, said", [("gender", "the range V = 1, not 101"), ("mood", "task"), (5, "task")])
def test_a_task_that_is_none(tmp_path, task, said):
    weights = ssrnet_hub.save_pretrained(ssrnet_hub.from_pretrained(), tmp_path, {"task": task})
    with pytest.raises(ConfigError, match=said):
        AgeEstimator(weights)


def test_age_and_gender_are_not_mixed_up(gender):
    with pytest.raises(ArchitectureError, match="gender="):
        AgeEstimator(gender / "female")
    with pytest.raises(ArchitectureError, match="predict age"):
        AgeEstimator(gender="ssrnet.utkface_fairface_aaf")
    with pytest.raises(ArchitectureError):
        AgeEstimator(gender / "female", gender="ssrnet.utkface_fairface_aaf")
    with pytest.raises(ArchitectureError):
        AgeEstimator(gender=nn.Linear(2, 1))
    with pytest.raises(UnknownModelError):
        AgeEstimator(gender="ssrnet_gendre.imdb")


@pytest.mark.parametrize(
    "ends",
    [
        ["male", "male"],
        ["female"],
        ["female", "male", "male"],
        ["f", "m"],
        [0, 1],
        [],
        "female",
        None,
        5,
        {"female": 0},
    ],
    ids=repr,
)
def test_ends_that_are_none(ends, gender, tmp_path):
    folder = ssrnet_hub.save_pretrained(ssrnet_hub.from_pretrained(gender / "female"), tmp_path, extras={"ends": ends})
    with pytest.raises(ConfigError, match="female and male"):
        AgeEstimator(gender=folder)


@pytest.mark.parametrize("name", ["imdb", "wiki", "morph2"])
def test_the_authors_weights_of_gender(name, shared, tmp_path):
    pytest.importorskip("h5py")
    file = shared / "official_weights" / f"gender_{name}.h5"
    estimator = AgeEstimator(gender=convert_keras(file, tmp_path, gender=True))
    woman, man = (estimator(shared / "data" / "photos" / photo)[0] for photo in ("kate_siegel_1.jpg", "img20.jpg"))
    assert woman.gender_score < 0.2
    assert man.gender_score > 0.8


# photos of people


@pytest.fixture(scope="module")
def people(estimator, shared):
    """Photos of FG-NET, their largest face, and its true age."""
    folder = shared / "data" / "fgnet"
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::20]
    photos = [load_photo(folder / row["file"]) for row in rows]
    found = [(p, f[0], float(row["age"])) for p, f, row in zip(photos, map(estimator, photos), rows, strict=True) if f]
    assert len(found) >= 24
    return found


def test_boxes_handed_back_leave_ages_where_they_were(estimator, people):
    photos, found, true = zip(*people, strict=True)
    boxed = [face for (face,) in estimator.batch(photos, [[face.box] for face in found])]
    assert all(face.aligned for face in boxed)
    ages, before = (np.array([face.age for face in faces]) for faces in (boxed, found))
    change = np.abs(ages - before)
    assert change.mean() < 1.6 and np.median(change) < 1
    assert abs(np.abs(ages - true).mean() - np.abs(before - true).mean()) < 0.5
    # without landmarks they move
    crops = [estimator.framing.crop(photo, face.box, None) for photo, face in zip(photos, found, strict=True)]
    unaligned = np.array([face.age for face in estimator.crops(crops)])
    assert np.abs(unaligned - before).mean() > 1.4 * change.mean()


@pytest.mark.parametrize("margin", [0, 0.1, 0.3])
def test_crops_that_are_aligned_leave_ages_about_where_they_were(estimator, people, margin):
    crops = []
    for photo, face, _ in people:
        x1, y1, x2, y2 = face.box
        dx, dy = margin * (x2 - x1), margin * (y2 - y1)
        corners = max(x1 - dx, 0), max(y1 - dy, 0), min(x2 + dx, photo.width), min(y2 + dy, photo.height)
        crops.append(photo.crop(tuple(map(round, corners))))
    aligned = estimator.crops(crops, align=True)
    assert np.mean([face.aligned for face in aligned]) > 0.9
    change = np.array([face.age for face in aligned]) - [face.age for _, face, _ in people]
    assert np.abs(change).mean() < 3


def test_without_landmarks_faces_are_about_where_the_template_has_them(estimator, people):
    size = estimator.framing.size
    crops = [estimator.framing.crop(photo, face.box, None) for photo, face, _ in people]
    seen = [estimator.detector.locate(crop, [(0, 0, size, size)])[0].landmarks for crop in crops]
    assert np.abs(np.median(seen, 0) / size - estimator.framing.template).max() < 0.06


def test_the_embedded_weights_of_gender(estimator, astronaut):
    (face,) = AgeEstimator(gender="ssrnet_gender.fairface")(astronaut)
    assert face.gender_score < 0.3  # she is a woman
    assert face.age == pytest.approx(estimator(astronaut)[0].age)


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def default_dtype(request):
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(torch.float32)


class Recalling(MTCNNDetector):
    """Searches a photo once, whoever asks."""

    def __init__(self):
        super().__init__()
        self.known = {}

    def __call__(self, image):
        content = hashlib.sha256(image.tobytes()).digest()
        if content not in self.known:
            self.known[content] = super().__call__(image)
        return self.known[content]


@pytest.fixture(scope="module")
def recalling():
    return Recalling()


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("weights", ["ssrnet.utkface_fairface_aaf", "ssrnet_wide.utkface_fairface_aaf"])
def test_ages_are_those_of_the_model_as_it_is(weights, shared, recalling):
    """The whole way from photo to age, and stage by stage."""
    paths = (
        sorted((shared / "data" / "photos").glob("*.jpg")) + sorted((shared / "data" / "fgnet").glob("*/*.jpg"))[::25]
    )
    default, eager = (AgeEstimator(weights, recalling, runtime=runtime) for runtime in ("auto", "eager"))
    assert len(paths) >= 30
    for path in paths:
        faces, expected = default(path), eager(path)
        assert [face.box for face in faces] == [face.box for face in expected]
        for face, same in zip(faces, expected, strict=True):
            assert face.raw_age == pytest.approx(same.raw_age, abs=1e-3)
            for stage, other in zip(face.stages, same.stages, strict=True):
                assert stage.contribution == pytest.approx(other.contribution, abs=1e-3)
