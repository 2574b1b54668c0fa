"""Measure the effect of each part of SSR-Net.

python scripts/maintain/ablations.py --labels utkface/labels.csv --output DIR

Trains every variant with the same recipe and two seeds, unless DIR already contains the run, then times them side by
side. Results go to benchmarks/ablations.json, from which scripts/maintain/render_cards.py makes docs/ablations.md.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.training.recipe import read_recipe
from ssrnet_hub.utils.io import replace_file
from ssrnet_hub.utils.metrics import describe_device

ROOT = Path(__file__).resolve().parents[2]

sys.path.append(str(ROOT / "scripts"))
from benchmark import take_turns, versions  # noqa: E402  in scripts/

RECIPE = Path("ssrnet_hub") / "training" / "recipes" / "ssrnet.ablation.yaml"
BATCH = 64


@dataclass(frozen=True)
class Variant:
    """A network to compare.

    Attributes:
        folder: Folder of its runs, to which ``-SEED`` is appended.
        title: Title on the page.
        architecture: Name of the architecture.
        model_args: Arguments of the model that differ from the defaults.
    """

    folder: str
    title: str
    architecture: str = "ssrnet"
    model_args: dict[str, Any] = field(default_factory=dict)


VARIANTS = [
    Variant("full", "SSR-Net: stages of 3-3-3 bins, shift and scale"),
    Variant("fixed", "no dynamic range", model_args={"dynamic_range": False}),
    Variant("shift", "shift only (eta)", model_args={"lambda_d": 0.0}),
    Variant("scale", "scale only (delta)", model_args={"lambda_local": 0.0}),
    Variant("222", "stages of 2-2-2 bins", model_args={"stage_bins": [2, 2, 2]}),
    Variant("444", "stages of 4-4-4 bins", model_args={"stage_bins": [4, 4, 4]}),
    Variant("55", "two stages, of 5-5 bins", model_args={"stage_bins": [5, 5]}),
    Variant("dex", "one stage, a softmax over 101 years (`ssrnet_dex`)", "ssrnet_dex"),
    # a softmax over two bins, at 0 and at V / 2 = 101 years, is a logistic function of one number
    Variant("plain", "plain regression, one number", "ssrnet_dex", {"stage_bins": [2], "V": 202.0}),
    Variant("blog", "the blog post's network (`ssrnet_blog`)", "ssrnet_blog"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="labels.csv, as for ssrnet-hub train")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs; finished ones are kept")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each variant (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs; if more than one, each on one core")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "ablations.json")
    args = parser.parse_args()
    runs = [(variant, seed) for seed in range(args.seeds) for variant in VARIANTS]
    with ThreadPoolExecutor(args.jobs) as pool:
        codes = list(pool.map(lambda run: train(run[0], run[1], args.labels, args.output, args.jobs), runs))
    if failed := [f"{variant.folder}-{seed}" for (variant, seed), code in zip(runs, codes, strict=True) if code]:
        print(f"error: these runs failed, see their train.log: {', '.join(failed)}", file=sys.stderr)
        return 1
    data = args.labels.resolve().parent.name
    results = {
        "command": f"python scripts/maintain/ablations.py --labels {data}/labels.csv --output DIR",
        "data": data,
        "device": describe_device("cpu"),
        "versions": versions(),
        "recipe": RECIPE.as_posix(),
        "epochs": read_recipe(ROOT / RECIPE).epochs,
        "variants": describe_variants(args.output, args.seeds),
    }
    with replace_file(args.results) as path:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {args.results}")
    return 0


def train(variant: Variant, seed: int, labels: Path, output: Path, jobs: int) -> int:
    """Train one run unless it is finished, and return the exit code."""
    folder = output / f"{variant.folder}-{seed}"
    if (folder / "log.csv").exists() and not (folder / "state.pt").exists():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    command: list[Any] = [
        sys.executable,
        ROOT / "scripts" / "train.py",
        "--recipe",
        ROOT / RECIPE,
        "--labels",
        labels,
        "--resume",
        "--cpu",
    ]
    command += ["--output", folder, "--architecture", variant.architecture, "--seed", str(seed)]
    command += ["--model-args", json.dumps(variant.model_args)]
    env = {**os.environ, **({"OMP_NUM_THREADS": "1"} if jobs > 1 else {})}
    print(f"training {folder.name}", flush=True)
    with (folder / "train.log").open("a") as log:
        return subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT).returncode


def describe_variants(output: Path, seeds: int) -> list[dict[str, Any]]:
    """Return the results of the runs and the times of each variant."""
    torch.manual_seed(0)
    models = {v.folder: new_model(v.architecture, model_args=v.model_args) for v in VARIANTS}
    x = torch.randn(BATCH, 3, 64, 64)
    learning = take_turns({name: make_step(model, x) for name, model in models.items()}, 20)
    answering = take_turns({name: make_answer(model.eval(), x) for name, model in models.items()}, 40)
    rows = []
    for variant in VARIANTS:
        logs = [read_log(output / f"{variant.folder}-{seed}" / "log.csv") for seed in range(seeds)]
        maes = [float(log[-1]["val_mae"]) for log in logs]
        rows.append(
            {
                "title": variant.title,
                "architecture": variant.architecture,
                "model_args": variant.model_args,
                "parameters": count_acting_parameters(variant, x[:2]),
                "val_mae": maes,
                "mean": round(statistics.mean(maes), 3),
                "learning": {key: learning[variant.folder][key] for key in ("ms", "ratio")},
                "answering": {key: answering[variant.folder][key] for key in ("ms", "ratio")},
            }
        )
    return rows


def read_log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def make_step(model: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    return lambda: model.train()(x).sum().backward()


def make_answer(model: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    return torch.inference_mode()(lambda: model(x))


def count_acting_parameters(variant: Variant, x: torch.Tensor) -> int:
    """Count the parameters that the age depends on, without those of parts that are switched off."""
    sizes: dict[str, int] = {}
    # with some random weights, a whole layer has no gradient
    for _ in range(8):
        model = new_model(variant.architecture, model_args=variant.model_args)
        model.train()(x).sum().backward()
        sizes |= {name: p.numel() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    return sum(sizes.values())


if __name__ == "__main__":
    sys.exit(main())
