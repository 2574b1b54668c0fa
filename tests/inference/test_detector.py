"""The detector on faces, on none, and on pictures of awkward shapes."""

import copy
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from ssrnet_hub.errors import MissingPackageError
from ssrnet_hub.images.alignment import iou, turn_points
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.detector import Detection, MTCNNDetector

ASTRONAUT = (181.0, 62.0, 268.0, 172.0)
"""The box of the astronaut's face."""


@pytest.fixture(scope="module")
def detector():
    return MTCNNDetector()


@pytest.fixture(scope="module")
def found(detector, astronaut):
    return detector(astronaut)


@pytest.fixture(scope="module")
def group(astronaut):
    """A photo with three faces of two sizes, 500x400."""
    head = astronaut.crop((130, 10, 330, 250))
    image = Image.new("RGB", (500, 400), "grey")
    for x, y, width in ((10, 60, 180), (200, 20, 180), (390, 200, 100)):
        image.paste(head.resize((width, width * 6 // 5)), (x, y))
    return image


@pytest.fixture(scope="module")
def crowd(astronaut):
    """225 faces, 15 by 15."""
    face = astronaut.crop((140, 20, 310, 230)).resize((32, 40))
    image = Image.new("RGB", (15 * face.width, 15 * face.height))
    for x, y in itertools.product(range(15), range(15)):
        image.paste(face, (x * face.width, y * face.height))
    return image


@pytest.fixture(scope="module")
def crowd_found(detector, crowd):
    return detector(crowd)


@pytest.fixture(scope="module")
def cut_off(astronaut):
    """A third of the face is beyond the left edge."""
    return astronaut.crop((205, 0, 465, 300))


def area(detection: Detection) -> float:
    x1, y1, x2, y2 = detection.box
    return (x2 - x1) * (y2 - y1)


def check(detections: list[Detection], image: Image.Image) -> None:
    """What holds for every answer."""
    assert isinstance(detections, list)
    for detection in detections:
        x1, y1, x2, y2 = detection.box
        assert 0 <= x1 < x2 <= image.width
        assert 0 <= y1 < y2 <= image.height
        assert len(detection.landmarks) == 5
        assert all(len(point) == 2 for point in detection.landmarks)
        numbers = [*detection.box, *itertools.chain(*detection.landmarks), detection.score]
        assert all(type(number) is float for number in numbers)
        assert np.isfinite(numbers).all()
        assert 0 <= detection.score <= 1


def test_one_face_where_it_is(found, astronaut):
    check(found, astronaut)
    (face,) = found
    assert iou(face.box, ASTRONAUT) > 0.9
    assert face.score > 0.99


def test_landmarks_as_the_viewer_sees_them(found, crowd_found):
    for face in (*found, *crowd_found):
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        x1, y1, x2, y2 = face.box
        assert x1 < left_eye[0] < nose[0] < right_eye[0] < x2
        assert left_mouth[0] < right_mouth[0]
        assert y1 < max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1]) < y2


def test_landmarks_are_on_the_face(found):
    # read off the photo
    for seen, expected in zip(
        found[0].landmarks, [(205, 102), (247, 104), (225, 129), (202, 139), (245, 142)], strict=True
    ):
        assert seen == pytest.approx(expected, abs=6)


def test_a_mirrored_photo_has_mirrored_landmarks(detector, astronaut, found):
    (mirrored,) = detector(astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    expected = [(512 - found[0].landmarks[i][0], found[0].landmarks[i][1]) for i in (1, 0, 2, 4, 3)]
    for seen, point in zip(mirrored.landmarks, expected, strict=True):
        assert seen == pytest.approx(point, abs=6)


def test_no_face(detector):
    assert detector(Image.new("RGB", (200, 200), "white")) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (19, 19), (19, 300), (20, 20), (21, 21)])
def test_smallest_pictures(detector, size):
    rng = np.random.default_rng(0)
    for pixels in (np.zeros, rng.random):
        image = Image.fromarray((pixels((size[1], size[0], 3)) * 255).astype(np.uint8))
        check(detector(image), image)


