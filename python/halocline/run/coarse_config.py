"""The section `coarse` of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halocline.run.config_reader import at_least
from halocline.state.variables import VARIABLES

__all__ = ["FACTORS", "CoarseConfig"]

FACTORS = (1, 2, 4, 8)
"""Cells along i and j that a coarser cell may take together."""


@dataclass(frozen=True)
class CoarseConfig:
    """What the network is told of the whole basin: in each cell, the coarse state of the place; see `run.context`.

    Attributes:
        factor: Cells along i and j that a coarse cell takes together, of 1, 2, 4, 8; 1: it is told nothing.
        noise: Standard deviation of the white noise in the coarse state that it is told, in those of the training
            states: it learns to lean on the state no more than a generated one bears.
        variables: Of those at T points in data.variables; none named: all of them.
    """

    factor: int = 1
    noise: float = 0.1
    variables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least("coarse", self, "noise", 0)
        if self.factor not in FACTORS:
            raise ValueError(f"coarse.factor is {self.factor}, expected one of {', '.join(map(str, FACTORS))}.")

    def told(self, variables: Sequence[str]) -> tuple[str, ...]:
        """Returns those of the variables of states that the network is told, in their order."""
        at_cells = [name for name in variables if VARIABLES[name].point == "T"]
        if self.factor == 1:
            return ()
        return tuple(name for name in at_cells if name in self.variables or not self.variables)
