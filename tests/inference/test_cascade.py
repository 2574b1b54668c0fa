"""The cascade against facenet-pytorch's, stage by stage where they differ, and its awkward inputs."""

import math

import numpy as np
import pytest
import torch
import torchvision
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils import detect_face
from PIL import Image
from torch.nn import functional as F

from ssrnet_hub import AgeEstimator
from ssrnet_hub.images.alignment import iou
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.cascade import _FACTOR, _FADE, _STOCK_FACE, _THRESHOLDS, Cascade, _Levels, cut, to_array
from ssrnet_hub.inference.cascade_onnx import OnnxNetworks, nms
from ssrnet_hub.inference.cascade_torch import TorchNetworks
from ssrnet_hub.inference.detector import MTCNNDetector

FACE = (181.0, 62.0, 268.0, 172.0)
"""The box of the astronaut's face."""


NETWORKS = {"onnx": OnnxNetworks, "torch": TorchNetworks}


@pytest.fixture(scope="module", params=NETWORKS)
def cascade(request):
    return Cascade(NETWORKS[request.param]())


@pytest.fixture(scope="module")
def stock():
    return MTCNN(keep_all=True)


@pytest.fixture
def stock_pixels(monkeypatch):
    """Pixels reach the networks as facenet-pytorch has it: averaged, from the full picture, one by one."""

    def resize(levels, corners, size):
        x1, y1, x2, y2 = corners
        pixels = torch.from_numpy(levels[1.0].copy()).permute(0, 3, 1, 2)
        return F.interpolate(pixels[:, :, y1:y2, x1:x2].float().contiguous(), size, mode="area")

    def scanned(levels):
        width, height = levels._size(1)
        for scale in levels._scanned:
            level = resize(levels, (0, 0, width, height), levels._size(scale)[::-1])
            yield scale, level.permute(0, 2, 3, 1).numpy()

    def cut(levels, pictures, boxes, side):
        assert not pictures.any()
        corners = zip(*detect_face.pad(torch.from_numpy(boxes), *levels._size(1)), strict=True)
        parts = [(x - 1, y - 1, end_x, end_y) for y, end_y, x, end_x in corners]
        crops = torch.cat([resize(levels, part, (side, side)) for part in parts])
        return ((crops - 127.5) * 0.0078125).numpy()

    monkeypatch.setattr(_Levels, "scanned", scanned)
    monkeypatch.setattr(_Levels, "within", lambda levels, boxes: boxes)
    monkeypatch.setattr(_Levels, "cut", cut)


# the networks are facenet-pytorch's


