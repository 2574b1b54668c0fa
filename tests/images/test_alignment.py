"""Where the pixels of a crop come from, measured on pictures whose pixels say where they are."""

import json
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ssrnet_hub.errors import ConfigError
from ssrnet_hub.images.alignment import Framing, iou

SIDE = 128
TEMPLATE = np.array(Framing().template)
NOWHERE = (0.0, 0.0, 1.0, 1.0)
"""A box, for framings that do not look at it."""


def gradient(width: int, height: int) -> Image.Image:
    """Red tells x and green tells y, as a share of the size."""
    x = np.broadcast_to((np.arange(width) + 0.5) / width, (height, width))
    y = np.broadcast_to(((np.arange(height) + 0.5) / height)[:, None], (height, width))
    return Image.fromarray((np.dstack([x, y, np.full_like(x, 0.5)]) * 255).round().astype(np.uint8))


def read_gradient(crop: Image.Image, width: int, height: int) -> np.ndarray:
    """Where in the gradient each pixel of a crop came from, as x + iy."""
    red, green, _ = np.moveaxis(np.asarray(crop, float) / 255, 2, 0)
    return red * width + 1j * green * height


def misplacement(framing: Framing, size: tuple[int, int], expected: np.ndarray, period: float, box, landmarks):
    """How far from ``expected`` (x + iy) each pixel of a crop comes from, as x + iy, up to whole periods.

    Red, green and blue are waves a third of a period apart, along x and then along y: where in the wave a pixel lies
    is seen to a fraction of a pixel, whatever rounding and resampling do to its brightness.
    """
    answers = []
    for axis in (1, 0):
        position = np.indices(size[::-1])[axis] + 0.5
        phases = 2 * np.pi * (position[:, :, None] / period + np.arange(3) / 3)
        image = Image.fromarray((127.5 + 120 * np.cos(phases)).round().astype(np.uint8))
        seen = np.asarray(framing.crop(image, box, landmarks), float) @ np.exp(-2j * np.pi * np.arange(3) / 3)
        turns = np.exp(-2j * np.pi * (expected.real if axis else expected.imag) / period)
        answers.append(np.angle(seen * turns) * period / (2 * np.pi))
    return answers[0] + 1j * answers[1]


def centres(side: int) -> np.ndarray:
    """The middle of each pixel of a crop, as x + iy."""
    v = np.arange(side) + 0.5
    return v[None, :] + 1j * v[:, None]


def similarity(scale: float, degrees: float, middle: complex) -> tuple[complex, complex]:
    """Turn and shift that bring the middle of a crop to ``middle``."""
    turn = scale * np.exp(1j * math.radians(degrees))
    return turn, middle - turn * SIDE * (0.5 + 0.5j)


def landmarks_at(turn: complex, shift: complex) -> tuple[tuple[float, float], ...]:
    points = turn * (TEMPLATE @ (1, 1j)) * SIDE + shift
    return tuple((float(p.real), float(p.imag)) for p in points)


@pytest.mark.parametrize(
    "framing",
    [
        Framing(),
        Framing(size=64, template=None, margin=0.4),
        Framing(size=16, template=tuple((i / 5, i / 7) for i in range(5))),
        Framing(size=512, template=None),
    ],
)
def test_round_trip_by_dict_and_json(framing):
    assert Framing.from_dict(framing.to_dict()) == framing
    assert Framing.from_dict(json.loads(json.dumps(framing.to_dict()))) == framing


def test_the_dict_has_no_more_than_it_says():
    assert set(Framing().to_dict()) == {"size", "template", "margin"}


