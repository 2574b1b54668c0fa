"""Training on labelled, aligned chips: on a CPU, a GPU, or several processes, with the same code."""

import csv
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import timm
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from ..errors import ConfigError, DivergenceError, LabelsError
from ..hub.files import CONFIG_FILE, WEIGHTS_FILE
from ..hub.loading import from_pretrained, get_extras, save_pretrained
from ..images.alignment import Framing
from ..models.config import read_task, read_training
from ..models.layers import StageHead
from ..models.preprocessing import Normalize
from ..models.pretrained import AgeModel, new_model
from ..utils.io import replace_file
from ..utils.metrics import describe_device
from .augment import make_augment
from .dataset import Chips, ShardedBatches, as_it_is
from .labels import read_labels, set_aside
from .recipe import Recipe

__all__ = ["train"]

STATE, LOG = "state.pt", "log.csv"
"""What a run that was cut off goes on from, and a line for each of its epochs."""


def train(
    labels: Union[str, os.PathLike],
    output: Union[str, os.PathLike],
    recipe: Recipe,
    *,
    cpu: bool = False,
    workers: int = 0,
    overwrite: bool = False,
    command: Optional[str] = None,
) -> dict[str, Any]:
    """Train on the split ``train`` of a labels file, watching the split ``val``.

    Under ``torchrun`` or ``accelerate launch`` the processes share each batch: every chip is seen once an epoch, by one
    of them.

    Writes the averaged weights with their config to ``output`` after each epoch, a line to ``log.csv`` and events for
    TensorBoard. A run that was cut off goes on after its last whole epoch when it is started again, and ends with the
    weights it would have had.

    Args:
        labels: The labels file; its pictures are aligned chips in the default `Framing`. They are held in memory, 49 kB
            each.
        output: Folder for the weights.
        recipe: How.
        cpu: Stay on the CPU although there is a GPU.
        workers: Processes that prepare chips beside each training process; 0: none.
        overwrite: Start anew where ``output`` has a run: its weights, log and events are removed.
        command: What to run for the same weights, for their card.

    Returns:
        The last line of the log: ``epoch``, ``loss``, ``val_mae``, ``minutes``. For the task age ``loss`` is the mean
        absolute error of training and ``val_mae`` that on the split ``val``, years; for gender ``loss`` is the mean
        squared error, and in place of ``val_mae`` there is ``val_accuracy``, the share of faces on the right side of
        0.5, in [0, 1].

    Raises:
        LabelsError: The labels file is not as needed.
        PhotoError: A chip cannot be read.
        DivergenceError: The error is infinite or no number.
        ConfigError: ``output`` holds an unfinished run of another recipe, or the architecture has no such arguments.
    """
    accelerator = Accelerator(
        cpu=cpu, mixed_precision=recipe.mixed_precision, log_with="tensorboard", project_dir=str(output)
    )
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = make_model(recipe).to(device).to(memory_format=torch.channels_last)
    before = load_start(model, recipe.start) if recipe.start else None

    train_labels, aside = set_aside(read_labels(labels, "train"), recipe.set_aside)
    val_labels = read_labels(labels, "val")
    if len(train_labels) < recipe.batch_size:
        raise LabelsError(
            f"{labels} has {len(train_labels)} rows of split 'train', fewer than a batch of {recipe.batch_size}."
        )
    size = Framing().size
    dataset = Chips(train_labels, recipe.resolved_task, size, make_augment(recipe.augment), recipe.balance)
    val = Chips(val_labels, recipe.resolved_task, size) if accelerator.is_main_process else None
    shares = ShardedBatches(len(dataset), recipe.batch_size, rank, world)
    loader = DataLoader(
        dataset, batch_sampler=shares, collate_fn=as_it_is, num_workers=workers, pin_memory=device.type == "cuda"
    )

    ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    # of five steps PyTorch makes a division by zero
    steps = max(recipe.epochs * len(shares), 6)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps, pct_start=0.2)
    parts = {"model": model, "ema": ema.module, "optimizer": optimizer, "schedule": schedule}
    run = {"recipe": asdict(recipe), "chips": len(dataset)}
    if overwrite:
        if accelerator.is_main_process:
            remove_run(output)
        accelerator.wait_for_everyone()
    log = load_state(output / STATE, run, parts)
    prepare = make_prepare(model)
    metric = "val_accuracy" if recipe.resolved_task == "gender" else "val_mae"
    extras: dict[str, Any] = {
        "task": recipe.resolved_task,
        "framing": Framing().to_dict(),
        "training": {
            "data": f"{len(train_labels):,} aligned chips of {Path(labels).resolve().parent.name}, split train",
            "set_aside": len(aside),
            "median_age": float(np.median([label.age for label in train_labels])),
            # where a folder lies says nothing to others
            "recipe": {**asdict(recipe), "start": Path(recipe.start).name},
            **({"start": before} if before else {}),
            **({"command": command} if command else {}),
            "device": describe_device(device) + (f", {world} processes" if world > 1 else ""),
        },
    }
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    accelerator.init_trackers("tensorboard")
    started = time.monotonic() - 60 * (log[-1]["minutes"] if log else 0)
    for epoch in range(len(log) + 1, recipe.epochs + 1):
        # all that is drawn in an epoch follows from these, whatever came before
        shares.epoch = recipe.seed * 10_000 + epoch
        torch.manual_seed(shares.epoch * world + rank)
        model.train()
        losses = []
        for chips, targets, weights in tqdm(
            loader, f"epoch {epoch}", leave=False, disable=not accelerator.is_main_process
        ):
            x = prepare(chips.to(device))
            with silent_units(model) as penalty:
                errors = (wrapped(x)[:, 0] - targets.to(device)).abs() / model.V
            if recipe.resolved_task == "gender":
                # the mean of a score is a probability, its median a verdict
                errors = errors.square()
            loss = (weights.to(device) * errors).mean() * 100 + recipe.keep_alive * penalty()
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            ema.update(model, schedule.last_epoch)
            losses.append(errors.detach().mean() * model.V)
        loss = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if val:
            line = {
                "epoch": epoch,
                "loss": round(loss, 4),
                metric: round(measure(ema.module, prepare, val, device, recipe.resolved_task), 4),
                "minutes": round((time.monotonic() - started) / 60, 1),
            }
            if not math.isfinite(line["loss"] + line[metric]):
                raise DivergenceError(
                    f"Epoch {epoch} ended with the error {loss}, {metric} {line[metric]}; {output} has the weights "
                    f"before it, if any. Start again in another folder with --lr below {recipe.lr:g} or another --seed."
                )
            log.append(line)
            tqdm.write("  ".join(f"{k} {v}" for k, v in line.items()))
            accelerator.log({"loss": line["loss"], metric: line[metric]}, step=epoch)
            extras["training"]["minutes"] = line["minutes"]
            save_pretrained(ema.module, output, extras)
            write_log(output / LOG, log)
            with replace_file(output / STATE) as path:
                torch.save({"run": run, "log": log, **{k: part.state_dict() for k, part in parts.items()}}, path)
        accelerator.wait_for_everyone()
    accelerator.end_training()
    if accelerator.is_main_process:
        (output / STATE).unlink(missing_ok=True)
    return log[-1] if log else {}


