"""Labeled face chips, and how processes share the batches of them."""

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
"""Bytes of chips that are held in memory, at most, 49 kB each; of more of them each is read whenever it is needed."""


@dataclass(frozen=True)
class LabeledSet:
    """The rows of one labels file, and how much each of them counts beside those of other files.

    Attributes:
        name: Of the folder that the file is in.
        labels: Its rows.
        weight: How much a row counts.
    """

    name: str
    labels: list[Label]
    weight: float = 1.0


class Chips(Dataset):
    """Chips with their targets, and how much each weighs in training.

    Args:
        sets: Whose rows.
        task: ``"age"`` or ``"gender"``.
        size: Side of the chips, pixels.
        augment: What wears them, a few at a time.
        balance: As of `balanced_weights`.

    Attributes:
        copy: Which worn copy of each chip is answered, the same whenever it is asked for; by default every answer is
            worn anew, as PyTorch's random numbers have it.
        targets: ``(N, 2)``: between what the age lies, years, the same twice where it is known; for the task gender 0
            female and 1 male, twice.
        weights: ``(N,)``, 1 on average.
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
            raise LabelsError("Some rows have no gender, female or male, which these weights would learn.")
        ends = [[float(label.gender == "male")] * 2 if of_gender else _ends(label) for label in labels]
        self.targets = torch.tensor(ends)
        weights = torch.tensor([part.weight for part in sets for _ in part.labels])
        weights *= balanced_weights(_middles(self.targets), balance)
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
        """Chips as they are, ``(B, 3, size, size)`` uint8."""
        if self._chips is not None:
            return self._chips[list(indices)]
        return torch.from_numpy(np.stack([self._read(self._paths[index]) for index in indices])).permute(0, 3, 1, 2)

    def __getitems__(self, groups: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch: indices ``(B,)``, chips ``(B, 3, size, size)`` uint8, targets ``(B, 2)`` and weights ``(B,)``.

        Args:
            groups: Indices of chips that are worn together, in the same way.
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
    """The middle of each target; an open range is taken to have ten years."""
    low, high = targets.unbind(1)
    return (low + torch.where(high.isinf(), low + 10, high)) / 2


def as_it_is(batch: Any) -> Any:
    return batch


_GROUP = 8
"""Chips that are worn together: torchvision draws once a call, and one call a chip would take far longer."""


class ShardedBatches:
    """The batches of one process, in groups for `Chips`: of each batch of all processes, its share.

    Every epoch has an order of its own. All batches are as large as each other, give or take one chip, or one group
    with ``same_groups``. accelerate's `BatchSamplerShard` wants batches that the processes divide evenly, and shows
    some chips twice to fill the last one.

    Args:
        count: Of the chips.
        batch_size: Of all processes together.
        rank: Of this process.
        world: Number of processes.
        same_groups: Whether the groups are the same in every epoch, only their order is another.
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
    """Weights ``(N,)``, 1 on average: each target's density, smoothed over ``spread``, to the power ``-balance``."""
    values, inverse, counts = targets.unique(return_inverse=True, return_counts=True)
    near = torch.exp(-0.5 * ((values[:, None] - values) / spread) ** 2)
    # at the ends of the range a part of the bell lies outside
    density = near @ counts.float() / near.sum(1)
    weights = (density**-balance)[inverse]
    return weights / weights.mean()
