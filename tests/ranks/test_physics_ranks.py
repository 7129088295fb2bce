"""Diagnostics have the same bits on one rank and on several, whoever owns which tile."""

import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import DiagnosticOptions, diagnose
from halocline.physics.geometry import Geometry
from halocline.physics.ice import diagnose_ice
from halocline.physics.seawater import EOS80
from halocline.physics.stability import potential_density_profile

EDGES = [{}, {"periodic_i": True}, {"periodic_i": True, "fold": "T"}]


def ocean(edges: dict) -> Grid:
    """4 levels, 11 x 14 cells with land, cut by tiles of 3 x 4: padding and one dry tile."""
    levels = np.random.default_rng(1).integers(0, 5, (11, 14))
    levels[3:6, 4:8] = 0
    return box_grid(4, 11, 14, levels=levels, **edges)


def fields(grid: Grid, layout: Layout) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(2)
    names = ("temperature", "salinity", "velocity_u", "velocity_v")
    scales = ((10.0, 2.0), (35.0, 0.5), (0.0, 0.1), (0.0, 0.1))
    result = {name: rng.normal(*scale, (3, *grid.shape)) for name, scale in zip(names, scales, strict=True)}
    result["sea_level"] = rng.normal(0.0, 0.3, (3, 1, grid.nj, grid.ni))
    return {name: torch.as_tensor(layout.cut(x.astype(np.float32))).transpose(0, 1) for name, x in result.items()}


def layouts(grid: Grid, comm) -> list[Layout]:
    """The balanced layout, and one that deals tiles like cards from the last rank on."""
    lattice = Lattice.from_grid(grid, (3, 4), 1)
    cards = (comm.size - 1 - np.arange(lattice.count)) % comm.size
    return [Layout.build(lattice, comm), Layout.build(lattice, comm, cards)]


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("free_surface", ["linear", "nonlinear"])
def test_diagnostics_do_not_depend_on_layout(comm, edges, free_surface):
    grid = ocean(edges)
    alone = Layout.build(Lattice.from_grid(grid, (3, 4), 1), Serial())
    options = DiagnosticOptions(free_surface)
    expected = diagnose(fields(grid, alone), Geometry.build(grid, alone), alone, EOS80, options)
    for layout in layouts(grid, comm):
        result = diagnose(fields(grid, layout), Geometry.build(grid, layout), layout, EOS80, options)
        assert list(result) == list(expected)
        for name, value in result.items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("edges", EDGES)
def test_ice_diagnostics_do_not_depend_on_layout(comm, edges):
    grid = ocean(edges)
    names = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
    state = {name: np.random.default_rng(n).uniform(0, 1, (2, 1, grid.nj, grid.ni)) for n, name in enumerate(names)}

    def diagnosed(layout: Layout) -> dict[str, torch.Tensor]:
        tiles = {name: torch.as_tensor(layout.cut(x)).transpose(0, 1) for name, x in state.items()}
        return diagnose_ice(tiles, Geometry.build(grid, layout), layout)

    expected = diagnosed(Layout.build(Lattice.from_grid(grid, (3, 4), 1), Serial()))
    for layout in layouts(grid, comm):
        for name, value in diagnosed(layout).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)


def test_gradients_of_profiles_do_not_depend_on_layout(comm):
    grid = ocean(EDGES[1])

    def gradient(layout: Layout) -> torch.Tensor:
        state = fields(grid, layout)
        T = state["temperature"].double().requires_grad_()
        S = state["salinity"].double()
        geometry = Geometry.build(grid, layout)
        profile = potential_density_profile(T, S, geometry, layout, EOS80)
        loss = ((profile - 1027.0) ** 2).sum()
        return torch.autograd.grad(loss, T)[0]

    alone = Layout.build(Lattice.from_grid(grid, (3, 4), 1), Serial())
    expected = gradient(alone)
    assert expected.abs().max() > 0.0
    for layout in layouts(grid, comm):
        torch.testing.assert_close(gradient(layout), expected[:, layout.local], rtol=0, atol=0)


def test_a_wrong_field_on_one_rank_is_refused_on_all(comm):
    grid = ocean({})
    layout = layouts(grid, comm)[0]
    state = fields(grid, layout)
    if comm.rank == comm.size - 1:
        state["salinity"] = state["salinity"][..., 1:]
    with pytest.raises(ValueError, match="Field 'salinity' must have shape"):
        diagnose(state, Geometry.build(grid, layout), layout, EOS80)
