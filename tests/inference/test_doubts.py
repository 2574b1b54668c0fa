"""Poor pictures are told from good ones, and the reasons are said in words."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub.errors import CalibrationError, ConfigError
from ssrnet_hub.images.alignment import nose_offset
from ssrnet_hub.inference.calibration import UNCERTAIN, Calibration
from ssrnet_hub.inference.doubts import LAYOUT, Doubts, describe_face, fit_doubts
from ssrnet_hub.inference.reliability import describe_outputs
from ssrnet_hub.models.zoo import DEFAULT, ZOO
from ssrnet_hub.training.worn import WEAR, faded_copies, worn_copies


def cloud(count, seed, center=(0, 0, 0)):
    return np.random.default_rng(seed).normal(size=(count, 3)) + center


@pytest.fixture(scope="module")
def doubts():
    poor = {"blurred": cloud(300, 2, (8, 0, 0)), "covered": cloud(300, 3, (0, 8, 0))}
    return fit_doubts(cloud(500, 0), cloud(500, 1), poor)


def told(doubts, description):
    return [name for name, excess in doubts.excess(np.array(description, float)).items() if excess > 0]


def test_each_kind_is_told(doubts):
    assert told(doubts, [0, 0, 0]) == []
    assert told(doubts, [9, 0, 0]) == ["blurred"]
    assert told(doubts, [0, 9, 0]) == ["covered"]


def test_one_good_picture_in_a_hundred_is_doubted(doubts):
    assert np.mean([bool(told(doubts, x)) for x in cloud(10_000, 4)]) == pytest.approx(0.01, abs=0.01)


def test_there_and_back(doubts):
    assert Doubts.from_dict(json.loads(json.dumps(doubts.to_dict()))) == doubts


def test_few_faces_are_refused():
    with pytest.raises(CalibrationError, match="99"):
        fit_doubts(cloud(99, 0), cloud(99, 1), {"blurred": cloud(99, 2)})


def test_what_was_learned_of_other_stages_is_told(doubts):
    with pytest.raises(ConfigError, match="3 features, not 4"):
        doubts.excess(np.zeros(4))


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["blurred"]},
        {"names": [1, 2]},
        {"names": ["blurred", "<img src=x onerror=alert(1)>"]},
        {"names": ["blurred", "\x1b[2J"]},
        {"weights": [[1.0, 2.0, 3.0], [1.0]]},
        {"weights": [[float("nan")] * 3] * 2},
        {"offsets": [0.0]},
        {"thresholds": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_config_is_told(doubts, change):
    with pytest.raises(ConfigError, match="doubts"):
        Doubts.from_dict({**doubts.to_dict(), **change})


@pytest.mark.parametrize("name", WEAR)
def test_worn_copies_are_the_same_every_time(name, estimator, astronaut):
    crop = estimator(astronaut)[0].crop
    (first,), (again,) = (dict(worn_copies([crop]))[name] for _ in range(2))
    assert first.tobytes() == again.tobytes() != crop.tobytes()
    assert first.size == crop.size and first.mode == "RGB"


def test_faded_copies_are_the_same_every_time(estimator, astronaut):
    crop = estimator(astronaut)[0].crop
    first, again, other = (faded_copies([crop], seed)[0].tobytes() for seed in (0, 0, 1))
    assert first == again != other


@pytest.fixture(scope="module")
def face(estimator, astronaut):
    return estimator(astronaut)[0]


def test_a_good_portrait_has_no_doubts(face):
    assert face.doubts == () and face.reliable is True
    assert face.to_dict()["doubts"] == []


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("blurred, 1/12", "blurred"),
        ("blurred, 1/24", "blurred"),
        ("lower half covered", "covered"),
        ("eyes covered", "covered"),
        ("upside down", "turned"),
    ],
)
def test_poor_pictures_are_doubted_in_words(estimator, face, name, doubt):
    (copy,) = dict(worn_copies([face.crop]))[name]
    (worn,) = estimator.crops([copy])
    assert doubt in worn.doubts and worn.reliable is False
    # the age is there all the same, and so is its interval
    assert np.isfinite(worn.age) and worn.interval()


def test_intervals_of_poor_pictures_are_wider(estimator, face):
    (blurred,) = estimator.crops(dict(worn_copies([face.crop]))["blurred, 1/24"])

    def width(seen):
        low, high = seen.interval()
        return high - low

    assert width(blurred) > 1.2 * width(face)


def test_small_faces_are_called_small(estimator, face, astronaut):
    photo = astronaut.resize((80, 80), Image.Resampling.LANCZOS)
    (small,) = estimator(photo, boxes=[[value * 80 / 512 for value in face.box]])
    assert small.side == pytest.approx(face.side * 80 / 512, rel=0.2) and small.side < 40
    assert "blurred" not in small.doubts and "small" in small.doubts


def test_the_side_of_a_crop_is_its_own(estimator, face):
    (seen,) = estimator.crops([face.crop.resize((50, 60))])
    assert seen.side == 50


def test_profiles(face):
    assert nose_offset(face.landmarks) < 0.2 and "profile" not in face.doubts
    left, right, _, *mouth = face.landmarks
    turned = dataclasses.replace(face, landmarks=(left, right, (right[0] + 10, right[1] + 20), *mouth))
    assert 0.5 < nose_offset(turned.landmarks) < 1 and turned.doubts == ("profile",)
    assert nose_offset(((0, 0), (0, 0), (1, 1))) == np.inf


def test_ages_that_are_uncertain(face):
    intervals = dataclasses.replace(face.calibration.intervals, scale=(100.0,) * 8)
    wide = dataclasses.replace(face.calibration, intervals=intervals)
    assert dataclasses.replace(face, calibration=wide).doubts == (UNCERTAIN,)


def shorten(reliability, face):
    """Leave the features that earlier versions had."""
    count = len(describe_outputs(face.stages, face.crop))
    reliability["mean"] = reliability["mean"][:count]
    reliability["precision"] = [row[:count] for row in reliability["precision"][:count]]


def test_a_calibration_of_an_earlier_version(face):
    config = ZOO[DEFAULT].folder.joinpath("config.json").read_text(encoding="utf-8")
    calibration = json.loads(config)["ssrnet_hub"]["calibration"]
    calibration.pop("doubts")
    shorten(calibration["reliability"], face)
    intervals = {key: calibration["intervals"][key] for key in ("knots", "scale", "scores", "n")}
    old = Calibration.from_dict({**calibration, "intervals": intervals})
    seen = dataclasses.replace(face, calibration=old)
    assert (
        seen.doubts == ()
        and seen.interval()
        and seen.oddness == old.reliability.score(old.describe(face.stages, face.crop))
    )
    assert len(describe_face(face.stages, face.crop)) > len(old.describe(face.stages, face.crop))


def test_a_calibration_without_the_layout_of_the_crop(face):
    features = describe_face(face.stages, face.crop)
    count = len(features) - LAYOUT
    config = face.calibration.to_dict()
    config["intervals"]["weights"] = config["intervals"]["weights"][:count]
    config["doubts"]["weights"] = [row[:count] for row in config["doubts"]["weights"]]
    shorten(config["reliability"], face)
    old = Calibration.from_dict(config)
    np.testing.assert_array_equal(old.describe(face.stages, face.crop), features[:count])
    seen = dataclasses.replace(face, calibration=old)
    assert seen.interval() and isinstance(seen.doubts, tuple)


def test_the_layout_tells_which_way_up_a_face_is(face):
    upright, turned = (describe_face(face.stages, crop)[-LAYOUT:] for crop in (face.crop, face.crop.rotate(180)))
    light, detail = np.split(upright, 2)
    assert abs(light.mean()) < 1e-3 and abs(detail.mean()) < 1e-9
    # the bands of the crop in reverse, up to the rounding of a resize
    np.testing.assert_allclose(turned, [*light[::-1], *detail[::-1]], atol=0.02)
    assert np.abs(upright - turned).max() > 0.3


def test_parts_of_different_calibrations_are_refused(face):
    config = face.calibration.to_dict()
    config["intervals"]["weights"] = config["intervals"]["weights"][1:]
    with pytest.raises(ConfigError, match="different numbers of features"):
        Calibration.from_dict(config)
    config = face.calibration.to_dict()
    count = len(describe_face(face.stages, face.crop)) + 1
    config["reliability"] |= {"mean": [0.0] * count, "precision": [[0.0] * count] * count}
    with pytest.raises(ConfigError, match="different numbers of features"):
        Calibration.from_dict(config)


def test_no_doubts_without_a_calibration(face):
    assert dataclasses.replace(face, calibration=None).doubts is None


def test_an_answer_that_is_no_number(face):
    stages = tuple(
        dataclasses.replace(stage, contribution=float("nan"), p=(float("nan"),) * 3) for stage in face.stages
    )
    nothing = dataclasses.replace(face, stages=stages, age=float("nan"), raw_age=float("nan"))
    assert nothing.reliable is False and nothing.interval() is None and nothing.oddness == np.inf


def test_the_command_says_why(capsys, face, tmp_path, astronaut):
    from ssrnet_hub.cli import main

    x1, y1, x2, y2 = map(round, face.box)
    hidden = astronaut.copy()
    hidden.paste((120, 150, 190), (x1 - 10, (y1 + y2) // 2 + 6, x2 + 10, y2 + 10))
    hidden.save(tmp_path / "mask.png")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"file,x1,y1,x2,y2\nmask.png,{x1},{y1},{x2},{y2}\n")
    assert main(["predict", "--boxes", str(boxes)]) == 0
    out, err = capsys.readouterr()
    assert "covered" in out and " ?" in out and "not reliable" in err
