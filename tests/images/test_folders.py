"""The photos in folders and zips of real people: HEIC, links in circles, what systems leave there, and raw photos."""

import json
import os
import subprocess
import sys
import time

import pytest
from PIL import Image

from ssrnet_hub.cli import main
from ssrnet_hub.errors import PhotoError
from ssrnet_hub.images.loading import load_photo

from ..pictures import encode, write_zip

INSTALL = "pip install 'ssrnet_hub[heif]'"
RAW = b"II*\0\x10\0\0\0CR\2\0" + bytes(100)


@pytest.fixture(scope="module")
def photo(astronaut):
    """One face and little else, to be quick."""
    return astronaut.crop((120, 20, 320, 250))


@pytest.fixture(scope="module")
def contents(photo):
    """The photo in several formats."""
    options = {"JPEG": {"quality": 95}, "HEIF": {"quality": 95}, "AVIF": {"quality": 95}}
    return {format: encode(photo, format, **options.get(format, {})) for format in ("PNG", "JPEG", "AVIF", "HEIF")}


@pytest.fixture(scope="module")
def face(estimator, photo):
    (face,) = estimator(photo)
    return face


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which the command is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


@pytest.fixture
def predict(capsys):
    """Run the command in this process; answers its exit code, the photos that it printed as JSON, and stderr."""

    def predict(*arguments) -> tuple[int, dict[str, dict], str]:
        code = main(["predict", "--json", *map(str, arguments)])
        out = capsys.readouterr()
        rows = json.loads(out.out or "[]")
        files = {row["file"]: row for row in rows}
        assert len(files) == len(rows)
        return code, files, out.err

    return predict


@pytest.fixture
def find(predict):
    """The names of the photos that the command finds; one pixel each is quickly looked at."""

    def find(*arguments) -> list[str]:
        _, rows, _ = predict(*arguments)
        return list(rows)

    return find


PIXEL = encode(Image.new("RGB", (1, 1)), "PNG")


def write(folder, *names, content=PIXEL):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def assert_face(row, face):
    assert row["error"] is None
    (told,) = row["faces"]
    assert told["age"] == pytest.approx(face.age, abs=1.5)


# HEIC


def test_heic(folder, predict, contents, face):
    write(folder, "a.jpg", content=contents["JPEG"])
    write(folder, "IMG_1.HEIC", "IMG_2.HEIC", "c.heif", content=contents["HEIF"])
    write(folder, "d.avif", content=contents["AVIF"])
    code, rows, err = predict("photos")
    assert code == 0 and "error" not in err
    assert list(rows) == [f"photos/{name}" for name in ("IMG_1.HEIC", "IMG_2.HEIC", "a.jpg", "c.heif", "d.avif")]
    for row in rows.values():
        assert_face(row, face)


def test_heic_of_the_astronaut(folder, predict, astronaut, estimator):
    write(folder, "a.HEIC", content=encode(astronaut, "HEIF", quality=95))
    code, rows, _ = predict("photos")
    (face,) = rows["photos/a.HEIC"]["faces"]
    assert code == 0 and face["age"] == pytest.approx(estimator(astronaut)[0].age, abs=1.5)
    assert face["box"] == pytest.approx([180, 61, 269, 175], abs=5)


def test_heic_without_the_extra(folder, predict, contents, face, without_heif):
    write(folder, "a.jpg", content=contents["JPEG"])
    write(folder, "IMG_1.HEIC", "IMG_2.HEIC", content=contents["HEIF"])
    code, rows, err = predict("photos")
    assert code == 1 and list(rows) == ["photos/a.jpg"]
    assert_face(rows["photos/a.jpg"], face)
    said = f"error: 2 pictures left out, of formats that cannot be read: 2 .heic ({INSTALL})"
    assert err.strip().splitlines() == [said]
    # one that is named is an error of its own
    code, rows, err = predict("photos/IMG_1.HEIC", "photos/*.jpg")
    assert code == 1 and len(rows) == 2 and rows["photos/IMG_1.HEIC"]["error"] in err
    assert INSTALL in rows["photos/IMG_1.HEIC"]["error"]


