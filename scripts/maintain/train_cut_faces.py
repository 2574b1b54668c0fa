"""Train O-Net further to place the landmarks of faces that are cut off by the edge of a photo, and write it as ONNX.

    python scripts/maintain/train_cut_faces.py --labels fairface/labels.csv

The landmarks to learn are those that O-Net finds on whole faces. Only pictures of FairFace are used, whose license
allows that for any purpose; their ages are not. Takes 40 minutes on one core. The network in the package had 2,900
steps at half the resolution, and 1,200 more at a rate of 0.0012.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from export_mtcnn import FOLDER, write_cut_faces
from facenet_pytorch.models import mtcnn
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.cascade import LOOK
from ssrnet_hub.inference.detector import MTCNNDetector
from ssrnet_hub.training.labels import read_labels
from ssrnet_hub.utils.io import replace_file

FACES, STEPS, BATCH, LR = 16_000, 4_000, 128, 1.5e-3
MARGIN = 32
"""Pixels of the outermost color around a crop, so that its whole face is within the picture."""
SQUARE, HEIGHT, WIDTH = 2.9, 0.84, 0.8
"""Side of the square around a face, in distances between the middle of the eyes and that of the mouth; height of the
face as a fraction of it, and its width as a fraction of the height."""
FADE = 0.07
"""As in `ssrnet_hub/inference/cascade.py`."""


def find_landmarks(paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Crops ``(N, 3, side, side)``, uint8, and landmarks ``(N, 5, 2)`` in their pixels."""
    detector, size = MTCNNDetector(upright_only=True), Framing().size
    usual = np.array(Framing().template) * size
    box = (MARGIN + 6, MARGIN - 12, MARGIN + size - 6, MARGIN + size)
    chips, landmarks = [], []
    for path in tqdm(paths, "landmarks", disable=None):
        chip = np.asarray(load_photo(path))
        padded = np.pad(chip, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
        (face,) = detector.locate(Image.fromarray(padded), [box])
        if face.landmarks is None or face.score < 0.97:
            continue
        points = np.array(face.landmarks) - MARGIN
        # crops are aligned: others are mistakes
        if np.linalg.norm(points - usual, axis=1).max() < 20:
            chips.append(chip)
            landmarks.append(points)
    pixels = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2)
    return pixels, torch.from_numpy(np.stack(landmarks)).float()


def draw(chips: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Input of O-Net for faces in inexact squares, cut off, and their landmarks in fractions of the squares' sides."""
    count, size = len(chips), chips.shape[-1]
    flipped = torch.rand(count) < 0.5
    chips = torch.where(flipped[:, None, None, None], chips.flip(3), chips).float()
    mirrored = torch.stack([size - 1 - landmarks[..., 0], landmarks[..., 1]], -1)[:, [1, 0, 2, 4, 3]]
    landmarks = torch.where(flipped[:, None, None], mirrored, landmarks)
    eyes, mouths = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
    face = SQUARE * (eyes - mouths).norm(dim=1)
    sides = face * torch.exp(uniform(-0.3, 0.3, count))
    middles = (eyes + mouths) / 2 + torch.stack([uniform(-0.2, 0.2, count), uniform(-0.2, 0.2, count)], 1) * face[
        :, None
    ]
    angles = uniform(-0.3, 0.3, count)
    cos, sin = angles.cos(), angles.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    corner = (middles + 0.5) * 2 / size - 1
    grid = F.affine_grid(
        torch.cat([turn * (sides / size)[:, None, None], corner[:, :, None]], 2),
        [count, 3, 2 * LOOK, 2 * LOOK],
        align_corners=False,
    )
    pixels = F.avg_pool2d(F.grid_sample(chips, grid, padding_mode="border", align_corners=False), 2)
    crops = (pixels - 127.5) / 128
    points = (landmarks - middles[:, None]) / sides[:, None, None] @ turn + 0.5
    heights = HEIGHT * face / sides
    crops = cut_off(crops, points, heights, uniform(0, 0.72, count))
    twice = cut_off(crops, points, heights, uniform(0, 0.4, count))
    crops = torch.where((torch.rand(count) < 0.15)[:, None, None, None], twice, crops)
    return crops * uniform(0.85, 1.15, count)[:, None, None, None], points


def cut_off(crops: Tensor, points: Tensor, heights: Tensor, hidden: Tensor) -> Tensor:
    """Hide a share of each face beyond a random edge, as `cascade.cut` shows it."""
    count = len(crops)
    vertical, first = torch.rand(count) < 0.5, torch.rand(count) < 0.5
    middles = torch.where(vertical, points[..., 1].mean(1), points[..., 0].mean(1))
    lengths = heights * torch.where(vertical, 1.0, WIDTH)
    edges = middles + torch.where(first, hidden - 0.5, 0.5 - hidden) * lengths
    edges = (LOOK * edges).clamp(3, LOOK - 3)[:, None]
    places = torch.arange(LOOK).float().expand(count, LOOK)
    seen = torch.where(first[:, None], places.maximum(edges.ceil()), places.minimum(edges.floor() - 1)).long()
    beyond = torch.where(first[:, None], edges - places - 0.5, places + 0.5 - edges).clamp(min=0)
    fade = torch.exp(beyond / LOOK / -FADE)
    across = crops.gather(3, seen[:, None, None].expand(-1, 3, LOOK, -1)) * fade[:, None, None]
    down = crops.gather(2, seen[:, None, :, None].expand(-1, 3, -1, LOOK)) * fade[:, None, :, None]
    return torch.where(vertical[:, None, None, None], down, across)


def uniform(low: float, high: float, count: int) -> Tensor:
    return torch.empty(count).uniform_(low, high)


def distances(network: mtcnn.ONet, crops: Tensor, points: Tensor) -> Tensor:
    """Distance of each landmark to where it should be ``(N, 5)``, in fractions of the squares' sides."""
    _, placed, _ = network(crops)
    return (placed.reshape(-1, 2, 5).transpose(1, 2) - points).norm(dim=2)


def train(chips: Tensor, landmarks: Tensor, steps: int) -> mtcnn.ONet:
    network = mtcnn.ONet()
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-4)
    held_out = torch.arange(len(chips)) % 20 == 0
    test = draw(chips[held_out], landmarks[held_out])
    chips, landmarks = chips[~held_out], landmarks[~held_out]
    for step in range(steps + 1):
        if step % 200 == 0 or step == steps:
            network.eval()
            with torch.no_grad():
                worst = distances(network, *test).amax(1)
            print(f"step {step}: worst landmark {worst.mean():.4f}, 90% below {worst.quantile(0.9):.4f}", flush=True)
            network.train()
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, share / 0.05) * (1 - share) + 1e-6
        chosen = torch.randint(len(chips), (BATCH,))
        off = distances(network, *draw(chips[chosen], landmarks[chosen]))
        loss = off.mean() + 0.5 * off.amax(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, type=Path, metavar="LABELS.csv")
    parser.add_argument("--output", type=Path, default=FOLDER / "cut_faces.onnx", metavar="FILE.onnx")
    parser.add_argument("--faces", type=int, default=FACES)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    torch.manual_seed(0)
    rows = read_labels(args.labels, "train", ranges=True)
    rows = random.Random(0).sample(rows, min(args.faces, len(rows)))
    network = train(*find_landmarks([row.path for row in rows]), args.steps)
    with replace_file(args.output) as path:
        Path(path).write_bytes(write_cut_faces(network).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
