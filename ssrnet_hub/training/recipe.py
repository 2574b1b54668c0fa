"""What a training is told: its settings, from a YAML file or Python."""

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Union

from ..errors import ArchitectureError, ConfigError
from ..utils.untrusted import checked, choice, mapping, number, read_yaml, record, text, whole

__all__ = ["Recipe", "read_recipe"]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        architecture: One of `models.zoo.list_architectures`.
        task: What to learn, ``"age"`` or ``"gender"``; by default what the architecture is for.
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
        set_aside: Chips of the train split that are kept for calibration, and never trained on; see
            `labels.set_aside`. Of several sets, of each.
        sets: By the name of a labels file's folder, where several are trained on: ``weight``, how much a row of it
            counts, by default 1, and ``set_aside`` in place of the one above.
        teaching: Of the loss, the share that is the distance to what the teachers say, [0, 1]; what they say is held
            within the labeled range.
        copies: Worn copies of each chip, of which every epoch has another one in turn: the teachers are asked about
            each once. 0: every epoch has new ones.
        mixed_precision: ``"no"``, ``"bf16"`` or ``"fp16"``, of convolutions and linear layers.
        seed: Of the weights, the order and the augmentation.

    Raises:
        ConfigError: No such architecture, something that is no argument of it, or a value of another type or out of
            bounds.
    """

    architecture: str = "ssrnet"
    task: str = ""
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
    sets: dict[str, Any] = field(default_factory=dict)
    teaching: float = 0.0
    copies: int = 0
    mixed_precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        # the command lists the fields in its help, which is not to wait for PyTorch
        from ..models.config import check_model_args
        from ..models.zoo import list_architectures

        if self.architecture not in list_architectures():
            raise ArchitectureError(f"{self.architecture!r:.100} is none of {', '.join(list_architectures())}.")
        checked("", _FIELDS, {field.name: getattr(self, field.name) for field in fields(self)})
        check_model_args(self.architecture, self.model_args, "the recipe")
        for name, values in self.sets.items():
            checked(f"sets: {name}", _SET, values)

    def weight_of(self, name: str) -> float:
        """How much a row of a set counts."""
        return self.sets.get(name, {}).get("weight", 1.0)

    def set_aside_of(self, name: str) -> int:
        """How many rows of a set are kept for calibration."""
        return self.sets.get(name, {}).get("set_aside", self.set_aside)

    @property
    def resolved_task(self) -> str:
        """`task`, or where that is empty what the architecture is for."""
        return self.task or ("gender" if self.architecture == "ssrnet_gender" else "age")


_FIELDS = record(
    {
        "architecture": text(),
        "task": choice("", "age", "gender"),
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
        "sets": mapping,
        "teaching": number(0, 1),
        "copies": whole(0, 1000),
        "mixed_precision": choice("no", "bf16", "fp16"),
        "seed": whole(-(2**31), 2**31 - 1),
    }
)

_SET = record({}, {"weight": number(0, 1e6), "set_aside": whole(0, 10**9)})


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