@pytest.mark.parametrize("name", ["a.HEIC", "a.heif", "a.CR2", "a.jxl"])
def test_a_jpeg_by_the_name_of_another_format(folder, predict, contents, face, name, request):
    write(folder, name, content=contents["JPEG"])
    album = write_zip(folder.parent / "album.zip", {name: contents["JPEG"]})
    for _ in range(2):
        for where in ("photos", f"photos/{name}", album):
            code, rows, err = predict(where)
            assert (code, err, len(rows)) == (0, "", 1)
            assert_face(*rows.values(), face)
        request.getfixturevalue("without_heif")


def test_an_opener_that_somebody_registered_counts(contents, monkeypatch):
    """Another package may have it, such as pi_heif."""
    assert load_photo(contents["HEIF"]).size == (200, 230)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert load_photo(contents["HEIF"]).size == (200, 230)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(PhotoError, match=r"is HEIC, which needs the extra heif: pip install 'ssrnet_hub\[heif\]'"):
        load_photo(contents["HEIF"])


def test_only_who_reads_heic_imports_what_reads_it(folder, contents):
    write(folder, "a.jpg", content=contents["JPEG"])
    write(folder, "a.heic", content=contents["HEIF"])
    code = """if True:
        import sys
        from ssrnet_hub.cli import main
        assert main(["predict", "photos/a.jpg"]) == 0 and "pillow_heif" not in sys.modules
        from PIL import Image
        assert "HEIF" not in Image.OPEN
        assert main(["predict", "photos/a.heic"]) == 0 and "pillow_heif" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_heic_in_a_job(folder, contents, face):
    write(folder, "a.HEIC", "b.HEIC", content=contents["HEIF"])
    assert main(["predict", "photos", "--output", "ages.jsonl", "--workers", "2"]) == 0
    rows = list(map(json.loads, (folder.parent / "ages.jsonl").read_text().splitlines()))
    assert [row["file"] for row in rows] == ["photos/a.HEIC", "photos/b.HEIC"]
    for row in rows:
        assert_face(row, face)


# pictures that cannot be read

LEFT_OUT = ["1.CR2", "2.cr2", "deeper/3.cr2", "4.psd", "deeper/5.svg"]
SAID = "error: 5 pictures left out, of formats that cannot be read: 3 .cr2, 1 .psd, 1 .svg"


def test_pictures_that_cannot_be_read(folder, predict):
    write(folder, "a.png")
    write(folder, *LEFT_OUT, "notes.txt", content=RAW)
    code, rows, err = predict("photos", folder)
    assert (code, list(rows)) == (1, ["photos/a.png"])
    assert [line for line in err.splitlines() if "error" in line] == [SAID]


def test_pictures_in_a_zip_that_cannot_be_read(folder, predict):
    album = {"a.png": PIXEL, **dict.fromkeys([*LEFT_OUT, "notes.txt"], RAW)}
    write_zip(folder / "album.zip", album)
    code, rows, err = predict("photos/album.zip", "photos/*.zip")
    assert (code, list(rows)) == (1, ["photos/album.zip/a.png"])
    assert [line for line in err.splitlines() if "error" in line] == [SAID]


@pytest.mark.parametrize("where", ["photos", "album.zip"])
def test_nothing_that_can_be_read(folder, predict, where):
    write(folder, "a.nef", content=RAW)
    write_zip(folder.parent / "album.zip", {"a.nef": RAW})
    code, rows, err = predict(where)
    assert code == 1 and "can be read" in rows[where]["error"]
    assert err.splitlines()[-1] == "error: 1 picture left out, of formats that cannot be read: 1 .nef"


def test_pictures_that_cannot_be_read_in_a_job(folder, capsys):
    write(folder, "a.png")
    write(folder, *LEFT_OUT, content=RAW)
    for options in ([], ["--resume"], ["--resume"]):
        assert main(["predict", "photos", "--output", "ages.csv", "--workers", "1", *options]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == SAID
        assert len((folder.parent / "ages.csv").read_text().splitlines()) == 2


def test_other_files_are_no_pictures(folder, predict):
    write(folder, "a.png")
    write(
        folder, "notes.txt", "film.mov", "song.mp3", "a.xmp", "a.json", "Thumbs.db", ".DS_Store", "picture", content=RAW
    )
    code, rows, err = predict("photos")
    assert (code, list(rows), err) == (0, ["photos/a.png"], "")


# what systems leave there

OF_SYSTEM = [
    "._a.png",
    "deeper/._b.png",
    ".thumbnails/a.png",
    "@eaDir/a.png",
    "deeper/@eaDir/x/a.png",
    "__MACOSX/a.png",
]
OF_SYSTEM += ["__MACOSX/deeper/._a.png", "._c.cr2"]
NOT_OF_SYSTEM = [".a.png", ".hidden/a.png", "_.png", "a.png", "deeper/thumbnails/a.png", "eaDir/a.png"]


def test_what_systems_leave_is_passed_over(folder, predict):
    write(folder, *OF_SYSTEM, *NOT_OF_SYSTEM)
    write_zip(folder.parent / "album.zip", {name: (folder / name).read_bytes() for name in OF_SYSTEM + NOT_OF_SYSTEM})
    for where in ("photos", "album.zip"):
        code, rows, err = predict(where)
        assert (code, list(rows)) == (0, sorted(f"{where}/{name}" for name in NOT_OF_SYSTEM))
        assert "error" not in err


def test_what_systems_leave_matches_no_glob(folder, find):
    write(folder, *OF_SYSTEM, *NOT_OF_SYSTEM)
    seen = ["_.png", "a.png", "deeper/thumbnails/a.png", "eaDir/a.png"]
    assert find("photos/**/*.png") == [f"photos/{name}" for name in seen]
    assert find("photos/*/a.png") == ["photos/eaDir/a.png"]


def test_what_is_named_is_looked_at(folder, find):
    write(folder, *OF_SYSTEM, "@eaDir/deeper/b.png")
    assert find("photos/@eaDir") == ["photos/@eaDir/a.png", "photos/@eaDir/deeper/b.png"]
    assert find("photos/@eaDir/*.png") == ["photos/@eaDir/a.png"]
    assert find("photos/._a.png") == ["photos/._a.png"]


# links

FOUR = ["photos/1.png", "photos/2.png", "photos/deeper/3.png", "photos/deeper/still/4.png"]


@pytest.fixture
def four(folder):
    write(folder.parent, *FOUR)
    return folder


@pytest.mark.parametrize("pattern", ["photos", "photos/**/*.png", "**/*.png", "./**", "photos/**/**/[0-9].png"])
def test_links_in_circles(four, find, pattern):
    """Ten links make 2,047 ways to a folder of depth ten, and Python's own glob takes each of them."""
    for number in range(10):
        (four / f"loop{number}").symlink_to(".")
        (four / "deeper" / f"loop{number}").symlink_to("..")
    (four / "deeper" / "self").symlink_to("self")
    (four / "deeper" / "whole").symlink_to(four, target_is_directory=True)
    start = time.monotonic()
    assert find(pattern) == FOUR
    assert time.monotonic() - start < 30


