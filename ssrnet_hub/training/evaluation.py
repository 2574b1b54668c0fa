"""Evaluation on labeled pictures: errors by group, intervals, and robustness."""

import cmath
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Optional

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from ..errors import LabelsError
from ..hub.loading import get_extras
from ..images.alignment import Box, Framing, iou, turn_points
from ..images.loading import load_photo
from ..inference.estimator import AgeEstimator, Face
from ..models.config import read_training
from ..utils.metrics import (
    age_band,
    age_metrics,
    best_group,
    error_of,
    gender_group_metrics,
    gender_metrics,
    group_metrics,
    large_groups,
    name_range,
    range_group_metrics,
    range_metrics,
    worst_group,
)
from .labels import Label

__all__ = [
    "LEVELS",
    "TURNS",
    "answer_missing",
    "find_faces",
    "measure_ages",
    "measure_errors",
    "measure_genders",
    "measure_intervals",
    "measure_robustness",
    "measure_stages",
    "measure_turned",
    "mirrored_ages",
    "predicted_ages",
    "rounded",
    "try_boxes",
]

UTKFACE_MEDIAN_AGE = 29.0

LEVELS = (0.8, 0.9, 0.95)
"""Levels of the intervals to measure."""

TURNS = (90, 180, 270)
"""Rotations of photos, degrees counterclockwise."""


def answer_missing(estimator: AgeEstimator) -> float:
    """The age to assume for a missed face: the median of the training ages, years.

    Weights whose config has none get that of UTKFace's train split.
    """
    median_age = read_training(get_extras(estimator.model)).get("median_age")
    return UTKFACE_MEDIAN_AGE if median_age is None else median_age


def find_faces(estimator: AgeEstimator, labels: Sequence[Label], detect: bool) -> list[Optional[Face]]:
    """Predict the face of each picture.

    Args:
        estimator: The estimator.
        labels: Labels of the pictures.
        detect: Treat the pictures as photos and use the largest face; otherwise as aligned crops.

    Returns:
        One face per label; None for a photo without a detected face.

    Raises:
        PhotoError: A picture cannot be read.
    """
    paths = [label.path for label in labels]
    if not detect:
        return list(estimator.crops(_progress(paths, "chips")))
    return [_largest(estimator(path)) for path in _progress(paths, "photos")]


def predicted_ages(estimator: AgeEstimator, faces: Sequence[Optional[Face]]) -> list[float]:
    """Ages of faces, years; `answer_missing` for missed faces."""
    return [answer_missing(estimator) if face is None else face.age for face in faces]


def mirrored_ages(estimator: AgeEstimator, faces: Sequence[Optional[Face]]) -> list[float]:
    """As `predicted_ages`, averaged over each face and its mirror image, which takes a second forward pass."""
    crops = [ImageOps.mirror(face.crop) for face in faces if face]
    mirrored = iter(predicted_ages(estimator, estimator.crops(_progress(crops, "mirrored"))))
    return [
        age if face is None else (age + next(mirrored)) / 2
        for face, age in zip(faces, predicted_ages(estimator, faces), strict=True)
    ]


def measure_ages(ages: Sequence[float], labels: Sequence[Label]) -> dict[str, Any]:
    """Errors of ages, overall and by group.

    Args:
        ages: Predicted ages, years.
        labels: One label per age.

    Returns:
        The metrics of `measure_errors`; ``groups``, those of `group_metrics` or `range_group_metrics` by ``"age"``
        (bands), ``"gender"``, and ``"ethnicity"``, where labeled; ``worst_group`` of each of these
        with several groups of `SMALLEST_GROUP` faces; ``gap``, the difference in error between the worst and the best
        of them, years. Floats are rounded to four digits.
    """

    def measure(members: list[Optional[str]]) -> dict[str, dict[str, Any]]:
        if ranges := _ranges(labels):
            return range_group_metrics(ages, ranges, members)
        return group_metrics(ages, [label.age for label in labels], members)

    return rounded({**measure_errors(ages, labels), **_by_group(labels, measure)})


def measure_errors(ages: Sequence[float], labels: Sequence[Label]) -> dict[str, Any]:
    """`age_metrics` of ages in years, or `range_metrics` if the labels are ranges."""
    if ranges := _ranges(labels):
        return range_metrics(ages, ranges)
    return age_metrics(ages, [label.age for label in labels])


