"""What is asked of `halocline sample`, and whether a generator can give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from halocline.run.generator import Generator

__all__ = ["SampleOptions", "requested_parameters", "told_to_members"]

MONTHS = tuple(range(1, 13))


@dataclass(frozen=True)
class SampleOptions:
    """Options of `halocline sample`; see its help."""

    members: int = 12
    seed: int = 0
    output: str = "states.nc"
    months: tuple[int, ...] = MONTHS
    parameters: dict[str, float] = field(default_factory=dict)
    sampling: dict[str, int | float | dict[str, float] | str] = field(default_factory=dict)
    convection: bool = True
    ranks_per_member: int = 0

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members is {self.members}, expected at least 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected an integer in [0, 2^32).")
        if not self.months or not set(self.months) <= set(MONTHS):
            raise ValueError(f"months is {list(self.months)}, expected numbers from 1 to 12.")

    def month(self, member: int) -> int:
        """Month at whose end a member stands."""
        return self.months[member % len(self.months)]


def requested_parameters(generator: Generator, options: SampleOptions) -> Tensor:
    """Returns the physical parameters to generate for, shape (1, parameter).

    Raises:
        ValueError: One is missing or unknown.
    """
    names = generator.parameters.names
    if set(options.parameters) != set(names):
        raise ValueError(
            f"parameters are {sorted(options.parameters) or 'not given'}, expected a value for each of "
            f"{list(names) or 'none (the run was trained without)'}: add parameters.NAME=VALUE."
        )
    return torch.tensor([[options.parameters[name] for name in names]], dtype=torch.float64)


def told_to_members(generator: Generator, options: SampleOptions, members: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Returns season and physical parameters of members, shapes (member) and (member, parameter).

    Raises: see `requested_parameters`.
    """
    season = torch.tensor([options.month(m) for m in members]).double() / 12 % 1
    return season, requested_parameters(generator, options).expand(len(members), -1)
