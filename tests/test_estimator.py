"""From a photo to faces with ages, and what is told about each."""

import copy
import dataclasses
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
from ssrnet_hub.errors import PhotoError, PhotoTooLargeError, UnknownModelError
from ssrnet_hub.faces import Detection, MTCNNDetector
from ssrnet_hub.hub import get_extras
from ssrnet_hub.ssrnet import StageOutput, StagewiseOutput
from ssrnet_hub.stages import explain

from .pictures import UNDO, encode, iou, turned


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
    assert 25 < face.age < 50


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
    estimator = AgeEstimator(model, detector=Found())
    (huge,) = estimator.crops([face.crop])
    assert huge.raw_age > 1000
    assert (huge.age, huge.in_range) == (101.0, False)
    assert sum(stage.contribution for stage in huge.stages) == pytest.approx(huge.raw_age, rel=1e-5)
    with torch.no_grad():
        model.stages[0].p.weight.zero_()
        model.stages[0].p.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        model.stages[0].eta.bias.fill_(-20)
    (negative,) = estimator.crops([face.crop])
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
    assert set(told) == {"age", "raw_age", "in_range", "V", "box", "landmarks", "score", "stages"}
    assert plain(told)
    assert told["age"] == face.age and told["raw_age"] == face.raw_age and told["in_range"] is True
    assert told["box"] == list(face.box)
    assert told["landmarks"] == [list(point) for point in face.landmarks]
    assert len(told["stages"]) == 3
    for said, stage in zip(told["stages"], face.stages, strict=True):
        assert set(said) == {"p", "eta", "delta", "width", "contribution"}
        assert said["p"] == list(stage.p) and said["contribution"] == stage.contribution
    assert json.loads(face.to_json()) == told
    assert json.loads(face.to_json(indent=2)) == told
    assert "\n" in face.to_json(indent=2)


def test_batch_is_as_single_calls(estimator, photo, pair):
    photos = [photo, Image.new("RGB", (50, 60)), pair, encode(photo, "PNG")]
    single = [estimator(p) for p in photos]
    assert [len(faces) for faces in single] == [1, 0, 2, 1]
    for batch in (estimator.batch(photos), estimator.batch(iter(photos))):
        assert len(batch) == len(photos)
        for one, other in zip(batch, single, strict=True):
            assert_same(one, other)


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


def test_crops_are_as_the_photos_faces(estimator, pair):
    faces = estimator(pair)
    crops = estimator.crops([face.crop for face in faces])
    assert len(crops) == 2
    for crop, face in zip(crops, faces, strict=True):
        assert crop.raw_age == pytest.approx(face.raw_age, abs=1e-3)
        assert (crop.box, crop.landmarks, crop.score) == (None, None, None)
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
    ssrnet_hub.save_pretrained(estimator.model, tmp_path, framing=framing.to_dict())
    assert AgeEstimator(tmp_path).framing == framing
    assert AgeEstimator(tmp_path, framing=Framing()).framing == Framing()


def test_model_by_name_folder_and_as_a_module(estimator, face, tmp_path):
    folder = ssrnet_hub.save_pretrained(estimator.model, tmp_path / "weights")
    for model in (None, "ssrnet.utkface", folder, str(folder), copy.deepcopy(estimator.model)):
        (answer,) = AgeEstimator(model, detector=Found()).crops([face.crop])
        assert answer.raw_age == pytest.approx(face.raw_age, abs=1e-3)


def test_unknown_model():
    with pytest.raises(UnknownModelError):
        AgeEstimator("no such model")


def test_a_model_that_is_given_is_used_and_put_in_eval_mode(face):
    model = ssrnet_hub.from_pretrained().train()
    estimator = AgeEstimator(model, detector=Found())
    assert estimator.model is model
    assert not any(module.training for module in model.modules())
    state = copy.deepcopy(model.state_dict())
    first, second = (estimator.crops([face.crop])[0].raw_age for _ in range(2))
    assert first == second
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not model.training


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


def test_import_is_light():
    code = "import sys, ssrnet_hub; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert {"ssrnet_hub", "torch", "timm"} <= loaded
    assert not loaded & {"gradio", "matplotlib", "onnxruntime", "facenet_pytorch", "h5py", "skimage"}


def test_defaults(estimator):
    assert isinstance(estimator.detector, MTCNNDetector)
    assert estimator.max_pixels >= 100_000_000


def test_a_framing_that_nothing_tells_is_not_guessed_in_silence(recwarn):
    model = timm.create_model("ssrnet", pretrained_cfg_overlay={"file": None})
    with pytest.warns(UserWarning, match="framing="):
        AgeEstimator(model, detector=lambda image: [])
    recwarn.clear()
    AgeEstimator(model, detector=lambda image: [], framing=Framing())
    AgeEstimator(timm.create_model("ssrnet", pretrained=True), detector=lambda image: [])
    AgeEstimator(detector=lambda image: [])
    assert not recwarn.list
