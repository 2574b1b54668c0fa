"""JavaScript against Python without a browser: the arithmetic, the faces, and the package's own tests."""

import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub.images.alignment import AUTHORS_FRAMING, Framing
from ssrnet_hub.images.loading import load_photo

from .conftest import SOURCE, need


@pytest.fixture(scope="module")
def cases(builder, tmp_path_factory, astronaut, estimator, shared):
    """What Python says of some pictures."""
    folder = tmp_path_factory.mktemp("cases")
    builder["write_model"](None, folder / "model")
    picture = astronaut.crop((100, 20, 401, 207))
    write(folder / "picture.rgba", picture)
    cases = {
        "picture": dict(zip(("width", "height"), picture.size, strict=True)),
        "size": estimator.framing.size,
        "arithmetic": list(arithmetic(folder, picture)),
        "crops": list(crops(folder, picture)),
        "photos": [],
    }
    two = Image.new("RGB", (800, 512), "white")
    two.paste(astronaut, (0, 0))
    two.paste(astronaut.resize((256, 256)), (530, 100))
    photos = {
        "two": two,
        "turned": astronaut.rotate(90),
        "cut off": astronaut.crop((190, 60, 512, 400)),
        "mostly hidden": astronaut.crop((225, 60, 512, 400)),
        "small": astronaut.resize((80, 80)),
        "none": Image.new("RGB", (200, 100), "gray"),
        "img12": load_photo(shared / "data" / "photos" / "img12.jpg"),
        "large": load_photo(shared / "data" / "photos" / "img20.jpg").resize((2060, 2060)),
    }
    for name, photo in photos.items():
        write(folder / f"{name}.rgba", photo)
        faces = [face.to_dict() for face in estimator(photo)]
        size = dict(zip(("width", "height"), photo.size, strict=True))
        cases["photos"].append({"file": f"{name}.rgba", **size, "faces": faces})
    assert [len(case["faces"]) for case in cases["photos"]] == [2, 1, 1, 1, 1, 0, 1, 1]
    (folder / "cases.json").write_text(json.dumps(cases))
    return folder


def write(path, picture):
    path.write_bytes(picture.convert("RGBA").tobytes())


def arithmetic(folder, picture):
    """Calls of `Picture`'s methods, each with a file of the bytes that Pillow answers."""
    width, height = picture.size
    boxes = [(0, 0, width, height), (3, 5, 250, 180), (0.25, 7.5, 200.75, 100.125)]
    calls = []
    for name in ("bilinear", "bicubic"):
        resample = Image.Resampling[name.upper()]
        for size in ((64, 64), (301, 90), (150, 187), (700, 500), (247, 175), (1, 1)):
            for box in boxes:
                calls.append(("resize", [size, name, box], picture.resize(size, resample, box)))
                gaps = [size, name, box, 1.5]
                calls.append(("resize", gaps, picture.resize(size, resample, box, reducing_gap=1.5)))
    factors = (2, 2), (3, 2), (7, 5), (1, 4)
    calls += [("reduce", [*factor, [0, 0, width, height]], picture.reduce(factor)) for factor in factors]
    calls += [("rotate", [degrees], picture.rotate(degrees, expand=True)) for degrees in (90, 180, 270)]
    calls += [("crop", [box], picture.crop(box)) for box in ((-5, -3, 20, 30), (290, 180, 310, 190))]
    for matrix in ((1, 0, 0, 0, 1, 0), (0.9, 0.3, -5.2, -0.3, 0.9, 40.1), (-1.7, 0.2, 250.3, 0.1, 1.2, -30.6)):
        turned = picture.transform((90, 70), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        calls.append(("transform", [[90, 70], matrix], turned))
    calls.append(("saturation", [], picture.convert("HSV").getchannel("S")))
    for number, (method, given, answer) in enumerate(calls):
        yield keep(folder, f"arithmetic-{number}", answer, method=method, arguments=given, channels=4)
    gray = picture.convert("L")
    for number, size in enumerate(((128, 128), (16, 16))):
        given = [size, "bicubic"]
        yield keep(folder, f"gray-{number}", gray.resize(size), method="resize", arguments=given, channels=1)


def crops(folder, picture):
    """Faces cut out of a picture, within it and beyond its edge."""
    points = np.array(Framing().template)
    places = [((60.0, 30, 160, 150), points * 90 + (70, 40), 0), ((-20.5, 60, 60, 200), points * 300 - (30, -10), 0)]
    for number, (box, landmarks, turned) in enumerate([*places, ((60.0, 30, 160, 150), None, 90)]):
        given = None if landmarks is None else landmarks.tolist()
        for framing in (Framing(), AUTHORS_FRAMING):
            yield keep(
                folder,
                f"crop-{number}-{framing.size}",
                framing.crop(picture, box, given, turned),
                framing=framing.to_dict(),
                box=box,
                landmarks=given,
                turned=turned,
                visible=framing.visible(picture.size, box, given, turned),
                side=framing.side(box, given, turned),
            )


def keep(folder, name, picture, **said):
    (folder / name).write_bytes(picture.tobytes())
    return {"file": name, **said}


def test_the_package_tests_itself_and_agrees_with_python(cases):
    done = subprocess.run(
        [need("npm"), "test", "--silent"],
        cwd=SOURCE,
        env={**os.environ, "SSRNET_HUB_CASES": str(cases)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped 0" in done.stdout
