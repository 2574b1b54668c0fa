"""Training on labelled, aligned chips: on a CPU, a GPU, or several processes, with the same code."""

import csv
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import timm
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from ..errors import ArchitectureError, ConfigError, DivergenceError, LabelsError
from ..hub.loading import from_pretrained, get_extras, save_pretrained
from ..images.alignment import Framing
from ..images.loading import load_photo
from ..models.config import check_model_args, read_training
from ..models.pretrained import AgeModel, list_architectures, new_model
from ..models.ssrnet import StageHead
from ..utils.io import replace_file
from ..utils.metrics import describe_device
from ..utils.untrusted import checked, choice, mapping, number, read_yaml, record, text, whole
from .labels import Label, read_labels, set_aside

__all__ = ["Recipe", "read_recipe", "train"]

STATE = "state.pt"


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        architecture: One of `zoo.list_architectures`.
        model_args: Arguments of its constructor that are to differ from its defaults.
        start: Weights to start from, a name of the zoo or a folder; random ones without.
        epochs: Passes over the train split.
        batch_size: Chips a step, of all processes together.
        lr: Peak of the one-cycle learning rate.
        weight_decay: AdamW's.
        drop_rate: Dropout before the prediction stages.
        ema_decay: Of the moving average of the weights, which is what is kept.
        balance: How far ages that are rare weigh more: 0 not at all, 1 as much as all others together. A chip weighs
            ``density(age) ** -balance``.
        keep_alive: Weight of the penalty on units of the stages whose ReLU is silent for nearly every face.
        augment: How strongly pictures are worn like those of the world, 0 to 1; see `make_augment`.
        set_aside: Chips of the train split that are kept for calibration, and never trained on; see `data.set_aside`.
        mixed_precision: ``"no"``, ``"bf16"`` or ``"fp16"``, of convolutions and linear layers.
        seed: Of the weights, the order and the augmentation.

    Raises:
        ConfigError: No such architecture, something that is no argument of it, or a value of another type or out of
            bounds.
    """

    architecture: str = "ssrnet"
    model_args: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    epochs: int = 60
    batch_size: int = 128
    lr: float = 5e-3
    weight_decay: float = 1e-2
    drop_rate: float = 0.2
    ema_decay: float = 0.998
    balance: float = 0.0
    keep_alive: float = 0.0
    augment: float = 1.0
    set_aside: int = 0
    mixed_precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in list_architectures():
            raise ArchitectureError(f"{self.architecture!r:.100} is none of {', '.join(list_architectures())}.")
        checked("", _FIELDS, {field.name: getattr(self, field.name) for field in fields(self)})
        check_model_args(self.architecture, self.model_args, "the recipe")


_FIELDS = record(
    {
        "architecture": text(),
        "model_args": mapping,
        "start": text(),
        "epochs": whole(1, 100_000),
        "batch_size": whole(1, 1_000_000),
        "lr": number(0, 3e38),
        "weight_decay": number(0, 3e38),
        "drop_rate": number(0, 1),
        "ema_decay": number(0, 1),
        "balance": number(0, 10),
        "keep_alive": number(0, 1e6),
        "augment": number(0, 1),
        "set_aside": whole(0, 10**9),
        "mixed_precision": choice("no", "bf16", "fp16"),
        "seed": whole(-(2**31), 2**31 - 1),
    }
)


def read_recipe(path: Union[str, os.PathLike], **changes: Any) -> Recipe:
    """A recipe from a YAML file of its fields.

    Args:
        path: The file; fields that it does not name have their defaults.
        changes: Fields that are to differ from the file's.

    Raises:
        ConfigError: The file cannot be read, or names or values in it are not a recipe's.
    """
    try:
        values = read_yaml(path)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} cannot be read as a recipe: {e}.") from e
    types = {name: type(value) for name, value in asdict(Recipe()).items()}
    if not isinstance(values, dict) or not values.keys() <= types.keys():
        raise ConfigError(f"{path} is no recipe. A recipe has {', '.join(types)}.")
    try:
        return Recipe(**{name: _as_type(types[name], value) for name, value in {**values, **changes}.items()})
    except ValueError as e:
        raise ConfigError(f"{path}: {e}") from e


def _as_type(wanted: type, value: Any) -> Any:
    """What YAML has as text, as 1e-4, or as a whole number, as the number that it stands for."""
    if wanted in (int, float) and isinstance(value, str):
        with suppress(ValueError):
            return wanted(value)
    return float(value) if wanted is float and type(value) is int else value


def train(
    labels: Union[str, os.PathLike],
    output: Union[str, os.PathLike],
    recipe: Recipe,
    *,
    cpu: bool = False,
    workers: int = 0,
    command: Optional[str] = None,
) -> dict[str, Any]:
    """Train on the split ``train`` of a labels file, watching the split ``val``.

    Under ``torchrun`` or ``accelerate launch`` the processes share each batch: every chip is seen once an epoch, by one
    of them. Weights with V = 1 learn gender, others age.

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
        command: What to run for the same weights, for their card.

    Returns:
        The last line of the log: ``epoch``, ``loss`` (mean absolute error of training, years), ``val_mae``,
        ``minutes``; with V = 1, ``loss`` is the mean squared error and ``val_mae`` the share of faces told wrongly.

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
    dataset = Chips(train_labels, model.V, size, make_augment(recipe.augment), recipe.balance)
    val = Chips(val_labels, model.V, size) if accelerator.is_main_process else None
    shares = ShardedBatches(len(dataset), recipe.batch_size, rank, world)
    loader = DataLoader(
        dataset, batch_sampler=shares, collate_fn=as_it_is, num_workers=workers, pin_memory=device.type == "cuda"
    )

    ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.epochs * len(shares), pct_start=0.2)
    parts = {"model": model, "ema": ema.module, "optimizer": optimizer, "schedule": schedule}
    run = {"recipe": asdict(recipe), "chips": len(dataset)}
    log = load_state(output / STATE, run, parts)
    prepare = make_prepare(model)
    extras = {
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
            if model.V == 1:
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
                "val_mae": round(measure(ema.module, prepare, val, device), 4),
                "minutes": round((time.monotonic() - started) / 60, 1),
            }
            if not math.isfinite(line["loss"] + line["val_mae"]):
                raise DivergenceError(
                    f"Epoch {epoch} ended with the error {loss}, on val {line['val_mae']}; {output} has the weights "
                    f"before it, if any. Start again in another folder with --lr below {recipe.lr:g} or another --seed."
                )
            log.append(line)
            tqdm.write("  ".join(f"{k} {v}" for k, v in line.items()))
            accelerator.log({"loss": line["loss"], "val_mae": line["val_mae"]}, step=epoch)
            extras["training"]["minutes"] = line["minutes"]
            save_pretrained(ema.module, output, **extras)
            write_log(output / "log.csv", log)
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
        return new_model(recipe.architecture, drop_rate=recipe.drop_rate, model_args=recipe.model_args)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{recipe.architecture} cannot be made with {recipe.model_args}: {e}.") from e


