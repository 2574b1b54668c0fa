"""Types and bounds of the values in config.json, checked before they are passed to timm or a model."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..utils.untrusted import (
    Check,
    anything,
    checked,
    choice,
    flag,
    listing,
    mapping,
    number,
    one_or_list,
    optional,
    record,
    text,
    whole,
)
from .architectures import model_arguments
from .cost import LIMITS, count_cost

__all__ = ["EXTRAS_KEY", "check_config", "check_model_args", "read_task", "read_training"]

EXTRAS_KEY = "ssrnet_hub"
"""Top-level key of config.json for everything that is not in timm's schema."""

_CHANNELS, _CLASSES, _BINS = whole(1, 16), whole(0, 1000), whole(1, 1000)
_SIDE = whole(16, 512)
_INPUT_SIZE = listing(whole(1, 512), 3, 3)
_SHARE = number(0.1, 1)
_NAMES = optional(one_or_list(text(), 0, 100))
_POOL_SIZE = optional(one_or_list(whole(1, 512), 1, 2))

_UNUSED = ["url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag", "custom_load"]
_UNUSED += ["label_names", "label_descriptions", "description", "origin_url", "paper_name", "paper_ids", "notes"]

_PRETRAINED_CFG: dict[str, Check] = {
    "input_size": _INPUT_SIZE,
    "test_input_size": optional(_INPUT_SIZE),
    "min_input_size": optional(_INPUT_SIZE),
    "fixed_input_size": flag,
    "interpolation": choice("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest"),
    "crop_pct": _SHARE,
    "test_crop_pct": optional(_SHARE),
    "crop_mode": choice("border", "center", "squash"),
    "mean": one_or_list(number(-1000, 1000), 1, 16),
    "std": one_or_list(number(1e-4, 1000), 1, 16),
    "num_classes": _CLASSES,
    # timm would drop the first classes
    "label_offset": optional(whole(0, 0)),
    "pool_size": _POOL_SIZE,
    "test_pool_size": _POOL_SIZE,
    "first_conv": _NAMES,
    "classifier": _NAMES,
    "license": optional(text(100)),
    **dict.fromkeys(_UNUSED, anything),
}
"""timm's schema; timm rejects other keys."""

_MODEL_ARGS: dict[str, Check] = {
    "stage_bins": listing(_BINS, 1, 3),
    "V": number(1e-3, 1000),
    "lambda_local": number(-100, 100),
    "lambda_d": number(-100, 100),
    "dynamic_range": flag,
    "deep_first": flag,
    "layout": listing(text(20), 3, 3),
    "chs": listing(whole(2, 2048), 1, 60),
    "fused_chs": whole(1, 1024),
    "pool_sizes": optional(listing(whole(1, 512), 3, 3)),
    "hidden": optional(whole(1, 4096)),
    "norm_eps": number(1e-12, 1),
    "mlp_ratio": number(0.01, 1),
    "global_pool": choice("", "avg", "max", "avgmax"),
    "num_classes": _CLASSES,
    "in_chans": _CHANNELS,
    "img_size": one_or_list(_SIDE, 2, 2),
    "drop_rate": number(0, 1),
}

_CONFIG = record(
    {"pretrained_cfg": record({}, _PRETRAINED_CFG)},
    {"num_classes": _CLASSES, EXTRAS_KEY: mapping},
    closed=False,
)


def check_config(config: dict[str, Any], where: str) -> None:
    """Check that a config has the types that timm and the models expect, and describes a model of bounded cost.

    Args:
        config: Config of an architecture of this package.
        where: Name of the config in errors.

    Raises:
        ConfigError: The config is invalid, or its model exceeds `LIMITS`.
    """
    checked(f"{where}: the config", _CONFIG, config)
    cfg = config["pretrained_cfg"]
    in_chans, *img_size = cfg.get("input_size", (3, 224, 224))
    num_classes = config.get("num_classes", cfg.get("num_classes", 1000))
    args = {"in_chans": in_chans, "img_size": img_size, "num_classes": num_classes}
    check_model_args(config["architecture"], config.get("model_args", {}), where, **args)


def check_model_args(architecture: str, model_args: Any, where: str, **defaults: Any) -> None:
    """Check the arguments of a model's constructor, and the cost of such a model.

    Args:
        architecture: One of `models.zoo.list_architectures`.
        model_args: Arguments by name.
        where: Source of the arguments, for errors.
        **defaults: Arguments that replace the architecture's defaults; ``model_args`` take precedence.

    Raises:
        ConfigError: An argument is unknown or out of bounds, or the model exceeds `LIMITS`.
    """
    known = {name: _MODEL_ARGS[name] for name in model_arguments(architecture)}
    args = checked(f"{where}: model_args", record({}, known), model_args)
    try:
        cost = count_cost(architecture, **{**defaults, **args})
    except ValueError as e:
        raise ConfigError(f"{where} does not describe a valid model: {e}.") from e
    limits = LIMITS.get(architecture, LIMITS[None])
    for what, count, limit in zip(_COSTS, cost, limits, strict=True):
        if count > limit:
            raise ConfigError(f"{where} describes a model with {count:,} {what}, which exceeds the limit of {limit:,}.")


_COSTS = ("parameters", "multiply-adds per face", "activations per face")


def read_task(extras: Mapping[str, Any], V: float) -> str:
    """Return what weights predict: ``"age"``, in years, or ``"gender"``, a score.

    Args:
        extras: Extras of the config; without a ``task``, the range decides.
        V: Range of the model's output.

    Raises:
        ConfigError: The task is neither of these, or it is gender and V is not 1.
    """
    task = checked("In config.json, task", optional(choice("age", "gender")), extras.get("task"))
    if task == "gender" and V != 1:
        raise ConfigError(f"A gender model must have the range V = 1, not {V:g}.")
    return task or ("gender" if V == 1 else "age")


def read_training(extras: dict[str, Any]) -> dict[str, Any]:
    """Return the ``training`` entry of a config's extras, with checked types; empty if there is none.

    Raises:
        ConfigError: A value has the wrong type.
    """
    return checked("In config.json, training", optional(_check_training), extras.get("training")) or {}


def _check_set_aside(value: Any) -> Any:
    """Check the number of held-out rows: of the training set, or of each of several by name."""
    count = whole(0, 10**9)
    return {text()(name): count(rows) for name, rows in value.items()} if isinstance(value, dict) else count(value)


def _check_training(value: Any) -> dict[str, Any]:
    before = optional(_check_training)
    return record(
        {},
        {
            "data": optional(text()),
            "set_aside": optional(_check_set_aside),
            "teachers": optional(listing(text(), 0, 100)),
            "median_age": optional(number(0, 1000)),
            "command": optional(text(5000)),
            "device": optional(text()),
            "minutes": optional(number(0, 1e9)),
            "recipe": optional(mapping),
            "start": before,
            "average_of": optional(listing(_check_training, 0, 100)),
        },
        closed=False,
    )(value)