def _ranges(labels: Sequence[Label]) -> list[tuple[float, float]]:
    """The age ranges; empty if the ages are known."""
    return [label.age_range for label in labels if label.age_range]


def measure_intervals(faces: Sequence[Optional[Face]], labels: Sequence[Label]) -> Optional[dict[str, Any]]:
    """Coverage of the intervals of detected faces, overall and by age, and the share of flagged faces.

    An interval covers an age range if the two overlap.

    Args:
        faces: Predicted faces; None for missed faces.
        labels: One label per face.

    Returns:
        ``levels``, for each of `LEVELS` the ``coverage`` and mean ``width`` in years; ``bands``, the coverage at 0.9 by
        true age or range; ``flagged``, the share of unreliable faces; ``mae_reliable``, the MAE or mean distance of the
        others, years. None without a calibration.
    """
    pairs = [(face, label) for face, label in zip(faces, labels, strict=True) if face and face.interval()]
    found = [(face, label.age_range or (label.age, label.age), _name_age(label)) for face, label in pairs]
    if not found:
        return None
    members_of: dict[str, list[_Known]] = {}
    for known in sorted(found, key=lambda known: known[1]):
        members_of.setdefault(known[2], []).append(known)
    reliable = [max(first - face.age, face.age - last, 0) for face, (first, last), _ in found if face.reliable]
    return rounded(
        {
            "levels": {f"{level:g}": _cover(found, level) for level in LEVELS},
            "bands": {band: {**_cover(own, 0.9), "n": len(own)} for band, own in members_of.items()},
            "flagged": 1 - len(reliable) / len(found),
            "mae_reliable": float(np.mean(reliable)) if reliable else None,
        }
    )


_Known = tuple[Face, tuple[float, float], str]
"""A face, the ends of its true age, and its band."""


def _cover(known: Sequence[_Known], level: float) -> dict[str, float]:
    ends = [(*interval, *ages) for face, ages, _ in known if (interval := face.interval(level))]
    inside = [low <= last and first <= high for low, high, first, last in ends]
    return {"coverage": float(np.mean(inside)), "width": float(np.mean([high - low for low, high, *_ in ends]))}


def _name_age(label: Label) -> str:
    return name_range(*label.age_range) if label.age_range else age_band(label.age)


def measure_stages(faces: Sequence[Optional[Face]]) -> Optional[list[float]]:
    """Share of each stage in the variance of the predicted ages, coarse to fine.

    For stage k this is ``Cov(contribution_k, age) / Var(age)``; the shares add up to 1.

    Args:
        faces: Predicted faces; None for missed faces.

    Returns:
        The shares; None if all ages are the same.
    """
    contributions = np.array([[stage.contribution for stage in face.stages] for face in faces if face])
    if not np.isfinite(contributions).all() or not contributions.size:
        return None
    ages = contributions.sum(1)
    centered = ages - ages.mean()
    if not centered.any():
        return None
    return rounded((centered @ contributions / (centered @ ages)).tolist())


def measure_genders(labels: Sequence[Label], faces: Sequence[Optional[Face]]) -> dict[str, Any]:
    """Accuracy of gender scores, overall and by group.

    Args:
        labels: Labels with a gender.
        faces: One face per label, with a score; None, a missed face, counts as wrong.

    Returns:
        The metrics of `gender_metrics`, and ``groups`` and ``worst_group`` as in `measure_ages`.

    Raises:
        LabelsError: A label has no gender.
    """
    genders = [label.gender or "" for label in labels]
    if not any(genders):
        raise LabelsError("These weights predict gender, but the labels have no column gender (female or male).")
    for label, gender in zip(labels, genders, strict=True):
        if gender not in ("female", "male"):
            raise LabelsError(f"The gender of {label.path} must be female or male, not {gender!r:.50}.")
    scores = [0.5 if face is None or face.gender_score is None else face.gender_score for face in faces]
    figures = gender_metrics(scores, genders)
    return rounded({**figures, **_by_group(labels, lambda members: gender_group_metrics(scores, genders, members))})


