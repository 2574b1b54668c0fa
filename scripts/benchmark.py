"""Measure speed, side by side in one run: python scripts/benchmark.py --photos DIR --film FILE.

Contestants take turns, so that other load on the machine affects all of them. Times are medians with quartiles; ratios
are medians of the ratios to the first contestant in the same round. Results go to benchmarks/DEVICE.json, from which
the README's table and plot are made.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import timm
import torch
from benchmark_folder import COUNT, make_folder, measure_folder
from benchmark_start import measure_first_age
from facenet_pytorch import MTCNN
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ssrnet_hub import AgeEstimator, from_pretrained
from ssrnet_hub.errors import SSRNetHubError
from ssrnet_hub.images.alignment import iou
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference.backends import make_runtime
from ssrnet_hub.inference.tracking import AgeTracker
from ssrnet_hub.models.fused import fuse
from ssrnet_hub.utils.io import replace_file
from ssrnet_hub.utils.metrics import describe_device

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "ssrnet_hub" / "webapp" / "examples"

SSRNET = "ssrnet.utkface_fairface_aaf"
"""Weights of the paper's network, which has the size of the baseline."""

SURE = 0.95
"""Score above which detections of the stock detector must not be missed, if they have the default's minimum size."""

SETTLE = 0.02
"""Seconds; see `take_turns`."""

