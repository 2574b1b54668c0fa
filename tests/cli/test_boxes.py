"""predict --boxes: where the faces are, by a file."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub.cli import main

from .helpers import BOX, files, told, write_boxes


def test_what_csv_printed_are_boxes(run, folder):
    photos = [folder / name for name in ("a.png", "none.png", "b.PNG")]
    _, out, _ = run("predict", "--csv", *photos)
    boxes = folder / "faces.csv"
    boxes.write_text(out)
    code, again, err = run("predict", "--csv", "--boxes", boxes)
    assert (code, "error" in err) == (0, False)
    before, after = (list(csv.DictReader(io.StringIO(text), strict=True)) for text in (out, again))
    assert [row["file"] for row in after] == list(map(str, photos))
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
        same = ("file", "face", "in_range", "x1", "y1", "x2", "y2", "aligned", "error")
        assert [one[k] for k in same] == [other[k] for k in same]
        if one["face"]:
            assert float(one["age"]) == pytest.approx(float(other["age"]), abs=6)
    boxes.write_text(again)
    assert run("predict", "--csv", "--boxes", boxes)[1] == again


def test_boxes_of_awkward_names(run, tmp_path, photo):
    names = ['comma, "quote".png', "ünï 写真.png", "new\nline.png", "-dash.png"]
    for name in names:
        photo.save(tmp_path / name)
    _, out, _ = run("predict", "--csv", tmp_path)
    (tmp_path / "faces.csv").write_text(out, encoding="utf-8", newline="")
    code, out, _ = run("predict", "--json", "--boxes", tmp_path / "faces.csv")
    assert code == 0
    assert {name: len(row["faces"]) for name, row in told(out).items()} == dict.fromkeys(names, 1)


def test_boxes_are_taken_as_they_are(run, folder, estimator):
    rows = [(folder / "b.PNG", *BOX), (folder / "a.png", 0, 0, 30, 30), (folder / "a.png", *BOX)]
    boxes = write_boxes(folder / "faces.csv", *rows)
    code, out, _ = run("predict", "--json", "--boxes", boxes)
    assert code == 0
    assert files(out) == [str(folder / "b.PNG"), str(folder / "a.png")]
    faces = told(out)["a.png"]["faces"]
    assert [face["box"] for face in faces] == [[0, 0, 30, 30], list(BOX)]
    assert [face["aligned"] for face in faces] == [False, True]
    expected = estimator(folder / "a.png", boxes=[(0, 0, 30, 30), BOX])
    assert [face["age"] for face in faces] == pytest.approx([face.age for face in expected], abs=1e-3)
    _, out, _ = run("predict", "--csv", "--boxes", boxes)
    assert [row["aligned"] for row in csv.DictReader(io.StringIO(out))] == ["True", "False", "True"]
    _, out, _ = run("predict", "--boxes", boxes)
    assert [line.split()[0] for line in out.splitlines()[1:]] == [str(file) for file, *_ in rows]
    assert out.splitlines()[2].endswith("0 0 30 30")


def test_boxes_of_the_named_photos_only(run, folder):
    rows = [(folder / name, *BOX) for name in ("a.png", "b.PNG")]
    boxes = write_boxes(folder / "faces.csv", *rows, (folder / "missing.png", *BOX))
    code, out, _ = run("predict", "--json", folder / "b.PNG", "--boxes", boxes)
    assert (code, files(out)) == (0, [str(folder / "b.PNG")])
    assert told(out)["b.PNG"]["faces"][0]["box"] == list(BOX)


def test_a_photo_without_boxes_is_an_error_and_the_others_are_not(run, folder):
    boxes = write_boxes(folder / "faces.csv", (folder / "a.png", *BOX), (folder / "none.png", "", "", "", ""))
    paths = [folder / name for name in ("b.PNG", "a.png", "none.png", "missing.png")]
    code, out, err = run("predict", "--json", *paths, "--boxes", boxes)
    assert code == 1
    rows = told(out)
    assert [len(row["faces"]) for row in rows.values()] == [0, 1, 0, 0]
    assert [bool(row["error"]) for row in rows.values()] == [True, False, False, True]
    assert "no row for this photo" in rows["b.PNG"]["error"] and str(boxes) in rows["b.PNG"]["error"]
    assert "no such file" in rows["missing.png"]["error"]
    assert f"error: {folder / 'b.PNG'}: {boxes} has no row" in err and "2 of 4 failed" in err
    _, out, _ = run("predict", *paths[:3], "--boxes", boxes)
    assert [line.split()[1:3] for line in out.splitlines()[1:]][::2] == [["not", "read"], ["no", "face"]]


@pytest.mark.parametrize(
    "bad, said",
    [
        ((60, "forty", 145, 155), "four numbers.*forty"),
        ((60, 40, 145, ""), "four numbers"),
        ((60, 40, 145, "nan"), "four numbers"),
        ((145, 40, 60, 155), "no area"),
        ((600, 40, 645, 155), "outside"),
    ],
)
def test_a_bad_box_is_told_of_its_photo_only(run, folder, bad, said):
    rows = [(folder / "a.png", *BOX), (folder / "a.png", *bad), (folder / "b.PNG", *BOX)]
    code, out, err = run("predict", "--json", "--boxes", write_boxes(folder / "faces.csv", *rows))
    assert code == 1
    broken, good = json.loads(out)
    assert re.search(said, broken["error"]) and broken["faces"] == []
    assert good["error"] is None and len(good["faces"]) == 1
    assert err.count("error: ") == 1 and f"error: {folder / 'a.png'}: " in err


def test_files_of_boxes_that_are_not_there(run, folder):
    rows = [(folder / "missing.png", *BOX), (folder / "a.png", *BOX), (folder / "notes.txt", *BOX)]
    code, out, err = run("predict", "--json", "--boxes", write_boxes(folder / "faces.csv", *rows))
    assert code == 1
    assert [bool(row["error"]) for row in json.loads(out)] == [True, False, True]
    assert "2 of 3 failed" in err


def test_photos_beside_the_file_of_boxes(run, folder, photo, monkeypatch):
    photo.save(folder / "deeper" / "c.png")
    write_boxes(folder / "deeper" / "faces.csv", ("c.png", *BOX), ("still/a.png", *BOX), ("../b.PNG", *BOX))
    monkeypatch.chdir(folder)
    code, out, _ = run("predict", "--json", "--boxes", "deeper/faces.csv")
    assert (code, [len(row["faces"]) for row in json.loads(out)]) == (0, [1, 1, 1])
    for paths in (["deeper"], [folder / "deeper"], ["deeper/still/../c.png"], ["b.PNG"], ["./deeper/still/a.png"]):
        code, out, err = run("predict", "--json", *paths, "--boxes", "deeper/faces.csv")
        assert code == 0, err
        assert {row["faces"][0]["box"][0] for row in json.loads(out)} == {BOX[0]}


def test_a_photo_that_a_file_of_boxes_names_in_two_ways(run, folder, monkeypatch):
    rows = [("a.png", *BOX), (folder / "a.png", 0, 0, 30, 30), ("deeper/../a.png", 10, 10, 50, 50)]
    boxes = write_boxes(folder / "faces.csv", *rows)
    monkeypatch.chdir(folder)
    expected = [list(box) for _, *box in rows]
    for paths in (["a.png"], []):
        code, out, _ = run("predict", "--json", *paths, "--boxes", boxes)
        assert code == 0
        assert [face["box"] for row in json.loads(out) for face in row["faces"]] == expected


def test_boxes_that_are_far_too_large(run, folder):
    boxes = write_boxes(folder / "faces.csv", (folder / "a.png", -1e9, -1e9, 1e9, 1e9), (folder / "b.PNG", *BOX))
    code, out, _ = run("predict", "--json", "--boxes", boxes, "--annotate", folder / "out")
    rows = told(out)
    assert code == bool(rows["a.png"]["error"])
    assert len(rows["b.PNG"]["faces"]) == 1 and (folder / "out" / "b.PNG").exists()


def test_boxes_and_annotate(run, folder, photo):
    boxes = write_boxes(folder / "faces.csv", (folder / "a.png", *BOX))
    assert run("predict", "--boxes", boxes, "--annotate", folder / "out")[0] == 0
    with Image.open(folder / "out" / "a.png") as image:
        changed = np.abs(np.asarray(image).astype(int) - np.asarray(photo)).max(2)
    assert np.nonzero(changed.max(0))[0][[0, -1]].tolist() == pytest.approx([60, 145], abs=3)
    boxes = write_boxes(folder / "out" / "faces.csv", (folder / "out" / "a.png", *BOX))
    code, _, err = run("predict", "--boxes", boxes, "--annotate", folder / "out")
    assert (code, err.startswith("error: The copies would replace the photos")) == (1, True)


@pytest.mark.parametrize("text", [None, "", "file,x1,y1,width,height\na.png,1,2,3,4\n"])
def test_what_is_no_file_of_boxes(run, folder, text):
    boxes = folder / "faces.csv"
    if text is not None:
        boxes.write_text(text)
    code, out, err = run("predict", folder / "a.png", "--boxes", boxes)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {boxes} ") and len(err.splitlines()) == 1


def test_a_file_of_boxes_that_names_no_photos(run, folder):
    boxes = write_boxes(folder / "faces.csv")
    code, out, err = run("predict", "--boxes", boxes)
    assert (code, out, err) == (1, "", f"error: {boxes} contains no photos.\n")


def test_neither_photos_nor_boxes(capsys):
    for arguments in (["predict", "--json"], ["predict", "--gender", "ssrnet_gender.imdb"]):
        with pytest.raises(SystemExit) as e:
            main(arguments)
        assert e.value.code == 2
        assert "usage" in (err := capsys.readouterr().err) and "boxes" in err