def test_four_photos(folder, predict, contents):
    write(folder.parent, *FOUR, content=contents["PNG"])
    (folder / "loop").symlink_to(".")
    for pattern in ("photos/**/*.png", "photos", "photos/loop"):
        code, rows, _ = predict(pattern)
        assert code == 0 and len(rows) == 4 and all(len(row["faces"]) == 1 for row in rows.values())


def test_linked_folders(folder, find):
    write(folder.parent, "elsewhere/a.png", "elsewhere/deeper/b.png", "album/c.png", "photos/d.png")
    (folder / "link").symlink_to("../elsewhere")
    (folder.parent / "elsewhere" / "on").symlink_to("../album")
    linked = ["photos/d.png", "photos/link/a.png", "photos/link/deeper/b.png", "photos/link/on/c.png"]
    assert find("photos") == find("photos/**/*.png") == linked
    assert find("photos", "elsewhere", "album", "**/*.png") == linked


def test_photos_come_once_by_their_own_names(four, find):
    (four / "0.png").symlink_to("2.png")
    (four / "deeper" / "0.png").symlink_to(four / "1.png")
    (four / "again").symlink_to("deeper")
    (four.parent / "same").symlink_to("photos")
    assert find("photos") == find("photos/**/*.png") == find("photos", "same", "photos/../photos") == FOUR
    assert find("photos/0.png", "photos/2.png") == ["photos/0.png"]


