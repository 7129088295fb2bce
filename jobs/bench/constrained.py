"""Time of a sampling step under each kind of constraint, in turn with an unconstrained one. Prints JSON.

The generator of generation.py, untrained, with states of noise about a stratified ocean; one process.
"""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from generation import MEMBERS, build
from timing import alternate, median

from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.constraints import Constrained
from halocline.run.generator import Generator
from halocline.run.judging import diagnose_fields
from halocline.run.sample import build_sampler, keyed_noise
from halocline.run.targets import Targets

KINDS = {
    "none": ("none", "state"),
    "ts, noisy state": ("ts", "state"),
    "c1, noisy state": ("c1", "state"),
    "c2, noisy state": ("c2", "state"),
    "strict": ("strict", "state"),
    "ts, estimate": ("ts", "estimate"),
    "c2, estimate": ("c2", "estimate"),
    "c2 and stability, multipliers": ("c2+stability", "multipliers"),
}
ROUNDS, STATES = 5, 6
T0, S0, COOLING = 20.0, 35.0, 0.7  # degC, 1e-3, degC per level


def ocean() -> Generator:
    """Puts the generator's states into sea water."""
    generator = build()
    reference = torch.zeros_like(generator.standardisation.reference)
    for channel in generator.channels.channels:
        if channel.variable.name == "temperature":
            reference[channel.index] = T0 - COOLING * channel.level
        if channel.variable.name == "salinity":
            reference[channel.index] = S0
    scale = torch.where(generator.standardisation.scale > 0, 0.2, 1.0).double()
    standardisation = replace(generator.standardisation, reference=reference, scale=scale)
    states = standardisation.inverse(torch.randn(STATES, *reference.shape, dtype=torch.float64))
    fields = {name: x.numpy() for name, x in generator.channels.split(states).items()}
    told = diagnose_fields(fields, generator.grid, generator.lattice, generator.config.data)
    season = torch.arange(STATES).double() / STATES
    targets = Targets.fit({name: x.numpy() for name, x in told.items()}, season, torch.zeros(STATES, 0))
    return replace(generator, standardisation=standardisation, targets=targets)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = ocean()
    layout = Layout.build(generator.lattice, Serial())
    season, parameters = torch.zeros(MEMBERS).double(), torch.zeros(MEMBERS, 0)
    plain = generator.tiled(layout, season, parameters)
    noise = keyed_noise(generator, layout, tuple(range(MEMBERS)), 0, plain.mask)
    x = 0.1 * noise(0)  # a state late in sampling: the projection finds as much to do as it does there
    contenders = {}
    for name, (constraints, form) in KINDS.items():
        sampling = replace(generator.config.sampling, constraints=constraints, constraint_form=form, corrections=0)
        chosen = replace(generator, config=replace(generator.config, sampling=sampling))
        constrained = Constrained.build(plain, chosen, layout, season, parameters)
        sampler = build_sampler(chosen, constrained, noise, lambda *_: None)
        contenders[name] = lambda sampler=sampler: sampler.step(x, 0.1, 0.05, 0)
    with torch.no_grad():
        times = alternate(contenders, ROUNDS)
    print(json.dumps({name: median(seconds) for name, seconds in times.items()}))


if __name__ == "__main__":
    main()
