"""Averages of weights: model soups (Wortsman et al., ICML 2022)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import torch

from ..errors import ConfigError
from ..hub.loading import from_pretrained, get_extras, save_pretrained
from ..models.config import read_task, read_training
from ..models.pretrained import assert_age_model

__all__ = ["average_weights"]


def average_weights(
    weights: Sequence[Union[str, os.PathLike]], directory: Union[str, os.PathLike], *, command: Optional[str] = None
) -> Path:
    """Write the average of weights that were trained from the same initial weights.

    Such runs end in the same basin; their average often generalizes better than each of them, at the cost of one.

    Args:
        weights: Two or more names or folders, as for `from_pretrained`, of the same architecture, preprocessing, and
            framing.
        directory: Output folder, as for `save_pretrained`.
        command: Command that reproduces the weights, for their card.

    Returns:
        The directory.

    Raises:
        ConfigError: There are fewer than two, or they are incompatible.
        SSRNetHubError: Some cannot be loaded.
    """
    if len(weights) < 2:
        raise ConfigError("Averaging requires at least two weights.")
    models = [assert_age_model(from_pretrained(name)) for name in weights]
    extras = [get_extras(model) for model in models]
    mean = models[0]
    for name, model, extra in zip(weights, models, extras, strict=True):
        like = all(model.pretrained_cfg.get(key) == mean.pretrained_cfg.get(key) for key in _ALIKE)
        shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (model, mean)]
        task = read_task(extra, model.V) == read_task(extras[0], mean.V)
        if not (like and task) or shapes[0] != shapes[1] or extra.get("framing") != extras[0].get("framing"):
            raise ConfigError(
                f"Cannot average {name} and {weights[0]}: task, architecture, preprocessing, or framing differ."
            )
    states = [model.state_dict() for model in models]
    mean.load_state_dict(
        {
            key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
            for key, value in states[0].items()
        }
    )
    training = [read_training(extra) for extra in extras]
    kept = {key: value for key, value in training[0].items() if key in ("data", "set_aside", "median_age")}
    said = {**kept, "average_of": training, **({"command": command} if command else {})}
    # a calibration of the first does not hold for the average
    return save_pretrained(mean, directory, {"training": said, "calibration": None})


_ALIKE = ("architecture", "input_size", "mean", "std", "interpolation", "crop_pct")
