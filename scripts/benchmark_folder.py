"""Measure the folder job on many photos, for scripts/benchmark.py --folder and scripts/maintain/scaling.py."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from ssrnet_hub.batch.local import count_cores
from ssrnet_hub.images.alignment import iou
from ssrnet_hub.images.loading import load_photo

COUNT = 500
"""Photos in the folder."""

_LOOK = 0.5
"""Seconds between two samples of the memory."""

Found = list[tuple[np.ndarray, float, float]]
"""Boxes, scores, and ages."""


def make_folder(folder: Path, photos: list[Path], count: int) -> list[Path]:
    """Write copies and crops of photos, the same every time, unless they exist."""
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
    """Compare the folder job with a plain loop over photos.

    Args:
        paths: Photos.
        plain: What the loop does with a photo.
        sure: Score above which detections of the loop must not be missed, if they have the default's minimum size.
    """
    # a new process, as users would start it, without what this one has imported
    command = [sys.executable, "-m", "ssrnet_hub.cli", "predict", str(paths[0].parent)]
    most = 0
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.jsonl"
        start = time.perf_counter()
        job = psutil.Popen([*command, "--output", str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None:
            most = max(most, sum_memory(job))
            time.sleep(_LOOK)
        job_seconds = time.perf_counter() - start
        if job.returncode:
            sys.exit(f"{' '.join(command)} failed with exit code {job.returncode}")
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    found = sorted(rows, key=lambda row: row["file"])
    start = time.perf_counter()
    first = [plain(path) for path in tqdm(paths, "plain loop", leave=False)]
    loop_seconds = time.perf_counter() - start
    wanted = lost = 0
    for path, faces, ours in zip(paths, first, found, strict=True):
        size = load_photo(path).size
        least = max(20, max(size) / 50)
        boxes = [box for box, score, _ in faces if score > sure and (box[2:] - box[:2]).max() >= least]
        # the loop's boxes may extend beyond the edge
        boxes = [box.reshape(2, 2).clip(0, size).ravel() for box in boxes]
        wanted += len(boxes)
        lost += sum(all(iou(box, face["box"]) < 0.5 for face in ours["faces"]) for box in boxes)
    return {
        "photos": len(paths),
        "workers": count_cores(),
        "loop": {"seconds": round(loop_seconds, 1), "faces": sum(map(len, first))},
        "job": {"seconds": round(job_seconds, 1), "faces": sum(len(photo["faces"]) for photo in found)},
        "times_the_rate": round(loop_seconds / job_seconds, 2),
        "sure_faces": wanted,
        "sure_faces_lost": lost,
        "peak_mb": most,
    }


def sum_memory(job: psutil.Popen) -> int:
    """Return the memory of a process and its children in MB; on Linux, shared memory counts once."""
    size = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (job, *job.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                size += getattr(info := process.memory_full_info(), "pss", info.rss)
    return round(size / 1e6)
