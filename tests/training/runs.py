"""What the tests of training share: chips, a quick recipe, and how to read what a run left."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from ssrnet_hub.training.loop import train
from ssrnet_hub.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "ssrnet_hub" / "training" / "recipes").glob("*.yaml"))
# one precision for all: accelerate keeps the first that it meets in a process
QUICK = Recipe(epochs=2, batch_size=8, seed=3, mixed_precision="no")
FILES = ["config.json", "log.csv", "model.safetensors", "tensorboard"]


def write_labels(folder, chips):
    """A labels file of (picture, age, split) or (picture, age, split, gender)."""
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", "split", "gender"])
        for i, (chip, *rest) in enumerate(chips):
            chip.save(folder / f"{i}.png")
            writer.writerow([f"{i}.png", *rest, *[""] * (3 - len(rest))])
    return folder / "labels.csv"


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))


def grey(value, size=128):
    return Image.new("RGB", (size, size), (value,) * 3)


def weights_of(output):
    return (output / "model.safetensors").read_bytes()


def read_log(output):
    with (output / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def trains(labels, output, recipe):
    train(labels, output, recipe)
    return output
