"""Calibration of weights: how far off their ages may be and what faces are like, learned from held-out faces."""

import os
from collections.abc import Sequence
from itertools import chain, product
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
from ..inference.reliability import fit_reliability
from ..models.config import read_training
from ..models.pretrained import AgeModel
from ..utils.metrics import age_band, auroc
from .evaluation import LEVELS, rounded
from .labels import Label, read_labels, set_aside
from .worn import POOR, faded_copies, worn_copies

__all__ = ["calibrate"]

_FADED = 3
"""Copies of each chip that are worn as in training."""


_FOLDS = 5
"""Of the cross-validation that measures a calibration."""


_FEWEST = 125
"""Held-out faces that a calibration takes: 100 without a fold."""


class _Seen(NamedTuple):
    """Predictions for face crops and their degraded copies.

    Attributes:
        names: Names of the K kinds of copies; the first, "", is the original crops.
        ages: Predicted ages, ``(K, N)``, years.
        descriptions: `describe_face` of each, ``(K, N, D)``.
    """

    names: list[str]
    ages: np.ndarray
    descriptions: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """Descriptions of a kind of copies, ``(N, D)``."""
        return self.descriptions[self.names.index(name)]


def calibrate(
    model: AgeModel,
    labels: Union[str, os.PathLike],
    directory: Union[str, os.PathLike],
    photos: Optional[Union[str, os.PathLike]] = None,
) -> dict[str, Any]:
    """Calibrate weights on held-out faces, and write them with the calibration in their config.

    The held-out faces are those set aside in training and the split ``val``. Intervals are conformal, scaled by an
    expected error that depends on the predicted age and the picture, and is fitted on degraded copies too. Coverage,
    also of degraded copies, and the detection of poor pictures and of crops without a face are measured by
    cross-validation over the same faces.

    Args:
        model: Age weights.
        labels: Labels file of aligned face crops with the splits ``train`` and ``val``: the one of the training, or of
            a data set that the weights were not trained on.
        directory: Output folder, as for `save_pretrained`.
        photos: Folder of JPEGs from which crops without a face are taken. Default: these are not measured.

    Returns:
        ``n``, number of held-out faces; ``intervals``, `measure_resplits` by level; ``bands``, by predicted age the
        ``coverage`` at the level 0.9 and ``n``; ``worn``, by kind of copy ``coverage``, mean ``width`` in years,
        ``flagged``, and ``covered_or_flagged``; ``flagged``, share of the faces that are flagged, in [0, 1]; ``flags``,
        by kind of picture ``auroc``, ``flagged``, and ``n``.

    Raises:
        CalibrationError: There are too few faces, or no photos.
        LabelsError: The labels file is invalid.
        PhotoError: A crop or photo cannot be read.
    """
    jpegs = None if photos is None else sorted(Path(photos).glob("*.jpg"))
    if jpegs is not None and not jpegs:
        raise CalibrationError(f"{photos} is not a folder with JPEG photos, named *.jpg.")
    count = read_training(get_extras(model)).get("set_aside") or 0
    if isinstance(count, dict):
        count = count.get(Path(labels).resolve().parent.name, 0)
    train, val = (read_labels(labels, split) for split in ("train", "val"))
    held_out = set_aside(train, count)[1] + val
    if len(held_out) < _FEWEST:
        raise CalibrationError(
            f"A calibration takes {_FEWEST} held-out faces or more, not {len(held_out)}: add rows to the split val, or "
            "set rows aside in training."
        )
    estimator = AgeEstimator(model)
    seen, true = look(estimator, held_out), np.array([row.age for row in held_out])
    calibration = _fit(seen, true)
    save_pretrained(model, directory, extras={"calibration": calibration.to_dict()})

    # cross-validation: each face is scored by a calibration on the other folds
    shape = seen.ages.shape
    ends, oddness, flagged = np.empty((*shape, 2)), np.empty(shape), np.empty(shape, bool)
    for fold in range(_FOLDS):
        test = np.arange(len(true)) % _FOLDS == fold
        others = _fit(_Seen(seen.names, seen.ages[:, ~test], seen.descriptions[:, ~test]), true[~test])
        for k, i in product(range(len(seen.names)), np.flatnonzero(test)):
            age, own = seen.ages[k, i], seen.descriptions[k, i]
            ends[k, i], oddness[k, i] = others.bounds(age, 0.9, own), others.oddness(own)
            flagged[k, i] = bool(others.doubt(age, own))
    low, high = np.moveaxis(ends.clip(0, model.V), 2, 0)
    covered = (low <= true) & (true <= high)

    count = len(true) * (_FOLDS - 1) // _FOLDS
    resplits = measure_resplits(seen.ages, true, count, LEVELS, model.V, seen.descriptions)
    bands = np.array([age_band(age) for age in seen.ages[0]])
    figures: dict[str, Any] = {
        "n": len(held_out),
        "intervals": {str(level): row for level, row in resplits.items()},
        "bands": {
            band: {"coverage": float(covered[0, bands == band].mean()), "n": int((bands == band).sum())}
            for band in sorted({*bands.tolist()}, key=lambda band: int(band.split("-")[0].rstrip("+")))
        },
        "flagged": float(flagged[0].mean()),
        "worn": {},
        "flags": {},
    }
    for k, name in enumerate(seen.names):
        figures["worn"][name or "as they are"] = {
            "coverage": float(covered[k].mean()),
            "width": float((high - low)[k].mean()),
            "flagged": float(flagged[k].mean()),
            "covered_or_flagged": float((covered | flagged)[k].mean()),
        }
        if any(name in names for names in POOR.values()):
            figures["flags"][name] = {
                "auroc": auroc(oddness[k], oddness[0]),
                "flagged": float(flagged[k].mean()),
                "n": len(true),
            }
    if jpegs:
        faceless = estimator.crops(tqdm(cut_faceless(jpegs), unit="crop", leave=False))
        descriptions = [describe_face(face.stages, face.crop) for face in faceless]
        doubted = [bool(calibration.doubt(face.age, own)) for face, own in zip(faceless, descriptions, strict=True)]
        figures["flags"][NOT_A_FACE] = {
            "auroc": auroc([calibration.oddness(own) for own in descriptions], oddness[0]),
            "flagged": float(np.mean(doubted)),
            "n": len(faceless),
        }
    return rounded(figures)


