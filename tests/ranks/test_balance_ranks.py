"""A balanced start has the same bits on one rank and on several, whoever owns which tile."""

import numpy as np
import pytest

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.balance import Choice, start_on_grid, start_on_tiles
from halocline.run.config import DataConfig

EDGES = [{}, {"periodic_i": True}, {"periodic_i": True, "fold": "T"}]


def ocean(edges: dict) -> Grid:
    """4 levels, 11 x 14 cells with land, cut by tiles of 3 x 4: padding and one dry tile."""
    levels = np.random.default_rng(1).integers(0, 5, (11, 14))
    levels[3:6, 4:8] = 0
    return box_grid(4, 11, 14, levels=levels, **edges)


def state(grid: Grid) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    scales = {"temperature": (10.0, 2.0), "salinity": (35.0, 0.5), "velocity_u": (0.0, 0.1), "velocity_v": (0.0, 0.1)}
    fields = {name: rng.normal(*scale, grid.shape) for name, scale in scales.items()}
    masks = {"velocity_u": grid.umask, "velocity_v": grid.vmask}
    fields = {name: np.where(masks.get(name, grid.tmask), x, 0.0) for name, x in fields.items()}
    fields["sea_level"] = np.where(grid.wet, rng.normal(0.1, 0.3, (1, grid.nj, grid.ni)), 0.0)
    return {name: x.astype(np.float32) for name, x in fields.items()}


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("choice", [Choice("balanced", "mean-free"), Choice("geostrophic", "rest")])
def test_start_does_not_depend_on_layout_and_is_that_of_the_file(comm, edges, choice):
    grid, data = ocean(edges), DataConfig("", (), free_surface="nonlinear")
    lattice, fields = Lattice.from_grid(grid, (3, 4), 1), state(grid)
    expected = start_on_grid(fields, grid, lattice, data, choice)
    cards = (comm.size - 1 - np.arange(lattice.count)) % comm.size  # from the last rank on
    layout, alone = Layout.build(lattice, comm, cards), Layout.build(lattice, Serial())
    found = start_on_tiles({name: layout.cut(x) for name, x in fields.items()}, grid, layout, data, choice)
    assert list(found) == list(expected)
    for name, x in found.items():
        one = alone.cut(expected[name])[layout.local]
        assert x.dtype == one.dtype and np.array_equal(x, one), name
