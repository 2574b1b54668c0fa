"""The command, as a person or a script meets it."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageCms, ImageFilter

import ssrnet_hub
from ssrnet_hub.batch.records import from_cell
from ssrnet_hub.cli import main
from ssrnet_hub.images.alignment import AUTHORS_FRAMING
from ssrnet_hub.inference.visualization import draw_faces
from ssrnet_hub.models.pretrained import ZOO, new_model

from ..demo_server import free_port
from ..pictures import encode, iou, turned, write_nasty


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
    titles = ["file", "face", "age", *["9", "of", "10", "times"], "score", "box", "(x1", "y1", "x2", "y2)"]
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
    assert code == 0 and " ?  " in out and "to be trusted" in err
    code, out, err = run("predict", folder / "a.png")
    assert code == 0 and "?" not in out and "trusted" not in err


def test_no_column_of_intervals_without_a_calibration(run, folder, tmp_path):
    model = ssrnet_hub.from_pretrained()
    model.ssrnet_hub_extras.pop("calibration")
    ssrnet_hub.save_pretrained(model, tmp_path / "plain")
    code, out, _ = run("predict", folder / "a.png", "--weights", tmp_path / "plain")
    assert code == 0 and "9 of 10" not in out


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


FORMULAS = ["=1+1.png", "+1.png", "-1.png", "@a.png", "\ta.png", "\ra.png", "\n=a.png", "a;=1.png", 'a;"=1".png']
FORMULAS += ["'=1.png", "''-1.png", "'quoted'.png", "'\t.png"]
"""Names that a spreadsheet takes for a formula, and such as look like those written so that it does not."""


@pytest.fixture
def formulas(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FORMULAS:
        photo.save(name)
    Path("=broken.png").write_text("no picture")


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


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_that_would_be_formulas_in_a_job(run, formulas, suffix):
    output = Path(f"out{suffix}")
    assert run("predict", ".", "--output", output, "--workers", "1")[0] == 1
    if suffix == ".csv":
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        assert not {cell[:1] for row in rows for cell in (row["file"], row["error"])} & set("=+-@\t\r\n")
        assert sorted(from_cell(row["file"]) for row in rows) == sorted([*FORMULAS, "=broken.png"])
    elif suffix == ".jsonl":
        names = [json.loads(line)["file"] for line in output.read_text().splitlines()]
        assert sorted(names) == sorted([*FORMULAS, "=broken.png"])
    else:
        names = pyarrow.parquet.read_table(output).column("file").to_pylist()
        assert sorted(names) == sorted([*FORMULAS, "=broken.png"])
    # a job that goes on knows them all
    before = output.read_bytes()
    code, _, err = run("predict", ".", "--output", output, "--workers", "1", "--resume")
    assert code == 1 and f"{len(FORMULAS) + 1} photos, 1 of them" in err
    if suffix != ".parquet":
        assert output.read_bytes() == before


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


def test_annotate_and_explain(run, tmp_path, photo):
    two = Image.new("RGB", (2 * photo.width, photo.height))
    for number in range(2):
        two.paste(photo, (number * photo.width, 0))
    two.save(tmp_path / "two.png")
    code, _, err = run("predict", tmp_path / "two.png", "--annotate", tmp_path / "out", "--explain")
    assert code == 0, err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["two.png", "two.png.face1.png", "two.png.face2.png"]
    breakdown = Image.open(tmp_path / "out" / names[1])
    assert breakdown.width > 900 and len(breakdown.convert("RGB").getcolors(1 << 24)) > 100


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


def test_annotated_copies_do_not_replace_another_photo(run, folder, photo):
    """Of two photos of one name, the second one's copy is numbered, and there is a photo of that name."""
    (folder / "out").mkdir()
    photo.save(folder / "out" / "a-2.png")
    before = (folder / "out" / "a-2.png").read_bytes()
    paths = [folder / "a.png", folder / "deeper" / "still" / "a.png", folder / "out" / "a-2.png"]
    code, out, err = run("predict", *paths, "--annotate", folder / "out")
    assert (code, out, err.startswith("error: The copies would replace the photos")) == (1, "", True)
    assert (folder / "out" / "a-2.png").read_bytes() == before and len(list((folder / "out").iterdir())) == 1


@pytest.mark.parametrize("link", [False, True])
def test_annotated_copies_replace_nothing(run, folder, link):
    (folder / "out").mkdir()
    if link:
        (folder / "out" / "none.png").symlink_to(folder / "nowhere.png")
    else:
        (folder / "out" / "none.png").write_bytes(b"mine")
    code, out, err = run("predict", folder / "a.png", folder / "none.png", "--annotate", folder / "out")
    assert (code, out) == (1, "") and f"{folder / 'out' / 'none.png'} is there already" in err
    assert (folder / "out" / "none.png").is_symlink() is link
    assert [path.name for path in (folder / "out").iterdir()] == ["none.png"]
    assert link or (folder / "out" / "none.png").read_bytes() == b"mine"