def test_the_only_name_of_a_photo_may_be_that_of_a_link(folder, find):
    """As in the cache of the Hugging Face Hub, and of git-annex."""
    write(folder.parent, "photos/blobs/1234", "photos/.git/annex/5678.png")
    (folder / "a.png").symlink_to("blobs/1234")
    (folder / "b.png").symlink_to(".git/annex/5678.png")
    assert find("photos") == ["photos/a.png", "photos/b.png"]


def test_a_link_to_nowhere_is_a_photo_that_cannot_be_read(folder, predict):
    write(folder, "a.png")
    (folder / "lost.png").symlink_to("gone.png")
    (folder / "lost").symlink_to("gone")
    code, rows, err = predict("photos")
    assert code == 1 and list(rows) == ["photos/a.png", "photos/lost.png"]
    assert rows["photos/lost.png"]["error"] in err and "No such file" in err


def test_what_is_no_file_is_passed_over(folder, find):
    write(folder, "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("pipe.png")
    assert find("photos") == ["photos/a.png"]


def test_a_folder_that_cannot_be_read(four, predict, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, rows, err = predict("photos")
    assert code == 1 and list(rows) == [*FOUR[:2], "photos/deeper"]
    assert "error: photos/deeper: this folder cannot be read: Permission denied" in err


def test_a_job_goes_on_where_links_came_since(four):
    job = ["predict", "photos", "--output", "ages.jsonl", "--workers", "1"]
    assert main(job) == 0
    for name, target in (("0.png", "1.png"), ("0", "deeper"), ("loop", ".")):
        (four / name).symlink_to(target)
    write(four, "5.png")
    assert main([*job, "--resume"]) == 0
    rows = map(json.loads, (four.parent / "ages.jsonl").read_text().splitlines())
    assert [row["file"] for row in rows] == [*FOUR, "photos/5.png"]


def test_boxes_by_the_name_of_a_link(folder, predict, contents):
    write(folder, "a.png", content=contents["PNG"])
    (folder / "b.png").symlink_to("a.png")
    (folder / "faces.csv").write_text("file,x1,y1,x2,y2\nphotos/b.png,60,40,145,155\n")
    code, rows, _ = predict("photos", "--boxes", "photos/faces.csv")
    assert code == 0 and rows["photos/a.png"]["faces"][0]["box"] == [60, 40, 145, 155]


def test_all_of_it_together(folder, predict, contents, request):
    """A folder as people have them."""
    write(folder, "IMG_1.HEIC", "IMG_2.HEIC", content=contents["HEIF"])
    write(folder, "a.jpg", "renamed.HEIC", content=contents["JPEG"])
    write(folder, "._a.jpg", ".thumbnails/a.jpg", "@eaDir/a.jpg", content=b"no picture")
    write(folder, "broken.jpg", content=contents["JPEG"][:1000])
    write(folder, "b.cr2", content=RAW)
    write(folder.parent, "elsewhere/c.png", content=contents["PNG"])
    (folder / "link").symlink_to("../elsewhere")
    (folder / "loop").symlink_to(".")
    for heif in (["IMG_1.HEIC", "IMG_2.HEIC"], []):
        code, rows, err = predict("photos")
        expected = sorted(["a.jpg", "broken.jpg", "link/c.png", "renamed.HEIC", *heif])
        assert code == 1 and list(rows) == [f"photos/{name}" for name in expected]
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 2 and "broken.jpg" in errors[0] and "left out" in errors[1]
        assert errors[1].endswith("1 .cr2") and (f"2 .heic ({INSTALL})" in errors[1]) is not bool(heif)
        request.getfixturevalue("without_heif")
