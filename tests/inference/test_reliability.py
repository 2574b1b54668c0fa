"""Answers that should not be trusted are told from those that may be."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

import ssrnet_hub
from ssrnet_hub import AgeEstimator
from ssrnet_hub.cli import main
from ssrnet_hub.errors import CalibrationError, ConfigError
from ssrnet_hub.inference.reliability import Reliability, describe_outputs, fit_reliability
from ssrnet_hub.training.average import average_weights
from ssrnet_hub.utils.metrics import auroc

from ..programs import run_program


def points(count, seed=0):
    """A cloud that is long in one direction, and a part that never moves."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)) * (5, 1, 0)
    return x + x[:, :1] * (0, 1, 0)


@pytest.fixture(scope="module")
def learned():
    return fit_reliability(points(1000))


def test_one_in_a_hundred_is_flagged(learned):
    scores = np.array([learned.score(x) for x in points(20_000, seed=1)])
    assert (scores > learned.threshold).mean() == pytest.approx(0.01, abs=0.005)


def test_what_is_unlike_is_odd(learned):
    usual = learned.score(np.array([10.0, 10.0, 0.0]))
    assert usual < learned.threshold
    # across the cloud, and where nothing ever moved
    assert learned.score(np.array([10.0, -10.0, 0.0])) > learned.threshold
    assert learned.score(np.array([0.0, 0.0, 0.1])) > learned.threshold


def test_no_number_is_as_odd_as_can_be(learned):
    assert learned.score(np.array([np.nan, 0, 0])) == np.inf


def test_few_are_refused():
    for few in (points(99), []):
        with pytest.raises(CalibrationError):
            fit_reliability(few)


def test_there_and_back(learned):
    assert Reliability.from_dict(learned.to_dict()) == learned


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [1.0]},
        {"mean": ["x"] * 3},
        {"mean": [float("inf")] * 3},
        {"mean": [10**400] * 3},
        {"mean": [[0.0]] * 3},
        {"mean": "abc"},
        {"precision": [[1.0]]},
        {"precision": [[1e300] * 3] * 3},
        {"precision": [[1.0] * 3] * 4},
        {"precision": {"0": 1}},
        {"threshold": None},
        {"threshold": float("nan")},
        {"threshold": 10**400},
        {"threshold": True},
        {"threshold": "1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_config_is_told(learned, change):
    with pytest.raises(ConfigError, match="reliability"):
        Reliability.from_dict({**learned.to_dict(), **change})


def test_a_face_is_reliable_and_its_blur_is_not(estimator, astronaut):
    (face,) = estimator(astronaut)
    assert face.reliable is True and 0 < face.oddness < 3
    blurred, noise, grey = estimator.crops(
        [
            face.crop.filter(ImageFilter.GaussianBlur(face.crop.width / 12)),
            np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8),
            Image.new("RGB", (128, 128), "grey"),
        ]
    )
    for other in (blurred, noise, grey):
        assert other.reliable is False and other.oddness > face.oddness
        # the age is told all the same
        assert np.isfinite(other.age)
        assert other.to_dict()["reliable"] is False


def test_description_is_of_the_stages_and_the_crop(estimator, astronaut):
    (face,) = estimator(astronaut)
    description = describe_outputs(face.stages, face.crop)
    assert description.shape == (23,)
    assert description[:7].tolist() == [*face.stages[0].p, *face.stages[0].eta, face.stages[0].delta]
    softer = describe_outputs(face.stages, face.crop.filter(ImageFilter.GaussianBlur(2)))
    assert softer[:21].tolist() == description[:21].tolist() and (softer[21:] < description[21:]).all()


def test_weights_without_a_calibration_tell_nothing(astronaut, tmp_path):
    model = ssrnet_hub.from_pretrained()
    model.ssrnet_hub_extras.pop("calibration")
    (face,) = AgeEstimator(ssrnet_hub.save_pretrained(model, tmp_path))(astronaut)
    assert (face.interval(0.9), face.reliable, face.oddness) == (None, None, None)
    said = face.to_dict()
    assert (said["interval"], said["reliable"], said["oddness"]) == (None, None, None)


@pytest.mark.parametrize("calibration", [5, [], {}, {"intervals": None}, {"intervals": {}, "reliability": {}}], ids=str)
def test_a_damaged_calibration_is_told(calibration):
    model = ssrnet_hub.from_pretrained()
    model.ssrnet_hub_extras["calibration"] = calibration
    with pytest.raises(ConfigError):
        AgeEstimator(model)