Contestants = dict[str, Callable[[], Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--photos", type=Path, default=EXAMPLES, help="folder of JPEGs (default: the demo's examples)")
    parser.add_argument("--film", type=Path, help="video to take frames from (default: a synthetic moving face)")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="only compare the folder job with a plain loop, on 500 copies and crops of PHOTOS, which are made in DIR "
        "if missing; results go to benchmarks/folder.json",
    )
    parser.add_argument(
        "--start",
        action="store_true",
        help="only compare the time to the first age with another package, which is installed in its own environment; "
        "results go to benchmarks/start.json",
    )
    parser.add_argument("--keras", type=Path, metavar="H5", help="the authors' weights (requires TensorFlow)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--output", type=Path, help="default: benchmarks/DEVICE.json")
    args = parser.parse_args()
    options = ["--photos PHOTOS"] * (args.photos != EXAMPLES) + ["--film FILM"] * bool(args.film)
    options += ["--folder DIR"] * bool(args.folder) + ["--start"] * args.start
    options += ["--keras H5"] * bool(args.keras) + [f"--device {args.device}"] * (args.device != "cpu")
    result: dict[str, Any] = {
        "command": " ".join(["python scripts/benchmark.py", *options]),
        "device": describe_device(args.device),
        "versions": versions(),
    }
    try:
        if args.folder:
            stock, blog = MTCNN(keep_all=True), timm.create_model("ssrnet_blog").eval()
            paths = make_folder(args.folder, sorted(args.photos.glob("*.jpg")), COUNT)
            result["folder"] = measure_folder(paths, lambda path: run_plain(path, stock, blog), SURE)
        elif args.start:
            result["first_age"] = measure_first_age(EXAMPLES / "1-astronaut.jpg", rounds=5)
        elif args.device == "cuda":
            result["model"] = measure_model_on_gpu()
        else:
            result["matrix_product_gflops"] = measure_matrix_product()
            result["model"] = measure_model(result["matrix_product_gflops"], args.keras)
            result["photos"] = measure_photos(sorted(args.photos.glob("*.jpg")))
            result["film"] = measure_film(args.film)
            result["sizes"] = measure_sizes()
    except SSRNetHubError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    text = json.dumps(result, indent=2) + "\n"
    name = "folder" if args.folder else "start" if args.start else args.device
    with replace_file(args.output or ROOT / "benchmarks" / f"{name}.json") as path:
        path.write_text(text, encoding="utf-8")
    print(text if args.json else in_words(result), end="")
    return 0


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "timm", "facenet-pytorch", "onnxruntime", "tensorflow", "ssrnet_hub"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def take_turns(
    contestants: Contestants, rounds: int, *, warm_up: int = 3, settle: bool = True
) -> dict[str, dict[str, float]]:
    """Time contestants, each once per round.

    Args:
        contestants: Functions to run, by name.
        rounds: Rounds that count.
        warm_up: Rounds before those, which do not count.
        settle: Run each contestant for `SETTLE` seconds before its timed run, until the busy-waiting threads of the
            previous one have gone to sleep.

    Returns:
        By contestant: ``ms``, the median; ``ms_quartiles``; ``ratio``, the median of the rounds' ratios to the first.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warm_up + rounds):
        for name, run in contestants.items():
            begun = time.perf_counter()
            while settle and time.perf_counter() < begun + SETTLE:
                run()
            start = time.perf_counter()
            run()
            if turn >= warm_up:
                times[name].append(1000 * (time.perf_counter() - start))
    first = np.array(next(iter(times.values())))
    return {
        name: {**spread(values), "ratio": round(float(np.median(np.array(values) / first)), 4)}
        for name, values in times.items()
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"ms": round(middle, 4), "ms_quartiles": [round(low, 4), round(high, 4)]}


def measure_matrix_product(side: int = 2048) -> float:
    """Measure the GFLOP/s of a float32 matrix product."""
    a, b = torch.rand(2, side, side)
    times = take_turns({"product": lambda: a @ b}, 9)
    return round(2 * side**3 / times["product"]["ms"] / 1e6, 1)


def measure_model(gflops: float, keras: Optional[Path]) -> dict[str, Any]:
    """Measure the model on a CPU, from pixels or the contestant's own kind of input to age and stages."""
    model, blog = from_pretrained(SSRNET), timm.create_model("ssrnet_blog").eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, *size_of(model)))
    flops = counter.get_total_flops()
    runtimes = {kind: make_runtime(model, kind) for kind in ("torch", "onnx")}
    compiled, face = compile_model(model), Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    estimators = {
        "est.crops": AgeEstimator(),
        "est.crops, ssrnet": AgeEstimator(model),
        "est.crops, ssrnet, without ONNX Runtime": AgeEstimator(model, runtime="torch"),
    }
    authors = load_keras(keras) if keras else None
    rows: dict[str, Any] = {}
    for batch, rounds in ((1, 100), (16, 25), (64, 15), (256, 5)):
        pixels = torch.randint(0, 256, (batch, *size_of(model), 3), dtype=torch.uint8)
        x, crops = torch.rand(batch, 3, *size_of(model)), [face] * batch
        contestants: Contestants = {
            "ssrnet_blog, eager": partial(blog, x),
            "ssrnet, eager": partial(model, x),
            **({"ssrnet, torch.compile": partial(compiled, x)} if compiled is not None else {}),
            **{f"ssrnet, runtime {kind}": partial(run, pixels) for kind, run in runtimes.items()},
            **{name: partial(est.crops, crops) for name, est in estimators.items()},
            **({"the authors' Keras": partial(run_keras, authors, x)} if authors is not None else {}),
        }
        with torch.inference_mode():
            row = take_turns(contestants, rounds)
        for name, figures in row.items():
            if name.startswith("ssrnet, "):
                figures["share_of_matrix_product"] = round(batch * flops / figures["ms"] / 1e6 / gflops, 3)
        rows[f"batch {batch}"] = row
    return {"mflop_a_face": round(flops / 1e6, 1), **rows}


def size_of(model: torch.nn.Module) -> tuple[int, int]:
    """Return height and width of a model's input."""
    return timm.data.resolve_model_data_config(model)["input_size"][1:]


def compile_model(model: torch.nn.Module) -> Optional[Callable]:
    """Compile the model with torch.compile; None if its compiler is not available."""
    compiled = torch.compile(model, dynamic=True)
    try:
        with torch.inference_mode():
            compiled(torch.rand(2, 3, *size_of(model)))
    except Exception as e:  # the error depends on what is missing on this machine
        print(f"Skipping torch.compile: {str(e).splitlines()[0]}", file=sys.stderr)
        return None
    return compiled


def run_keras(network: Callable, x: torch.Tensor) -> Any:
    return network(x.movedim(1, 3).numpy())


