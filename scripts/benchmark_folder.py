"""The folder job and Ray on many photos, for scripts/benchmark.py --folder and scripts/maintain/scaling.py."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from ssrnet_hub.batch.local import Task, count_cores, predict_files
from ssrnet_hub.images.loading import load_photo

MARKS = (100, 500)
"""Photos after which the memory is looked at."""

SAMPLES = 5
"""Of which the memory at a mark is the mean."""

Found = list[tuple[np.ndarray, float, float]]
"""Boxes, scores and ages."""


def make_folder(folder: Path, photos: list[Path], count: int) -> list[Path]:
    """Copies and crops of photos, the same every time; none where the folder has as many pictures already."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(tqdm(paths, "photos", leave=False)):
        source, share, (left, top) = photos[number % len(photos)], rng.uniform(0.6, 1.0), rng.uniform(size=2)
        if not path.exists():
            image = load_photo(source)
            if number // len(photos) % 2:
                width, height = round(image.width * share), round(image.height * share)
                x, y = round((image.width - width) * left), round((image.height - height) * top)
                image = image.crop((x, y, x + width, y + height))
            image.save(path, quality=90)
    return paths


def measure_folder(paths: list[Path], plain: Callable[[Path], Found], sure: float) -> dict[str, Any]:
    """The folder job against a plain loop, one photo at a time.

    Args:
        paths: The photos.
        plain: What the loop does with a photo.
        sure: Score from which a face of the loop must not be lost, where it is as large as the default promises.
    """
    memory: dict[str, int] = {}
    samples: list[int] = []
    seen = 0

    def look(photos: list[dict[str, Any]]) -> None:
        nonlocal seen
        samples.append(sum_memory())
        for mark in MARKS:
            if seen < mark <= seen + len(photos):
                # a single sample says more of the photo that is being looked at
                memory[f"around photo {mark}"] = round(statistics.mean(samples[-SAMPLES:]))
                print(f"photo {mark}: {memory[f'around photo {mark}']} MB", flush=True)
        seen += len(photos)

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        predict_files([Task(path.name, path) for path in paths], Path(folder) / "out.jsonl", report=look)
        job_seconds = time.perf_counter() - start
        found = [json.loads(line) for line in (Path(folder) / "out.jsonl").read_text().splitlines()]
    start = time.perf_counter()
    first = [plain(path) for path in tqdm(paths, "plain loop", leave=False)]
    loop_seconds = time.perf_counter() - start
    wanted = lost = 0
    for path, faces, ours in zip(paths, first, found, strict=True):
        size = load_photo(path).size
        least = max(20, max(size) / 50)
        boxes = [box for box, score, _ in faces if score > sure and (box[2:] - box[:2]).max() >= least]
        # the loop's boxes reach over the edge
        boxes = [box.reshape(2, 2).clip(0, size).ravel() for box in boxes]
        wanted += len(boxes)
        lost += sum(all(overlap(box, np.array(face["box"])) < 0.5 for face in ours["faces"]) for box in boxes)
    return {
        "photos": len(paths),
        "workers": count_cores(),
        "loop": {"seconds": round(loop_seconds, 1), "faces": sum(map(len, first))},
        "job": {"seconds": round(job_seconds, 1), "faces": sum(len(photo["faces"]) for photo in found)},
        "times_the_rate": round(loop_seconds / job_seconds, 2),
        "sure_faces": wanted,
        "sure_faces_lost": lost,
        "memory_mb": memory,
    }


def sum_memory() -> int:
    """Resident memory of this process and those that it started, MB."""
    process = psutil.Process()
    return round(sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 1e6)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """What two boxes have in common, as a share of what they cover."""
    sides = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    both = sides.prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))
