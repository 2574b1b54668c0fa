"""The stages that led to the age of one face, as numbers and as a sentence."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

__all__ = ["Stage", "explain", "rounded_contributions", "split_stages"]


@dataclass(frozen=True)
class Stage:
    """One stage of the soft stagewise regression for one face; names as in the paper.

    Attributes:
        p: Weight of each bin, >= 0; need not sum to 1.
        eta: Shift of each bin, in bins, in (-1, 1).
        delta: Relative change of the number of bins, in (-1, 1).
        width: Width of a bin, years.
        contribution: Contribution of the stage to the age, years.
    """

    p: tuple[float, ...]
    eta: tuple[float, ...]
    delta: float
    width: float
    contribution: float


def split_stages(stages: Iterable[Sequence[Any]]) -> list[tuple[Stage, ...]]:
    """Convert the output of `SSRNet.forward_stages`, tensors or arrays, to a tuple of stages per face."""
    columns = [
        [
            Stage(tuple(p), tuple(eta), delta, width, contribution)
            for p, eta, delta, width, contribution in zip(
                *(part.tolist() for part in stage[:2]), *(part[:, 0].tolist() for part in stage[2:]), strict=True
            )
        ]
        for stage in stages
    ]
    return list(zip(*columns, strict=True))


def rounded_contributions(stages: tuple[Stage, ...]) -> list[float]:
    """The contributions to a tenth of a year, such that they add up to the rounded age; each is off by 0.1 at most."""
    totals = [0.0, *(round(total, 1) for total in accumulate(stage.contribution for stage in stages))]
    # adding 0.0 makes a negative zero an ordinary one
    return [round(after - before, 1) + 0.0 for before, after in pairwise(totals)]


def explain(stages: tuple[Stage, ...]) -> str:
    """The stages in words: ``stage 1 says 27.2, stage 2 adds 1.5, stage 3 adds 1.9: 30.6 years``."""
    if math.isnan(sum(stage.contribution for stage in stages)):
        return "the network gave no number: a stage's bins grew without bound"
    first, *others = rounded_contributions(stages)
    parts = [f"stage 1 says {first:.1f}"]
    parts += [f"stage {k} {'adds' if c >= 0 else 'takes'} {abs(c):.1f}" for k, c in enumerate(others, start=2)]
    return f"{', '.join(parts)}: {sum((first, *others)):.1f} years"