def test_pictures_of_any_shape_and_content(detector, astronaut):
    rng = np.random.default_rng(0)
    contents = {
        "black": lambda h, w: np.zeros((h, w, 3)),
        "white": lambda h, w: np.full((h, w, 3), 255),
        "noise": lambda h, w: rng.integers(0, 256, (h, w, 3)),
        "coarse noise": lambda h, w: np.kron(rng.integers(0, 256, (h // 8 + 1, w // 8 + 1, 1)), np.ones((8, 8, 3)))[
            :h, :w
        ],
        "black and white": lambda h, w: rng.integers(0, 2, (h, w, 1)).repeat(3, 2) * 255,
        "squeezed face": lambda h, w: np.asarray(astronaut.resize((w, h), box=(150, 30, 300, 210))),
    }
    shapes = [(25, 2000), (2000, 25), (20, 700), (400, 21), (60, 60), (90, 37)]
    for (width, height), (content, draw) in itertools.product(shapes, contents.items()):
        image = Image.fromarray(draw(height, width).astype(np.uint8))
        try:
            check(detector(image), image)
        except Exception as e:
            raise AssertionError(f"{width}x{height}, {content}") from e


def test_a_face_that_the_edge_cuts(detector, cut_off):
    (face,) = detector(cut_off)
    check([face], cut_off)
    assert face.box[0] == 0
    # landmarks may lie outside
    assert face.landmarks[0][0] < face.landmarks[1][0]
    assert iou(face.box, (0, 62, 63, 172)) > 0.5


def test_a_face_that_all_edges_cut(detector, astronaut, found):
    x1, y1, x2, y2 = found[0].box
    dx, dy = 0.08 * (x2 - x1), 0.08 * (y2 - y1)
    box = tuple(map(round, (x1 + dx, y1 + dy, x2 - dx, y2 - dy)))
    close = astronaut.crop(box)
    [face] = detector(close)
    assert (np.array(face.box) >= 0).all() and (np.array(face.box[2:]) <= close.size).all()
    landmarks = np.array(face.landmarks) + box[:2]
    assert np.abs(landmarks - found[0].landmarks).max() < 0.1 * (x2 - x1)


@pytest.mark.parametrize(
    ("name", "lost"),
    [("astronaut", 4), ("couple", 1), ("img1", 0), ("img11_reflection", 2), ("img12", 2), ("kate_siegel_1", 2)],
)
def test_faces_that_an_edge_cuts(detector, astronaut, shared, name, lost):
    photo = astronaut if name == "astronaut" else load_photo(shared / "data" / "photos" / f"{name}.jpg")
    x1, _, x2, _ = detector(photo)[0].box
    # a face 89 pixels wide
    scale = 89 / (x2 - x1)
    if name != "astronaut":
        photo = photo.resize([round(scale * side) for side in photo.size], Image.Resampling.BICUBIC, None, 2.0)
    whole = detector(photo)[0]
    x1, y1, x2, y2 = whole.box
    width, height = x2 - x1, y2 - y1
    # in steps of 5 pixels, up to two fifths of its height and three fifths of its width are missing
    cuts = [
        *((0, y1 + share * height, *photo.size) for share in np.arange(-1, 45, 5) / 114),
        *((0, 0, photo.width, y1 + share * height) for share in np.arange(69, 120, 5) / 114),
        *((x1 + share * width, 0, *photo.size) for share in np.arange(0, 56, 5) / 89),
        *((0, 0, x1 + share * width, photo.height) for share in np.arange(30, 86, 5) / 89),
    ]
    missed = 0
    for cut in (tuple(map(round, cut)) for cut in cuts):
        landmarks = np.array(whole.landmarks) - cut[:2]
        off = [np.linalg.norm(np.array(face.landmarks) - landmarks, axis=1).max() for face in detector(photo.crop(cut))]
        missed += not off
        assert min(off, default=0) < 8, cut
    assert missed <= lost


def test_largest_first(detector, astronaut):
    image = Image.new("RGB", (900, 400))
    for x, size in ((0, 200), (200, 400), (600, 300)):
        image.paste(astronaut.resize((size, size)), (x, 0))
    faces = detector(image)
    assert len(faces) == 3
    assert [face.box[0] // 200 for face in faces] == [1, 3, 0]
    assert [area(face) for face in faces] == sorted(map(area, faces), reverse=True)


def test_largest_first_by_the_boxes_that_are_told(detector, astronaut, cut_off):
    # as a whole the cut face would be the larger one
    image = Image.new("RGB", (900, 400))
    image.paste(cut_off, (0, 0))
    image.paste(astronaut.resize((460, 460)), (420, 0))
    faces = detector(image)
    assert len(faces) == 2
    assert area(faces[0]) > area(faces[1])


def test_minimal_score(detector, cut_off):
    (face,) = detector(cut_off)
    lower, higher = face.score - 1e-3, face.score + 1e-5
    assert len(MTCNNDetector(min_score=lower)(cut_off)) == 1
    assert MTCNNDetector(min_score=higher)(cut_off) == []


def test_minimal_face(astronaut):
    small = astronaut.resize((200, 200))
    assert len(MTCNNDetector(min_face=20)(small)) == 1
    assert MTCNNDetector(min_face=150)(small) == []
    # no larger than the smallest face
    assert MTCNNDetector(min_face=150)(small.crop((0, 0, 140, 140))) == []


def test_many_faces(crowd, crowd_found):
    check(crowd_found, crowd)
    assert len(crowd_found) >= 200
    # each in a cell of its own
    cells = {(x1 + x2) // 64 * 1000 + (y1 + y2) // 80 for x1, y1, x2, y2 in (face.box for face in crowd_found)}
    assert len(cells) == len(crowd_found)


@pytest.mark.parametrize("size", [(1536, 1536), (1536, 1024)])
def test_a_large_picture_is_searched_reduced(astronaut, found, size):
    image = astronaut.resize(size)
    (face,) = MTCNNDetector(max_side=512)(image)
    check([face], image)
    scale = np.array(size) / 512
    assert iou(face.box, tuple(np.array(found[0].box) * [*scale, *scale])) > (0.85 if size[0] == size[1] else 0.7)
    for seen, expected in zip(face.landmarks, found[0].landmarks, strict=True):
        assert np.abs(np.array(seen) / scale - expected).max() < 6
    # the face is lost in a picture so far reduced
    assert MTCNNDetector(max_side=40)(image) == []


def test_reducing_a_thin_picture_leaves_something(detector):
    for size in ((1, 5000), (5000, 1), (30, 5000)):
        assert MTCNNDetector(max_side=64)(Image.new("RGB", size)) == []


def test_the_picture_is_not_changed(detector, astronaut):
    before = astronaut.tobytes()
    detector(astronaut)
    assert astronaut.tobytes() == before


def test_the_same_again(detector, astronaut, found):
    assert detector(astronaut) == found


# faces that are turned


def turn(detection: Detection, turned: int, size: tuple[int, int]) -> Detection:
    """A face of a photo of this size after the photo was turned."""
    ends = turn_points(np.array(detection.box).reshape(2, 2), turned, size)
    landmarks = turn_points(np.array(detection.landmarks), turned, size)
    return Detection((*ends.min(0), *ends.max(0)), tuple(map(tuple, landmarks)), detection.score, turned)


@pytest.mark.parametrize("size", [(512, 512), (400, 512), (512, 360)])
@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_a_turned_photo(detector, astronaut, size, turned):
    photo = astronaut.crop((0, 0, *size))
    (upright,) = detector(photo)
    expected = turn(upright, turned, size)
    image = photo.rotate(turned, expand=True)
    (face,) = detector(image)
    check([face], image)
    assert face.turned == turned
    assert iou(face.box, expected.box) > 0.95
    assert distance(face, expected.landmarks) < 3
    assert face.score > 0.99


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_turned_photo_with_several_faces(detector, group, turned):
    upright = detector(group)
    assert [face.turned for face in upright] == [0] * 3
    faces = detector(group.rotate(turned, expand=True))
    assert [face.turned for face in faces] == [turned] * 3
    for face, expected in zip(faces, upright, strict=True):
        assert iou(face.box, turn(expected, turned, group.size).box) > 0.9


def test_a_turned_face_beside_an_upright_one(detector, astronaut):
    image = Image.new("RGB", (760, 512), "grey")
    # the search finds this one as well, wrongly as an upright one
    image.paste(astronaut.rotate(270), (0, 0))
    image.paste(astronaut.crop((130, 10, 330, 250)), (540, 120))
    faces = detector(image)
    assert {face.box[0] > 512: face.turned for face in faces} == {True: 0, False: 270}
    assert len(faces) == 2


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_a_turned_face_whose_box_is_known(detector, astronaut, found, turned):
    image = astronaut.rotate(turned)
    expected = turn(found[0], turned, astronaut.size)
    boxes = [expected.box, off(expected.box, 0.2, 0.1), (10.0, 10.0, 90.0, 90.0)]
    face, loose, nothing = detector.locate(image, boxes)
    for one, box in ((face, boxes[0]), (loose, boxes[1])):
        assert one.box == pytest.approx(box)
        assert one.turned == turned
        assert distance(one, expected.landmarks) < 4
    assert (nothing.landmarks, nothing.turned) == (None, 0)


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_detector_for_upright_faces_alone(astronaut, found, turned):
    detector = MTCNNDetector(upright_only=True)
    (face,) = detector(astronaut)
    assert distance(face, found[0].landmarks) < 0.01
    assert all(face.turned == 0 for face in detector(astronaut.rotate(turned)))
    (face,) = detector.locate(astronaut.rotate(turned), [turn(found[0], turned, astronaut.size).box])
    assert face.turned == 0


@pytest.mark.parametrize(
    "name", ["brick", "chelsea", "clock_motion", "coffee", "coins", "grass", "horse", "moon", "page", "rocket", "text"]
)
def test_no_face_in_any_turn(detector, name):
    assert detector(load_photo(next(Path(skimage.data.__file__).parent.glob(f"{name}.*")))) == []


def test_no_face_of_ordinary_photos_is_turned(detector, shared):
    photos = [
        *sorted((shared / "data" / "photos").glob("*.jpg")),
        *sorted((shared / "data" / "fgnet" / "images").iterdir())[::10],
    ]
    faces = [face for path in photos for face in detector(load_photo(path))]
    assert len(faces) > 70
    assert {face.turned for face in faces} == {0}


# landmarks in boxes that are known


def off(box, larger: float = 0.0, right: float = 0.0, down: float = 0.0) -> tuple[float, ...]:
    """A box changed by shares of its size."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    return (
        x1 + (right - larger / 2) * width,
        y1 + (down - larger / 2) * height,
        x2 + (right + larger / 2) * width,
        y2 + (down + larger / 2) * height,
    )


def distance(detection: Detection, landmarks) -> float:
    return np.abs(np.array(detection.landmarks) - landmarks).max()


@pytest.mark.parametrize("right, down", [(0, 0), (0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)])
@pytest.mark.parametrize("larger", [0, 0.2])
def test_landmarks_in_a_box_that_is_off(detector, astronaut, found, larger, right, down):
    box = off(found[0].box, larger, right, down)
    (face,) = detector.locate(astronaut, [box])
    assert face.box == box
    assert face.score > 0.99
    assert distance(face, found[0].landmarks) < 3


def test_no_landmarks_on_the_background(detector, astronaut):
    boxes = [(10.0, 10.0, 90.0, 90.0), (300.0, 10.0, 380.0, 90.0), (350.0, 350.0, 351.0, 351.0)]
    for face, box in zip(detector.locate(astronaut, boxes), boxes, strict=True):
        assert face.box == box
        assert face.landmarks is None
        assert type(face.score) is float and 0 <= face.score < 0.3


def test_minimal_score_of_landmarks(detector, astronaut, found):
    boxes = [found[0].box, (10.0, 10.0, 90.0, 90.0)]
    face, background = detector.locate(astronaut, boxes)
    generous, strict = MTCNNDetector(min_located=0.0), MTCNNDetector(min_located=face.score + 1e-6)
    assert generous.locate(astronaut, boxes)[0] == face
    assert len(generous.locate(astronaut, boxes)[1].landmarks) == 5
    assert strict.locate(astronaut, boxes) == [Detection(face.box, None, face.score), background]


def test_boxes_keep_their_order_and_number(detector, crowd, crowd_found):
    some = crowd_found[5:60:7]
    located = detector.locate(crowd, [face.box for face in some])
    assert [face.box for face in located] == [face.box for face in some]
    check(located, crowd)
    for face, expected in zip(located, some, strict=True):
        assert distance(face, expected.landmarks) < 3
    again = detector.locate(crowd, [face.box for face in some[::-1]] + [some[0].box] * 2)
    for face, expected in zip(again, [*located[::-1], located[0], located[0]], strict=True):
        assert face.box == expected.box
        assert distance(face, expected.landmarks) < 0.01
        assert face.score == pytest.approx(expected.score, abs=1e-5)


def test_no_boxes_no_landmarks(detector, astronaut):
    assert detector.locate(astronaut, []) == []
    assert detector.locate(astronaut, np.zeros((0, 4))) == []


def test_boxes_of_any_numbers(detector, astronaut):
    boxes = [[181, 62, 268, 172]]
    expected = detector.locate(astronaut, [(181.0, 62.0, 268.0, 172.0)])
    check(expected, astronaut)
    array = np.array(boxes)
    assert detector.locate(astronaut, boxes) == detector.locate(astronaut, array) == expected
    assert (array == boxes).all()


def test_a_box_over_the_edge(detector, found, cut_off):
    box = tuple(np.array(found[0].box) - (205, 0, 205, 0))
    (face,) = detector.locate(cut_off, [box])
    assert face.box == pytest.approx(box) and face.box[0] < 0
    assert distance(face, np.array(found[0].landmarks) - (205, 0)) < 6


@pytest.mark.parametrize(
    "box",
    [
        (-50.0, -50.0, 20.0, 20.0),
        (500.0, 500.0, 600.0, 580.0),
        (-700.0, -700.0, 1200.0, 1200.0),
        (100.0, 100.0, 100.001, 100.001),
        (100.0, 10.0, 100.001, 500.0),
        (-1e4, -1e4, 1e4, 1e4),
        (-1e9, 0.0, 1e9, 1.0),
    ],
    ids=str,
)
def test_boxes_of_awkward_shapes(detector, astronaut, box):
    (face,) = detector.locate(astronaut, [box])
    assert (face.box, face.landmarks) == (box, None)
    assert face.score < 0.5


def test_a_box_around_the_whole_of_a_long_picture(detector):
    image = Image.new("RGB", (20000, 500))
    (face,) = detector.locate(image, [(0.0, 0.0, 20000.0, 500.0)])
    assert face.landmarks is None


def test_a_box_in_a_large_picture(detector, astronaut, found):
    small = MTCNNDetector(max_side=64)
    image = astronaut.resize((2048, 2048))
    (face,) = small.locate(image, [tuple(4 * v for v in found[0].box)])
    assert distance(face, 4 * np.array(found[0].landmarks)) < 12


def test_locating_changes_nothing(detector, astronaut, found):
    before = astronaut.tobytes()
    boxes = [found[0].box]
    first = detector.locate(astronaut, boxes)
    assert detector.locate(astronaut, boxes) == first
    assert boxes == [found[0].box] and astronaut.tobytes() == before


def test_every_sure_face_of_the_stock_detector_is_found(detector, shared):
    from facenet_pytorch import MTCNN

    stock = MTCNN(keep_all=True)
    photos = sorted((shared / "data" / "photos").glob("*.jpg"))
    assert photos
    missed, compared = [], 0
    for path in photos:
        photo = load_photo(path)
        ours = detector(photo)
        check(ours, photo)
        seen = photo.copy()
        seen.thumbnail((2048, 2048))
        scale = photo.width / seen.width
        boxes, scores = stock.detect(seen)
        for box, score in zip([] if boxes is None else boxes, scores, strict=True):
            side = max(box[2] - box[0], box[3] - box[1])
            if score <= 0.95 or side < max(20, max(seen.size) / 50):
                continue
            compared += 1
            box = tuple((box * scale).clip(0, [*photo.size, *photo.size]))
            if not any(iou(box, face.box) >= 0.5 for face in ours):
                missed.append((path.name, box))
    assert not missed
    assert compared >= len(photos)


# without PyTorch


def test_faces_are_found_without_pytorch(shared):
    code = (
        "import sys; from PIL import Image; from ssrnet_hub.inference.detector import MTCNNDetector\n"
        "photo = Image.open(sys.argv[1]).convert('RGB'); detector = MTCNNDetector()\n"
        "assert len(detector(photo)) and len(detector.locate(photo, [detector(photo)[0].box]))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    photo = shared / "data" / "photos" / "img20.jpg"
    run = subprocess.run([sys.executable, "-c", code, photo], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"torch", "torchvision", "timm", "facenet_pytorch", "onnx"}


def test_pytorch_that_is_asked_for_and_missing(monkeypatch):
    for name in ("facenet_pytorch", "facenet_pytorch.models"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ssrnet_hub.inference.cascade_torch", raising=False)
    with pytest.raises(MissingPackageError, match="facenet_pytorch"):
        MTCNNDetector(runtime="torch")
    assert MTCNNDetector(runtime="onnx").runtime == "onnx"


def test_copies_and_pickles_find_the_same(detector, astronaut, found):
    for other in (copy.copy(detector), copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert other(astronaut) == found
    # the networks are no part of it
    assert len(pickle.dumps(detector)) < 2000


def test_several_threads_at_a_time(detector, astronaut, found):
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detector, [astronaut] * 16)) == [found] * 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_finds_the_same(detector, astronaut, found):
    detector(astronaut)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        (face,) = pool.apply_async(detector, (astronaut,)).get(timeout=60)
    assert face.box == pytest.approx(found[0].box, abs=1e-3)
