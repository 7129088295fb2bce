"""The section `sampling` of a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from halocline.run.config_reader import at_least, one_of

__all__ = ["WIND", "SamplingConfig"]

WIND = ("wind_u", "wind_v")
"""What noise grows with where `wind_power` is set."""

MEANS = ("ts", "c1", "c2")
CONSTRAINTS = (*MEANS, "stability", "strict")


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    Attributes:
        sampler: "euler", "heun", "multistep", "ddim" or "ancestral".
        steps: Steps from noise to data. Heun takes two evaluations a step but the last, the others one.
        times: Where the steps lie in path time: "uniform", "logistic" (shorter towards the data), "quadratic" (shorter
            still: in forecasts as many values end on their bounds as do with far more steps) or "cosine" (as short near
            the data, and short near the noise, too: few steps keep the spread of an ensemble).
        noise: Standard deviation of the noise that a sample starts from; more than 1 spreads an ensemble wider than the
            network has learned.
        long_waves: Factor on the waves of that noise that are longer than some forty cells, in forecasts: more than 1
            spreads an ensemble wider and leaves its small scales as they are; see `run.long_waves`. One for all
            variables, or by name, 1 where there is none.
        short_waves: Factor on its waves of two or three cells, likewise: less than 1 makes members smoother.
        memory: Hours after which a forecast has forgotten these waves: more than 0 spreads an ensemble wider the
            longer it runs, and leaves its first step as it is.
        wind_power: Power of the wind that this noise grows with, in forecasts that are told the wind: more than 0
            spreads an ensemble wider in storms and less when it is calm; see `run.wind_noise`. One for all variables,
            or by name, 0 where there is none.
        spread: Factor on the spread of a first guess, in forecasts that have one: more than 1 spreads an ensemble wider
            in all its scales.
        blend: Cells on either side of the edge of a tile over which the estimates of its windows pass into one another,
            at most the halo; 0: each tile has its own.
        tile_batch: Windows in one network evaluation; part of what fixes the bits.
        precision: "fp32" or "bf16".
        constraints: What samples are to meet, "none" or joined by "+": means of the levels ("ts" temperature and
            salinity, "c1" density, "c2" its gradient; at most one of them), "stability" of columns, and "strict", which
            makes every sample stable with means near those of the training states.
        constraint_form: How means and stability are met: "state" (the noisy state is drawn to them, as published; means
            only), "estimate" (a penalty on the clean estimate, with the gradient through the network), or "multipliers"
            (primal-dual, the same gradient).
        constraint_strength: Of "state": factor of the published rate, default 1; of "estimate": penalty of a squared
            residual in units of its spread, default 4; of "multipliers": dual step, default 0.5. 0: the default.
        given: File of states whose fields samples are to have: one state, or one for each member in turn.
        given_variables: Which of its fields, joined by "+".
        given_levels: From the surface down.
        given_error: Of the fields, in standard deviations of the training states.
        corrections: Langevin steps after each step; with "multipliers".
        correction_size: Their size, relative to the variance of the noise.
        coarse: Coarse states that the network is told, where it was trained with `coarse.factor` above 1: the run
            folder of a generator of coarse states, or a file of states on the coarse grid, one for each member in turn.
    """

    sampler: str = "heun"
    steps: int = 20
    times: str = "uniform"
    noise: float = 1.0
    long_waves: dict[str, float] | float = 1.0
    short_waves: dict[str, float] | float = 1.0
    memory: float = 0.0
    wind_power: dict[str, float] | float = 0.0
    spread: float = 1.0
    blend: int = 0
    tile_batch: int = 8
    precision: str = "fp32"
    constraints: str = "none"
    constraint_form: str = "state"
    constraint_strength: float = 0.0
    given: str = ""
    given_variables: str = "temperature"
    given_levels: int = 1
    given_error: float = 0.1
    corrections: int = 1
    correction_size: float = 0.1
    coarse: str = ""

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the constraints."""
        return () if self.constraints == "none" else tuple(self.constraints.split("+"))

    def __post_init__(self) -> None:
        for name in self.asked:
            one_of("sampling.constraints", name, ("none", *CONSTRAINTS))
        one_of("sampling.constraint_form", self.constraint_form, ("state", "estimate", "multipliers"))
        at_least("sampling", self, "constraint_strength", 0)
        at_least("sampling", self, "corrections", 0)
        at_least("sampling", self, "given_levels", 1)
        for name in ("correction_size", "given_error"):
            at_least("sampling", self, name, 0, strictly=True)
        if self.given and self.constraint_form == "state":
            raise ValueError(
                "sampling.given needs sampling.constraint_form 'estimate' or 'multipliers', got 'state': set it, too."
            )
        if sum(name in MEANS for name in self.asked) > 1:
            one = ", ".join(MEANS)
            raise ValueError(f"sampling.constraints is '{self.constraints}', expected at most one of {one}.")
        if "stability" in self.asked and self.constraint_form == "state":
            raise ValueError(
                "sampling.constraints asks for stability with sampling.constraint_form 'state', expected 'estimate' or "
                "'multipliers': a noisy state has no stable columns."
            )
        one_of("sampling.sampler", self.sampler, ("euler", "heun", "multistep", "ddim", "ancestral"))
        one_of("sampling.times", self.times, ("uniform", "logistic", "quadratic", "cosine"))
        at_least("sampling", self, "noise", 0)
        for key, number in self._named():
            if number < 0:
                raise ValueError(f"sampling.{key} is {number}, expected at least 0.")
        at_least("sampling", self, "memory", 0)
        at_least("sampling", self, "blend", 0)
        at_least("sampling", self, "spread", 0, strictly=True)
        one_of("sampling.precision", self.precision, ("fp32", "bf16"))
        if self.steps < 1 or self.tile_batch < 2:
            raise ValueError(
                f"sampling.steps is {self.steps} and sampling.tile_batch {self.tile_batch}, expected at "
                "least 1 step and at least 2 windows."
            )

    def check(self, variables: Sequence[str], forcing: Sequence[str], halo: int) -> None:
        """Raises ValueError where noise of another variable is named, or grows with a wind that is not told."""
        for key, _ in self._named():
            noise, _, name = key.partition(".")
            if name and name not in variables:
                raise ValueError(f"sampling.{noise} names '{name}', expected some of {', '.join(variables)}.")
        if not any(number for key, number in self._named() if key.startswith("wind_power")):
            return
        if lacking := [name for name in WIND if name not in forcing]:
            told = ", ".join(forcing) or "nothing"
            raise ValueError(
                f"sampling.wind_power is set, but data.forcing is {told}, without {lacking[0]}: name it there, or set "
                "sampling.wind_power to 0."
            )
        if not halo:
            raise ValueError(
                "sampling.wind_power is set, but lattice.halo is 0, expected at least 1 to know the wind nearby: set "
                "one of them."
            )

    def _named(self) -> Iterator[tuple[str, float]]:
        """Factors and powers, by key."""
        for key in ("long_waves", "short_waves", "wind_power"):
            of = getattr(self, key)
            yield from ((f"{key}.{name}", x) for name, x in of.items()) if isinstance(of, Mapping) else ((key, of),)