POINTS = [[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": -128},
        {"size": 1},
        {"size": 10**9},
        {"size": NAN},
        {"size": INF},
        {"size": None},
        {"size": "large"},
        {"size": [128]},
        {"template": POINTS[:4]},
        {"template": [*POINTS, [0.5, 0.5]]},
        {"template": []},
        {"template": [[0.5, 0.5]] * 5},
        {"template": [*POINTS[:4], [NAN, 0.5]]},
        {"template": [*POINTS[:4], [0.5, INF]]},
        {"template": [*POINTS[:4], [0.5, -INF]]},
        {"template": [*POINTS[:4], [0.5, 1e9]]},
        {"template": [*POINTS[:4], [0.5, None]]},
        {"template": [*POINTS[:4], ["a", "b"]]},
        {"template": [*POINTS[:4], [0.5]]},
        {"template": [*POINTS[:4], [0.5, 0.5, 0.5]]},
        {"template": [*POINTS[:4], None]},
        {"template": [1, 2, 3, 4, 5]},
        {"template": "template"},
        {"template": 5},
        {"template": {"left": 1}},
        {"template": None, "margin": NAN},
        {"template": None, "margin": INF},
        {"template": None, "margin": 1000},
        {"template": None, "margin": None},
        {"template": None, "margin": "wide"},
        {"margin": NAN},
    ],
    ids=repr,
)
def test_nonsense_is_refused(change):
    with pytest.raises(ConfigError, match="framing"):
        Framing.from_dict({**Framing().to_dict(), **change})


@pytest.mark.parametrize("config", [None, 5, "framing", [], {}, {"size": 128}, {"size": 128, "template": None}])
def test_what_is_no_framing_is_refused(config):
    with pytest.raises(ConfigError, match="framing"):
        Framing.from_dict(config)


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigError, match="framing"):
        Framing.from_dict({**Framing().to_dict(), "rotation": 30})


@pytest.mark.parametrize(
    "change",
    [
        {"template": None, "margin": -1},
        {"template": None, "margin": -0.6},
        {"template": [[i * 1e-200, 0.0] for i in range(5)]},
        {"template": [[0.5, 0.5]] * 4 + [[0.5, 0.5 + 1e-16]]},
    ],
    ids=repr,
)
def test_a_framing_that_is_read_can_crop(change):
    config = {**Framing().to_dict(), **change}
    try:
        framing = Framing.from_dict(config)
    except ConfigError:
        return
    landmarks = landmarks_at(*similarity(0.5, 0, 50 + 50j))
    assert framing.crop(gradient(100, 100), (20.0, 20.0, 60.0, 60.0), landmarks).size == (SIDE, SIDE)


@pytest.mark.parametrize("degrees", [0, 20, 90, 180, -135])
@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 1.3, 2, 3.7, 8])
def test_aligning_brings_landmarks_to_the_template(scale, degrees):
    # large enough for the turned frame, and not a square, off the middle
    width, height = round(SIDE * 1.6 * scale), round(SIDE * 1.5 * scale)
    turn, shift = similarity(scale, degrees, width * 0.49 + height * 0.51j)
    expected = turn * centres(SIDE) + shift
    error = misplacement(Framing(), (width, height), expected, 16 * max(scale, 1), NOWHERE, landmarks_at(turn, shift))
    # in pixels of the crop where that is the coarser grid, else of the picture
    error /= max(scale, 1)
    assert np.abs(error).max() < 0.5
    assert abs(error.mean()) < 0.15


@pytest.mark.parametrize("shift", [0, 0.25 - 0.5j, -0.5 + 0.75j])
@pytest.mark.parametrize("scale, degrees", [(0.5, 0), (1, 25), (4, -70)])
def test_dots_drawn_at_the_landmarks_come_to_the_template(scale, degrees, shift):
    side = round(SIDE * 1.6 * scale)
    turn, offset = similarity(scale, degrees, side * (0.5 + 0.5j) + shift)
    landmarks = landmarks_at(turn, offset)
    x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    for (left, top), target in zip(landmarks, TEMPLATE * SIDE, strict=True):
        dot = np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * (2.5 * scale) ** 2))
        image = Image.fromarray(np.repeat((dot * 255).round().astype(np.uint8)[:, :, None], 3, 2))
        seen = np.asarray(Framing().crop(image, NOWHERE, landmarks), float)[:, :, 0]
        found = (centres(SIDE) * seen).sum() / seen.sum()
        assert found.real == pytest.approx(target[0], abs=0.5)
        assert found.imag == pytest.approx(target[1], abs=0.5)