def load_keras(path: Path) -> Optional[Callable]:
    """Build the authors' network in Keras as one graph; weights do not affect its speed."""
    try:
        import tensorflow as tf
    except ImportError:
        print("Skipping the authors' Keras: TensorFlow is not installed.", file=sys.stderr)
        return None
    layers = tf.keras.layers
    image = layers.Input((64, 64, 3))
    taps: list[list[Any]] = []
    for channels, act, pool in ((32, "relu", layers.AveragePooling2D), (16, "tanh", layers.MaxPooling2D)):
        x, found = image, []
        for block in range(4):
            x = layers.Activation(act)(layers.BatchNormalization()(layers.Conv2D(channels, 3)(x)))
            x = pool(2)(x) if block < 3 else x
            if block != 2:
                found.append(x)
        taps.append(found[::-1])
    age, width = 0.0, 101.0
    for size, x1, x2 in zip((1, 4, 8), *taps, strict=True):
        x1, x2 = (layers.Conv2D(10, 1, activation="relu")(x) for x in (x1, x2))
        if size > 1:
            x1, x2 = layers.AveragePooling2D(size)(x1), layers.MaxPooling2D(size)(x2)
        x1, x2 = layers.Flatten()(x1), layers.Flatten()(x2)
        delta = layers.Dense(1, activation="tanh")(x1 * x2)
        h = layers.Dense(3, activation="relu")(x1) * layers.Dense(3, activation="relu")(x2)
        h = layers.Dense(6, activation="relu")(h)
        p, eta = layers.Dense(3, activation="relu")(h), layers.Dense(3, activation="tanh")(h)
        width = width / (3 * (1 + delta))
        age = age + tf.keras.ops.sum(p * (np.arange(3, dtype=np.float32) + eta), 1, keepdims=True) * width
    model = tf.keras.Model(image, age)
    print(f"Keras: {model.count_params()} parameters", file=sys.stderr)
    return tf.function(lambda x: model(x, training=False), reduce_retracing=True)


def measure_model_on_gpu() -> dict[str, Any]:
    """Measure the network on a GPU, in faces per second."""
    model, blog = from_pretrained(SSRNET, device="cuda"), timm.create_model("ssrnet_blog").eval().cuda()
    fused = fuse(model).to(memory_format=torch.channels_last)
    half = fuse(model).half_streams().to(memory_format=torch.channels_last)
    networks: dict[str, Callable] = {
        "ssrnet_blog, eager": blog,
        "ssrnet, eager": model,
        "ssrnet, runtime torch": fused,
        "ssrnet, float16": half,
        "ssrnet, float16, torch.compile": torch.compile(half, mode="max-autotune"),
    }
    rows = {}
    for batch in (1, 64, 4096):
        pixels = torch.randint(0, 256, (batch, *size_of(model), 3), dtype=torch.uint8, device="cuda")
        x = torch.rand(batch, 3, *size_of(model), device="cuda")

        def wait_for(network: Callable, x: torch.Tensor) -> None:
            network(x)
            torch.cuda.synchronize()

        contestants: Contestants = {
            name: partial(wait_for, run, x if run in (blog, model) else pixels) for name, run in networks.items()
        }
        with torch.inference_mode():
            row = take_turns(contestants, 30, warm_up=5)
        for figures in row.values():
            figures["faces_a_second"] = round(1000 * batch / figures["ms"])
        rows[f"batch {batch}"] = row
    return rows


def measure_photos(paths: list[Path]) -> dict[str, Any]:
    """Compare the stock detector and the blog's model with ours, from photos to ages, one photo at a time."""
    stock, blog = MTCNN(keep_all=True), timm.create_model("ssrnet_blog").eval()
    ways: dict[str, Callable[[Path], list]] = {
        "MTCNN of facenet-pytorch and ssrnet_blog, eager": lambda path: run_plain(path, stock, blog),
        "ours": AgeEstimator(),
        "ours, ssrnet": AgeEstimator(SSRNET),
        "ours without ONNX Runtime": AgeEstimator(runtime="torch"),
        "ours, min_face=20": AgeEstimator(min_face=20),
        "ours, min_face=0.1": AgeEstimator(min_face=0.1),
    }
    total: dict[str, Any] = {name: {"ms": 0.0, "faces": 0} for name in ways}
    sure = lost = 0
    for path in paths:
        row = take_turns({name: partial(way, path) for name, way in ways.items()}, 5, warm_up=1, settle=False)
        found = {name: way(path) for name, way in ways.items()}
        for name, figures in row.items():
            total[name]["ms"] += figures["ms"]
            total[name]["faces"] += len(found[name])
        least = max(20, max(load_photo(path).size) / 50)
        first, *_ = found.values()
        wanted = [box for box, score, _ in first if score > SURE and (box[2:] - box[:2]).max() >= least]
        sure += len(wanted)
        lost += sum(all(iou(box, face.box) < 0.5 for face in found["ours"]) for box in wanted)
    (first, *_) = total.values()
    for figures in total.values():
        figures["ratio"] = round(figures["ms"] / first["ms"], 4)
        figures["ms"] = round(figures["ms"], 1)
    return {"photos": len(paths), "ways": total, "sure_faces": sure, "sure_faces_lost": lost}


