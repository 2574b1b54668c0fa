"""Training on labeled, aligned face crops, on a CPU, a GPU, or in several processes."""

import csv
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import ConfigError, DivergenceError, LabelsError
from ..hub.files import CONFIG_FILE, WEIGHTS_FILE
from ..hub.loading import from_pretrained, get_extras, save_pretrained
from ..images.alignment import Framing
from ..models.config import read_task, read_training
from ..models.dex import DEXVGG, DEXResNet, SSRNetDEX
from ..models.layers import StageHead
from ..models.preprocessing import make_prepare
from ..models.pretrained import AgeModel, new_model
from ..utils.io import join_names, replace_file
from ..utils.metrics import describe_device
from .augment import make_augment
from .dataset import Chips, LabeledSet, ShardedBatches, as_it_is
from .labels import Label, read_labels, set_aside
from .losses import distance, negative_log_likelihood, teaching_distance
from .ranges import place_in_ranges
from .recipe import Recipe
from .teachers import Teachers

__all__ = ["train"]

STATE, LOG = "state.pt", "log.csv"
"""Checkpoint of an interrupted run, and its log, a row per epoch."""


def train(
    labels: Union[str, os.PathLike, Sequence[Union[str, os.PathLike]]],
    output: Union[str, os.PathLike],
    recipe: Recipe,
    *,
    teachers: Sequence[Union[str, os.PathLike]] = (),
    cpu: bool = False,
    workers: int = 0,
    overwrite: bool = False,
    command: Optional[str] = None,
) -> dict[str, Any]:
    """Train on the split ``train`` of one or more labels files, and evaluate on the split ``val`` after each epoch.

    Under ``torchrun`` or ``accelerate launch`` the processes share each batch: every crop is seen once per epoch, by
    one of them.

    After each epoch this writes the EMA weights with their config to ``output``, a row to ``log.csv``, and events for
    TensorBoard. Started again, an interrupted run resumes after its last complete epoch and ends with the same weights.

    Args:
        labels: One or more labels files of crops in the default `Framing`, with ages or age ranges. Up to 5 GiB of
            crops, 49 kB each, are kept in memory.
        output: Folder for the weights.
        recipe: Hyperparameters.
        teachers: As for `load_teacher`; for the use of their mean age, see `Recipe.teaching` and `Recipe.ranges`.
        cpu: Train on the CPU even if there is a GPU.
        workers: DataLoader workers per training process.
        overwrite: Remove an earlier run in ``output``: its weights, log, and events.
        command: Command that reproduces the weights, for their card.

    Returns:
        The last row of the log: ``epoch``, ``loss``, ``val_mae``, ``minutes``. For age, ``loss`` is the training MAE,
        to the placed ages if ranges are placed, and ``val_mae`` the MAE on ``val``, in years; with age ranges it is
        ``val_distance``, the mean distance to the range. For gender, ``loss`` is the mean squared error, with
        ``val_accuracy`` in [0, 1]. With several labels files there is one such metric per file, named after its folder:
        ``val_mae_utkface``.

    Raises:
        LabelsError: A labels file is invalid.
        PhotoError: A crop cannot be read.
        DivergenceError: The loss is NaN or infinite.
        ConfigError: ``output`` holds an unfinished run of another recipe, the model arguments are invalid, the recipe
            names an unknown set, needs teachers and has none, or the reverse, or places ranges but there are none.
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

    sets, val_sets, aside = read_sets(labels, recipe)
    train_labels = [label for part in sets for label in part.labels]
    if len(train_labels) < recipe.batch_size:
        raise LabelsError(
            f"{labels} has {len(train_labels)} rows of split 'train', fewer than a batch of {recipe.batch_size}."
        )
    placed = recipe.ranges == "placed"
    if bool(teachers) != bool(recipe.teaching or placed):
        raise ConfigError(
            "Teachers and a recipe with teaching > 0 or placed ranges require each other: set both or neither."
        )
    task = recipe.resolved_task
    size = Framing().size
    dataset = Chips(sets, task, size, make_augment(recipe.augment), recipe.balance)
    rows = dataset.ranges.diff()[:, 0].nonzero()[:, 0]
    if placed and not len(rows):
        raise ConfigError("Placed ranges require labels that are age ranges: leave out ranges, or set it to free.")
    vals = [(part, Chips([part], task, size)) for part in val_sets] if accelerator.is_main_process else []
    taught_by = Teachers(teachers, device, len(dataset), recipe.copies)
    shares = ShardedBatches(len(dataset), recipe.batch_size, rank, world, same_groups=recipe.copies > 0)
    loader = DataLoader(
        dataset, batch_sampler=shares, collate_fn=as_it_is, num_workers=workers, pin_memory=device.type == "cuda"
    )

    ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    # of five steps PyTorch makes a division by zero
    steps = max(recipe.epochs * len(shares), 6)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps, pct_start=0.2)
    parts = {
        "model": model,
        "ema": ema.module,
        "optimizer": optimizer,
        "schedule": schedule,
        "teachers": taught_by,
    }
    # without local paths: they mean nothing to others, and a run can be moved and resumed
    told = {**asdict(recipe), "start": Path(recipe.start).name}
    run = {"recipe": told, "chips": len(dataset), "teachers": [Path(teacher).name for teacher in teachers]}
    if overwrite:
        if accelerator.is_main_process:
            remove_run(output)
        accelerator.wait_for_everyone()
    log = load_state(output / STATE, run, parts)
    if placed:
        pieces = tqdm(rows.split(256), "ages", leave=False, disable=not accelerator.is_main_process)
        # in every process, as each has all targets
        with accelerator.autocast():
            ages = torch.cat([taught_by.ask(dataset.chips(piece.tolist())) for piece in pieces])
        dataset.targets[rows] = place_in_ranges(ages.cpu(), dataset.ranges[rows]).clamp(max=model.V)
    prepare = make_prepare(model)
    extras: dict[str, Any] = {
        "task": task,
        "framing": Framing().to_dict(),
        "training": {
            "data": f"{len(train_labels):,} aligned chips of {join_names([part.name for part in sets])}, split train",
            "set_aside": aside[sets[0].name] if len(sets) == 1 else aside,
            "median_age": median_age(train_labels),
            "recipe": told,
            **({"start": before} if before else {}),
            **({"teachers": run["teachers"]} if teachers else {}),
            **({"command": command} if command else {}),
            "device": describe_device(device) + (f", {world} processes" if world > 1 else ""),
        },
    }
    wrapped, optimizer = accelerator.prepare(_Learner(model), optimizer)
    accelerator.init_trackers("tensorboard")
    started = time.monotonic() - 60 * (log[-1]["minutes"] if log else 0)
    for epoch in range(len(log) + 1, recipe.epochs + 1):
        # all that is drawn in an epoch follows from these, whatever came before
        shares.epoch = recipe.seed * 10_000 + epoch
        torch.manual_seed(shares.epoch * world + rank)
        if recipe.copies:
            dataset.copy = (epoch - 1) % recipe.copies
        model.train()
        losses = []
        for indices, chips, targets, weights in tqdm(
            loader, f"epoch {epoch}", leave=False, disable=not accelerator.is_main_process
        ):
            low, high = targets.to(device).unbind(1)
            with silent_units(model) as penalty:
                answers, p = wrapped(prepare(chips.to(device)))
            # the mean of a score is a probability, its median a verdict
            errors = (answers - low).square() if task == "gender" else distance(answers, low, high) / model.V
            goal = errors * 100 if p is None else negative_log_likelihood(p, low, high) + 10 * errors
            weights = weights.to(device)
            goal = weights * goal
            if recipe.teaching:
                with accelerator.autocast():
                    taught = taught_by(chips, indices, dataset.copy).to(device)
                gaps = teaching_distance(answers, taught, *dataset.ranges[indices].to(device).T) * 100 / model.V
                if recipe.weighted == "all":
                    gaps = weights * gaps
                goal = (1 - recipe.teaching) * goal + recipe.teaching * gaps
            loss = goal.mean() + recipe.keep_alive * penalty()
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            ema.update(model, schedule.last_epoch)
            losses.append(errors.detach().mean() * model.V)
        loss = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if accelerator.is_main_process:
            figures = {
                name_metric(part, task, len(vals)): measure(ema.module, prepare, chips, device, task)
                for part, chips in vals
            }
            figures = {name: round(value, 4) for name, value in {"loss": loss, **figures}.items()}
            if not math.isfinite(sum(figures.values())):
                raise DivergenceError(
                    f"Epoch {epoch} ended with {', '.join(f'{name} {value}' for name, value in figures.items())}; "
                    f"{output} has the weights before it, if any. Start again in another folder with --lr below "
                    f"{recipe.lr:g} or another --seed."
                )
            line = {"epoch": epoch, **figures, "minutes": round((time.monotonic() - started) / 60, 1)}
            log.append(line)
            tqdm.write("  ".join(f"{k} {v}" for k, v in line.items()))
            accelerator.log(figures, step=epoch)
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


class _Learner(nn.Module):
    """Wraps a model to return the age, and the probabilities if it is a softmax over ages."""

    def __init__(self, model: AgeModel):
        super().__init__()
        self.model = model
        self._is_softmax = isinstance(model, (DEXResNet, DEXVGG, SSRNetDEX))

    def forward(self, x: Tensor) -> tuple[Tensor, Optional[Tensor]]:
        answer = self.model.forward_stages(x)
        return answer.age[:, 0], answer.stages[0].p if self._is_softmax else None


def read_sets(
    labels: Union[str, os.PathLike, Sequence[Union[str, os.PathLike]]], recipe: Recipe
) -> tuple[list[LabeledSet], list[LabeledSet], dict[str, int]]:
    """The rows to train on, the rows of ``val``, and the number of rows set aside, per labels file."""
    paths = [labels] if isinstance(labels, (str, os.PathLike)) else labels
    names = [Path(path).resolve().parent.name for path in paths]
    if len({*names}) < len(names):
        raise ConfigError(f"The folders of the labels files must have different names, not {join_names(names)}.")
    if unknown := recipe.sets.keys() - {*names}:
        raise ConfigError(
            f"The recipe has sets {join_names(sorted(unknown))}, but the labels are from {join_names(names)}."
        )
    trained, val, counts = [], [], {}
    for path, name in zip(paths, names, strict=True):
        rows, aside = set_aside(read_labels(path, "train", ranges=True), recipe.set_aside_of(name))
        trained.append(LabeledSet(name, rows, recipe.weight_of(name)))
        val.append(LabeledSet(name, read_labels(path, "val", ranges=True)))
        counts[name] = len(aside)
    return trained, val, counts


def median_age(labels: Sequence[Label]) -> float:
    """Median age, years; a range counts as its middle, an open one as its lower end."""
    ages = [label.age for label in labels if not label.age_range]
    for low, high in (label.age_range for label in labels if label.age_range):
        ages.append((low + high) / 2 if math.isfinite(high) else low)
    return float(np.median(ages))


def name_metric(part: LabeledSet, task: str, count: int) -> str:
    """Name of the metric of one set."""
    kind = "accuracy" if task == "gender" else "distance" if part.labels[0].age_range else "mae"
    return f"val_{kind}" if count == 1 else f"val_{kind}_{part.name}"


def make_model(recipe: Recipe) -> AgeModel:
    """The model of a recipe, randomly initialized."""
    try:
        model = new_model(recipe.architecture, drop_rate=recipe.drop_rate, model_args=recipe.model_args)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{recipe.architecture} cannot be created with {recipe.model_args}: {e}.") from e
    read_task({"task": recipe.resolved_task}, model.V)
    return model


def load_start(model: nn.Module, weights: str) -> dict[str, Any]:
    """Load initial weights; returns the training section of their config."""
    start = from_pretrained(weights)
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError as e:
        raise ConfigError(f"Cannot start from {weights}: it has another architecture.") from e
    return read_training(get_extras(start))


def remove_run(output: Path) -> None:
    """Remove the files of a run, and nothing else."""
    for name in (STATE, LOG, WEIGHTS_FILE, CONFIG_FILE):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / "tensorboard", ignore_errors=True)


def load_state(path: Path, run: dict[str, Any], parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Restore a run as of its last complete epoch; returns its log."""
    if not path.is_file():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["run"] == run
    except Exception as e:  # a file with code is rejected, and a damaged one fails to load
        raise ConfigError(f"{path} is not a checkpoint of an interrupted run. Move it, or pass another folder.") from e
    if not same:
        raise ConfigError(
            f"{path} belongs to a run with other options. Resume it with the same options, pass another folder, or use "
            "--overwrite."
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
    """Penalize dead ReLU units in the stages; yields a function that returns the penalty after a forward pass.

    A unit whose ReLU input is negative for all faces has no gradient and stays dead: the product of the two streams is
    then 0, and the stage returns the same for every face. The penalty of a unit is positive if 0 is more than one
    standard deviation above the mean of its ReLU input, and 0 otherwise.
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


@torch.inference_mode()
def measure(
    model: AgeModel, prepare: Callable[[Tensor], Tensor], chips: Chips, device: torch.device, task: str
) -> float:
    """MAE or mean distance in years, with ages clamped to ``[0, V]``, or gender accuracy, of a model in eval mode."""
    parts = [chips.chips(range(start, min(start + 256, len(chips)))) for start in range(0, len(chips), 256)]
    answers = torch.cat([model(prepare(part.to(device)))[:, 0] for part in parts]).float().cpu()
    low, high = chips.targets.unbind(1)
    if task == "gender":
        return ((answers > 0.5) == (low > 0.5)).float().mean().item()
    return distance(answers.clamp(0, model.V), low, high).mean().item()
