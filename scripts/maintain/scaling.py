"""Measure Ray with one and two workers on this machine: python scripts/maintain/scaling.py --photos DIR.

Results go to benchmarks/scaling.json, from which scripts/maintain/render_cards.py estimates the cost of many photos for
docs/scaling.md. To exclude the start-up of the cluster, a rate is computed from the difference between two runs.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import ray
from PIL import Image

from ssrnet_hub.batch.ray_data import predict_ray
from ssrnet_hub.utils.io import replace_file
from ssrnet_hub.utils.metrics import describe_device

ROOT = Path(__file__).resolve().parents[2]

sys.path.append(str(ROOT / "scripts"))
from benchmark import versions  # noqa: E402  in scripts/
from benchmark_folder import make_folder  # noqa: E402  in scripts/

FEW, MANY = 64, 320


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEGs to copy and crop")
    args = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder:
        paths = make_folder(Path(folder) / "photos", sorted(args.photos.glob("*.jpg")), MANY)
        rates, written = {}, 0
        for workers in (1, 2):
            seconds = {}
            for count in (FEW, MANY):
                output = Path(folder) / f"{workers}-{count}"
                start = time.perf_counter()
                predict_ray(paths[:count], output, concurrency=workers)
                seconds[count] = time.perf_counter() - start
                written = sum(path.stat().st_size for path in output.rglob("*.parquet"))
            rates[workers] = round((MANY - FEW) / (seconds[MANY] - seconds[FEW]), 2)
            print(f"{workers} worker(s): {rates[workers]} photos per second", flush=True)
        results = {
            "command": "python scripts/maintain/scaling.py --photos PHOTOS",
            "device": describe_device("cpu"),
            "versions": {**versions(), "ray": ray.__version__},
            "photos": MANY,
            "photos_a_second": rates,
            "bytes_read_a_photo": round(sum(path.stat().st_size for path in paths) / MANY),
            "bytes_written_a_photo": round(written / MANY),
            "pixels_a_photo": round(count_pixels(paths)),
        }
    with replace_file(ROOT / "benchmarks" / "scaling.json") as path:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def count_pixels(paths: list[Path]) -> float:
    """Return the mean number of pixels per photo."""
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append(image.width * image.height)
    return sum(sizes) / len(sizes)


if __name__ == "__main__":
    sys.exit(main())
