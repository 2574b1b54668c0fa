"""Annotated copies, and pictures of breakdowns beside them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ssrnet_hub.inference.visualization import draw_faces

from ..pictures import encode, turned


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
    assert (code, out) == (1, "") and f"{folder / 'out' / 'none.png'} already exists" in err
    assert (folder / "out" / "none.png").is_symlink() is link
    assert [path.name for path in (folder / "out").iterdir()] == ["none.png"]
    assert link or (folder / "out" / "none.png").read_bytes() == b"mine"


def test_pictures_of_breakdowns_replace_nothing(run, folder):
    (folder / "out").mkdir()
    (folder / "out" / "a.png.face1.png").write_bytes(b"mine")
    code, out, err = run("predict", folder / "a.png", "--annotate", folder / "out", "--explain")
    assert code == 1 and "a.png" in out and "a.png.face1.png already exists" in err
    assert (folder / "out" / "a.png.face1.png").read_bytes() == b"mine" and (folder / "out" / "a.png").exists()


def test_annotated_copies_that_replace_others(run, folder):
    out = folder / "out"
    out.mkdir()
    for name in ("a.png", "a.png.face1.png"):
        (out / name).write_bytes(b"old")
    (folder / "elsewhere.png").write_bytes(b"mine")
    (out / "none.png").symlink_to(folder / "elsewhere.png")
    code, _, err = run("predict", folder / "a.png", folder / "none.png", "--annotate", out, "--explain", "--overwrite")
    assert code == 0 and "error" not in err
    for name in ("a.png", "a.png.face1.png", "none.png"):
        Image.open(out / name).load()
    # the link was replaced, not what it led to
    assert (folder / "elsewhere.png").read_bytes() == b"mine" and not (out / "none.png").is_symlink()


@pytest.mark.parametrize("other", [[], ["a.png.face1.png"]])
def test_photos_are_never_overwritten(run, folder, photo, other):
    photo.save(folder / "a.png.face1.png")
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    names = [folder / name for name in ("deeper/still/a.png", *(other or ["a.png"]))]
    code, out, err = run("predict", *names, "--annotate", folder, "--overwrite", "--explain")
    assert (code, out) == (1, "") and "would replace the photos" in err
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before


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