def _by_group(labels: Sequence[Label], measure: Callable[[list], dict[str, dict[str, Any]]]) -> dict[str, Any]:
    members: dict[str, list[Any]] = {
        "age": [_name_age(label) for label in labels],
        "gender": [label.gender for label in labels],
        "ethnicity": [label.ethnicity for label in labels],
    }
    groups = {what: measure(names) for what, names in members.items() if any(names)}
    # one alone is neither the best nor the worst
    several = {what: figures for what, figures in groups.items() if len(large_groups(figures)) > 1}
    worst = {what: worst_group(figures) or "" for what, figures in several.items()}
    best = {what: best_group(figures) or "" for what, figures in several.items()}
    gap = {what: error_of(groups[what][worst[what]]) - error_of(groups[what][best[what]]) for what in worst}
    return {"groups": groups, "worst_group": worst, "gap": gap}


def try_boxes(
    estimator: AgeEstimator, labels: Sequence[Label], found: Sequence[Optional[Face]]
) -> Iterator[tuple[str, list[Optional[Face]]]]:
    """Predict the same faces from detected boxes, from inaccurate boxes, and from loose crops.

    Args:
        estimator: The estimator.
        labels: Labels of the photos.
        found: Result of `find_faces` for them.

    Yields:
        A description of the input, and the faces.
    """
    pairs = list(zip(labels, found, strict=True))

    def by_boxes(change: Callable[[Box, int], Box]) -> list[Optional[Face]]:
        return [
            face and estimator(label.path, boxes=[change(face.box, number)])[0]
            for number, (label, face) in enumerate(_progress(pairs, "boxes"))
        ]

    def crop(label: Label, face: Face) -> Face:
        image = load_photo(label.path)
        assert face.box
        x1, y1, x2, y2 = face.box
        margin = 0.3 * (x2 - x1)
        corners = (
            max(x1 - margin, 0),
            max(y1 - margin, 0),
            min(x2 + margin, image.width),
            min(y2 + margin, image.height),
        )
        left, top, right, bottom = map(round, corners)
        return estimator.crops([image.crop((left, top, right, bottom))], align=True)[0]

    yield "boxes as found", by_boxes(lambda box, number: box)
    yield "boxes 20 % larger, shifted by 10 %", by_boxes(_put_off)
    crops = [face and crop(label, face) for label, face in _progress(pairs, "crops")]
    yield "crops with a margin of 30 %, aligned", crops


def _put_off(box: Box, number: int) -> Box:
    """A box enlarged by 20% and shifted by 10% of its size, in a direction that depends on the number."""
    x1, y1, x2, y2 = box
    dx, dy = ((0.1, 0), (0, 0.1), (-0.1, 0), (0, -0.1))[number % 4]
    width, height = x2 - x1, y2 - y1
    return (
        x1 + (dx - 0.1) * width,
        y1 + (dy - 0.1) * height,
        x2 + (dx + 0.1) * width,
        y2 + (dy + 0.1) * height,
    )


def measure_robustness(
    estimator: AgeEstimator, labels: Sequence[Label], found: Sequence[Optional[Face]]
) -> tuple[dict[str, Optional[float]], dict[str, int]]:
    """Change of age if the crop is slightly misaligned, or the photo reduced or compressed.

    The crop is moved relative to the landmarks, or to the box for weights without a template. In reduced and compressed
    photos, faces are detected again.

    Args:
        estimator: The estimator.
        labels: Labels of the photos.
        found: Result of `find_faces` for them.

    Returns:
        By perturbation, the mean absolute change of age in years, over directions and faces detected both times, or
        None without such faces; and by the perturbations that detect again, the number of missed faces.
    """
    changes: dict[str, list[float]] = {how: [] for how in (*_MOVES, *_WORSE)}
    missed = dict.fromkeys(_WORSE, 0)
    for label, face in _progress(list(zip(labels, found, strict=True)), "robustness"):
        if face is None:
            continue
        image = load_photo(label.path)
        moves = [(how, move) for how, variants in _MOVES.items() for move in variants]
        moved = estimator.crops([_cut_moved(estimator.framing, image, face, *move) for _, move in moves])
        for (how, _), again in zip(moves, moved, strict=True):
            changes[how].append(abs(again.age - face.age))
        for how, worsen in _WORSE.items():
            seen = _largest(estimator(worsen(image)))
            if seen is None:
                missed[how] += 1
            else:
                changes[how].append(abs(seen.age - face.age))
    return {how: round(float(np.mean(part)), 4) if part else None for how, part in changes.items()}, missed


