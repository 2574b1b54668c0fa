"""Training on labelled, aligned chips."""

import csv
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import timm
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchvision.transforms import v2
from tqdm import tqdm

from .data import Label, read_labels
from .errors import ArchitectureError, ConfigError, LabelsError
from .framing import Framing
from .hub import save_pretrained
from .metrics import describe_device
from .photos import load_photo
from .zoo import list_architectures, new_model

__all__ = ["Recipe", "train"]


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are those of the embedded weights.

    Attributes:
        architecture: One of `zoo.list_architectures`.
        epochs: Passes over the train split.
        batch_size: Chips a step.
        lr: Peak of the one-cycle learning rate.
        weight_decay: AdamW's.
        ema_decay: Of the moving average of the weights, which is what is kept.
        bfloat16: Mixed precision: convolutions and linear layers in bfloat16.
        seed: Of the weights, the order and the augmentation.

    Raises:
        ConfigError: No such architecture, or a number that makes no sense.
    """

    architecture: str = "ssrnet"
    epochs: int = 60
    batch_size: int = 128
    lr: float = 5e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.998
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in list_architectures():
            raise ArchitectureError(f"{self.architecture!r} is none of {', '.join(list_architectures())}.")
        if min(self.epochs, self.batch_size) < 1:
            raise ConfigError(f"A recipe has at least one epoch and one chip a batch, not {self}.")


def train(
    labels: Union[str, os.PathLike], output: Union[str, os.PathLike], recipe: Recipe, device: str = "cpu"
) -> dict[str, Any]:
    """Train on the split ``train`` of a labels file, watching the split ``val``.

    Writes the averaged weights with their config to ``output`` and a line an epoch to ``output/log.csv``.

    Args:
        labels: The labels file; its pictures are aligned chips in the default `Framing`.
        output: Folder for the weights.
        recipe: How.
        device: Where.

    Returns:
        The last line of the log: ``epoch``, ``loss``, ``val_mae``, ``minutes``.

    Raises:
        LabelsError: The labels file is not as needed.
        PhotoError: A chip cannot be read.
    """
    torch.manual_seed(recipe.seed)
    train_labels, val_labels = read_labels(labels, "train"), read_labels(labels, "val")
    if len(train_labels) < recipe.batch_size:
        raise LabelsError(
            f"{labels} has {len(train_labels)} rows of split 'train', fewer than a batch of {recipe.batch_size}."
        )
    framing = Framing()
    chips, ages = load_chips(train_labels, framing.size)
    val_chips, val_ages = load_chips(val_labels, framing.size)

    model = new_model(recipe.architecture).to(device, memory_format=torch.channels_last)
    ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = len(chips) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.epochs * steps, pct_start=0.2)
    prepare = make_prepare(model)
    augment = make_augment()
    extras = {
        "framing": framing.to_dict(),
        "training": {
            "data": f"{len(train_labels):,} aligned chips of {Path(labels).resolve().parent.name}, split train",
            "median_age": float(np.median(ages)),
            "recipe": asdict(recipe),
            "device": describe_device(device),
        },
    }

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (output / "log.csv").open("w", newline="") as file:
        log = csv.DictWriter(file, ["epoch", "loss", "val_mae", "minutes"])
        log.writeheader()
        for epoch in range(1, recipe.epochs + 1):
            model.train()
            losses = []
            for batch in tqdm(batches(len(chips), recipe.batch_size), f"epoch {epoch}", steps, leave=False):
                x = prepare(augment_in_groups(chips[batch], augment).to(device))
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.bfloat16):
                    loss = (model(x)[:, 0] - ages[batch].to(device)).abs().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                optimizer.step()
                schedule.step()
                ema.update(model, schedule.last_epoch)
                losses.append(loss.item())
            line = {
                "epoch": epoch,
                "loss": round(sum(losses) / len(losses), 3),
                "val_mae": round(mean_absolute_error(ema.module, prepare, val_chips, val_ages, device), 3),
                "minutes": round((time.monotonic() - started) / 60, 1),
            }
            log.writerow(line)
            file.flush()
            tqdm.write("  ".join(f"{k} {v}" for k, v in line.items()))
            extras["training"]["minutes"] = line["minutes"]
            save_pretrained(ema.module, output, **extras)
    return line


def load_chips(labels: list[Label], size: int) -> tuple[Tensor, Tensor]:
    """Chips ``(N, 3, size, size)`` uint8 and ages ``(N,)``, years."""
    chips = np.empty((len(labels), size, size, 3), np.uint8)
    for chip, label in zip(chips, tqdm(labels, "chips", leave=False), strict=True):
        chip[:] = load_photo(label.path).resize((size, size))
    return torch.from_numpy(chips).permute(0, 3, 1, 2), torch.tensor([label.age for label in labels])


def make_prepare(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """From uint8 chips to the model's input, like timm's transform of one picture."""
    data = timm.data.resolve_input_data_config(model)
    return v2.Compose(
        [
            v2.Resize(data["input_size"][1:], v2.InterpolationMode(data["interpolation"]), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data["mean"], data["std"]),
        ]
    )


def make_augment() -> Callable[[Tensor], Tensor]:
    """What happens to chips in the world: mirrored, framed a little off, other light, no colour, not quite sharp."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(10, (0.05, 0.05), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.02),
            v2.RandomGrayscale(0.1),
            v2.RandomApply([v2.GaussianBlur(5, (0.5, 1.5))], 0.15),
        ]
    )


def augment_in_groups(chips: Tensor, augment: Callable[[Tensor], Tensor], size: int = 8) -> Tensor:
    """Augment chips a few at a time: torchvision draws once a call, and one call a chip would take far longer."""
    return torch.cat([augment(group) for group in chips.split(size)])


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Indices of whole batches in random order; what is left over waits for another epoch."""
    order = torch.randperm(count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


@torch.inference_mode()
def mean_absolute_error(
    model: nn.Module, prepare: Callable[[Tensor], Tensor], chips: Tensor, ages: Tensor, device: str
) -> float:
    """MAE in years of a model in eval mode, ages clamped to its range."""
    predictions = torch.cat([model(prepare(batch.to(device)))[:, 0] for batch in chips.split(256)]).cpu()
    return (predictions.clamp(0, model.V) - ages).abs().mean().item()