@pytest.mark.parametrize("margin", [0, 6])
@pytest.mark.parametrize("size", [(12, 12), (13, 20), (20, 13), (37, 51), (64, 48), (63, 333), (700, 401)])
def test_the_first_network_is_facenet_pytorchs(stock, size, margin):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    moves, scores = OnnxNetworks().propose(pixels, margin)
    level = F.pad((torch.from_numpy(pixels).permute(0, 3, 1, 2) - 127.5) / 128, (margin,) * 4)
    with torch.inference_mode():
        their_moves, their_scores = stock.pnet(level)
    np.testing.assert_allclose(moves, their_moves, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores, their_scores[:, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_other_networks_are_facenet_pytorchs(stock, astronaut, count):
    squares = np.random.default_rng(0).uniform(0, 300, (count, 2))
    parts = [astronaut.crop((x, y, x + 120, y + 120)) for x, y in [(170, 52), *squares.round()][:count]]
    for ask, net, side in (("refine", stock.rnet, 24), ("confirm", stock.onet, 48)):
        pixels = np.stack([to_array(part.resize((side, side))) for part in parts])
        crops = ((pixels.transpose(0, 3, 1, 2) - 127.5) / 128).astype(np.float32)
        with torch.inference_mode():
            *expected, probs = net(torch.from_numpy(crops))
        answers = getattr(OnnxNetworks(), ask)(crops)
        for answer, known in zip(answers, [*expected, probs[:, 1]], strict=True):
            np.testing.assert_allclose(answer, known, rtol=0, atol=1e-5)


def test_the_networks_of_pytorch_answer_in_float32_whatever_the_default(astronaut):
    pixels = to_array(astronaut)[None]
    expected = TorchNetworks().propose(pixels, 6)
    torch.set_default_dtype(torch.float64)
    try:
        answers = TorchNetworks().propose(pixels, 6)
    finally:
        torch.set_default_dtype(torch.float32)
    for answer, known in zip(answers, expected, strict=True):
        assert answer.dtype == np.float32
        np.testing.assert_array_equal(answer, known)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_suppression_is_torchvisions(threshold, count):
    rng = np.random.default_rng(count)
    starts = rng.uniform(-20, 80, (count, 2)).round()
    boxes = np.concatenate([starts, starts + rng.uniform(10, 40, (count, 2)).round()], 1).astype(np.float32)
    # of equals as well
    scores = rng.uniform(0, 1, count).round(1).astype(np.float32)
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    np.testing.assert_array_equal(nms(boxes, scores, threshold), expected)


def test_the_same_faces_in_onnx_runtime_and_in_pytorch(shared):
    paths = [shared / "data" / "photos" / f"{name}.jpg" for name in ("img1", "the_flash_cast", "img20")]
    for path in paths:
        photo = load_photo(path)
        found, expected = MTCNNDetector()(photo), MTCNNDetector(runtime="torch")(photo)
        assert len(found) == len(expected) >= 1
        for face, same in zip(found, expected, strict=True):
            np.testing.assert_allclose(face.box, same.box, rtol=0, atol=1e-3)
            np.testing.assert_allclose(face.landmarks, same.landmarks, rtol=0, atol=1e-3)


def search(cascade, picture, min_face):
    """What the cascade finds in one picture."""
    (found,) = cascade.search([picture], min_face)
    return found


def stock_scales(height, width, min_face=20):
    """The scales that facenet-pytorch looks at."""
    scale, scales = 12 / min_face, []
    while min(height, width) * scale >= 12:
        scales.append(scale)
        scale *= 0.709
    return scales


def scales_of(height, width, min_face):
    return [scale for scale, _ in _Levels([Image.new("RGB", (width, height))], min_face).scanned()]


def assert_none(found):
    boxes, scores, landmarks = found
    assert (boxes.shape, scores.shape, landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


def sorted_by_size(boxes, *others):
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")
    return [np.asarray(v)[order] for v in (boxes, *others)]


@pytest.fixture(scope="module")
def ramp():
    """A picture of 200x160 whose red says the column, whose green says the row."""
    rows, columns = np.mgrid[:160, :200].astype(np.uint8)
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 77)], -1))


def cut_boxes(picture, boxes, side):
    """The boxes that are not outside of a picture, and their crops."""
    levels = _Levels([picture], 20)
    boxes = levels.within(np.array(boxes, np.float32).reshape(-1, 4))
    return boxes, levels.cut(np.zeros(len(boxes), int), boxes, side)


# the rules are facenet-pytorch's


@pytest.mark.parametrize("size", [(512, 512), (400, 260), (150, 333)])
def test_the_rules_of_facenet_pytorch(stock_pixels, cascade, stock, astronaut, size):
    photo = astronaut.resize(size)
    expected = stock.detect(photo, landmarks=True)
    boxes, scores, landmarks = sorted_by_size(*search(cascade, photo, 20))
    for actual, theirs in zip((boxes, scores, landmarks), sorted_by_size(*expected), strict=True):
        assert len(actual)
        np.testing.assert_allclose(actual, theirs.astype(float), rtol=0, atol=2e-3)