def make_model(recipe: Recipe) -> AgeModel:
    """The recipe's model with random weights."""
    try:
        model = new_model(recipe.architecture, drop_rate=recipe.drop_rate, model_args=recipe.model_args)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{recipe.architecture} cannot be made with {recipe.model_args}: {e}.") from e
    read_task({"task": recipe.resolved_task}, model.V)
    return model


def load_start(model: nn.Module, weights: str) -> dict[str, Any]:
    """Load the weights to start from; what their config says of their training."""
    start = from_pretrained(weights)
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError as e:
        raise ConfigError(f"{weights} cannot be started from: it is of another architecture.") from e
    return read_training(get_extras(start))


def remove_run(output: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for name in (STATE, LOG, WEIGHTS_FILE, CONFIG_FILE):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / "tensorboard", ignore_errors=True)


def load_state(path: Path, run: dict[str, Any], parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Bring a run back to the end of its last whole epoch; the log up to there."""
    if not path.is_file():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["run"] == run
    except Exception as e:  # a pickle is a program; a damaged one fails anyhow
        raise ConfigError(
            f"{path} is not what a run leaves that is cut off. Move it away, or name another folder."
        ) from e
    if not same:
        raise ConfigError(
            f"{path} is of another run, one with other options. Finish that one with its own, name another "
            "folder, or take --overwrite."
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["log"]


def write_log(path: Path, log: list[dict[str, Any]]) -> None:
    with replace_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, log[0])
        writer.writeheader()
        writer.writerows(log)


@contextmanager
def silent_units(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Watch the linear layers before the stages' ReLUs in a forward pass; yields how far they are from ever answering.

    A unit whose input to the ReLU is below 0 for every face has no gradient and stays so: the product of two streams
    then is 0, and the stage says the same for every face. The penalty is positive for a unit whose input reaches 0 less
    than one standard deviation above its mean, and 0 for all others.
    """
    inputs: list[Tensor] = []
    heads = [module for module in model.modules() if isinstance(module, StageHead)]
    layers = [layer for head in heads for layer in (head.fc1, head.fc2, head.fc, head.p) if layer]
    hooks = [layer.register_forward_hook(lambda layer, x, answer: inputs.append(answer.float())) for layer in layers]

    def penalty() -> Tensor:
        if not inputs:
            return torch.zeros(())
        return torch.cat([-(x.mean(0) + x.std(0, correction=0)) for x in inputs]).relu().sum()

    try:
        yield penalty
    finally:
        for hook in hooks:
            hook.remove()


def make_prepare(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """From uint8 chips to the model's input, like timm's transform of one picture."""
    data = timm.data.resolve_input_data_config(model)
    resize = v2.Resize(data["input_size"][1:], v2.InterpolationMode(data["interpolation"]), antialias=True)
    normalize = Normalize(model)
    return lambda chips: normalize(resize(chips))


@torch.inference_mode()
def measure(
    model: AgeModel, prepare: Callable[[Tensor], Tensor], chips: Chips, device: torch.device, task: str
) -> float:
    """Of a model in eval mode the MAE in years, ages clamped to its range, or the share of genders told rightly."""
    answers = torch.cat([model(prepare(batch.to(device)))[:, 0] for batch in chips.chips.split(256)]).float().cpu()
    if task == "gender":
        return ((answers > 0.5) == (chips.targets > 0.5)).float().mean().item()
    return (answers.clamp(0, model.V) - chips.targets).abs().mean().item()
