"""Uses of the package as its users write them, for type checkers: `test_wheel.py` checks this file, nothing runs it."""

from pathlib import Path
from typing import Optional

from PIL import Image

import ssrnet_hub
from ssrnet_hub import AgeEstimator, Face, Framing, SSRNetHubError, Stage, from_pretrained, plot_breakdown


def ages_of(photo: Path) -> list[float]:
    est = AgeEstimator()
    try:
        faces: list[Face] = est(photo)
    except SSRNetHubError as e:
        print(e)
        return []
    return [face.age for face in faces]


def explain(face: Face) -> str:
    interval: Optional[tuple[float, float]] = face.interval()
    likely: Optional[bool] = face.reliable
    stages: tuple[Stage, ...] = face.stages
    crop: Image.Image = face.crop
    plot_breakdown(face).savefig("breakdown.png")
    parts = [stage.contribution for stage in stages]
    return f"{face.explain()} {interval} {likely} {sum(parts):.1f} {crop.size}"


def with_own_weights(folder: Path, photos: list[Image.Image]) -> list[list[Face]]:
    model = from_pretrained(folder)
    years: float = model.V
    print(years, ssrnet_hub.__version__, ssrnet_hub.list_models())
    return AgeEstimator(model, framing=Framing(margin=0.4), runtime="torch").batch(photos)


def in_batches(paths: list[Path], images: list[Image.Image]) -> None:
    est = AgeEstimator(min_score=0.95).to("cpu")
    faces: list[list[Face]] = est(paths)
    faces = est([paths[0], images[0], "photo.jpg"])
    one: list[Face] = est("photo.jpg")
    one = est(images[0], boxes=[[1, 2, 3, 4]])
    print(faces, one)
