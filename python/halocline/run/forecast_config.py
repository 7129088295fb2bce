"""The section `forecast` of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halocline.run.config_reader import one_of
from halocline.state.stretching import DISTANCE

__all__ = ["ForecastConfig"]


@dataclass(frozen=True)
class ForecastConfig:
    """What a forecast generator learns: the change of the state over a lead, given the state and the forcing.

    Attributes:
        leads: Hours from the state that is given to the one that is made; all of them are learned, and any lead between
            the shortest and the longest can be asked for. None: the run is one of a generator of states.
        loss: "censored", the likelihood of `flow.censored` (values on their bounds are told from those near them),
            "squared", or, if deterministic, "gaussian", which learns how far the truth lies from the mean, too.
        deterministic: Learn the mean of what can follow instead of its distribution: one evaluation without noise.
        first_guess: Run folder of deterministic forecasts with loss "gaussian": learn what these leave open, in units
            of how much that is (`flow.first_guess`). Their weights become part of the generator. Empty: none.
        stretched: Variables that are learned as the logarithm of what they lack to their upper bound
            (`state.stretching`): damage, or none.
        state_noise: Largest white noise on the states that are told in training, of the root mean square change over
            the lead (`run.pairs`): the network learns to take away what a forecast's own states carry. 0: none.
    """

    leads: tuple[float, ...] = ()
    loss: str = "censored"
    deterministic: bool = False
    first_guess: str = ""
    stretched: tuple[str, ...] = ()
    state_noise: float = 0.0

    def __post_init__(self) -> None:
        one_of("forecast.loss", self.loss, ("censored", "squared", "gaussian"))
        if self.loss == "gaussian" and not self.deterministic:
            raise ValueError("forecast.loss is 'gaussian', expected forecast.deterministic=true with it: set both.")
        if self.first_guess and self.deterministic:
            raise ValueError(
                f"forecast.first_guess is '{self.first_guess}' with forecast.deterministic, expected none: what a "
                "first guess leaves open is not deterministic; leave one of them out."
            )
        if not 0 <= self.state_noise <= 10:
            raise ValueError(
                f"forecast.state_noise is {self.state_noise}, expected 0 to 10 times the change over a lead; 0.5 suits."
            )
        if unknown := [name for name in self.stretched if name not in DISTANCE]:
            raise ValueError(f"forecast.stretched names '{unknown[0]}', expected names from {', '.join(DISTANCE)}.")
        ascending = all(a < b for a, b in zip(self.leads, self.leads[1:], strict=False))
        if any(not lead > 0 for lead in self.leads) or not ascending:
            raise ValueError(f"forecast.leads is {list(self.leads)}, expected positive hours in ascending order.")

    def __bool__(self) -> bool:
        """Whether the run is one of forecasts."""
        return bool(self.leads)

    @property
    def outputs(self) -> int:
        """Channels of the network for each of the state."""
        return 2 if self.loss == "gaussian" else 1

    @property
    def likelihood(self) -> bool:
        """Whether the loss is the logarithm of a likelihood, which may be negative."""
        return bool(self) and self.loss != "squared"

    def check(self, forcing: Sequence[str], centre: str, factor: int) -> None:
        """Refuses what forecasts cannot be made of.

        Raises:
            ValueError: Forcing without leads; or another centre than "level"; or a cascade.
        """
        if not self:
            if forcing:
                raise ValueError(
                    f"data.forcing is {', '.join(forcing)}, but forecast.leads is empty, expected leads: only a "
                    "forecast is told forcing; leave it out otherwise."
                )
            return
        if centre != "level":
            raise ValueError(f"training.centre is '{centre}' with forecast.leads, expected 'level': set it.")
        if factor != 1:
            raise ValueError(f"coarse.factor is {factor} with forecast.leads, expected 1: forecasts have one level.")