def load_start(model: nn.Module, weights: str) -> dict[str, Any]:
    """Load the weights to start from; what their config says of their training."""
    start = from_pretrained(weights)
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError as e:
        raise ConfigError(f"{weights} cannot be started from: it is of another architecture.") from e
    return read_training(get_extras(start))


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
        raise ConfigError(f"{path} is of another run that was cut off. Finish that, remove it, or name another folder.")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["log"]


def write_log(path: Path, log: list[dict[str, Any]]) -> None:
    with replace_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, log[0])
        writer.writeheader()
        writer.writerows(log)


class Chips(Dataset):
    """Chips in memory, with their targets, and how much each weighs in training.

    Attributes:
        targets: ``(N,)``: ages in years, or with V = 1 genders, 0 female and 1 male.
        weights: ``(N,)``, 1 on average.
    """

    def __init__(
        self,
        labels: list[Label],
        V: float,
        size: int,
        augment: Optional[Callable[[Tensor], Tensor]] = None,
        balance: float = 0.0,
    ):
        if V == 1 and not all(label.gender in ("female", "male") for label in labels):
            raise LabelsError("Some rows have no gender, female or male, which these weights would learn.")
        self.targets = torch.tensor([float(label.gender == "male") if V == 1 else label.age for label in labels])
        self.weights = balanced_weights(self.targets, balance)
        self.augment = augment
        chips = np.empty((len(labels), size, size, 3), np.uint8)
        for chip, label in zip(chips, tqdm(labels, "chips", leave=False), strict=True):
            chip[:] = np.asarray(load_photo(label.path).resize((size, size)))
        self.chips = torch.from_numpy(chips).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """A batch: chips ``(B, 3, size, size)`` uint8, targets ``(B,)`` and weights ``(B,)``."""
        chips = self.chips[indices]
        if self.augment:
            # a few at a time: torchvision draws once a call, and one call a chip would take far longer
            chips = torch.cat([self.augment(group) for group in chips.split(8)])
        return chips, self.targets[indices], self.weights[indices]


def as_it_is(batch: Any) -> Any:
    return batch