def test_pictures_of_breakdowns_replace_nothing(run, folder):
    (folder / "out").mkdir()
    (folder / "out" / "a.png.face1.png").write_bytes(b"mine")
    code, out, err = run("predict", folder / "a.png", "--annotate", folder / "out", "--explain")
    assert code == 1 and "a.png" in out and "a.png.face1.png is there already" in err
    assert (folder / "out" / "a.png.face1.png").read_bytes() == b"mine" and (folder / "out" / "a.png").exists()


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
        assert draw_faces(photo, [dataclasses.replace(face, box=box)]).size == photo.size


@pytest.mark.parametrize("box", [(60.0, -60.0, 140.0, 150.0), (-1e3, -1e3, 2e3, 2e3), (-1e9, -1e9, 1e9, 1e9)], ids=str)
def test_annotate_at_a_box_over_the_edge(photo, face, box):
    marked = {}
    for age in (11.0, 88.0):
        marked[age] = np.asarray(draw_faces(photo, [dataclasses.replace(face, box=box, age=age)])).astype(int)
        assert marked[age].shape == np.asarray(photo).shape
    # the age can be read
    assert np.abs(marked[11.0] - marked[88.0]).max() > 200


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
    assert "40,531" in line and "default" in line and "in this package" in line
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(ssrnet_hub.list_models())


@pytest.mark.parametrize("owner", [None, "someone"])
def test_models_of_the_zoo(run, monkeypatch, owner):
    monkeypatch.delenv("SSRNET_HUB_OWNER", raising=False)
    if owner:
        monkeypatch.setenv("SSRNET_HUB_OWNER", owner)
    code, out, _ = run("models")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert set(lines) == set(ZOO)
    for name, line in lines.items():
        assert ZOO[name].license in line
        assert (" gender" in line) is name.startswith("ssrnet_gender")
        if not ZOO[name].embedded:
            assert (f"someone/{name}" if owner else "SSRNET_HUB_OWNER") in line
        assert line == line.rstrip()
    assert out.count("default") == 1
    assert out.count("in this package") == sum(weights.embedded for weights in ZOO.values())


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


# boxes


def write_boxes(path: Path, *rows: tuple) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "x1", "y1", "x2", "y2"), *rows])
    return path


BOX = (60, 40, 145, 155)
"""Around the face of the photo."""


def told(out: str) -> dict[str, dict]:
    return {Path(row["file"]).name: row for row in json.loads(out)}


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
    assert "no row of this photo" in rows["b.PNG"]["error"] and str(boxes) in rows["b.PNG"]["error"]
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
    assert (code, out, err) == (1, "", f"error: {boxes} names no photos.\n")


def test_neither_photos_nor_boxes(capsys):
    for arguments in (["predict", "--json"], ["predict", "--gender", "ssrnet_gender.imdb"]):
        with pytest.raises(SystemExit) as e:
            main(arguments)
        assert e.value.code == 2
        assert "usage" in (err := capsys.readouterr().err) and "boxes" in err


