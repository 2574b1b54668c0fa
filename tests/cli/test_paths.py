"""What the command takes for photos: files, folders, globs."""

import csv
import io
import json
from pathlib import Path

import pytest

from ssrnet_hub.images.alignment import iou

from ..pictures import encode, write_nasty
from .helpers import files


def test_folders_are_searched_and_other_files_passed_over(run, folder):
    code, out, err = run("predict", "--json", folder)
    assert code == 0
    expected = ["a.png", "b.PNG", "deeper/still/a.png", "none.png"]
    assert sorted(files(out)) == sorted(str(folder / name) for name in expected)
    assert files(out) == sorted(files(out))
    assert "notes" not in out + err


def test_globs(run, folder):
    _, out, _ = run("predict", "--json", folder / "*.png")
    assert sorted(files(out)) == [str(folder / "a.png"), str(folder / "none.png")]
    _, out, _ = run("predict", "--json", folder / "**" / "a.png")
    assert sorted(files(out)) == [str(folder / "a.png"), str(folder / "deeper" / "still" / "a.png")]


def test_a_file_whose_name_looks_like_a_glob(run, tmp_path, photo):
    photo.save(tmp_path / "a[1].png")
    code, out, _ = run("predict", "--json", tmp_path / "a[1].png")
    assert (code, files(out)) == (0, [str(tmp_path / "a[1].png")])


def test_a_file_that_is_named_is_read_whatever_its_ending(run, tmp_path, photo):
    (tmp_path / "photo.dat").write_bytes(encode(photo, "PNG"))
    code, out, _ = run("predict", "--json", tmp_path / "photo.dat")
    assert code == 0
    assert len(json.loads(out)[0]["faces"]) == 1


def test_each_photo_once(run, folder):
    again = folder / "deeper" / "." / "still" / "a.png"
    code, out, _ = run("predict", "--json", folder / "a.png", folder, folder / "a.png", folder / "a*.png", again)
    assert code == 0
    assert len(files(out)) == 4
    assert files(out)[0] == str(folder / "a.png")


def test_relative_paths(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    _, out, _ = run("predict", "--json", "a.png", "deeper", "./none.png")
    assert files(out) == ["a.png", str(Path("deeper", "still", "a.png")), "none.png"]


def test_missing_path(run, tmp_path):
    for path in (tmp_path / "missing.jpg", tmp_path / "*.jpg", tmp_path / "missing" / "**"):
        code, out, err = run("predict", "--json", path)
        assert code == 1
        (row,) = json.loads(out)
        assert row["file"] == str(path) and row["error"] and row["faces"] == []
        assert err.startswith("error: ") and str(path) in err
        assert len(err.splitlines()) == 1


def test_empty_folder(run, tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    code, out, err = run("predict", tmp_path)
    assert code == 1
    assert str(tmp_path) in out
    assert err.startswith("error: ") and "no picture in this folder" in err


def test_a_path_that_cannot_be(run):
    code, _, err = run("predict", "a" * 300)
    assert code == 1
    assert err.startswith("error: ")


@pytest.mark.parametrize("output", [[], ["--csv"], ["--json"]])
def test_a_folder_of_nasty_files(run, tmp_path, photo, output):
    good, bad = write_nasty(tmp_path, photo)
    goal = tmp_path / "out"
    code, out, err = run("predict", tmp_path, *output, "--annotate", goal)
    assert code == 1
    for name in bad:
        assert f"error: {tmp_path / name}" in err
    assert not [name for name in good if f"error: {tmp_path / name}" in err]
    assert err.rstrip().endswith(f"{len(bad)} of {len(good | bad)} failed")
    assert len(list(goal.iterdir())) == len(good)
    if output == ["--json"]:
        rows = {Path(row["file"]).name: row for row in json.loads(out)}
        assert rows.keys() == good | bad
        assert {name for name, row in rows.items() if row["error"]} == bad
        assert {name: len(row["faces"]) for name, row in rows.items() if name in good} == {
            "pixel.png": 0,
            "cmyk.jpg": 1,
            "deep.png": 1,
            "moving.gif": 1,
            "turned.jpg": 1,
        }
        boxes = [rows[name]["faces"][0]["box"] for name in ("cmyk.jpg", "deep.png", "moving.gif", "turned.jpg")]
        assert min(iou(boxes[0], box) for box in boxes) > 0.8
    elif output == ["--csv"]:
        rows = list(csv.DictReader(io.StringIO(out), strict=True))
        assert {Path(row["file"]).name for row in rows if row["error"]} == bad
    else:
        assert {line.split()[0] for line in out.splitlines() if "not read" in line} == {str(tmp_path / n) for n in bad}
