"""Constrained samplers give the same bits on any number of ranks, and meet what they are asked."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from halocline.flow.denoiser import PreconditionedDenoiser
from halocline.inference.guidance import Told
from halocline.io.nemo import write_states
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.generator import Generator
from halocline.run.judging import diagnose_fields
from halocline.run.sample import SampleOptions, generate
from halocline.run.targets import Targets
from halocline.run.teams import Team

sys.path.append(str(Path(__file__).parent))

from test_sample_ranks import build, deal, land_broken_grid

MEMBERS = (0, 1)


def constrained(**sampling) -> Generator:
    """A generator whose targets are the profiles of noise about its standardisation, so that they can be met."""
    generator = build(land_broken_grid(), "heun", "fp32")
    with torch.no_grad():
        for p in generator.denoiser.network.parameters():
            p.mul_(0.3)
    denoiser = PreconditionedDenoiser(generator.denoiser.network, generator.denoiser.path)  # near that of a Gaussian
    torch.manual_seed(2)
    shape = (6, *generator.standardisation.reference.shape)
    states = generator.standardisation.inverse(torch.randn(shape, dtype=torch.float64))
    fields = {name: x.numpy() for name, x in generator.channels.split(states).items()}
    told = diagnose_fields(fields, generator.grid, generator.lattice, generator.config.data)
    season = torch.arange(6).double() / 6
    targets = Targets.fit({name: x.numpy() for name, x in told.items()}, season, torch.zeros(6, 0))
    # One state more than features tells no spread: narrower bounds than stable columns of noise can meet are refused.
    targets = replace(targets, spread={name: 20 * x for name, x in targets.spread.items()})
    config = replace(generator.config, sampling=replace(generator.config.sampling, **sampling))
    return replace(generator, config=config, targets=targets, denoiser=denoiser)


@pytest.mark.parametrize(
    ("constraints", "form"),
    [("ts", "state"), ("c1", "estimate"), ("c2+stability", "multipliers"), ("ts+strict", "estimate")],
)
def test_constrained_sample_does_not_depend_on_layout(comm, constraints, form):
    torch.set_num_threads(1)
    generator = constrained(constraints=constraints, constraint_form=form)
    plain = constrained()
    options = SampleOptions(members=len(MEMBERS), seed=7, convection=False)
    whole, alone = Layout.build(generator.lattice, Serial()), Team(Serial(), MEMBERS)
    told, told_here = Told(), Told()
    expected = generate(generator, whole, alone, options, False, told=told)
    free = generate(plain, whole, alone, options, False)
    assert not np.array_equal(expected["temperature"], free["temperature"])
    assert len(told.rows) >= 3 * len(MEMBERS)
    owners = deal(np.random.default_rng(5), generator.lattice.count, comm.size)
    layout = Layout.build(generator.lattice, comm, owners)
    fields = generate(generator, layout, Team(comm, MEMBERS), options, False, told=told_here)
    np.testing.assert_array_equal(told_here.rows, told.rows)
    if comm.is_root:
        for name, values in expected.items():
            assert np.isfinite(values).all() and np.array_equal(fields[name], values), name


def test_strict_samples_are_stable_in_the_numbers_that_are_written(comm):
    torch.set_num_threads(1)
    generator = constrained(constraints="strict")
    layout = Layout.build(generator.lattice, comm)
    fields = generate(generator, layout, Team(comm, MEMBERS), SampleOptions(members=2, convection=False), False)
    if comm.is_root:
        told = diagnose_fields(fields, generator.grid, generator.lattice, generator.config.data)
        assert (told["unstable_fraction_strict"] == 0).all()


def test_sample_with_a_given_surface_does_not_depend_on_layout(comm, tmp_path):
    torch.set_num_threads(1)
    plain, alone = constrained(), Team(Serial(), MEMBERS)
    whole = Layout.build(plain.lattice, Serial())
    fields = generate(plain, whole, alone, SampleOptions(members=2, seed=1), False)
    path = tmp_path / "states.nc"  # one for each rank, all alike
    write_states(path, fields, plain.grid, months=[1, 2])
    generator = constrained(given=str(path), constraint_form="estimate")
    options = SampleOptions(members=2, seed=7, convection=False)
    expected = generate(generator, whole, alone, options, False)
    found = generate(generator, Layout.build(generator.lattice, comm), Team(comm, MEMBERS), options, False)
    if comm.is_root:
        assert all(np.array_equal(found[name], values) for name, values in expected.items())
