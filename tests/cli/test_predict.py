"""The command, as a person or a script meets it."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import ImageFilter

import ssrnet_hub
from ssrnet_hub.cli import main
from ssrnet_hub.images.alignment import AUTHORS_FRAMING
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.models.zoo import DEFAULT

from .helpers import FORMULAS, files, told, write_boxes


def test_table(run, folder, face):
    code, out, err = run("predict", folder / "a.png", folder / "none.png")
    assert (code, err.count("error")) == (0, 0)
    header, first, second = out.splitlines()
    titles = ["file", "face", "age", *["90%", "interval"], "doubts", "score", "box", "(x1", "y1", "x2", "y2)"]
    assert header.split() == titles
    box = [f"{v:.0f}" for v in face.box]
    ends = "{:.0f} to {:.0f}".format(*face.interval()).split()
    assert first.split() == [str(folder / "a.png"), "1", f"{face.age:.1f}", *ends, f"{face.score:.2f}", *box]
    assert second.split() == [str(folder / "none.png"), "no", "face", "found"]
    assert len({header.index("box"), first.index(" ".join(box)), second.index("no face")}) == 1


def test_an_age_not_to_be_trusted_is_marked(run, folder, photo):
    photo.filter(ImageFilter.GaussianBlur(9)).save(folder / "blurred.png")
    (folder / "boxes.csv").write_text(f"file,x1,y1,x2,y2\n{folder / 'blurred.png'},20,20,110,130\n")
    code, out, err = run("predict", folder / "blurred.png", "--boxes", folder / "boxes.csv")
    assert code == 0 and " ?  " in out and "not reliable" in err
    code, out, err = run("predict", folder / "a.png")
    assert code == 0 and "?" not in out and "reliable" not in err


def test_a_turned_face(run, folder, photo):
    photo.rotate(180).save(folder / "turned.png")
    assert ", rotated by 180" in run("predict", folder / "turned.png")[1]
    for option, value in (("--csv", "180"), ("--json", 180)):
        out = run("predict", folder / "turned.png", option)[1]
        rows = list(csv.DictReader(io.StringIO(out))) if option == "--csv" else json.loads(out)[0]["faces"]
        assert [row["turned"] for row in rows] == [value]


def test_no_column_of_intervals_without_a_calibration(run, folder, tmp_path):
    model = ssrnet_hub.from_pretrained()
    model.ssrnet_hub_extras.pop("calibration")
    ssrnet_hub.save_pretrained(model, tmp_path / "plain")
    code, out, _ = run("predict", folder / "a.png", "--weights", tmp_path / "plain")
    assert code == 0 and "90%" not in out


def test_smallest_face(run, folder):
    for size, found in ((20, True), (0.1, True), (100_000, False)):
        code, out, _ = run("predict", folder / "a.png", "--min-face", size)
        assert (code, "no face found" not in out) == (0, found)


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "small"])
def test_smallest_face_is_a_number_above_0(capsys, folder, size):
    with pytest.raises(SystemExit) as end:
        main(["predict", str(folder / "a.png"), f"--min-face={size}"])
    assert end.value.code == 2 and "--min-face" in capsys.readouterr().err


@pytest.mark.parametrize("runtime", ["onnx", "torch", "eager"])
def test_runtimes_agree(run, folder, face, runtime):
    code, out, _ = run("predict", folder / "a.png", "--json", "--runtime", runtime)
    assert code == 0
    assert json.loads(out)[0]["faces"][0]["age"] == pytest.approx(face.age, abs=1e-3)


def test_json(run, folder, face):
    paths = [folder / "none.png", folder / "a.png", folder / "missing.jpg"]
    code, out, err = run("predict", "--json", *paths)
    assert code == 1
    rows = json.loads(out)
    assert [set(row) for row in rows] == [{"file", "faces", "pages", "error"}] * 3
    assert [row["file"] for row in rows] == list(map(str, paths))
    assert [len(row["faces"]) for row in rows] == [0, 1, 0]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert rows[0]["error"] is None
    (told,) = rows[1]["faces"]
    assert told["age"] == pytest.approx(face.age, abs=1e-3)
    assert told["box"] == pytest.approx(face.box, abs=1e-2)
    assert told.keys() == face.to_dict().keys()
    assert "missing.jpg" in err and "missing.jpg" not in rows[0]["file"]


def test_csv(run, folder, face):
    code, out, _ = run("predict", "--csv", folder / "a.png", folder / "none.png", folder / "missing.jpg")
    assert code == 1
    rows = list(csv.DictReader(io.StringIO(out), strict=True))
    assert [row["file"] for row in rows] == [str(folder / name) for name in ("a.png", "none.png", "missing.jpg")]
    with_face, none, missing = rows
    assert None not in with_face and None not in with_face.values()
    assert with_face["face"] == "1"
    assert float(with_face["age"]) == pytest.approx(face.age, abs=0.01)
    assert float(with_face["raw_age"]) == pytest.approx(face.raw_age, abs=0.01)
    assert with_face["in_range"] == "True" and with_face["reliable"] == "True"
    assert [float(with_face[k]) for k in ("low", "high")] == pytest.approx(face.interval(), abs=0.1)
    assert [float(with_face[k]) for k in ("x1", "y1", "x2", "y2")] == pytest.approx(face.box, abs=0.1)
    assert float(with_face["score"]) == pytest.approx(face.score, abs=1e-3)
    assert (with_face["aligned"], with_face["gender_score"]) == ("True", "")
    assert (with_face["error"], none["error"]) == ("", "")
    assert none["age"] == missing["age"] == ""
    assert missing["error"]


def test_csv_of_awkward_names(run, tmp_path, photo):
    names = ['comma, "quote".png', "ünï 写真.png", "new\nline.png", "-dash.png"]
    for name in names:
        photo.save(tmp_path / name)
    code, out, _ = run("predict", "--csv", tmp_path)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out, newline=""), strict=True))
    assert {Path(row["file"]).name for row in rows} == set(names)


def test_names_that_would_be_formulas(run, formulas):
    code, out, err = run("predict", "--csv", ".")
    assert code == 1 and err.count("=broken.png") == 1
    rows = list(csv.DictReader(io.StringIO(out, newline=""), strict=True))
    starts = {cell[:1] for row in rows for cell in (row["file"], row["error"])}
    assert len(rows) == len(FORMULAS) + 1 and not starts & set("=+-@\t\r\n")
    # read back, all of them
    Path("boxes.csv").write_text(out, encoding="utf-8", newline="")
    code, out, _ = run("predict", "--json", "--boxes", "boxes.csv")
    assert code == 1
    found = {row["file"]: len(row["faces"]) for row in json.loads(out)}
    assert found == {**dict.fromkeys(FORMULAS, 1), "=broken.png": 0}
    # with some of them named
    code, out, _ = run("predict", "--json", "./-1.png", "'=1.png", "--boxes", "boxes.csv")
    assert code == 0 and files(out) == ["-1.png", "'=1.png"]


@pytest.mark.parametrize("output", [[], ["--csv"], ["--json"]])
def test_explain(run, folder, face, output):
    code, out, _ = run("predict", *output, "--explain", folder / "a.png", folder / "none.png")
    assert code == 0
    assert face.explain() in out
    if output == ["--csv"]:
        rows = list(csv.DictReader(io.StringIO(out), strict=True))
        assert [row["explanation"] for row in rows] == [face.explain(), ""]
    elif output == ["--json"]:
        assert json.loads(out)[0]["faces"][0]["explanation"] == face.explain()
    _, out, _ = run("predict", *output, folder / "a.png")
    assert "stage 1 says" not in out


def test_unknown_weights(run, folder):
    code, out, err = run("predict", folder / "a.png", "--weights", "ssrnet.utkfacee")
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and DEFAULT in err
    assert len(err.splitlines()) == 1


def test_weights_can_be_a_folder(run, folder, estimator, face):
    weights = ssrnet_hub.save_pretrained(estimator.model, folder / "weights")
    code, out, _ = run("predict", "--json", folder / "a.png", "--weights", weights)
    assert code == 0
    assert json.loads(out)[0]["faces"][0]["age"] == pytest.approx(face.age, abs=1e-3)


def test_device(run, folder):
    assert run("predict", folder / "a.png", "--device", "cpu")[0] == 0
    code, out, err = run("predict", folder / "a.png", "--device", "nonsense")
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and "nonsense" in err


def test_photos_of_the_reference_data(run, shared):
    code, out, err = run("predict", shared / "data" / "photos", "--json")
    rows = json.loads(out)
    assert code == 0, err
    assert len(rows) == 10
    assert all(row["faces"] and row["error"] is None for row in rows)


@pytest.fixture(scope="module")
def gender(tmp_path_factory):
    """Random weights of gender."""
    torch.manual_seed(0)
    model = new_model("ssrnet_gender")
    with torch.no_grad():
        # near the middle, and not at it
        model.stages[0].p.weight.mul_(0.3)
    folder = tmp_path_factory.mktemp("gender")
    extras = {"framing": AUTHORS_FRAMING.to_dict(), "ends": ["male", "female"]}
    return ssrnet_hub.save_pretrained(model, folder, extras=extras)


def test_gender(run, folder, gender):
    (expected,) = ssrnet_hub.AgeEstimator(gender=gender)(folder / "a.png")
    assert 0 < expected.gender_score < 1
    paths = [folder / "a.png", folder / "none.png"]
    code, out, _ = run("predict", *paths, "--gender", gender)
    assert code == 0
    header, first, second = out.splitlines()
    column = header.index("female 0 .. 1 male")
    assert first[column:].split()[:2] == [f"{expected.gender_score:.2f}", f"{expected.score:.2f}"]
    assert f" {expected.age:.1f} " in first[:column]
    assert second[column:].split() == ["no", "face", "found"]

    _, out, _ = run("predict", "--json", *paths, "--gender", gender)
    (face,) = told(out)["a.png"]["faces"]
    assert face["gender_score"] == pytest.approx(expected.gender_score, abs=1e-4)
    assert face["age"] == pytest.approx(expected.age, abs=1e-3)

    _, out, _ = run("predict", "--csv", *paths, "--gender", gender, "--boxes", write_boxes(folder / "faces.csv"))
    assert [row["gender_score"] for row in csv.DictReader(io.StringIO(out))] == ["", ""]
    _, out, _ = run("predict", "--csv", *paths, "--gender", gender)
    first, second = csv.DictReader(io.StringIO(out), strict=True)
    assert float(first["gender_score"]) == pytest.approx(expected.gender_score, abs=1e-3)
    assert second["gender_score"] == ""


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_score_at_either_end_is_told(run, folder, gender, end):
    model = ssrnet_hub.from_pretrained(gender)
    with torch.no_grad():
        for stage in model.stages:
            stage.p.weight.zero_()
            stage.p.bias.copy_(torch.tensor([0.0, 0.0, 5.0 * (1 - end)]))
    weights = ssrnet_hub.save_pretrained(model, folder / "weights")
    _, out, _ = run("predict", "--csv", folder / "a.png", "--gender", weights)
    assert next(csv.DictReader(io.StringIO(out)))["gender_score"] == str(end)
    _, out, _ = run("predict", folder / "a.png", "--gender", weights)
    assert f"  {end:.2f}  " in out
    _, out, _ = run("predict", "--json", folder / "a.png", "--gender", weights)
    assert json.loads(out)[0]["faces"][0]["gender_score"] == end


def test_gender_mixed_up_with_age(run, folder, gender):
    for arguments in (
        ["--weights", gender],
        ["--gender", DEFAULT],
        ["--gender", folder / "nothing"],
    ):
        code, out, err = run("predict", folder / "a.png", *arguments)
        assert (code, out) == (1, "")
        assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_faces_that_the_detector_is_not_sure_of(run, folder, face):
    def scores(*options):
        code, out, err = run("predict", folder / "a.png", "--json", *options)
        assert code == 0, err
        return [found["score"] for found in json.loads(out)[0]["faces"]]

    assert scores() == scores("--min-score", "0.9") == [pytest.approx(face.score, abs=1e-4)]
    assert scores("--min-score", "1") == []


@pytest.mark.parametrize("score", ["-0.1", "1.5", "nan", "sure"])
def test_scores_that_are_none(run, score):
    with pytest.raises(SystemExit) as e:
        run("predict", "photo.jpg", "--min-score", score)
    assert e.value.code == 2