def _fit(seen: _Seen, true: np.ndarray) -> Calibration:
    good = seen.descriptions[0]
    worn = [own for name, own in zip(seen.names, seen.descriptions, strict=True) if "worn" in name]
    poor = {kind: np.concatenate([seen.of(name) for name in names]) for kind, names in POOR.items()}
    return Calibration(
        fit_intervals(seen.ages, true, seen.descriptions),
        fit_reliability(list(good), list(worn[0][::2])),
        fit_doubts(good, np.concatenate(worn), poor),
    )


def look(estimator: AgeEstimator, labels: Sequence[Label]) -> _Seen:
    """Predict face crops and their degraded copies."""
    chips = [load_photo(label.path).resize((Framing().size,) * 2) for label in labels]
    names, ages, descriptions = [], [], []
    faded = ((f"worn as in training, {k}", faded_copies(chips, k)) for k in range(_FADED))
    for name, worn in tqdm(chain([("", chips)], faded, worn_copies(chips)), "wear", leave=False, disable=None):
        faces = estimator.crops(worn)
        names.append(name)
        ages.append([face.age for face in faces])
        descriptions.append([describe_face(face.stages, face.crop) for face in faces])
    return _Seen(names, np.array(ages), np.array(descriptions))


def cut_faceless(paths: Sequence[Path], each: int = 60, size: int = 128) -> list[Image.Image]:
    """Crop squares from photos that touch no face or possible face, deterministically."""
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
    """Whether a square touches a face enlarged by a quarter of its size on each side."""
    x1, y1, x2, y2 = face
    dx, dy = (x2 - x1) / 4, (y2 - y1) / 4
    return square[0] < x2 + dx and square[2] > x1 - dx and square[1] < y2 + dy and square[3] > y1 - dy
