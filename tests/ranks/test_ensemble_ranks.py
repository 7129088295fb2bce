"""Scores of ensembles have the same bits on one rank and on several, whoever owns which tile."""

import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.bounds import on_bounds
from halocline.physics.ensembles import areas, rank_histogram, score_ensemble
from halocline.physics.geometry import Geometry
from halocline.physics.ice_edge import edge_error, presence_reliability
from halocline.physics.sharpness import Faces

EDGES = [{}, {"periodic_i": True}, {"periodic_i": True, "fold": "T"}]


def sea(edges: dict) -> Grid:
    """11 x 14 cells with land, cut by tiles of 3 x 4: padding and one dry tile."""
    wet = np.random.default_rng(1).random((11, 14)) < 0.8
    wet[3:6, 4:8] = False
    return box_grid(1, 11, 14, wet=wet, **edges)


def layouts(grid: Grid, comm) -> list[Layout]:
    """The balanced layout, and one that deals tiles like cards from the last rank on."""
    lattice = Lattice.from_grid(grid, (3, 4), 1)
    cards = (comm.size - 1 - np.arange(lattice.count)) % comm.size
    return [Layout.build(lattice, comm), Layout.build(lattice, comm, cards)]


def members(grid: Grid, layout: Layout, count: int, seed: int) -> torch.Tensor:
    x = np.random.default_rng(seed).uniform(-0.1, 1.1, (count, 1, grid.nj, grid.ni)).clip(0, 1).astype(np.float32)
    return torch.as_tensor(layout.cut(x)).transpose(0, 1)


def everything(grid: Grid, layout: Layout, point: str, sign: int) -> list[object]:
    geometry = Geometry.build(grid, layout)
    forecast, truth, weight = members(grid, layout, 5, 1), members(grid, layout, 1, 2), areas(geometry, point)
    measures = (score_ensemble, rank_histogram, edge_error, presence_reliability)
    found: list[object] = [measure(forecast, truth, weight, layout) for measure in measures]
    found.append(on_bounds(forecast, (0.0, 1.0), weight, layout))
    return [*found, Faces.build(geometry, layout, point, sign).energy(forecast).tolist()]


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize(("point", "sign"), [("T", 1), ("U", -1)])
def test_scores_do_not_depend_on_layout(comm, edges, point, sign):
    grid = sea(edges)
    expected = everything(grid, Layout.build(Lattice.from_grid(grid, (3, 4), 1), Serial()), point, sign)
    assert "nan" not in str(expected)
    for layout in layouts(grid, comm):
        assert everything(grid, layout, point, sign) == expected


def test_wrong_members_on_one_rank_are_refused_on_all(comm):
    grid = sea({})
    layout = layouts(grid, comm)[0]
    weight = areas(Geometry.build(grid, layout))
    truth = members(grid, layout, 2 if comm.rank == comm.size - 1 else 1, 2)
    with pytest.raises(ValueError, match="expected \\(member, tile, 1, j, i\\)"):
        score_ensemble(members(grid, layout, 3, 1), truth, weight, layout)
