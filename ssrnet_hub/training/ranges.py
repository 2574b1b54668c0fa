"""Exact ages for faces that are labeled with age ranges."""

import torch
from torch import Tensor

__all__ = ["place_in_ranges"]

_BEYOND = 7.0
"""Mean number of years by which ages exceed the lower end of an open range."""


def place_in_ranges(ages: Tensor, ranges: Tensor) -> Tensor:
    """Spread the faces of each labeled range over it in the order of their predicted ages.

    A network that is trained on ranges is pulled no further than to their ends: teenagers are estimated too old, and
    old people too young. Predictions rank the faces of a range better than they place them, so only their order is
    used: the ages of a range are uniformly distributed, those of an open range exponentially. Someone is 29 until the
    day they are 30, so the mean of 20 to 29 is 25.

    Args:
        ages: Predicted ages, years, ``(N,)``.
        ranges: Lower and upper end of each label, years, ``(N, 2)``; infinite for an open range, equal if the age is
            known.

    Returns:
        The ages as ranges of width 0, years, ``(N, 2)``.
    """
    ages, placed = ages.to(ranges), torch.empty_like(ranges)
    for low, high in ranges.unique(dim=0):
        members = (ranges == torch.stack([low, high])).all(1).nonzero()[:, 0]
        members = members[ages[members].argsort(stable=True)]
        quantiles = (torch.arange(len(members), device=ranges.device) + 0.5) / len(members)
        beyond = -_BEYOND * torch.log1p(-quantiles) if high.isinf() else (high - low) * quantiles
        placed[members] = (low + beyond)[:, None]
    return placed
