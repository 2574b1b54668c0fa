"""Measure weights on labelled faces: python scripts/evaluate.py --weights W --labels DIR/labels.csv --split val."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssrnet_hub import AgeEstimator, Face, SSRNetHubError, from_pretrained
from ssrnet_hub.cards import name_weights, record_figures
from ssrnet_hub.data import Label, read_labels
from ssrnet_hub.framing import Box
from ssrnet_hub.hub import get_extras
from ssrnet_hub.metrics import age_metrics, describe_device, gender_metrics
from ssrnet_hub.photos import load_photo
from ssrnet_hub.zoo import DEFAULT

UTKFACE_MEDIAN_AGE = 29.0


def answer_missing(estimator: AgeEstimator) -> float:
    """The age that stands for a face that was not found: the median of the training ages, years.

    Weights that do not state theirs get that of UTKFace's train split.
    """
    return float(get_extras(estimator.model).get("training", {}).get("median_age", UTKFACE_MEDIAN_AGE))


def progress(items: Iterable, total: int | None = None) -> Iterable:
    return tqdm(items, total=total, unit="photo", disable=not sys.stderr.isatty())


def find_faces(estimator: AgeEstimator, labels: list[Label], detect: bool) -> list[Face | None]:
    """The face of each picture: the largest one of a photo, None where there is none, or the chip as it is."""
    paths = [label.path for label in labels]
    if not detect:
        return list(estimator.crops(progress(paths)))
    return [next(iter(estimator(path)), None) for path in progress(paths)]


def move(box: Box, number: int) -> Box:
    """A box 20 % larger and shifted by 10 % of its size, to another side for each number."""
    x1, y1, x2, y2 = box
    dx, dy = ((0.1, 0), (0, 0.1), (-0.1, 0), (0, -0.1))[number % 4]
    width, height = x2 - x1, y2 - y1
    return (
        x1 + (dx - 0.1) * width,
        y1 + (dy - 0.1) * height,
        x2 + (dx + 0.1) * width,
        y2 + (dy + 0.1) * height,
    )


def try_boxes(estimator: AgeEstimator, labels: list[Label], found: list[Face | None]) -> Iterator[tuple[str, list]]:
    """The same faces from the boxes that were found, from boxes that are off, and from crops with a margin."""
    pairs = list(zip(labels, found, strict=True))

    def by_boxes(change: Any) -> list[Face | None]:
        return [
            face and estimator(label.path, boxes=[change(face.box, number)])[0]
            for number, (label, face) in enumerate(progress(pairs))
        ]

    def crop(label: Label, face: Face) -> Face:
        image = load_photo(label.path)
        x1, y1, x2, y2 = face.box
        margin = 0.3 * (x2 - x1)
        corners = (
            max(x1 - margin, 0),
            max(y1 - margin, 0),
            min(x2 + margin, image.width),
            min(y2 + margin, image.height),
        )
        return estimator.crops([image.crop(tuple(map(round, corners)))], align=True)[0]

    yield "boxes as found", by_boxes(lambda box, number: box)
    yield "boxes 20 % larger, shifted by 10 %", by_boxes(move)
    yield "crops with a margin of 30 %, aligned", [face and crop(label, face) for label, face in progress(pairs)]


def measure_ages(estimator: AgeEstimator, labels: list[Label], faces: list[Face | None]) -> dict[str, Any]:
    ages = [answer_missing(estimator) if face is None else face.age for face in faces]
    figures = age_metrics(ages, [label.age for label in labels])
    return {**figures, **{k: round(figures[k], 4) for k in ("mae", "cs5", "bias")}, "missed": faces.count(None)}


def measure_genders(labels: list[Label], faces: list[Face | None]) -> dict[str, Any]:
    if not all(label.gender in ("female", "male") for label in labels):
        raise SSRNetHubError("These weights tell gender, and the labels have none: a column gender, female or male.")
    scores = [0.5 if face is None else face.gender_score for face in faces]
    figures = gender_metrics(scores, [label.gender for label in labels])
    rounded = {k: round(figures[k], 4) for k in ("accuracy", "balanced_accuracy")}
    return {**figures, **rounded, "missed": faces.count(None)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights",
        default=DEFAULT,
        help="zoo name, folder or owner/repo, of age or of gender; the embedded default without",
    )
    parser.add_argument(
        "--labels", required=True, help="labels.csv with the columns file, age and perhaps split, gender"
    )
    parser.add_argument("--split", help="only the rows of this split; all rows without")
    parser.add_argument(
        "--detect", action="store_true", help="the pictures are photos, of which the largest face counts"
    )
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="with --detect: measure as well with the boxes that were found handed back in, with boxes that are off, "
        "and with crops to be aligned",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--record", action="store_true", help="keep the figures in ssrnet_hub/figures, from which the cards are made"
    )
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.boxes and not args.detect:
        parser.error("--boxes goes with --detect")
    try:
        labels = read_labels(args.labels, args.split)
        if any(label.split == "train" for label in labels):
            print("warning: the split train is among these rows; weights trained on it look too good", file=sys.stderr)
        # only weights of the zoo can be recorded; said before the measuring
        name = name_weights(args.weights) if args.record else args.weights
        model = from_pretrained(args.weights)
        of_gender = model.V == 1
        if of_gender and args.boxes:
            parser.error("--boxes goes with weights of age")
        estimator = AgeEstimator(gender=model) if of_gender else AgeEstimator(model, device=args.device)
        faces = find_faces(estimator, labels, args.detect)
        result = measure_genders(labels, faces) if of_gender else measure_ages(estimator, labels, faces)
        if args.boxes:
            tried = try_boxes(estimator, labels, faces)
            result["boxes"] = {how: measure_ages(estimator, labels, again)["mae"] for how, again in tried}
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    result.update(split=args.split, weights=args.weights)
    if args.json:
        print(json.dumps(result))
    else:
        print_figures(result)
    if args.record:
        record(name, args, {**result, "device": describe_device(estimator.device)})
    return 0


def print_figures(result: dict[str, Any]) -> None:
    rows = [(key, value) for key, value in result.items() if key != "boxes"]
    rows += [(f"mae, {how}", f"{mae} ({mae - result['mae']:+.2f})") for how, mae in result.get("boxes", {}).items()]
    width = max(len(key) for key, _ in rows)
    print("\n".join(f"{key:{width}}  {value}" for key, value in rows))


def record(name: str, args: argparse.Namespace, result: dict[str, Any]) -> None:
    data = Path(args.labels).resolve().parent.name
    command = ["python scripts/evaluate.py", "--weights", name, "--labels", f"{data}/labels.csv"]
    command += ["--split", args.split] if args.split else []
    command += ["--detect"] * args.detect + ["--boxes"] * args.boxes
    del result["weights"]
    record_figures(name, {**result, "dataset": data, "detect": args.detect, "command": " ".join(command)})


if __name__ == "__main__":
    sys.exit(main())
