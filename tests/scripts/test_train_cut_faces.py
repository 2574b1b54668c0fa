"""What the network for faces that are cut off learns from."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from ssrnet_hub.inference.cascade import LOOK, cut

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "maintain"))
import train_cut_faces  # noqa: E402


@pytest.fixture
def dots():
    """Black pictures with white dots at the landmarks."""
    landmarks = torch.tensor([[20.0, 20], [44, 20], [32, 33], [23, 45], [42, 45]]).expand(200, 5, 2)
    pictures = torch.zeros(200, 3, 64, 64)
    for x, y in landmarks[0].long().tolist():
        pictures[:, :, y, x] = 255
    return pictures, landmarks


def test_landmarks_are_where_their_pixels_are(dots):
    torch.manual_seed(0)
    crops, points = train_cut_faces.draw(*dots)
    places = (LOOK * points - 0.5).round().long()
    seen = []
    for crop, own in zip(crops, places, strict=True):
        for x, y in own.tolist():
            if 1 <= x < LOOK - 1 and 1 <= y < LOOK - 1:
                seen.append(crop[0, y - 1 : y + 2, x - 1 : x + 2].max() > crop[0].median() + 0.1)
    # the others are beyond an edge
    assert len(seen) > 800 and np.mean(seen) > 0.6


@pytest.mark.parametrize("vertical", [False, True])
def test_edges_fade_as_those_of_photos(monkeypatch, vertical):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(64, 192, (5, 5, 3), dtype=np.uint8))
    photo = np.asarray(coarse.resize((LOOK, LOOK), Image.Resampling.BICUBIC))
    whole = torch.from_numpy(cut([photo], np.array([[0, 0, LOOK, LOOK]])))
    # the middle of the points and a hidden share that put the edge at a third of the crop
    points, heights = torch.full((1, 5, 2), 0.5), torch.tensor([0.5 if vertical else 0.5 / train_cut_faces.WIDTH])
    answers = iter([torch.tensor([0.0 if vertical else 0.9]), torch.tensor([0.0])])
    monkeypatch.setattr(torch, "rand", lambda count: next(answers))
    made = train_cut_faces.cut_off(whole, points, heights, torch.tensor([1 / 6]))
    start = LOOK // 3
    part = photo[start:] if vertical else photo[:, start:]
    square = [0, -start, LOOK, LOOK - start] if vertical else [-start, 0, LOOK - start, LOOK]
    np.testing.assert_allclose(made[0], cut([np.ascontiguousarray(part)], np.array([square]))[0], atol=0.03)


def test_train_and_write(dots, tmp_path, monkeypatch):
    monkeypatch.setattr(train_cut_faces, "find_landmarks", lambda paths: dots)
    monkeypatch.setattr(train_cut_faces, "BATCH", 4)
    labels = tmp_path / "labels.csv"
    Image.new("RGB", (128, 128)).save(tmp_path / "a.png")
    labels.write_text("file,age,split\na.png,30,train\n")
    output = tmp_path / "cut_faces.onnx"
    monkeypatch.setattr(sys, "argv", ["", "--labels", str(labels), "--output", str(output), "--steps", "2"])
    train_cut_faces.main()
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    (points,) = session.run(None, {"crops": np.zeros((2, 3, LOOK, LOOK), np.float32)})
    assert points.shape == (2, 10) and np.isfinite(points).all()
    assert output.stat().st_size < 800_000