def test_the_rules_of_facenet_pytorch_for_several_faces(stock_pixels, cascade, stock, astronaut):
    head = astronaut.crop((130, 10, 330, 250))
    photo = Image.new("RGB", (460, 260), "grey")
    for x, y, side in ((0, 0, 200), (190, 20, 150), (330, 60, 110), (215, 180, 66), (300, 190, 60)):
        photo.paste(head.resize((side, side * 6 // 5)), (x, y))
    expected = stock.detect(photo, landmarks=True)
    boxes, scores, landmarks = sorted_by_size(*search(cascade, photo, 20))
    assert len(boxes) >= 4
    for actual, theirs in zip((boxes, scores, landmarks), sorted_by_size(*expected), strict=True):
        np.testing.assert_allclose(actual, theirs.astype(float), rtol=0, atol=2e-3)


def test_the_numbers_of_facenet_pytorch(stock):
    assert (_STOCK_FACE, _FACTOR, list(_THRESHOLDS)) == (stock.min_face_size, stock.factor, stock.thresholds)


def test_a_face_within_another_is_left_out(ramp):
    boxes = np.array([[30, 30, 70, 70], [10, 10, 90, 90], [100, 20, 150, 70]], np.float32)
    sure = np.array([0.9, 0.95, 0.8], np.float32)

    class Networks(OnnxNetworks):
        def confirm(self, crops):
            return np.zeros((3, 4), np.float32), np.full((3, 10), 0.5, np.float32), sure

    ((found, scores, landmarks),) = Cascade(Networks())._confirm(_Levels([ramp], 20), [boxes])
    np.testing.assert_array_equal(found, boxes[1:])
    np.testing.assert_array_equal(scores, sure[1:])
    assert landmarks.shape == (2, 5, 2)


def test_the_same_face_with_our_pixels(cascade, stock, astronaut):
    boxes, scores, landmarks = search(cascade, astronaut, 20)
    sure = scores > 0.95
    their_boxes, their_scores, their_landmarks = stock.detect(astronaut, landmarks=True)
    theirs = their_scores > 0.95
    assert sure.sum() == theirs.sum() == 1
    assert iou(boxes[sure][0], their_boxes[theirs][0]) > 0.85
    assert iou(boxes[sure][0], FACE) > 0.85
    assert np.abs(landmarks[sure][0] - their_landmarks[theirs][0]).max() < 6


def test_search_answers_arrays_that_belong_together(cascade, astronaut):
    boxes, scores, landmarks = search(cascade, astronaut, 20)
    assert len(boxes) == len(scores) == len(landmarks) >= 1
    assert (boxes.shape[1:], scores.shape[1:], landmarks.shape[1:]) == ((4,), (), (5, 2))
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((scores > 0.7) & (scores <= 1)).all()


# scales


@pytest.mark.parametrize("size", [(512, 512), (100, 333), (700, 20), (21, 21), (29, 200), (2048, 1365)])
def test_scales_of_facenet_pytorch(size):
    stock, found = stock_scales(*size), scales_of(*size, 20)
    assert stock and found[: len(stock)] == pytest.approx(stock, rel=1e-9)
    # and those of faces of which the picture has half
    assert min(size) * found[-1] >= 6 > min(size) * found[-1] * 0.709


@pytest.mark.parametrize("min_face", [12, 19.9, 20, 20.1, 24, 28.3, 35, 50, 80, 123.4, 299, 300])
def test_scales_begin_at_the_smallest_face(min_face):
    scales = scales_of(300, 400, min_face)
    steps = [math.log(scale / 0.6, 0.709) for scale in scales]
    assert steps == pytest.approx([round(steps[0]) + k for k in range(len(steps))], abs=1e-6)
    # what fills the first network is no larger than the smallest face, and at the next scale it would be
    assert 12 / scales[0] <= min_face * (1 + 1e-6)
    assert 12 / (scales[0] * 0.709) > min_face
    # and the last scale is the last at which half of what the network sees fits into the picture
    assert 300 * scales[-1] >= 6 > 300 * scales[-1] * 0.709


@pytest.mark.parametrize("min_face", [5, 1, 1e-9])
def test_pictures_are_not_enlarged_without_end(min_face):
    assert scales_of(300, 400, min_face) == scales_of(300, 400, 12)


@pytest.mark.parametrize("step", range(-2, 6))
def test_a_face_of_the_ladder_begins_at_its_own_scale(step):
    assert scales_of(400, 400, 20 / 0.709**step)[0] == pytest.approx(0.6 * 0.709**step)


def test_the_levels_are_as_large_as_facenet_pytorch_makes_them(ramp):
    for scale, level in _Levels([ramp], 20).scanned():
        assert level.shape == (1, int(160 * scale + 1), int(200 * scale + 1), 3)
        # neither turned nor shifted
        red, green, blue = level[0].astype(float).transpose(2, 0, 1)
        columns = (np.arange(level.shape[2]) + 0.5) * 200 / level.shape[2] - 0.5
        rows = (np.arange(level.shape[1]) + 0.5) * 160 / level.shape[1] - 0.5
        inner = slice(2, -2)
        np.testing.assert_allclose(red.mean(0)[inner], columns[inner], rtol=0, atol=1)
        np.testing.assert_allclose(green.mean(1)[inner], rows[inner], rtol=0, atol=1)
        assert (blue == 77).all()


def test_a_large_picture_is_halved_before_it_is_resized(astronaut):
    large = astronaut.resize((2048, 1900), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(to_array(large).copy()).permute(2, 0, 1)[None]
    levels = _Levels([large], 20)
    for _, (level,) in levels.scanned():
        expected = F.interpolate(pixels, level.shape[:2], mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        assert np.abs(level - expected.numpy().astype(float)).mean() < 0.6
    assert [picture.size for (picture,) in levels._reduced.values()] == [(2048, 1900), (1024, 950), (512, 475)]


@pytest.mark.parametrize("size", [(512, 512), (333, 259)])
def test_the_levels_are_what_pytorch_makes_of_the_picture(astronaut, size):
    photo = astronaut.resize(size)
    pixels = torch.from_numpy(to_array(photo).copy()).permute(2, 0, 1)[None]
    for _, (level,) in _Levels([photo], 12).scanned():
        expected = F.interpolate(pixels, level.shape[:2], mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        difference = np.abs(level.astype(int) - expected.numpy())
        assert difference.mean() < 0.01 and difference.max() <= 1


# cutting out


@pytest.mark.parametrize("side", [24, 48])
def test_crops_show_what_is_in_the_box(ramp, side):
    rng = np.random.default_rng(1)
    sizes = rng.uniform(12, 102, (60, 1))
    corners = 1 + rng.uniform(0, 1, (60, 2)) * ([199, 159] - sizes)
    boxes = np.concatenate([corners, corners + sizes], 1).astype(np.float32)
    kept, crops = cut_boxes(ramp, boxes, side)
    np.testing.assert_array_equal(kept, boxes)
    assert crops.shape == (60, 3, side, side)
    for (x1, y1, x2, y2), crop in zip(boxes.tolist(), crops * 128 + 127.5, strict=True):
        # as facenet-pytorch has it: the first pixel is number 1
        left, top, right, bottom = int(x1) - 1, int(y1) - 1, int(x2), int(y2)
        columns = left + (np.arange(side) + 0.5) * (right - left) / side - 0.5
        rows = top + (np.arange(side) + 0.5) * (bottom - top) / side - 0.5
        inner = slice(2, -2)
        np.testing.assert_allclose(crop[0].mean(0)[inner], columns[inner], rtol=0, atol=1)
        np.testing.assert_allclose(crop[1].mean(1)[inner], rows[inner], rtol=0, atol=1)
        assert np.abs(crop[2] - 77).max() < 0.1


@pytest.mark.parametrize("side", [24, 48])
def test_crops_are_the_mean_of_four_points_a_pixel(astronaut, side):
    boxes = np.array([[170, 60, 200, 92], [2, 3, 33, 40], [-20, 5, 25, 50], [480, 480, 525, 530]], np.float32)
    _, crops = cut_boxes(astronaut, boxes, side)
    pixels = (torch.from_numpy(to_array(astronaut).copy()).permute(2, 0, 1)[None] - 127.5) / 128
    points = (torch.arange(2 * side) + 0.5) / (2 * side)
    for (x1, y1, x2, y2), crop in zip(boxes.tolist(), crops, strict=True):
        # all of them so small that they are cut out of the picture itself
        x = (x1 - 1 + (x2 - x1 + 1) * points, (x1 - 1, x2))
        y = (y1 - 1 + (y2 - y1 + 1) * points, (y1 - 1, y2))
        grid = torch.stack(torch.meshgrid(x[0], y[0], indexing="xy"), -1)[None] / 256 - 1
        seen = F.avg_pool2d(F.grid_sample(pixels, grid, padding_mode="border", align_corners=False), 2)[0]
        fade = [torch.exp(-(at - at.clamp(0, 512)).abs()[::2] / (last - first) / _FADE) for at, (first, last) in (x, y)]
        np.testing.assert_allclose(crop, seen * fade[0] * fade[1][:, None], rtol=0, atol=2e-4)


@pytest.mark.parametrize("side", [24, 48])
@pytest.mark.parametrize(
    "box",
    [
        (-30.0, 20.0, 60.0, 110.0),
        (150.0, -40.0, 240.0, 50.0),
        (150.0, 120.0, 210.0, 180.0),
        (-50.0, -70.0, 250.0, 230.0),
        (-0.5, 0.5, 99.5, 100.5),
    ],
    ids=str,
)
def test_crops_over_the_edge_show_what_is_where(ramp, box, side):
    kept, crops = cut_boxes(ramp, [box], side)
    assert kept.tolist() == [list(box)]
    red, green, _ = crops[0] * 128 + 127.5
    for values, low, high, length in ((red, box[0], box[2], 200), (green.T, box[1], box[3], 160)):
        first, last = math.floor(low) - 1, math.floor(high)
        expected = first + (np.arange(side) + 0.5) * (last - first) / side - 0.5
        step = (last - first) / side
        inside = (expected > step) & (expected < length - 1 - step)
        # along the middle, where the other way nothing is beyond the edge
        middle = values[side // 2]
        assert inside.any()
        np.testing.assert_allclose(middle[inside], expected[inside], rtol=0, atol=1)
        far = (expected < -0.7 * (last - first)) | (expected > length + 0.7 * (last - first))
        assert np.abs(middle[far] - 127.5).sum() < 0.5


def test_the_last_pixels_fade_into_grey_beyond_the_edge():
    _, (crop,) = cut_boxes(Image.new("RGB", (100, 100), "white"), [[-49.0, 1.0, 50.0, 100.0]], 48)
    beyond, inside = crop[:, 2:-2, 23::-1], crop[:, 2:-2, 26:]
    assert np.abs(inside - 127.5 / 128).max() < 0.01
    assert (np.diff(beyond, axis=2) < 0).all()
    # by a factor e within this share of the side
    np.testing.assert_allclose(beyond[:, :, 20] / beyond[:, :, 10], math.exp(-10 / 48 / _FADE), rtol=1e-5)


def test_boxes_outside_of_the_picture_are_left_out(ramp):
    boxes = np.array(
        [
            [-50.0, 10.0, -5.0, 55.0],
            [10.0, 10.0, 60.0, 60.0],
            [202.0, 10.0, 240.0, 48.0],
            [10.0, -90.0, 50.0, -50.0],
            [10.0, 162.0, 50.0, 202.0],
            [150.0, 100.0, 230.0, 180.0],
            [70.0, 70.0, 70.0, 70.0],
            [1e6, 1e6, 2e6, 2e6],
        ]
    )
    kept, crops = cut_boxes(ramp, boxes, 24)
    # a box of no size still has the pixel that it begins with
    np.testing.assert_array_equal(kept, boxes[[1, 5, 6]])
    assert crops.shape == (3, 3, 24, 24)
    assert np.isfinite(crops).all()
    assert (crops[2, 0] * 128 + 127.5).mean() == pytest.approx(69, abs=1)


def test_no_boxes_no_crops(ramp):
    for boxes in (np.zeros((0, 4)), [[-9.0, -9.0, -5.0, -5.0]]):
        kept, crops = cut_boxes(ramp, boxes, 24)
        assert (kept.shape, crops.shape) == ((0, 4), (0, 3, 24, 24))


def test_a_crop_does_not_depend_on_the_others(astronaut):
    boxes = [[181.0, 62.0, 268.0, 149.0], [10.0, 10.0, 40.0, 40.0], [0.0, 0.0, 512.0, 512.0]]
    _, together = cut_boxes(astronaut, boxes, 48)
    for box, crop in zip(boxes, together, strict=True):
        _, alone = cut_boxes(astronaut, [box], 48)
        # but for how finely it is averaged
        np.testing.assert_allclose(alone[0], crop, rtol=0, atol=1e-4)


def test_crops_look_as_facenet_pytorch_resizes_them(astronaut):
    pixels = torch.from_numpy(to_array(astronaut).copy()).permute(2, 0, 1)[None].float()
    for x1, y1, side in ((181, 62, 100), (150, 30, 250), (200, 90, 60), (100, 1, 400)):
        _, crops = cut_boxes(astronaut, [[x1, y1, x1 + side, y1 + side]], 48)
        part = pixels[:, :, y1 - 1 : y1 + side, x1 - 1 : x1 + side]
        theirs = ((F.interpolate(part, (48, 48), mode="area") - 127.5) / 128).numpy()
        assert np.abs(crops - theirs).mean() < 0.05
        shifted = np.abs(crops[..., 1:] - theirs[..., :-1]).mean()
        assert np.abs(crops - theirs).mean() < 0.5 * shifted


# awkward pictures


@pytest.mark.parametrize("min_face", [8, 20, 60, 1000])
@pytest.mark.parametrize("size", [(64, 64), (20, 300), (11, 11), (1, 1), (3, 500)])
def test_nothing_is_found_in_an_empty_picture(cascade, size, min_face):
    assert_none(search(cascade, Image.new("RGB", size[::-1], (127, 127, 127)), min_face))


def test_no_candidate_gets_to_the_last_network(monkeypatch, cascade, astronaut):
    monkeypatch.setattr("ssrnet_hub.inference.cascade._THRESHOLDS", (0.6, 1.0, 0.7))
    assert_none(search(cascade, astronaut, 40))
    monkeypatch.setattr("ssrnet_hub.inference.cascade._THRESHOLDS", (0.6, 0.7, 1.0))
    assert_none(search(cascade, astronaut, 40))
    monkeypatch.setattr("ssrnet_hub.inference.cascade._THRESHOLDS", (1.1, 0.7, 0.7))
    assert_none(search(cascade, astronaut, 40))


def test_a_smallest_face_larger_than_the_picture(cascade, astronaut):
    for min_face in (600, 1e9):
        assert_none(search(cascade, astronaut, min_face))
        assert MTCNNDetector(min_face=min_face)(astronaut) == []


def test_faces_smaller_than_facenet_pytorch_looks_for(cascade, astronaut):
    # the face is 10 pixels wide and 12 high
    small = astronaut.resize((56, 56), Image.Resampling.BICUBIC)
    assert_none(search(cascade, small, 20))
    for min_face in (12, 9):
        boxes, scores, _ = search(cascade, small, min_face)
        assert len(boxes) == 1 and scores[0] > 0.9
        assert iou(boxes[0].tolist(), tuple(v * 56 / 512 for v in FACE)) > 0.6


def test_the_same_again(cascade, astronaut):
    before = astronaut.tobytes()
    first = search(cascade, astronaut, 30)
    assert astronaut.tobytes() == before
    for again, known in zip(search(cascade, astronaut, 30), first, strict=True):
        np.testing.assert_array_equal(again, known)


def test_pictures_of_one_size_are_searched_as_each_alone(cascade, astronaut):
    turned = astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pictures = [astronaut, Image.new("RGB", astronaut.size), turned, astronaut]
    together = cascade.search(pictures, 20)
    assert len(together) == 4
    for found, picture in zip(together, pictures, strict=True):
        alone = search(cascade, picture, 20)
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2)
    assert [len(boxes) for boxes, _, _ in together][:3] == [1, 0, 1]


def test_a_detector_searches_pictures_of_all_sizes(astronaut):
    detector = MTCNNDetector()
    empty = Image.new("RGB", (80, 300))
    cut = astronaut.crop((181, 62, 268, 172))  # all edges cut it
    pictures = [astronaut.resize((256, 256)), astronaut, empty, cut, Image.new("RGB", (5, 5)), astronaut, cut]
    found = detector.batch(pictures)
    assert [len(faces) for faces in found] == [1, 1, 0, 1, 0, 1, 1]
    for faces, picture in zip(found, pictures, strict=True):
        for a, b in zip(faces, detector(picture), strict=True):
            assert np.abs(np.subtract(a.box, b.box)).max() < 0.01
            assert np.abs(np.subtract(a.landmarks, b.landmarks)).max() < 0.01
            assert a.score == pytest.approx(b.score, abs=1e-4)
    assert detector.batch([]) == []


def test_a_subclass_may_look_in_its_own_way(astronaut):
    class Blind(MTCNNDetector):
        def __call__(self, image):
            return []

    assert Blind().batch([astronaut, astronaut]) == [[], []]
    assert AgeEstimator(detector=Blind()).batch([astronaut]) == [[]]


# the edge


@pytest.mark.parametrize(
    "box", [(181, 62, 268, 172), (0, 92, 512, 512), (0, 0, 512, 140), (205, 0, 512, 512), (0, 0, 245, 512)], ids=str
)
def test_faces_that_the_edge_cuts_are_found_with_their_landmarks(cascade, astronaut, box):
    whole = search(cascade, astronaut, 20)[2][0]
    _, scores, landmarks = search(cascade, astronaut.crop(box), 20)
    assert scores.max() > 0.99
    assert np.abs(landmarks[scores.argmax()] + box[:2] - whole).max() < 8


# the last network alone


def test_looking_at_crops(cascade, astronaut):
    squares = np.array([[170, 62, 280, 172], [0, 300, 110, 410], [170, 62, 280, 172]])
    crops = cut([to_array(astronaut)] * 3, squares)
    for some in (crops[:1], crops):
        scores, moves, points = cascade.look(some)
        assert (scores.shape, moves.shape, points.shape) == ((len(some),), (len(some), 4), (len(some), 5, 2))
        assert scores[0] > 0.99
        # shares of the side, of a crop that is about right
        assert np.abs(moves[0]).max() < 0.25
        left_eye, right_eye, nose, left_mouth, right_mouth = points[0].tolist()
        assert 0 < left_eye[0] < nose[0] < right_eye[0] < 1 and left_mouth[0] < right_mouth[0]
        assert 0 < max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1]) < 1
    assert scores[1] < 0.3
    assert scores[2] == pytest.approx(scores[0], abs=1e-6)


def test_a_square_is_cut_out_as_a_candidate(astronaut):
    _, candidate = cut_boxes(astronaut, [[-19.0, 31.0, 60.0, 110.0]], 48)
    square = cut([to_array(astronaut)], np.array([[-20, 30, 60, 110]]))
    np.testing.assert_allclose(square, candidate, rtol=0, atol=1e-3)


# the detector's smallest face


class Asked:
    """In place of a cascade: finds nothing and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def search(self, pictures, min_face):
        self.asked.append(([picture.size for picture in pictures], min_face))
        return [(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))] * len(pictures)


def smallest(size, **kwargs):
    """What a detector asks its cascade to look for in a picture of this size without a face, in all turns."""
    detector = MTCNNDetector(**kwargs)
    detector._cascade = Asked()
    assert detector(Image.new("RGB", size)) == []
    return detector._cascade.asked


@pytest.mark.parametrize(
    "min_face, size, expected",
    [
        (None, (300, 200), 20),
        (None, (1000, 200), 20),
        (None, (1500, 200), 30),
        (None, (300, 2000), 40),
        (40, (300, 200), 40),
        (12.5, (300, 200), 12.5),
        (1, (40, 30), 1),
        (0.2, (300, 200), 40),
        (0.2, (200, 1000), 40),
        (0.999, (300, 200), 199.8),
    ],
)
def test_what_the_detector_looks_for(min_face, size, expected):
    width, height = size
    asked = smallest(size, min_face=min_face)
    assert [sizes for sizes, _ in asked] == [[(width, height)], [(height, width)]] * 2
    assert [face for _, face in asked] == pytest.approx([expected] * 4)
    assert len(smallest(size, min_face=min_face, upright_only=True)) == 1


def test_the_smallest_face_of_a_large_picture_is_of_the_reduced_one():
    ((_, first), *_) = smallest((1000, 800), max_side=500, min_face=0.25)
    assert first == pytest.approx(100)
    ((_, first), *_) = smallest((1000, 800), max_side=500, min_face=30)
    assert first == 30
    ((_, first), *_) = smallest((4000, 3000), max_side=2000)
    assert first == 40


def test_a_picture_smaller_than_the_smallest_face_is_not_searched():
    assert smallest((100, 39), min_face=40) == []
    assert len(smallest((100, 40), min_face=40)) == 4
    assert smallest((100, 19)) == []
    assert smallest((1500, 29)) == []


def test_a_share_finds_the_face_where_it_is_large_enough(astronaut):
    (face,) = MTCNNDetector(min_face=0.1)(astronaut)
    assert iou(face.box, FACE) > 0.85
    assert MTCNNDetector(min_face=0.8)(astronaut) == []


@pytest.mark.parametrize("min_face", [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf])
def test_no_such_smallest_face(min_face):
    with pytest.raises(ValueError, match="min_face"):
        MTCNNDetector(min_face=min_face)
    with pytest.raises(ValueError, match="min_face"):
        AgeEstimator(min_face=min_face)


def test_the_estimator_hands_the_smallest_face_on(astronaut):
    assert AgeEstimator().detector.min_face is None
    estimator = AgeEstimator(min_face=0.8)
    assert estimator.detector.min_face == 0.8
    assert len(estimator(astronaut.resize((256, 256)))) == 0
    assert len(AgeEstimator(min_face=0.1)(astronaut.resize((256, 256)))) == 1
