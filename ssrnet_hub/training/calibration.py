"""Calibration of weights: how far off their ages may be and what faces are like, learned from faces set aside."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from ..hub.loading import get_extras, save_pretrained
from ..images.alignment import Box
from ..images.loading import load_photo
from ..inference.detector import MTCNNDetector
from ..inference.estimator import AgeEstimator, Face
from ..inference.intervals import fit_intervals, measure_resplits
from ..inference.reliability import describe_answer, fit_reliability
from ..models.config import read_training
from ..models.pretrained import AgeModel
from ..utils.metrics import auroc
from .evaluation import LEVELS, rounded
from .labels import read_labels, set_aside

__all__ = ["calibrate"]

BLUR = 1 / 12
"""Sigma of the blur, as a share of a chip's side."""


def calibrate(
    model: AgeModel,
    labels: Union[str, os.PathLike],
    directory: Union[str, os.PathLike],
    photos: Optional[Union[str, os.PathLike]] = None,
) -> dict[str, Any]:
    """Learn from the faces that training set aside, and write the weights with what was learned in their config.

    What it is worth is measured on the split ``val``: how many true ages lie in their intervals, over random splits of
    its rows and those set aside, and how well the flag tells faces from blurred ones and from parts of photos without
    a face.

    Args:
        model: Weights of age.
        labels: The labels file that they were trained on, of aligned chips with the splits ``train`` and ``val``.
        directory: Where to, as for `save_pretrained`.
        photos: Folder of JPEGs, whose parts without faces are cut out.

    Returns:
        ``n``, faces set aside; ``intervals``, by level what `measure_resplits` answers; ``flagged``, the share of val
        that is flagged, in [0, 1]; ``flags``, of each other kind of picture ``auroc``, ``flagged`` and ``n``.

    Raises:
        CalibrationError: There are too few faces.
        LabelsError: The labels file is not as needed.
        PhotoError: A chip or photo cannot be read.
    """
    count = read_training(get_extras(model)).get("set_aside") or 0
    if isinstance(count, dict):
        count = count.get(Path(labels).resolve().parent.name, 0)
    estimator = AgeEstimator(model)
    train, val = (read_labels(labels, split) for split in ("train", "val"))
    aside = set_aside(train, count)[1]
    seen, tested = (look(estimator, [load_photo(row.path) for row in rows]) for rows in (aside, val))
    ages, true = [face.age for face in seen], [row.age for row in aside]
    reliability = fit_reliability([describe_answer(face.stages, face.crop) for face in seen])
    calibration = {
        "intervals": fit_intervals(ages, true).to_dict(),
        "reliability": reliability.to_dict(),
    }
    save_pretrained(model, directory, extras={"calibration": calibration})
    both = ages + [face.age for face in tested], true + [row.age for row in val]
    figures: dict[str, Any] = {
        "n": len(aside),
        "intervals": {str(level): measure_resplits(*both, len(aside), level, model.V) for level in LEVELS},
    }

    def odd(faces: Sequence[Face]) -> list[float]:
        return [reliability.score(describe_answer(face.stages, face.crop)) for face in faces]

    usual = odd(tested)
    others = {"blurred": look(estimator, [blur(face.crop) for face in tested])}
    if photos is not None:
        others["without a face"] = look(estimator, cut_faceless(sorted(Path(photos).glob("*.jpg"))))
    figures["flagged"] = float(np.mean(np.array(usual) > reliability.threshold))
    figures["flags"] = {
        what: {
            "auroc": auroc(odd(faces), usual),
            "flagged": share(odd(faces), reliability.threshold),
            "n": len(faces),
        }
        for what, faces in others.items()
    }
    return rounded(figures)


def look(estimator: AgeEstimator, crops: Sequence[Image.Image]) -> list[Face]:
    return estimator.crops(tqdm(crops, unit="crop", leave=False, disable=None))


def blur(chip: Image.Image) -> Image.Image:
    return chip.filter(ImageFilter.GaussianBlur(BLUR * chip.width))


def share(scores: Sequence[float], threshold: float) -> float:
    return float(np.mean(np.array(scores) > threshold))


def cut_faceless(paths: Sequence[Path], each: int = 60, size: int = 128) -> list[Image.Image]:
    """Squares out of photos that touch no face, nor what may be one, the same every time."""
    rng, detector = np.random.default_rng(0), MTCNNDetector(min_score=0.5, min_face=20)
    crops = []
    for path in paths:
        photo = load_photo(path)
        faces = [face.box for face in detector(photo)]
        found: list[Image.Image] = []
        for _ in range(50 * each):
            side = int(rng.uniform(0.08, 0.45) * min(photo.size))
            x, y = (int(rng.uniform(0, length - side)) for length in photo.size)
            if len(found) < each and not any(near((x, y, x + side, y + side), face) for face in faces):
                found.append(photo.resize((size, size), Image.Resampling.BICUBIC, (x, y, x + side, y + side)))
        crops += found
    return crops


def near(square: tuple[float, ...], face: Box) -> bool:
    """Whether a square touches a face with a margin of a quarter of it."""
    x1, y1, x2, y2 = face
    dx, dy = (x2 - x1) / 4, (y2 - y1) / 4
    return square[0] < x2 + dx and square[2] > x1 - dx and square[1] < y2 + dy and square[3] > y1 - dy
