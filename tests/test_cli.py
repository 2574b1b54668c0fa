"""The command, as a person or a script meets it."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ssrnet_hub
from ssrnet_hub.cli import main
from ssrnet_hub.plots import annotate

from .pictures import encode, iou, write_nasty


@pytest.fixture(scope="module")
def photo(astronaut):
    """One face and little else, to be quick; not a square."""
    return astronaut.crop((120, 20, 320, 250))


@pytest.fixture(scope="module")
def face(estimator, photo):
    (face,) = estimator(photo)
    return face


@pytest.fixture
def folder(tmp_path, photo):
    """Two photos with a face, one without, one in a subfolder, and what is no picture."""
    photo.save(tmp_path / "a.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.PNG")
    Image.new("RGB", (40, 30)).save(tmp_path / "none.png")
    (tmp_path / "deeper" / "still").mkdir(parents=True)
    photo.save(tmp_path / "deeper" / "still" / "a.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "clip.mp4").write_bytes(b"not a picture")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run the command in this process; answers its exit code, stdout and stderr."""

    def run(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def shell(*arguments, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ssrnet_hub.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, **{"encoding": "utf-8", **kwargs})


def test_table(run, folder, face):
    code, out, err = run("predict", folder / "a.png", folder / "none.png")
    assert (code, err.count("error")) == (0, 0)
    header, first, second = out.splitlines()
    assert header.split() == ["file", "face", "age", "score", "box", "(x1", "y1", "x2", "y2)"]
    box = [f"{v:.0f}" for v in face.box]
    assert first.split() == [str(folder / "a.png"), "1", f"{face.age:.1f}", f"{face.score:.2f}", *box]
    assert second.split() == [str(folder / "none.png"), "no", "face", "found"]
    assert len({header.index("box"), first.index(" ".join(box)), second.index("no face")}) == 1


def test_json(run, folder, face):
    paths = [folder / "none.png", folder / "a.png", folder / "missing.jpg"]
    code, out, err = run("predict", "--json", *paths)
    assert code == 1
    rows = json.loads(out)
    assert [set(row) for row in rows] == [{"file", "faces", "error"}] * 3
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
    assert with_face["in_range"] == "True"
    assert [float(with_face[k]) for k in ("x1", "y1", "x2", "y2")] == pytest.approx(face.box, abs=0.1)
    assert float(with_face["score"]) == pytest.approx(face.score, abs=1e-3)
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


def test_annotate(run, folder, photo, face):
    goal = folder / "out" / "deep"
    code, _, _ = run("predict", folder / "a.png", folder / "none.png", folder / "deeper", "--annotate", goal)
    assert code == 0
    # two photos of one name
    assert {path.name for path in goal.iterdir()} == {"a.png", "a-2.png", "none.png"}
    before = np.asarray(photo).astype(int)
    for name in ("a.png", "a-2.png"):
        with Image.open(goal / name) as image:
            assert image.format == "PNG"
            marked = np.asarray(image.convert("RGB"))
        assert marked.shape == before.shape
        rows, columns = np.nonzero(np.abs(marked - before).max(2))
        x1, y1, x2, y2 = face.box
        assert columns.min() == pytest.approx(x1, abs=4) and columns.max() == pytest.approx(x2, abs=4)
        assert rows.max() == pytest.approx(y2, abs=4) and rows.min() <= y1 + 4
        # the face itself can still be seen
        middle = (slice(int(y1) + 40, int(y2) - 10), slice(int(x1) + 10, int(x2) - 10))
        assert (marked[middle] == before[middle]).all()
    with Image.open(goal / "none.png") as image:
        assert image.convert("RGB").getextrema() == ((0, 0),) * 3
    # the photos themselves are as they were
    with Image.open(folder / "a.png") as image:
        assert (np.asarray(image) == before).all()


def test_annotated_copies_keep_their_format_or_become_png(run, tmp_path, photo):
    source, goal = tmp_path / "in", tmp_path / "out"
    (source / "b").mkdir(parents=True)
    formats = {"a.jpg": "JPEG", "b/A.JPG": "JPEG", "b.JPEG": "JPEG", "c.gif": "GIF", "d.webp": "WEBP", "e.tif": "TIFF"}
    for name, format in formats.items():
        (source / name).write_bytes(encode(photo, format))
    code, _, _ = run("predict", source, "--annotate", goal)
    assert code == 0
    written = {}
    for path in goal.iterdir():
        with Image.open(path) as image:
            written[path.name.lower()] = image.format
            assert image.size == photo.size
    # names that differ in case alone would overwrite each other on some disks
    assert written == {
        "a.jpg": "JPEG",
        "a-2.jpg": "JPEG",
        "b.jpeg": "JPEG",
        "c.png": "PNG",
        "d.webp": "WEBP",
        "e.png": "PNG",
    }


def test_annotate_what_the_format_cannot_hold(run, tmp_path):
    # wider than WebP can be
    (tmp_path / "wide.webp").write_bytes(encode(Image.new("L", (16400, 10)), "PNG"))
    (tmp_path / "small.png").write_bytes(encode(Image.new("L", (10, 10)), "PNG"))
    code, out, err = run("predict", "--json", tmp_path, "--annotate", tmp_path / "out")
    rows = {Path(row["file"]).name: row["error"] for row in json.loads(out)}
    assert rows["small.png"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"small.png"}
    # the photo is good all the same
    assert rows["wide.webp"] is None
    assert (code == 0) is (tmp_path / "out" / "wide.webp").exists()
    assert ("wide.webp cannot be written" in err) is (code == 1)


@pytest.mark.parametrize("goal", [".", "deeper/.."])
def test_annotated_copies_do_not_replace_the_photos(run, folder, monkeypatch, goal):
    monkeypatch.chdir(folder)
    before = (folder / "a.png").read_bytes()
    code, _, err = run("predict", folder / "a.png", "--annotate", goal)
    assert (folder / "a.png").read_bytes() == before
    assert (code, err.startswith("error: The copies would replace the photos")) == (1, True)


def test_annotated_copies_can_be_read_by_others(run, folder):
    run("predict", folder / "a.png", "--annotate", folder / "out")
    mode = (folder / "out" / "a.png").stat().st_mode
    assert mode & 0o777 == (folder / "a.png").stat().st_mode & 0o777


def test_annotate_where_it_cannot(run, folder):
    code, out, err = run("predict", folder / "a.png", "--annotate", folder / "notes.txt")
    assert code == 1
    assert "a.png" in out and "notes.txt" in err
    assert (folder / "notes.txt").read_text() == "not a picture"


def test_annotate_at_a_sliver_of_a_box(photo, face):
    for box in ((5.0, 5.0, 6.0, 60.0), (199.2, 100.0, 200.0, 160.0), (10.0, 0.0, 60.0, 0.5)):
        assert annotate(photo, [dataclasses.replace(face, box=box)]).size == photo.size


def files(out: str) -> list[str]:
    return [row["file"] for row in json.loads(out)]


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


def test_unknown_weights(run, folder):
    code, out, err = run("predict", folder / "a.png", "--weights", "ssrnet.utkfacee")
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and "ssrnet.utkface" in err
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


def test_no_command(run):
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "predict" in err and "models" in err


@pytest.mark.parametrize("arguments", [["predict"], ["nonsense"], ["predict", "a.png", "--json", "--csv"], ["--what"]])
def test_wrong_calls(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        main(arguments)
    assert e.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_models(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.startswith("ssrnet.utkface"))
    assert "40,531" in line and "default" in line and "embedded" in line
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(ssrnet_hub.list_models())


def test_version(capsys):
    with pytest.raises(SystemExit) as e:
        main(["--version"])
    assert e.value.code == 0
    assert capsys.readouterr().out.strip() == ssrnet_hub.__version__


def test_help_from_a_shell():
    run = shell("--help")
    assert run.returncode == 0
    assert "predict" in run.stdout and "models" in run.stdout
    assert run.stderr == ""


def test_from_a_shell(folder, face):
    (folder / "text.jpg").write_text("text")
    run = shell("predict", "--json", folder)
    assert run.returncode == 1
    rows = {Path(row["file"]).name: row for row in json.loads(run.stdout)}
    assert rows["a.png"]["faces"][0]["age"] == pytest.approx(face.age, abs=1e-3)
    assert "Traceback" not in run.stderr and "Warning" not in run.stderr
    assert "text.jpg" in run.stderr


@pytest.mark.parametrize("output", [[], ["--csv"], ["--json"]])
def test_a_name_that_is_not_unicode(run, tmp_path, photo, output):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(encode(photo, "PNG"))
    except OSError:
        pytest.skip("this file system takes none")
    code, out, err = run("predict", *output, tmp_path)
    assert (code, err) == (0, "")
    assert "caf" in out


def test_output_that_is_caught_by_python(folder, face):
    # as in a notebook, where stdout is no file
    caught = io.StringIO()
    with contextlib.redirect_stdout(caught), contextlib.redirect_stderr(io.StringIO()):
        assert main(["predict", "--json", str(folder / "a.png")]) == 0
    assert json.loads(caught.getvalue())[0]["faces"][0]["age"] == pytest.approx(face.age, abs=1e-3)


def test_photos_of_the_reference_data(run, shared):
    code, out, err = run("predict", shared / "data" / "photos", "--json")
    rows = json.loads(out)
    assert code == 0, err
    assert len(rows) == 10
    assert all(row["faces"] and row["error"] is None for row in rows)