def run_plain(path: Path, stock: MTCNN, blog: torch.nn.Module) -> list[tuple[np.ndarray, float, float]]:
    """Estimate boxes, scores, and ages as one would write it from the READMEs of both."""
    image = load_photo(path)
    boxes, scores = stock.detect(image)
    found = []
    for box, score in [] if boxes is None else zip(boxes, scores, strict=True):
        x1, y1, x2, y2 = map(int, box)
        crop = np.array(image.crop((x1, y1, x2, y2)).resize((64, 64)))
        x = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            found.append((box.astype(float), float(score), blog(x).item()))
    return found


def measure_film(path: Optional[Path], count: int = 40) -> dict[str, Any]:
    """Measure frames per second at 640x480, with tracking."""
    frames = list(itertools.islice(read_film(path), count))
    trackers = {
        "default": AgeTracker(AgeEstimator()),
        "min_face=0.1": AgeTracker(AgeEstimator(min_face=0.1)),
    }
    times: dict[str, list[float]] = {name: [] for name in trackers}
    for number, frame in enumerate(frames):
        for name, tracker in trackers.items():
            start = time.perf_counter()
            tracker(frame, number / 25)
            times[name].append(1000 * (time.perf_counter() - start))
    figures = {name: spread(values[3:]) for name, values in times.items()}
    return {
        "film": path.name if path else "a face that moves",
        "frames": len(frames),
        "size": list(frames[0].size),
        "ways": {name: {**part, "frames_a_second": round(1000 / part["ms"], 1)} for name, part in figures.items()},
    }


def read_film(path: Optional[Path]) -> Iterator[Image.Image]:
    if path is None:
        photo = load_photo(EXAMPLES / "1-astronaut.jpg").resize((640, 640))
        yield from (photo.crop((step, step, step + 600, step + 450)).resize((640, 480)) for step in range(40))
        return
    import av

    with av.open(str(path)) as film:
        yield from (frame.to_image().resize((640, 480)) for frame in film.decode(video=0))


def measure_sizes() -> dict[str, int]:
    """Return the file sizes of the default weights, in bytes."""
    from ssrnet_hub.inference.onnx_export import to_onnx
    from ssrnet_hub.models.zoo import DEFAULT, ZOO

    return {
        "model.safetensors": (ZOO[DEFAULT].folder / "model.safetensors").stat().st_size,
        "model.onnx": len(to_onnx(fuse(from_pretrained()).graph)),
    }


def in_words(result: dict[str, Any]) -> str:
    lines = [result["command"], result["device"]]

    def table(title: str, rows: dict[str, dict[str, Any]]) -> None:
        lines.append(f"\n{title}")
        for name, row in rows.items():
            cells = "  ".join(f"{key} {value}" for key, value in row.items())
            lines.append(f"  {name:56} {cells}")

    if "matrix_product_gflops" in result:
        lines.append(f"float32 matrix product: {result['matrix_product_gflops']} GFLOP/s")
    if "folder" in result:
        table("many photos", {name: {"": value} for name, value in result["folder"].items()})
    if "first_age" in result:
        table("first age", result["first_age"])
    for batch, rows in result.get("model", {}).items():
        if isinstance(rows, dict):
            table(f"model, {batch}", rows)
    if "photos" in result:
        photos = result["photos"]
        lost = f"{photos['sure_faces_lost']} of {photos['sure_faces']} confident baseline detections missed"
        table(f"{photos['photos']} photos to ages, {lost}", photos["ways"])
        table(f"{result['film']['frames']} frames of 640x480", result["film"]["ways"])
        table("bytes", {name: {"": size} for name, size in result["sizes"].items()})
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
