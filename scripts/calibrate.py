"""Calibrate weights: python scripts/calibrate.py --weights NAME --labels chips/labels.csv --output DIR.

Learns from rows of the split train that training set aside how far off ages may be, for `Face.interval`, and what
faces are like, for `Face.reliable`, and writes the weights with that in their config. What they are worth is measured
on the split val: how many true ages lie in their intervals, over random splits of its rows and those set aside, and how
well the flag tells chips from blurred ones and, with --photos, from parts of photos without a face.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from ssrnet_hub import AgeEstimator, Face, SSRNetHubError, from_pretrained, save_pretrained
from ssrnet_hub.hub.cards import name_weights, record_calibration
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.images.alignment import Box
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.detector import MTCNNDetector
from ssrnet_hub.inference.intervals import fit_intervals, measure_resplits
from ssrnet_hub.inference.reliability import describe_answer, fit_reliability
from ssrnet_hub.models.config import read_training
from ssrnet_hub.models.pretrained import DEFAULT
from ssrnet_hub.training.evaluation import LEVELS, rounded
from ssrnet_hub.training.labels import read_labels, set_aside
from ssrnet_hub.utils.metrics import auroc, describe_device

BLUR = 1 / 12
"""Sigma of the blur, as a share of a chip's side."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=DEFAULT, help="zoo name, folder or owner/repo (default: %(default)s)")
    parser.add_argument("--labels", required=True, help="labels.csv of aligned chips with the splits train and val")
    parser.add_argument("--photos", type=Path, help="folder of JPEGs, whose parts without faces are cut out")
    parser.add_argument("--output", type=Path, required=True, help="folder for the calibrated weights")
    parser.add_argument(
        "--record", action="store_true", help="keep the figures in ssrnet_hub/models/eval_results, for the cards"
    )
    args = parser.parse_args()
    try:
        # only weights of the zoo can be recorded; said before the measuring
        name = name_weights(args.weights) if args.record else None
        model = from_pretrained(args.weights)
        count = read_training(get_extras(model)).get("set_aside") or 0
        estimator = AgeEstimator(model)
        train, val = (read_labels(args.labels, split) for split in ("train", "val"))
        aside = set_aside(train, count)[1]
        seen, tested = (look(estimator, [load_photo(row.path) for row in rows]) for rows in (aside, val))
        ages, true = [face.age for face in seen], [row.age for row in aside]
        reliability = fit_reliability([describe_answer(face.stages, face.crop) for face in seen])
        calibration = {
            "intervals": fit_intervals(ages, true).to_dict(),
            "reliability": reliability.to_dict(),
        }
        save_pretrained(model, args.output, {"calibration": calibration})
        both = ages + [face.age for face in tested], true + [row.age for row in val]
        figures: dict[str, Any] = {
            "n": len(aside),
            "intervals": {str(level): measure_resplits(*both, len(aside), level, model.V) for level in LEVELS},
        }

        def odd(faces: Sequence[Face]) -> list[float]:
            return [reliability.score(describe_answer(face.stages, face.crop)) for face in faces]

        usual = odd(tested)
        others = {"blurred": look(estimator, [blur(face.crop) for face in tested])}
        if args.photos:
            others["without a face"] = look(estimator, cut_faceless(sorted(args.photos.glob("*.jpg"))))
        figures["flagged"] = float(np.mean(np.array(usual) > reliability.threshold))
        figures["flags"] = {
            what: {
                "auroc": auroc(odd(faces), usual),
                "flagged": share(odd(faces), reliability.threshold),
                "n": len(faces),
            }
            for what, faces in others.items()
        }
        figures = rounded(figures)
        for what, rows in (("intervals", figures["intervals"]), ("flags", figures["flags"])):
            print("\n".join(f"{what}  {key}  {row}" for key, row in rows.items()))
        print(f"flags {figures['flagged']:.2%} of val")
        if name:
            data = Path(args.labels).resolve().parent.name
            command = f"python scripts/calibrate.py --weights {name} --labels {data}/labels.csv --output DIR"
            command += " --photos photos" * bool(args.photos)
            how = {"dataset": data, "command": command, "device": describe_device(estimator.device)}
            record_calibration(name, {**figures, **how})
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
