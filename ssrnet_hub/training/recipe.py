"""Training hyperparameters, from a YAML file or Python."""

import inspect
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Union

from ..errors import ArchitectureError, ConfigError
from ..utils.untrusted import checked, choice, mapping, number, read_yaml, record, text, whole

__all__ = ["Recipe", "describe_fields", "read_recipe"]


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run.

    Attributes:
        architecture: Name of an architecture; see `models.zoo.list_architectures`.
        task: What to predict, ``"age"`` or ``"gender"``. Default: the task of the architecture.
        model_args: Constructor arguments that override the defaults.
        start: Initial weights, a name in the zoo or a folder. Default: random.
        epochs: Passes over the train split.
        batch_size: Crops per step, over all processes.
        lr: Peak learning rate of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        drop_rate: Dropout before the prediction stages.
        ema_decay: Decay of the exponential moving average of the weights, which is saved.
        balance: Weighting of rare ages: the weight of a crop is ``density(age) ** -balance``; 0 for no weighting.
        keep_alive: Weight of the penalty on dead ReLU units in the stages.
        augment: Strength of the augmentation, in [0, 1]; see `make_augment`.
        set_aside: Rows of the train split, per set, that are held out for calibration; see `labels.set_aside`.
        sets: Overrides by set, the name of the folder of a labels file: ``weight`` of a row (default 1) and
            ``set_aside``.
        teaching: Share of the loss, in [0, 1], that is the distance to the teachers' age, clamped to the labeled range.
        ranges: Target where the label is an age range: ``"free"``, any age in it, or ``"placed"``, an age by the rank
            of the face among the teachers' ages; see `place_in_ranges`.
        weighted: Part of the loss that the weights of sets and rare ages apply to, ``"all"`` or ``"labels"``, without
            the teachers' share: for rare ages, teachers regress to the mean.
        copies: Number of augmented copies per crop, used in turn by the epochs, so that teachers predict each only
            once. With 0, crops are augmented anew in every epoch.
        mixed_precision: Precision of convolutions and linear layers, the teachers' too: ``"no"``, ``"bf16"``, or
            ``"fp16"``.
        seed: Seed of the initialization, the order, and the augmentation.

    Raises:
        ConfigError: The architecture is unknown, or a value is of the wrong type or out of range.
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
    ranges: str = "free"
    weighted: str = "all"
    copies: int = 0
    mixed_precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        # the command lists the fields in its help, which is not to wait for PyTorch
        from ..models.config import check_model_args
        from ..models.zoo import list_architectures

        if self.architecture not in list_architectures():
            raise ArchitectureError(
                f"{self.architecture!r:.100} is not an architecture of this package: {', '.join(list_architectures())}."
            )
        checked("", _FIELDS, {field.name: getattr(self, field.name) for field in fields(self)})
        check_model_args(self.architecture, self.model_args, "the recipe")
        for name, values in self.sets.items():
            checked(f"sets: {name}", _SET, values)

    def weight_of(self, name: str) -> float:
        """Weight of a row of a set."""
        return self.sets.get(name, {}).get("weight", 1.0)

    def set_aside_of(self, name: str) -> int:
        """Number of rows of a set that are held out for calibration."""
        return self.sets.get(name, {}).get("set_aside", self.set_aside)

    @property
    def resolved_task(self) -> str:
        """`task`, or the task of the architecture."""
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
        "ranges": choice("free", "placed"),
        "weighted": choice("all", "labels"),
        "copies": whole(0, 1000),
        "mixed_precision": choice("no", "bf16", "fp16"),
        "seed": whole(-(2**31), 2**31 - 1),
    }
)

_SET = record({}, {"weight": number(0, 1e6), "set_aside": whole(0, 10**9)})


def describe_fields() -> dict[str, str]:
    """Descriptions of the fields of `Recipe` as plain text, by name; empty if Python dropped the docstrings."""
    doc = inspect.cleandoc(Recipe.__doc__ or "")
    attributes = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", doc.partition("Raises:")[0], re.MULTILINE)
    return {name: re.sub("; see .*|`|[.]$", "", " ".join(said.split())) for name, said in attributes}


def read_recipe(path: Union[str, os.PathLike], **changes: Any) -> Recipe:
    """Read a recipe from a YAML file.

    Args:
        path: The file; missing fields have their defaults.
        changes: Fields that override those of the file.

    Raises:
        ConfigError: The file cannot be read, or has unknown fields or invalid values.
    """
    try:
        values = read_yaml(path)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} cannot be read as a recipe: {e}.") from e
    types = {name: type(value) for name, value in asdict(Recipe()).items()}
    if not isinstance(values, dict) or not values.keys() <= types.keys():
        raise ConfigError(f"{path} is not a recipe. The keys of a recipe are {', '.join(types)}.")
    try:
        return Recipe(**{name: _as_type(types[name], value) for name, value in {**values, **changes}.items()})
    except ValueError as e:
        raise ConfigError(f"{path}: {e}") from e


def _as_type(wanted: type, value: Any) -> Any:
    """Convert text, as which YAML reads 1e-4, and whole numbers to the type of a field."""
    if wanted in (int, float) and isinstance(value, str):
        with suppress(ValueError):
            return wanted(value)
    return float(value) if wanted is float and type(value) is int else value