def measure_turned(
    estimator: AgeEstimator, labels: Sequence[Label], found: Sequence[Optional[Face]]
) -> dict[str, dict[str, Any]]:
    """Detect and predict the faces in rotated copies of the photos.

    Args:
        estimator: The estimator.
        labels: Labels of the photos.
        found: Result of `find_faces` for them.

    Returns:
        By rotation in degrees, ``"0"`` for the original photos: ``found``, the share of faces detected in the same
        place; ``right``, the share of these with the correct `Face.turned`; ``change``, their mean absolute change of
        age, years. None without such faces.
    """
    faces = [(label, face) for label, face in zip(labels, found, strict=True) if face]
    result = {"0": _compare_turned(0, [(face, face) for _, face in faces])}
    for turned in TURNS:
        pairs = []
        for label, face in _progress(faces, f"turned by {turned}"):
            image = load_photo(label.path)
            again = _largest(estimator(image.rotate(turned, expand=True)))
            ends = turn_points(np.array(face.box).reshape(2, 2), turned, image.size)
            there = again and again.box and iou(again.box, (*ends.min(0), *ends.max(0))) >= 0.5
            pairs.append((face, again if there else None))
        result[str(turned)] = _compare_turned(turned, pairs)
    return result


def _compare_turned(turned: int, pairs: list[tuple[Face, Optional[Face]]]) -> dict[str, Any]:
    again = [(face, other) for face, other in pairs if other]
    return {
        "found": _mean([other is not None for _, other in pairs]),
        "right": _mean([other.turned == turned for _, other in again]),
        "change": _mean([abs(other.age - face.age) for face, other in again]),
    }


def _mean(values: Sequence[float]) -> Optional[float]:
    return round(float(np.mean(values)), 4) if values else None


_FIVE_DEGREES = cmath.rect(1, math.radians(5))
_MOVES: dict[str, list[tuple[complex, complex]]] = {
    "shift 5 %": [(0.05, 1), (-0.05, 1), (0.05j, 1), (-0.05j, 1)],
    "scale 5 %": [(0, 1.05), (0, 0.95)],
    "rotation 5 degrees": [(0, _FIVE_DEGREES), (0, 1 / _FIVE_DEGREES)],
}
"""A shift in fractions of the side of the crop, and a rotation with a scale, as complex numbers x + iy."""


def _cut_moved(framing: Framing, image: Image.Image, face: Face, shift: complex, turn: complex) -> Image.Image:
    """The crop with the face in it rotated about the center, then shifted."""
    assert face.box
    if framing.template is not None:
        middle = 0.5 + 0.5j
        points = [(complex(x, y) - middle) * turn + middle + shift for x, y in framing.template]
        moved = replace(framing, template=tuple((point.real, point.imag) for point in points))
        return moved.crop(image, face.box, face.landmarks)
    # a crop by the box moves the other way, and the photo rotates
    x1, y1, x2, y2 = face.box
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    image = image.rotate(-math.degrees(cmath.phase(turn)), Image.Resampling.BICUBIC, center=(x, y))
    frame = (1 + 2 * framing.margin) / abs(turn)
    x, y = x - shift.real * frame * width, y - shift.imag * frame * height
    width, height = width / abs(turn), height / abs(turn)
    return framing.crop(image, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), None)


def _halve(image: Image.Image) -> Image.Image:
    return image.resize((max(image.width // 2, 1), max(image.height // 2, 1)), Image.Resampling.BICUBIC)


def _compress(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return file.getvalue()


_WORSE: dict[str, Callable[[Image.Image], Any]] = {"half resolution": _halve, "JPEG quality 40": _compress}


def rounded(figures: Any) -> Any:
    """Round the floats in nested dicts and lists to four digits."""
    if isinstance(figures, dict):
        return {key: rounded(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return round(figures, 4) if isinstance(figures, float) else figures


def _largest(faces: list[Face]) -> Optional[Face]:
    return faces[0] if faces else None


def _progress(items: Sequence[Any], what: str) -> Iterable[Any]:
    # disable=None: only in a terminal
    return tqdm(items, what, unit="picture", leave=False, disable=None)
