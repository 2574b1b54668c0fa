"""Calibration of weights: how far off their ages may be and what faces are like, learned from faces set aside."""

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import CalibrationError
from ..hub.loading import get_extras, save_pretrained
from ..images.alignment import Box, Framing
from ..images.loading import load_photo
from ..inference.calibration import NOT_A_FACE, Calibration
from ..inference.detector import MTCNNDetector
from ..inference.doubts import describe_face, fit_doubts
from ..inference.estimator import AgeEstimator
from ..inference.intervals import fit_intervals, measure_resplits
from ..inference.reliability import describe_answer, fit_reliability
from ..models.config import read_training
from ..models.pretrained import AgeModel
from ..utils.metrics import age_band, auroc
from .evaluation import LEVELS, rounded
from .labels import Label, read_labels, set_aside
from .worn import POOR, faded_copies, worn_copies

__all__ = ["calibrate"]

_FADED = 3
"""Copies of each chip that are worn as in training."""


class _Seen(NamedTuple):
    """What the weights say of some chips and of their copies.

    Attributes:
        names: Of the copies, the chips as they are first, with the name "".
        ages: As predicted, ``(K, N)``, years.
        descriptions: What `describe_face` says, ``(K, N, D)``.
        answers: How many of the numbers are those of `describe_answer`, the first ones.
    """

    names: list[str]
    ages: np.ndarray
    descriptions: np.ndarray
    answers: int

    def of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Ages and descriptions of a kind of copies."""
        number = self.names.index(name)
        return self.ages[number], self.descriptions[number]


def calibrate(
    model: AgeModel,
    labels: Union[str, os.PathLike],
    directory: Union[str, os.PathLike],
    photos: Optional[Union[str, os.PathLike]] = None,
) -> dict[str, Any]:
    """Learn from the faces that training set aside, and write the weights with what was learned in their config.

    The expected error of a face follows from its age and its picture, as worn copies of the faces tell; the intervals
    are conformal. What that is worth is measured on the split ``val``: how many true ages lie in their intervals, over
    random splits of its rows and those set aside, and for worn copies; and how well poor pictures and parts of photos
    without a face are told from faces.

    Args:
        model: Weights of age.
        labels: The labels file that they were trained on, of aligned chips with the splits ``train`` and ``val``.
        directory: Where to, as for `save_pretrained`.
        photos: Folder of JPEGs, whose parts without faces are cut out; without, these are not measured.

    Returns:
        ``n``, faces set aside; ``intervals``, by level what `measure_resplits` answers; ``bands``, by predicted age
        ``coverage`` of the level 0.9 and ``n``; ``worn``, of each kind of copies ``coverage``, mean ``width``, years,
        ``flagged`` and ``covered_or_flagged``; ``flagged``, the share of val that is flagged, in [0, 1]; ``flags``, of
        each kind of picture ``auroc``, ``flagged`` and ``n``.

    Raises:
        CalibrationError: There are too few faces.
        LabelsError: The labels file is not as needed.
        PhotoError: A chip or photo cannot be read.
    """
    count = read_training(get_extras(model)).get("set_aside") or 0
    if isinstance(count, dict):
        count = count.get(Path(labels).resolve().parent.name, 0)
    train, val = (read_labels(labels, split) for split in ("train", "val"))
    aside = set_aside(train, count)[1]
    if not aside:
        raise CalibrationError("A calibration takes 100 faces or more, and training set none of these aside.")
    estimator = AgeEstimator(model)
    seen, tested = (look(estimator, rows) for rows in (aside, val))
    true, true_of_val = (np.array([row.age for row in rows]) for rows in (aside, val))
    good = seen.descriptions[0]
    usual = np.concatenate([own for name, own in zip(seen.names, seen.descriptions, strict=True) if "worn" in name])
    poor = {kind: np.concatenate([seen.of(name)[1] for name in names]) for kind, names in POOR.items()}
    calibration = Calibration(
        fit_intervals(seen.ages, true, seen.descriptions),
        fit_reliability(list(good[:, : seen.answers])),
        fit_doubts(good, usual, poor),
    )
    save_pretrained(model, directory, extras={"calibration": calibration.to_dict()})

    def measure(ages: np.ndarray, descriptions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether each is covered, the widths, and whether it is flagged."""
        pairs = list(zip(ages, descriptions, strict=True))
        half = np.array([calibration.half_width(age, 0.9, own) for age, own in pairs])
        low, high = (ages - half).clip(0, model.V), (ages + half).clip(0, model.V)
        flagged = np.array([bool(calibration.doubt(age, own)) for age, own in pairs])
        return (low <= true_of_val) & (true_of_val <= high), high - low, flagged

    def odd(descriptions: np.ndarray) -> list[float]:
        return [calibration.oddness(own) for own in descriptions]

    both = [np.concatenate(pair, 1) for pair in ((seen.ages, tested.ages), (seen.descriptions, tested.descriptions))]
    resplits = measure_resplits(both[0], np.concatenate([true, true_of_val]), len(aside), LEVELS, model.V, both[1])
    covered, _, flagged = measure(*tested.of(""))
    bands = np.array([age_band(age) for age in tested.ages[0]])
    figures: dict[str, Any] = {
        "n": len(aside),
        "intervals": {str(level): row for level, row in resplits.items()},
        "bands": {
            band: {"coverage": float(covered[bands == band].mean()), "n": int((bands == band).sum())}
            for band in sorted({*bands.tolist()}, key=lambda band: int(band.split("-")[0].rstrip("+")))
        },
        "flagged": float(flagged.mean()),
        "worn": {},
        "flags": {},
    }
    usual_odd = odd(tested.descriptions[0])
    for name in tested.names:
        covered, widths, flagged = measure(*tested.of(name))
        figures["worn"][name or "as they are"] = {
            "coverage": float(covered.mean()),
            "width": float(widths.mean()),
            "flagged": float(flagged.mean()),
            "covered_or_flagged": float((covered | flagged).mean()),
        }
        if any(name in names for names in POOR.values()):
            figures["flags"][name] = {
                "auroc": auroc(odd(tested.of(name)[1]), usual_odd),
                "flagged": float(flagged.mean()),
                "n": len(flagged),
            }
    if photos is not None:
        others = estimator.crops(tqdm(cut_faceless(sorted(Path(photos).glob("*.jpg"))), unit="crop", leave=False))
        descriptions = np.array([describe_face(face.stages, face.crop) for face in others])
        flagged = np.array(
            [bool(calibration.doubt(face.age, own)) for face, own in zip(others, descriptions, strict=True)]
        )
        figures["flags"][NOT_A_FACE] = {
            "auroc": auroc(odd(descriptions), usual_odd),
            "flagged": float(flagged.mean()),
            "n": len(others),
        }
    return rounded(figures)


def look(estimator: AgeEstimator, labels: Sequence[Label]) -> _Seen:
    """What the weights say of chips and of their worn copies."""
    chips = [load_photo(label.path).resize((Framing().size,) * 2) for label in labels]
    names, ages, descriptions, answers = [], [], [], 0
    faded = ((f"worn as in training, {k}", faded_copies(chips, k)) for k in range(_FADED))
    for name, worn in tqdm(chain([("", chips)], faded, worn_copies(chips)), "wear", leave=False, disable=None):
        faces = estimator.crops(worn)
        names.append(name)
        ages.append([face.age for face in faces])
        descriptions.append([describe_face(face.stages, face.crop) for face in faces])
        answers = len(describe_answer(faces[0].stages, faces[0].crop))
    return _Seen(names, np.array(ages), np.array(descriptions), answers)


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