# gender


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
    return ssrnet_hub.save_pretrained(model, folder, **extras)


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
    for arguments in (["--weights", gender], ["--gender", "ssrnet.utkface"], ["--gender", folder / "nothing"]):
        code, out, err = run("predict", folder / "a.png", *arguments)
        assert (code, out) == (1, "")
        assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_demo_without_gradio(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ssrnet_hub.webapp", None)
    code, out, err = run("demo")
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and "ssrnet_hub[demo]" in err


@pytest.mark.parametrize(
    ("variable", "value"), [("SWEEP", "0"), ("MAX_PIXELS", "many"), ("QUEUE", "-1"), ("KEPT_WEIGHTS", "")]
)
def test_limits_of_the_demo_that_are_none(run, monkeypatch, variable, value):
    monkeypatch.setenv(f"SSRNET_HUB_DEMO_{variable}", value)
    code, _, err = run("demo")
    assert code == 1 and f"SSRNET_HUB_DEMO_{variable}" in err and "above 0" in err


# many photos


def test_output_is_what_csv_prints(run, folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "ages.csv"
    code, out, err = run("predict", folder, "--output", output, "--workers", "1")
    assert (code, out) == (0, "") and f"{output}: 4 photos" in err
    _, printed, _ = run("predict", folder, "--csv")
    rows, expected = (list(csv.DictReader(io.StringIO(text))) for text in (output.read_text(), printed))
    assert [(row["file"], row["face"], row["reliable"]) for row in rows] == [
        (row["file"], row["face"], row["reliable"]) for row in expected
    ]
    for row, other in zip(rows, expected, strict=True):
        assert float(row["age"] or 0) == pytest.approx(float(other["age"] or 0), abs=0.02)

    code, out, err = run("predict", folder, "--output", output)
    assert code == 1 and "is there already" in err and "--resume" in err
    before = output.read_text()
    code, out, err = run("predict", folder, "--output", output, "--resume")
    assert code == 0 and "4 photos" in err and output.read_text() == before


def test_output_with_photos_that_cannot_be_read(run, tmp_path, photo):
    (tmp_path / "photos").mkdir()
    _, bad = write_nasty(tmp_path / "photos", photo)
    missing = tmp_path / "none.jpg"
    output = tmp_path / "ages.jsonl"
    code, _, err = run("predict", tmp_path / "photos", missing, "--output", output, "--workers", "1", "--explain")
    assert code == 1
    assert err.count("error: ") == len(bad) + 1 and f"{len(bad) + 1} of them not read" in err
    found = {Path(one["file"]).name: one for one in map(json.loads, output.read_text().splitlines())}
    assert {name for name, one in found.items() if one["error"]} == {*bad, "none.jpg"}
    assert all("stage 1 says" in face["explanation"] for one in found.values() for face in one["faces"])
    # what failed then is not tried again, and is not forgotten
    code, _, err = run("predict", tmp_path / "photos", missing, "--output", output, "--resume", "--explain")
    assert code == 1 and f"{len(bad) + 1} of them not read" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "a.csv", "--csv"],
        ["--output", "a.csv", "--annotate", "copies"],
        ["--output", "a.parquet", "--engine", "ray", "--resume"],
        ["--output", "a.parquet", "--engine", "ray", "--boxes", "boxes.csv"],
        ["--resume"],
        ["--workers", "2"],
        ["--engine", "ray"],
        ["--output", "a.csv", "--address", "auto"],
        ["--output", "a.csv", "--workers", "0"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(run, arguments):
    with pytest.raises(SystemExit) as e:
        run("predict", "photo.jpg", *arguments)
    assert e.value.code == 2


def test_output_of_another_kind(run, folder):
    code, _, err = run("predict", folder, "--output", folder / "ages.txt")
    assert code == 1 and ".csv, .jsonl, .parquet" in err


def test_ray_that_is_not_installed(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("predict", folder, "--output", folder / "out.parquet", "--engine", "ray")
    assert code == 1 and "ssrnet_hub[ray]" in err


def test_parquet_without_pyarrow(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = run("predict", folder, "--output", folder / "out.parquet")
    assert code == 1 and "ssrnet_hub[parquet]" in err


def test_interrupting_a_job(run, folder, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssrnet_hub.cli.predict_files", interrupt)
    code, _, err = run("predict", folder, "--output", folder / "ages.csv")
    assert code == 130 and "--resume" in err


# the demo where it cannot be served


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = shell("demo", "--port", port)
    assert ran.returncode == 1
    said = f"error: The web page cannot be served on 127.0.0.1, port {port}: Address already in use. "
    assert ran.stderr == f"{said}Name another by --port.\n"


def test_a_host_that_is_not_this_machine():
    ran = shell("demo", "--host", "192.0.2.1", "--port", str(free_port()))
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert re.search(r"error: The web page cannot be served on 192\.0\.2\.1, port \d+: .* --host\.", ran.stderr)


@pytest.mark.parametrize("port", ["0", "-1", "65536", "http"])
def test_a_port_that_is_none(capsys, port):
    with pytest.raises(SystemExit) as end:
        main(["demo", f"--port={port}"])
    assert end.value.code == 2 and "--port" in capsys.readouterr().err


# the colors of annotated copies


def profile(space: bytes) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"RGB ", space, 1)


def test_annotated_copies_keep_their_color_profile(run, tmp_path, photo):
    rgb = profile(b"RGB ")
    for name, format in {"a.jpg": "JPEG", "b.png": "PNG", "c.webp": "WEBP", "d.tif": "TIFF"}.items():
        (tmp_path / name).write_bytes(encode(photo, format, icc_profile=rgb))
    for name, format, mode in (("e.png", "PNG", "RGBA"), ("f.png", "PNG", "P")):
        (tmp_path / name).write_bytes(encode(photo.convert(mode), format, icc_profile=rgb))
    (tmp_path / "turned.jpg").write_bytes(turned(photo, 6, "JPEG", icc_profile=rgb))
    # what the copy is not in
    (tmp_path / "cmyk.jpg").write_bytes(encode(photo.convert("CMYK"), "JPEG", icc_profile=profile(b"CMYK")))
    (tmp_path / "gray.jpg").write_bytes(encode(photo.convert("L"), "JPEG", icc_profile=profile(b"GRAY")))
    (tmp_path / "none.jpg").write_bytes(encode(photo, "JPEG"))
    (tmp_path / "odd.jpg").write_bytes(encode(photo, "JPEG", icc_profile=b"odd"))
    assert run("predict", tmp_path, "--annotate", tmp_path / "out")[0] == 0
    found = {}
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as copy:
            found[path.stem] = copy.info.get("icc_profile")
            assert copy.mode == "RGB" and not copy.getexif()
    kept = dict.fromkeys("abcdef", rgb) | {"turned": rgb}
    assert found == {**kept, "cmyk": None, "gray": None, "none": None, "odd": None}