def test_what_was_learned_of_other_stages_is_told(learned):
    with pytest.raises(ConfigError, match="3 features, not 23"):
        learned.score(np.zeros(23))


def test_a_mean_of_weights_does_not_inherit_a_calibration(tmp_path):
    weights = ssrnet_hub.save_pretrained(ssrnet_hub.from_pretrained(), tmp_path / "weights")
    mean = average_weights([weights, weights], tmp_path / "mean")
    assert AgeEstimator(mean).crops([np.zeros((64, 64, 3), np.uint8)])[0].interval() is None


def test_a_calibration_travels_with_the_weights(estimator, astronaut, tmp_path):
    (face,) = estimator(astronaut)
    (again,) = AgeEstimator(ssrnet_hub.save_pretrained(ssrnet_hub.from_pretrained(), tmp_path))(astronaut)
    assert (again.interval(0.8), again.oddness) == (face.interval(0.8), face.oddness)


def test_the_page_is_told(estimator, astronaut):
    from ssrnet_hub.webapp.rendering import tell_look

    def told(face):
        (answer,) = tell_look({"a": [face]}, astronaut, astronaut.size, 100)["faces"]
        return answer["entries"][0]["face"]

    (face,) = estimator(astronaut)
    assert told(face)["interval"] == list(face.interval()) and told(face)["doubts"] == []
    strict = dataclasses.replace(face.calibration.reliability, threshold=0.0)
    doubted = dataclasses.replace(face, calibration=dataclasses.replace(face.calibration, reliability=strict))
    assert told(doubted)["doubts"] == ["not a face"]
    uncalibrated = told(dataclasses.replace(face, calibration=None))
    assert uncalibrated["interval"] is None and uncalibrated["doubts"] is None


def test_the_command_calibrates_and_measures(tmp_path, astronaut, capsys):
    chips = tmp_path / "chips"
    chips.mkdir()
    (face,) = AgeEstimator()(astronaut)
    rows = ["file,age,split"]
    for number in range(170):
        turned = face.crop.rotate(number % 17 - 8).crop((number % 5, number % 7, 120 + number % 3, 121))
        turned.save(chips / f"{number}.png")
        rows.append(f"{number}.png,{number % 60},{'train' if number < 150 else 'val'}")
    (chips / "labels.csv").write_text("\n".join(rows))
    model = ssrnet_hub.from_pretrained()
    model.ssrnet_hub_extras["training"]["set_aside"] = 110
    model.ssrnet_hub_extras.pop("calibration")
    weights = ssrnet_hub.save_pretrained(model, tmp_path / "weights")
    command = ["calibrate", "--labels", str(chips / "labels.csv"), "--output", str(tmp_path / "calibrated")]
    run = run_program("-m", "ssrnet_hub.cli", *command, "--weights", weights)
    assert run.returncode == 0, run.stderr
    assert "intervals  0.9" in run.stdout and "flags  blurred" in run.stdout
    (again,) = AgeEstimator(tmp_path / "calibrated")(astronaut)
    assert again.age == pytest.approx(face.age, abs=1e-3) and again.interval(0.9) and again.reliable is not None
    # of 20 faces alone, those of val, nothing can be learned
    model.ssrnet_hub_extras["training"]["set_aside"] = 0
    assert main([*command, "--weights", str(ssrnet_hub.save_pretrained(model, weights))]) == 1
    assert "125 held-out faces or more, not 20" in capsys.readouterr().err


def test_area_under_the_curve():
    assert auroc([3, 4], [1, 2]) == 1
    assert auroc([1, 2], [3, 4]) == 0
    assert auroc([1, 1], [1]) == 0.5
    assert auroc([1, 3], [2, 0]) == 0.75


def test_chips_are_told_from_blurred_ones(estimator, shared):
    from ssrnet_hub.images.loading import load_photo
    from ssrnet_hub.training.labels import read_labels

    labels = read_labels(shared / "data" / "utkface" / "labels.csv", "val")[::4]
    chips = [load_photo(label.path) for label in labels]
    usual = [face.oddness for face in estimator.crops(chips)]
    blurred = estimator.crops([chip.filter(ImageFilter.GaussianBlur(chip.width / 12)) for chip in chips])
    assert auroc([face.oddness for face in blurred], usual) > 0.98
    assert np.mean([face.reliable is False for face in estimator.crops(chips)]) < 0.05
