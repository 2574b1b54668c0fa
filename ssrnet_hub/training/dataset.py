"""Datasets of labeled face crops, and batches that several processes share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import LabelsError
from ..images.loading import load_photo
from .labels import Label

__all__ = ["Chips", "LabeledSet", "ShardedBatches", "as_it_is", "balanced_weights"]

IN_MEMORY = 5 * 2**30
"""Largest dataset that is kept in memory, bytes; larger ones are read from disk."""


@dataclass(frozen=True)
class LabeledSet:
    """The rows of one labels file.

    Attributes:
        name: Name of the folder of the file.
        labels: The rows.
        weight: Weight of a row relative to those of other files.
    """

    name: str
    labels: list[Label]
    weight: float = 1.0


class Chips(Dataset):
    """Crops with targets and weights.

    Args:
        sets: One or more sets.
        task: ``"age"`` or ``"gender"``.
        size: Side of the crops, pixels.
        augment: Augmentation of small batches.
        balance: As in `balanced_weights`.

    Attributes:
        copy: Number of the augmented copy to return, always the same; None augments anew each time.
        ranges: ``(N, 2)``, lower and exclusive upper end of the age in years, infinite if open, equal if known; for
            gender 0 (female) or 1 (male), twice.
        targets: As ``ranges``, or the ages placed in them, twice.
        weights: ``(N,)``, with mean 1.
    """

    def __init__(
        self,
        sets: Sequence[LabeledSet],
        task: str,
        size: int,
        augment: Optional[Callable[[Tensor], Tensor]] = None,
        balance: float = 0.0,
    ):
        labels = [label for part in sets for label in part.labels]
        of_gender = task == "gender"
        if of_gender and not all(label.gender in ("female", "male") for label in labels):
            raise LabelsError("Training gender weights requires the gender of every row, female or male.")
        ends = [[float(label.gender == "male")] * 2 if of_gender else _ends(label) for label in labels]
        self.ranges = torch.tensor(ends)
        self.targets = self.ranges.clone()
        weights = torch.tensor([part.weight for part in sets for _ in part.labels])
        weights *= balanced_weights(_middles(self.ranges), balance)
        self.weights = weights / weights.mean()
        self.augment = augment
        self.copy: Optional[int] = None
        self._size, self._paths = size, [label.path for label in labels]
        self._chips: Optional[Tensor] = None
        if len(labels) * 3 * size**2 <= IN_MEMORY:
            chips = np.empty((len(labels), size, size, 3), np.uint8)
            for chip, path in zip(chips, tqdm(self._paths, "chips", leave=False), strict=True):
                chip[:] = self._read(path)
            self._chips = torch.from_numpy(chips).permute(0, 3, 1, 2)

    def _read(self, path: Path) -> np.ndarray:
        return np.asarray(load_photo(path).resize((self._size, self._size)))

    def __len__(self) -> int:
        return len(self.targets)

    def chips(self, indices: Sequence[int]) -> Tensor:
        """Crops without augmentation, ``(B, 3, size, size)`` uint8."""
        if self._chips is not None:
            return self._chips[list(indices)]
        return torch.from_numpy(np.stack([self._read(self._paths[index]) for index in indices])).permute(0, 3, 1, 2)

    def __getitems__(self, groups: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch: indices ``(B,)``, crops ``(B, 3, size, size)`` uint8, targets ``(B, 2)``, and weights ``(B,)``.

        Args:
            groups: Indices of crops that get the same augmentation.
        """
        indices = torch.tensor([index for group in groups for index in group])
        chips = torch.cat([self._wear(self.chips(group), group) for group in groups])
        return indices, chips, self.targets[indices], self.weights[indices]

    def _wear(self, chips: Tensor, group: list[int]) -> Tensor:
        if self.augment is None:
            return chips
        if self.copy is None:
            return self.augment(chips)
        with torch.random.fork_rng(devices=[]):
            # of a seed the CPU's generator takes 32 bits
            torch.manual_seed((self.copy * 0x9E3779B1 + group[0]) % 2**32)
            return self.augment(chips)


def _ends(label: Label) -> tuple[float, float]:
    return label.age_range or (label.age, label.age)


def _middles(targets: Tensor) -> Tensor:
    """The middle of each target; an open range counts as ten years."""
    low, high = targets.unbind(1)
    return (low + torch.where(high.isinf(), low + 10, high)) / 2


def as_it_is(batch: Any) -> Any:
    return batch


_GROUP = 8
"""Crops that get the same augmentation: torchvision draws once per call, and a call per crop is slow."""


class ShardedBatches:
    """Batch sampler that gives each process its share of every batch, in groups for `Chips`.

    Each epoch has another order. Batch sizes differ by at most one crop, or one group with ``same_groups``.
    accelerate's `BatchSamplerShard` needs batches that divide evenly, and repeats crops to fill the last one.

    Args:
        count: Number of crops.
        batch_size: Crops per batch, over all processes.
        rank: Index of this process.
        world: Number of processes.
        same_groups: Keep the same groups in every epoch, and only shuffle them.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1, same_groups: bool = False):
        self.count, self.rank, self.world, self.epoch = count, rank, world, 0
        self.batches = max(1, count // batch_size)
        self._groups = _shuffled(count, 0).split(_GROUP) if same_groups else None

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[list[int]]]:
        if self._groups is None:
            for batch in _shuffled(self.count, self.epoch).tensor_split(self.batches):
                share = batch.tensor_split(self.world)[self.rank]
                yield [group.tolist() for group in share.split(_GROUP)]
        else:
            for batch in _shuffled(len(self._groups), self.epoch).tensor_split(self.batches):
                share = batch.tensor_split(self.world)[self.rank]
                yield [self._groups[number].tolist() for number in share]


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def balanced_weights(targets: Tensor, balance: float, spread: float = 3.0) -> Tensor:
    """Weights ``(N,)`` with mean 1: the density of each target, smoothed over ``spread``, to the power ``-balance``."""
    values, inverse, counts = targets.unique(return_inverse=True, return_counts=True)
    near = torch.exp(-0.5 * ((values[:, None] - values) / spread) ** 2)
    # at both ends part of the Gaussian is outside
    density = near @ counts.float() / near.sum(1)
    weights = (density**-balance)[inverse]
    return weights / weights.mean()
