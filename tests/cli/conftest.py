"""Photos and calls that the tests of the command share."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from ssrnet_hub.cli import main

from .helpers import FORMULAS


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


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chips")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", "split"])
        for age in range(1, 41):
            Image.new("RGB", (128, 128), (5 * age, 90, 40)).save(folder / f"{age}.png")
            writer.writerow([f"{age}.png", age, "train" if age <= 31 else "val"])
    return folder / "labels.csv"


@pytest.fixture
def run(capsys):
    """Run the command in this process; answers its exit code, stdout and stderr."""

    def run(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def formulas(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FORMULAS:
        photo.save(name)
    Path("=broken.png").write_text("no picture")