class ShardedBatches:
    """The batches of one process: of each batch of all processes, its share.

    Every epoch has an order of its own. All batches are as large as each other, give or take one chip.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1):
        self.count, self.rank, self.world, self.epoch = count, rank, world, 0
        self.batches = max(1, count // batch_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.epoch))
        for batch in order.tensor_split(self.batches):
            yield batch.tensor_split(self.world)[self.rank].tolist()


def balanced_weights(targets: Tensor, balance: float, spread: float = 3.0) -> Tensor:
    """Weights ``(N,)``, 1 on average: each target's density, smoothed over ``spread``, to the power ``-balance``."""
    values, inverse, counts = targets.unique(return_inverse=True, return_counts=True)
    near = torch.exp(-0.5 * ((values[:, None] - values) / spread) ** 2)
    # at the ends of the range a part of the bell lies outside
    density = near @ counts.float() / near.sum(1)
    weights = (density**-balance)[inverse]
    return weights / weights.mean()


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
    return v2.Compose(
        [
            v2.Resize(data["input_size"][1:], v2.InterpolationMode(data["interpolation"]), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data["mean"], data["std"]),
        ]
    )


def make_augment(strength: float = 1.0) -> Callable[[Tensor], Tensor]:
    """What happens to chips in the world.

    Mirrored and framed a little off, always; by ``strength`` more often: other light, no colour or a cast of old paper,
    blurred, sharpened, small, noisy, a poor JPEG, partly covered.
    """

    def sometimes(p: float, *transforms: Callable) -> v2.RandomApply:
        return v2.RandomApply(list(transforms), p * strength)

    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(8, (0.08, 0.08), (0.92, 1.08), interpolation=v2.InterpolationMode.BILINEAR),
            sometimes(0.8, v2.ColorJitter(0.4, 0.4, 0.4)),
            sometimes(0.3, v2.Lambda(shade)),
            sometimes(0.25, v2.Grayscale(3)),
            sometimes(0.4, v2.Lambda(colour_cast)),
            sometimes(0.25, v2.GaussianBlur(7, (0.5, 2.5))),
            sometimes(0.15, v2.Compose([v2.RandomResize(40, 96), v2.Resize(Framing().size)])),
            sometimes(0.4, v2.Lambda(noise)),
            sometimes(0.25, v2.Lambda(sharpen)),
            sometimes(0.25, v2.JPEG((20, 80))),
            v2.RandomErasing(0.1 * strength, (0.02, 0.1)),
        ]
    )


def shade(chips: Tensor) -> Tensor:
    """Light from one side: brightness that falls off linearly across the face, by up to half."""
    line = torch.linspace(-1, 1, chips.shape[-1])
    dx, dy = torch.empty(2).uniform_(-0.5, 0.5)
    return (chips * (1 + dx * line + dy * line[:, None])).clamp(0, 255).to(chips.dtype)


def sharpen(chips: Tensor) -> Tensor:
    return v2.functional.adjust_sharpness(chips, 1 + 3 * torch.rand(()).item())


def colour_cast(chips: Tensor) -> Tensor:
    """Every channel with a contrast and a black of its own, as dyes fade."""
    gains = torch.empty(chips.shape[-3], 1, 1).uniform_(0.5, 1.2)
    blacks = torch.empty(chips.shape[-3], 1, 1).uniform_(-30, 60)
    return (chips * gains + blacks).clamp(0, 255).to(chips.dtype)


def noise(chips: Tensor) -> Tensor:
    """Grain of up to 25 levels of 255, one to four pixels wide, grey or of each channel its own."""
    side = int(chips.shape[-1] / torch.empty(()).uniform_(1, 4).item())
    channels = 1 if torch.rand(()) < 0.5 else chips.shape[-3]
    grain = torch.randn(*chips.shape[:-3], channels, side, side)
    grain = torch.nn.functional.interpolate(grain, chips.shape[-1], mode="bilinear")
    return (chips + grain * torch.rand(()) * 25).clamp(0, 255).to(chips.dtype)


@torch.inference_mode()
def measure(model: AgeModel, prepare: Callable[[Tensor], Tensor], chips: Chips, device: torch.device) -> float:
    """MAE in years of a model in eval mode, ages clamped to its range; with V = 1, the share told wrongly."""
    answers = torch.cat([model(prepare(batch.to(device)))[:, 0] for batch in chips.chips.split(256)]).float().cpu()
    if model.V == 1:
        return ((answers > 0.5) != (chips.targets > 0.5)).float().mean().item()
    return (answers.clamp(0, model.V) - chips.targets).abs().mean().item()
