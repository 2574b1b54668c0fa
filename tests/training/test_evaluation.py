"""Measuring weights on a few pictures: what the figures are made of, and the commands that print and keep them."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
from PIL import Image, ImageOps

from ssrnet_hub import AgeEstimator, Framing, save_pretrained
from ssrnet_hub.cli import main
from ssrnet_hub.errors import LabelsError
from ssrnet_hub.hub.cards import render_card
from ssrnet_hub.images.alignment import AUTHORS_FRAMING
from ssrnet_hub.inference.detector import Detection
from ssrnet_hub.models import zoo
from ssrnet_hub.training.evaluation import (
    _MOVES,
    _cut_moved,
    answer_missing,
    find_faces,
    measure_ages,
    measure_genders,
    measure_intervals,
    measure_robustness,
    measure_stages,
    measure_turned,
    mirrored_ages,
    predicted_ages,
)
from ssrnet_hub.training.labels import Label, read_labels
from ssrnet_hub.utils.metrics import SMALLEST_GROUP, age_metrics

ROBUSTNESS = ["shift 5 %", "scale 5 %", "rotation 5 degrees", "half resolution", "JPEG quality 40"]


def write_labels(folder, pictures, columns=("split",)):
    """A labels file of (picture, age, further columns)."""
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", *columns])
        for i, (picture, *row) in enumerate(pictures):
            picture.save(folder / f"{i}.png")
            writer.writerow([f"{i}.png", *row])
    return folder / "labels.csv"


def chip(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).resize((128, 128))


def grey(size=300):
    return Image.new("RGB", (size, size), "grey")


@pytest.fixture(scope="module")
def new_weights(tmp_path_factory):
    """Weights of an architecture that learned nothing yet, of a training whose median age was 16."""

    def new(name="ssrnet"):
        extras = {"framing": Framing().to_dict(), "training": {"median_age": 16}}
        return save_pretrained(timm.create_model(name), tmp_path_factory.mktemp(name), extras=extras)

    return new


@pytest.fixture(scope="module")
def weights(new_weights):
    return new_weights()


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    chips = [(chip(age), age, "train" if age <= 31 else "val") for age in range(1, 41)]
    return write_labels(tmp_path_factory.mktemp("chips"), chips)


@pytest.fixture(scope="module")
def photos(astronaut, tmp_path_factory):
    rows = [(grey(), 40, "", ""), (astronaut, 50, "female", "white")]
    return write_labels(tmp_path_factory.mktemp("photos"), rows, ("gender", "ethnicity"))


@pytest.fixture
def call(capsys):
    """The exit code of a command that is run in this process, and what it printed."""

    def call(*args):
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as e:
            code = e.code or 0
        return code, *capsys.readouterr()

    return call


def test_of_weights_that_state_no_median(tmp_path):
    folder = save_pretrained(timm.create_model("ssrnet"), tmp_path, extras={"framing": Framing().to_dict()})
    assert answer_missing(AgeEstimator(folder, detector=lambda image: [])) == 29


# by group


def make_labels(*rows):
    return [Label(Path("x.jpg"), age, None, gender, ethnicity) for age, gender, ethnicity in rows]


def test_groups_of_ages_are_those_the_labels_have():
    labels = make_labels((5, "female", None), (6, None, None), (85, "male", None))
    figures = measure_ages([7, 6, 80.00004], labels)
    assert figures["groups"] == {
        "age": {"0-9": {"mae": 1, "bias": 1, "cs5": 1, "n": 2}, "80+": {"mae": 5, "bias": -5, "cs5": 1, "n": 1}},
        "gender": {
            "female": {"mae": 2, "bias": 2, "cs5": 1, "n": 1},
            "male": {"mae": 5, "bias": -5, "cs5": 1, "n": 1},
        },
    }
    assert figures["worst_group"] == {}
    assert figures["mae"] == 2.3333  # no more than four digits


def test_worst_group_of_ages():
    labels = make_labels(
        *[(25, "female", "a")] * SMALLEST_GROUP, *[(35, "male", "b")] * SMALLEST_GROUP, (85, "male", "c")
    )
    ages = [26] * SMALLEST_GROUP + [38] * SMALLEST_GROUP + [40]
    figures = measure_ages(ages, labels)
    assert figures["worst_group"] == {"age": "30-39", "gender": "male", "ethnicity": "b"}
    # the one of 85 years is too few to count by age or ethnicity
    assert figures["gap"] == {"age": 2, "gender": 4, "ethnicity": 2}
    # all alike
    figures = measure_ages([35] * len(labels), [replace(label, age=30) for label in labels])
    assert figures["gap"] == {"gender": 0, "ethnicity": 0}
    # one alone is not the worst
    figures = measure_ages([26] * SMALLEST_GROUP, make_labels(*[(25, "female", "a")] * SMALLEST_GROUP))
    assert figures["worst_group"] == figures["gap"] == {}


def test_genders_by_group():
    labels = make_labels((5, "female", "a"), (25, "male", "a"), (25, "male", "b"))
    faces = [SimpleNamespace(gender_score=0.2), SimpleNamespace(gender_score=0.9), None]
    figures = measure_genders(labels, faces)
    assert (figures["accuracy"], figures["balanced_accuracy"], figures["n"]) == (0.6667, 0.75, 3)
    assert figures["groups"]["age"] == {"0-9": {"accuracy": 1, "n": 1}, "20-29": {"accuracy": 0.5, "n": 2}}
    assert figures["groups"]["ethnicity"] == {"a": {"accuracy": 1, "n": 2}, "b": {"accuracy": 0, "n": 1}}
    with pytest.raises(LabelsError, match="no column gender"):
        measure_genders(make_labels((5, None, None)), faces[:1])
    with pytest.raises(LabelsError, match="must be female or male, not 'Male'"):
        measure_genders(make_labels((5, "male", None), (5, "Male", None)), faces[:2])


# another look


def test_mirrored_ages_are_means_of_two_answers(estimator, astronaut):
    (face,) = estimator(astronaut)
    (mirror,) = estimator.crops([ImageOps.mirror(face.crop)])
    assert mirror.age != face.age
    assert mirrored_ages(estimator, [None, face]) == [answer_missing(estimator), (face.age + mirror.age) / 2]


@pytest.mark.parametrize("framing", [Framing(), AUTHORS_FRAMING], ids=["landmarks", "box"])
@pytest.mark.parametrize("move", [(0, 1), *(move for moves in _MOVES.values() for move in moves)], ids=str)
def test_a_moved_frame_moves_what_is_in_it(framing, move):
    y, x = np.mgrid[:400, :400]
    dot = Image.fromarray((255 * np.exp(-((x - 215) ** 2 + (y - 190) ** 2) / 50)).astype(np.uint8)).convert("RGB")
    box = (150.0, 150.0, 250.0, 250.0)
    landmarks = ((180.0, 185.0), (220.0, 186.0), (200.0, 205.0), (183.0, 225.0), (217.0, 226.0))
    face = SimpleNamespace(box=box, landmarks=landmarks)

    def middle(crop):
        """Where the dot is, in fractions of the side."""
        values = np.asarray(crop.convert("L"), float)
        y, x = np.mgrid[: crop.height, : crop.width] + 0.5
        return complex((x * values).sum(), (y * values).sum()) / values.sum() / crop.width

    shift, turn = move
    before = middle(framing.crop(dot, box, landmarks))
    expected = (before - (0.5 + 0.5j)) * turn + 0.5 + 0.5j + shift
    assert abs(middle(_cut_moved(framing, dot, face, shift, turn)) - expected) < 0.005


def test_robustness_of_a_face(estimator, photos):
    labels = [Label(photos.parent / "0.png", 40), Label(photos.parent / "1.png", 50)]
    found = find_faces(estimator, labels, detect=True)
    assert found[0] is None
    changes, missed = measure_robustness(estimator, labels, found)
    assert list(changes) == ROBUSTNESS and list(missed) == ROBUSTNESS[3:]
    assert all(0 < change < 20 for change in changes.values())
    assert set(missed.values()) == {0}
    assert (changes, missed) == measure_robustness(estimator, labels, found)


def test_faces_are_found_again_in_turned_photos(estimator, photos):
    labels = read_labels(photos)
    faces = find_faces(estimator, labels, detect=True)
    turned = measure_turned(estimator, labels, faces)
    assert turned.keys() == {"0", "90", "180", "270"}
    assert turned["0"] == {"found": 1, "right": 1, "change": 0}
    for figures in turned.values():
        assert (figures["found"], figures["right"]) == (1, 1)
        assert figures["change"] < 1.5
    upright = measure_turned(estimator.upright_only(), labels, faces)
    assert upright["180"] == {"found": 0, "right": None, "change": None}


def test_evaluate_ranges_of_ages(call, weights, photos, tmp_path, estimator, astronaut):
    folder = tmp_path / "photos"
    folder.mkdir()
    astronaut.crop((120, 20, 320, 250)).save(folder / "0.png")
    grey().save(folder / "1.png")
    (folder / "labels.csv").write_text("file,age_min,age_max,gender\n0.png,40,49,female\n1.png,70,,\n")
    age = estimator(folder / "0.png")[0].age
    args = ("--labels", folder / "labels.csv", "--detect")
    result = json.loads(call("evaluate", *args, "--json", "--turned")[1])
    # one that is not found counts as the median age of the training, 29
    assert result["distance"] == pytest.approx((40 - age + 70 - answer_missing(estimator)) / 2, abs=1e-3)
    assert (result["within"], result["n"], result["missed"]) == (0, 2, 1)
    assert result["groups"]["age"].keys() == {"40-49", "70+"}
    assert result["turned"]["180"]["found"] == 1
    assert result["intervals"]["levels"]["0.9"]["coverage"] in (0, 1)
    out = call("evaluate", *args)[1]
    assert "distance" in out and "70+" in out


def test_faces_that_are_missed_in_a_worse_photo_are_counted(weights, tmp_path):
    def detector(image):
        return [Detection((40.0, 40.0, 100.0, 110.0), None, 1.0)] if image.width >= 128 else []

    labels = []
    for i, size in enumerate((128, 128, 256)):
        chip(i).resize((size, size)).save(tmp_path / f"{i}.png")
        labels.append(Label(tmp_path / f"{i}.png", 30))
    estimator = AgeEstimator(weights, detector)
    found = find_faces(estimator, labels, detect=True)
    changes, missed = measure_robustness(estimator, labels, found)
    assert missed == {"half resolution": 2, "JPEG quality 40": 0}
    half = estimator(Image.open(tmp_path / "2.png").resize((128, 128), Image.Resampling.BICUBIC))[0]
    assert changes["half resolution"] == pytest.approx(abs(half.age - found[2].age), abs=1e-4)
    changes, missed = measure_robustness(estimator, labels[:1], found[:1])
    assert changes["half resolution"] is None and changes["shift 5 %"] > 0


def test_intervals_of_faces_of_which_a_range_is_known(estimator, astronaut):
    (face,) = estimator(astronaut)
    low, high = face.interval(0.9)
    ranges = [(low - 9, low - 1), (low - 9, low + 1), (low + 1, high - 1), (high - 1, math.inf), (high + 1, math.inf)]
    labels = [Label(Path("face.png"), math.nan, age_range=ends) for ends in ranges]
    told = measure_intervals([face] * 5 + [None], [*labels, labels[0]])
    assert told["levels"]["0.9"]["coverage"] == 0.6
    assert [band["n"] for band in told["bands"].values()] == [1] * 5
    assert told["flagged"] == 0 and told["mae_reliable"] > 0


def test_shares_of_the_stages():
    def face(*contributions):
        return SimpleNamespace(stages=[SimpleNamespace(contribution=c) for c in contributions])

    # the last stage says the same of everyone
    assert measure_stages([face(10, 3, 1), None, face(30, 3, 1), face(20, 3, 1)]) == [1, 0, 0]
    assert measure_stages([face(10, 1), face(20, 3), face(30, 5)]) == [0.8333, 0.1667]
    # one that goes against the others
    assert measure_stages([face(10, 5), face(20, 0)]) == [2, -1]
    assert measure_stages([face(10, 5), face(10, 5)]) is None
    assert measure_stages([face(math.nan, 5), face(10, 5)]) is None
    assert measure_stages([None]) is None


# ssrnet-hub evaluate


def test_evaluate(call, weights, labels):
    code, out, errors = call("evaluate", "--weights", weights, "--labels", labels, "--json")
    assert code == 0 and "warning: the labels include the split train" in errors
    result = json.loads(out)
    faces = AgeEstimator(weights, detector=lambda image: []).crops(labels.parent / f"{i}.png" for i in range(40))
    expected = age_metrics([face.age for face in faces], range(1, 41))
    assert {key: result.pop(key) for key in expected} == {k: pytest.approx(v, abs=1e-3) for k, v in expected.items()}
    assert {band: figures["n"] for band, figures in result.pop("groups")["age"].items()} == dict(
        zip(["0-9", "10-19", "20-29", "30-39", "40-49"], [9, 10, 10, 10, 1], strict=True)
    )
    contributions = np.array([[stage.contribution for stage in face.stages] for face in faces])
    ages = contributions.sum(1)
    shares = [np.cov(part, ages)[0, 1] / ages.var(ddof=1) for part in contributions.T]
    assert result.pop("stages") == pytest.approx(shares, abs=1e-3) and sum(shares) == pytest.approx(1)
    assert result == {"missed": 0, "split": None, "weights": str(weights), "worst_group": {}, "gap": {}}


def test_evaluate_counts_missed_faces_as_the_median(call, weights, photos, astronaut):
    code, out, errors = call("evaluate", "--weights", weights, "--labels", photos, "--detect", "--json")
    assert code == 0 and "warning" not in errors
    result = json.loads(out)
    assert (result["n"], result["missed"]) == (2, 1)
    (face,) = AgeEstimator(weights)(astronaut)
    assert result["mae"] == pytest.approx((abs(16 - 40) + abs(face.age - 50)) / 2, abs=1e-3)
    assert result["bias"] == pytest.approx((16 - 40 + face.age - 50) / 2, abs=1e-3)
    assert result["groups"]["gender"].keys() == {"female"} and result["groups"]["ethnicity"].keys() == {"white"}


def test_evaluate_the_whole_way(call, monkeypatch, photos, tmp_path, estimator, astronaut):
    # figures are kept beside the embedded weights
    (tmp_path / "scripts" / "maintain").mkdir(parents=True)
    models = tmp_path / "ssrnet_hub" / "models"
    models.mkdir(parents=True)
    (models / "weights").symlink_to(zoo.ZOO[zoo.DEFAULT].folder.parent)
    monkeypatch.setattr(zoo, "_FOLDER", models)
    options = ("--detect", "--flip", "--boxes", "--robustness")
    code, out, errors = call(
        "evaluate", "--labels", photos, *options, "--plots", tmp_path / "plots", "--record", "--json"
    )
    assert code == 0, errors
    result = json.loads(out)
    faces = [None, *estimator(astronaut)]
    assert result["flip"]["mae"] == pytest.approx(
        age_metrics(mirrored_ages(estimator, faces), [40, 50])["mae"], abs=1e-3
    )
    assert result["mae"] == pytest.approx(age_metrics(predicted_ages(estimator, faces), [40, 50])["mae"], abs=1e-3)
    assert len(result["boxes"]) == 3 and list(result["robustness"]) == ROBUSTNESS
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["cs.svg", "errors.svg", "scatter.svg"]

    (kept,) = zoo.ZOO[zoo.DEFAULT].figures
    assert kept["command"].endswith(" ".join(["labels.csv", *options]))
    assert {key: kept[key] for key in result.keys() - {"weights"}} == {
        k: v for k, v in result.items() if k != "weights"
    }
    card = render_card(zoo.DEFAULT)
    for part in ("| one forward pass |", "| mean with the mirror image |", "| age | 50-59 |", "| ethnicity | white |"):
        assert part in card
    assert all(f"| {how.replace(' %', '%')} |" in card for how in ROBUSTNESS)
    assert "None" not in card and "not measured" not in card


def test_evaluate_for_people(call, labels):
    code, out, errors = call("evaluate", "--labels", labels, "--split", "val", "--flip")
    assert (code, errors) == (0, "")
    names = [line.split("  ")[0] for line in out.splitlines()]
    ages = ["age", "30-39", "40-49", ""]
    levels = ["intervals", "level 0.8", "level 0.9", "level 0.95", "", "level 0.9", "30-39", "40-49", ""]
    assert names[:-5] == ["", "one pass", "mean with the mirror", "", *ages, *levels]
    flagged, empty, stages, *last = names[-5:]
    assert flagged.startswith("flagged ") and stages.startswith("of the variance of the ages: stage 1 ")
    assert [empty, *last] == ["", "weights", "split"]
    head, one_pass, *_ = out.splitlines()
    assert head.split() == ["mae", "mae_interval", "rmse", "cs3", "cs5", "cs7", "bias", "n", "missed"]
    assert re.fullmatch(r"one pass +\d+\.\d{3} +\d+\.\d{3} to \d+\.\d{3} .* 9 +0", one_pass)


def test_evaluate_weights_of_gender(call, new_weights, labels):
    weights = new_weights("ssrnet_gender")
    rows = [(chip(i), 10 * i, "female" if i % 3 else "male") for i in range(6)]
    gendered = write_labels(weights / "chips", rows, ("gender",))
    code, out, errors = call("evaluate", "--weights", weights, "--labels", gendered, "--json")
    assert code == 0, errors
    result = json.loads(out)
    assert result.keys() >= {"accuracy", "balanced_accuracy", "groups", "missed"}
    assert result["groups"].keys() == {"age", "gender"} and result["groups"]["gender"]["female"]["n"] == 4
    code, out, _ = call("evaluate", "--weights", weights, "--labels", gendered)
    assert code == 0 and "accuracy" in out
    code, _, errors = call("evaluate", "--weights", weights, "--labels", gendered, "--flip")
    assert code == 2 and "--flip requires age weights" in errors
    code, _, errors = call("evaluate", "--weights", weights, "--labels", labels)
    assert code == 1 and "no column gender" in errors


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--labels", "none.csv"], 1, r"none\.csv"),
        (["--labels", "{labels}", "--split", "test"], 1, "no rows of split 'test'"),
        (["--labels", "{labels}", "--weights", "ssrnet.nothing"], 1, r"ssrnet\.nothing"),
        (["--labels", "{labels}", "--weights", "{weights}", "--record"], 1, "is not in the zoo"),
        (["--labels", "{broken}"], 1, r"0\.png"),
        (["--labels", "{labels}", "--robustness"], 2, "--robustness requires --detect"),
        (["--labels", "{labels}", "--boxes"], 2, "--boxes requires --detect"),
    ],
)
def test_evaluate_refuses(call, tmp_path, labels, weights, args, code, said):
    broken = write_labels(tmp_path / "broken", [(grey(), 1, "val")])
    (broken.parent / "0.png").write_bytes(b"no picture")
    names = {"labels": labels, "broken": broken, "weights": weights}
    answer, out, errors = call("evaluate", *[arg.format(**names) for arg in args])
    assert (answer, out) == (code, "")
    assert re.search(rf"error: .*{said}", errors)


# ssrnet-hub compare


@pytest.fixture(scope="module")
def known(weights, tmp_path_factory):
    """Chips labeled almost as some weights answer."""
    chips = [chip(i) for i in range(30)]
    ages = [face.age for face in AgeEstimator(weights, detector=lambda image: []).crops(chips)]
    rows = [(picture, age + 0.1 * (-1) ** i, "val") for i, (picture, age) in enumerate(zip(chips, ages, strict=True))]
    return write_labels(tmp_path_factory.mktemp("known"), rows)


def test_compare_weights_with_themselves(call, weights, known):
    code, out, errors = call("compare", weights, weights, "--labels", known, "--split", "val", "--json")
    assert code == 0, errors
    result = json.loads(out)
    assert (result["difference"], result["difference_interval"], result["p_value"]) == (0, [0, 0], 1)
    assert (result["n"], result["split"], result["missed_a"], result["missed_b"]) == (30, "val", 0, 0)


def test_compare_with_clearly_worse_weights(call, weights, known):
    code, out, errors = call("compare", weights, zoo.DEFAULT, "--labels", known, "--json")
    assert code == 0, errors
    result = json.loads(out)
    assert result["mae_a"] == pytest.approx(0.1, abs=0.01) and result["mae_b"] > 1
    assert result["difference"] == pytest.approx(result["mae_a"] - result["mae_b"], abs=1e-3)
    assert result["difference_interval"][1] < 0 and result["p_value"] < 0.001 and result["nearer_a"] > 0.9


def test_compare_for_people_tells_of_missed_faces(call, weights, photos):
    code, out, errors = call("compare", weights, zoo.DEFAULT, "--labels", photos, "--detect")
    assert code == 0, errors
    a, b, difference, missed = out.splitlines()
    assert "1 missed" in a and a.endswith(str(weights)) and "1 missed" in b and b.endswith(zoo.DEFAULT)
    assert re.match(r"A - B +[+-]\d+\.\d\d years, 95% interval .*, p = [01]\.\d{4}, 2 faces", difference)
    assert "median" in missed


def test_compare_refuses_before_it_measures(call, weights, new_weights, labels):
    for b, said in (("ssrnet.nothing", "ssrnet.nothing"), (new_weights("ssrnet_gender"), "gender")):
        code, out, errors = call("compare", weights, b, "--labels", labels)
        assert (code, out) == (1, "") and re.search(f"error: .*{said}", errors)
