"""Labelled face chips in memory, and how processes share the batches of them."""

from collections.abc import Callable, Iterator
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import LabelsError
from ..images.loading import load_photo
from .labels import Label

__all__ = ["Chips", "ShardedBatches", "balanced_weights", "as_it_is"]


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

    Every epoch has an order of its own. All batches are as large as each other, give or take one chip. accelerate's
    `BatchSamplerShard` wants batches that the processes divide evenly, and shows some chips twice to fill the last one.
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