def test_landmarks_that_do_not_fit_are_met_by_least_squares():
    turn, shift = similarity(1.5, 15, 160 + 160j)
    rng = np.random.default_rng(0)
    landmarks = np.array(landmarks_at(turn, shift)) + rng.normal(0, 6, (5, 2))
    # x = a u - b v + c, y = b u + a v + d
    u, v = (TEMPLATE * SIDE).T
    one, zero = np.ones(5), np.zeros(5)
    equations = np.concatenate([np.stack([u, -v, one, zero], 1), np.stack([v, u, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(equations, np.concatenate(landmarks.T), rcond=None)[0]
    expected = (a + 1j * b) * centres(SIDE) + c + 1j * d
    error = misplacement(Framing(), (320, 320), expected, 24, NOWHERE, tuple(map(tuple, landmarks.tolist())))
    assert np.abs(error).max() < 0.5
    assert abs(error.mean()) < 0.15


def test_a_face_is_never_mirrored():
    turn, shift = similarity(1, 0, 100 + 100j)
    mirrored = tuple((200 - x, y) for x, y in landmarks_at(turn, shift))
    crop = Framing().crop(gradient(200, 200), NOWHERE, mirrored)
    source = read_gradient(crop, 200, 200)[32:96, 32:96]
    right, down = source[:, -1] - source[:, 0], source[-1] - source[0]
    # a quarter turn clockwise leads from right to down
    assert (np.sign((right.mean().conj() * down.mean()).imag)) > 0


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_a_large_face_is_shrunk_without_aliasing(degrees):
    side = 20 * SIDE
    board = (np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(board[:, :, None], 3, 2))
    turn, shift = similarity(20, degrees, side * (0.5 + 0.5j))
    for crop in (
        Framing().crop(image, NOWHERE, landmarks_at(turn, shift)),
        Framing(template=None).crop(image, (0.0, 0.0, float(side), float(side)), None),
    ):
        middle = np.asarray(crop, float)[32:96, 32:96]
        assert middle.mean() == pytest.approx(127.5, abs=2)
        assert middle.std() < 2


def test_a_small_face_is_enlarged_smoothly():
    turn, shift = similarity(0.1, 0, 10 + 10j)
    crop = Framing().crop(gradient(20, 20), NOWHERE, landmarks_at(turn, shift))
    steps = np.diff(np.asarray(crop, float)[:, 32:96, 0], axis=1)
    assert steps.min() >= 0
    assert 0 < steps.max() <= 3


@pytest.mark.parametrize("scale", [0.5, 1, 6])
def test_beyond_the_edge_it_is_black(scale):
    side = round(100 * scale)
    image = Image.new("RGB", (side, side), "white")
    # a quarter of the frame lies left of the picture, a quarter below it
    turn, shift = similarity(scale, 0, 0)
    shift = -0.25 * SIDE * scale + 1j * (side - 0.75 * SIDE * scale)
    crop = np.asarray(Framing().crop(image, NOWHERE, landmarks_at(turn, shift)))
    assert (crop[:, :30] == 0).all()
    assert (crop[98:] == 0).all()
    assert (crop[:94, 34:] == 255).all()


def test_beyond_the_edge_of_a_turned_face_it_is_black():
    image = Image.new("RGB", (80, 80), "white")
    turn, shift = similarity(1, 45, 40 + 40j)
    crop = np.asarray(Framing().crop(image, NOWHERE, landmarks_at(turn, shift)))
    inside = turn * centres(SIDE) + shift
    depth = np.minimum(np.minimum(inside.real, 80 - inside.real), np.minimum(inside.imag, 80 - inside.imag))
    assert (crop[depth < -2] == 0).all()
    assert (crop[depth > 2] == 255).all()
    assert (depth < -2).any() and (depth > 2).any()


def test_nothing_but_black_where_the_frame_misses_the_picture():
    turn, shift = similarity(1, 0, -500 - 500j)
    crop = Framing().crop(Image.new("RGB", (50, 50), "white"), NOWHERE, landmarks_at(turn, shift))
    assert crop.size == (SIDE, SIDE)
    assert crop.getextrema() == ((0, 0),) * 3


def test_no_dark_rim_where_the_frame_is_within_the_picture():
    image = Image.new("RGB", (400, 400), "white")
    for scale, degrees in ((0.5, 0), (1, 33), (2, 45)):
        crop = Framing().crop(image, NOWHERE, landmarks_at(*similarity(scale, degrees, 200 + 200j)))
        assert crop.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("size", [16, 128, 300])
@pytest.mark.parametrize("margin", [0, 0.4])
@pytest.mark.parametrize("box", [(60.0, 80.0, 160.0, 140.0), (70.3, 60.6, 99.9, 170.2)])
def test_box_is_widened_and_stretched(size, margin, box):
    width, height = 255, 240
    framing = Framing(size=size, template=None, margin=margin)
    x1, y1, x2, y2 = box
    dx, dy = margin * (x2 - x1), margin * (y2 - y1)
    grid = centres(size) / size
    expected = x1 - dx + grid.real * (x2 - x1 + 2 * dx) + 1j * (y1 - dy + grid.imag * (y2 - y1 + 2 * dy))
    error = misplacement(framing, (width, height), expected, 64, box, None)
    # at the rim the resampling reads on one side only
    inner = error[size // 8 : -size // 8, size // 8 : -size // 8]
    assert np.abs(inner).max() < 0.5
    assert abs(inner.mean()) < 0.1


def test_box_is_cut_at_the_edge_and_not_filled():
    framing = Framing(size=64, template=None, margin=0.5)
    image = gradient(200, 100)
    for box in ((0.0, 0.0, 60.0, 60.0), (150.0, 50.0, 200.0, 100.0), (0.0, 0.0, 200.0, 100.0)):
        x1, y1, x2, y2 = box
        dx, dy = (x2 - x1) / 2, (y2 - y1) / 2
        cut = (max(x1 - dx, 0), max(y1 - dy, 0), min(x2 + dx, 200), min(y2 + dy, 100))
        source = read_gradient(framing.crop(image, box, None), 200, 100)
        grid = centres(64) / 64
        expected = cut[0] + grid.real * (cut[2] - cut[0]) + 1j * (cut[1] + grid.imag * (cut[3] - cut[1]))
        assert np.abs(source - expected).max() < 2


def test_box_framing_takes_no_landmarks_and_aligning_no_box():
    image = gradient(200, 200)
    landmarks = landmarks_at(*similarity(1, 10, 100 + 100j))
    boxed = Framing(template=None)
    box = (50.0, 50.0, 120.0, 120.0)
    assert boxed.crop(image, box, None).tobytes() == boxed.crop(image, box, landmarks).tobytes()
    aligned = Framing()
    assert aligned.crop(image, box, landmarks).tobytes() == aligned.crop(image, NOWHERE, landmarks).tobytes()


@pytest.mark.parametrize("box", [(300.0, 200.0, 480.0, 380.0), (330.5, 210.25, 430.5, 330.25)])
def test_without_landmarks_a_face_is_upright_and_as_large_as_its_box(box):
    x1, y1, x2, y2 = box
    side, middle = max(x2 - x1, y2 - y1), (x1 + x2) / 2 + 1j * (y1 + y2) / 2
    source = read_gradient(Framing().crop(gradient(800, 600), box, None), 800, 600)
    turn = (source[:, -16:] - source[:, :16]).mean() / (SIDE - 16)
    assert abs(turn) * SIDE == pytest.approx(side, rel=0.06)
    assert abs(math.degrees(np.angle(turn))) < 1.5
    # lower than the box, which has more of the forehead than of the chin
    assert abs(source.mean().real - middle.real) < 0.03 * side
    assert 0 < source.mean().imag - middle.imag < 0.1 * side


def test_without_landmarks_a_box_is_as_the_square_around_it():
    image = gradient(500, 500)
    square = Framing().crop(image, (100.0, 150.0, 300.0, 350.0), None)
    for box in ((160.0, 150.0, 240.0, 350.0), (100.0, 249.0, 300.0, 251.0)):
        assert Framing().crop(image, box, None).tobytes() == square.tobytes()


def test_without_landmarks_another_template_takes_the_same_face():
    image, box = gradient(500, 500), (150.0, 150.0, 300.0, 300.0)
    half = Framing(template=tuple((0.25 + x / 2, 0.25 + y / 2) for x, y in TEMPLATE.tolist()))
    near, far = (read_gradient(framing.crop(image, box, None), 500, 500) for framing in (Framing(), half))
    # the larger face fills the frame, the smaller one the middle
    difference = far[32:96, 32:96] - near.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.abs(difference).max() < 5


@pytest.mark.parametrize("box", [(-60.0, -80.0, 40.0, 20.0), (80.0, 70.0, 190.0, 200.0), (-1e9, -1e9, 1e9, 1e9)])
def test_without_landmarks_beyond_the_edge_it_is_black(box):
    crop = np.asarray(Framing().crop(Image.new("RGB", (100, 100), "white"), box, None))
    assert crop.shape == (SIDE, SIDE, 3)
    assert (crop == 0).mean() > 0.5


def test_the_picture_is_not_changed():
    image = Image.new("RGB", (300, 300), "grey")
    ImageDraw.Draw(image).ellipse((80, 60, 200, 260), "white")
    before = image.tobytes()
    Framing().crop(image, NOWHERE, landmarks_at(*similarity(2, 10, 150 + 150j)))
    Framing(template=None).crop(image, (10.0, 10.0, 290.0, 290.0), None)
    assert image.tobytes() == before


@pytest.mark.parametrize(
    "landmarks",
    [
        ((30.0, 30.0),) * 5,
        ((99.9, 99.9),) * 5,
        ((-5.0, -5.0),) * 5,
        tuple((10.0 * i, 10.0 * i) for i in range(5)),
        tuple((50.0, 10.0 * i) for i in range(5)),
        tuple((20.0 + 1e-9 * i, 20.0 - 1e-9 * i) for i in range(5)),
        tuple((1e7 * (i % 2), 1e7 * (i // 2)) for i in range(5)),
        tuple((-1e7 * (i % 2), 5e6 * (i // 2)) for i in range(5)),
        tuple((1e12 + i, 1e12 - i) for i in range(5)),
        tuple(reversed(landmarks_at(*similarity(0.5, 0, 50 + 50j)))),
    ],
)
def test_degenerate_landmarks_do_not_crash(landmarks):
    for size in ((100, 100), (1, 1), (1, 500)):
        assert Framing().crop(gradient(*size), NOWHERE, landmarks).size == (SIDE, SIDE)


@pytest.mark.parametrize("box", [(10.0, 10.0, 10.5, 90.0), (99.99, 0.0, 100.0, 0.01), (0.0, 0.0, 100.0, 0.5)])
def test_thin_boxes_do_not_crash(box):
    for margin in (0, 0.4, 2):
        assert Framing(template=None, margin=margin).crop(gradient(100, 100), box, None).size == (SIDE, SIDE)
    assert Framing().crop(gradient(100, 100), box, None).size == (SIDE, SIDE)


def test_iou():
    a = (0.0, 0.0, 2.0, 2.0)
    assert iou(a, a) == 1
    assert iou(a, (1.0, 1.0, 3.0, 3.0)) == pytest.approx(1 / 7)
    assert iou((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0)) == 0
    assert iou(a, (2.0, 2.0, 4.0, 4.0)) == iou(a, (5.0, 0.0, 6.0, 1.0)) == 0
