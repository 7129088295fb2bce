"""The transport of columns loses its divergence and nothing else."""

import numpy as np
import pytest
import torch
from setting import broken_levels, cut, split
from torch import Tensor

from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.halo import HaloPlan
from halocline.physics.balance import Columns, column_divergence, without_divergence
from halocline.physics.free_surface import Stretching, stretching

EDGES = {
    "closed": {},
    "cyclic": {"periodic_i": True},
    "doubly cyclic": {"periodic_i": True, "periodic_j": True},
    "folded at T": {"periodic_i": True, "fold": "T"},
    "folded at F": {"periodic_i": True, "fold": "F"},
}


class Sea:
    """A broken sea on tiles, with flows whose transport is known."""

    def __init__(self, free_surface: str = "linear", **options) -> None:
        levels = broken_levels(5, 8, 12)
        self.grid: Grid = box_grid(5, 8, 12, levels=levels, e1=8.0e4, e2=6.0e4, **options)
        self.geometry, self.layout = split(self.grid)
        self.rng = np.random.default_rng(4)
        sea_level = self.tiles(self.rng.normal(0.0, 0.5, (1, self.grid.nj, self.grid.ni)), "T", 1)
        masked = sea_level * self.geometry.wet.unsqueeze(1)
        self.stretch: Stretching = stretching(masked.unsqueeze(0), self.geometry, self.layout, free_surface)

    def tiles(self, x: np.ndarray, point: str, sign: int) -> Tensor:
        """Cuts a field, repeated cells of a fold agreeing with those that they repeat."""
        plan = HaloPlan.build(self.layout, [point] * len(x), [sign] * len(x))
        return plan.fill(cut(x[None], self.layout))[0, :, :, 1:-1, 1:-1]

    def any_flow(self) -> tuple[Tensor, Tensor]:
        u, v = (self.tiles(self.rng.normal(0.0, 0.1, self.grid.shape), point, -1) for point in ("U", "V"))
        return u * self.geometry.umask, v * self.geometry.vmask

    def of_potential(self) -> tuple[Tensor, Tensor]:
        """A gradient, the same at all levels."""
        phi = self.tiles(self.rng.normal(0.0, 1e4, (1, self.grid.nj, self.grid.ni)), "T", 1)
        east, _, north, _ = Columns.build(self.geometry, self.layout, self.stretch).steps(phi[:, 0])
        u, v = (east / self.geometry.e1u).unsqueeze(1), (north / self.geometry.e2v).unsqueeze(1)
        return u * self.geometry.umask, v * self.geometry.vmask

    def balanced(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return without_divergence(u, v, self.geometry, self.layout, self.stretch)

    def divergence(self, u: Tensor, v: Tensor) -> float:
        return column_divergence(u, v, self.geometry, self.layout, self.stretch)

    def energy(self, *flows: tuple[Tensor, Tensor]) -> float:
        """Product of two flows, weighted by volume."""
        (u, v), (x, y) = flows
        volumes = (self.geometry.volume_u * one(self.stretch.u), self.geometry.volume_v * one(self.stretch.v))
        return float((u * x * volumes[0]).sum() + (v * y * volumes[1]).sum())


def one(x: Tensor) -> Tensor:
    return x[0] if x.ndim else x


@pytest.fixture(params=EDGES)
def edges(request) -> dict:
    return EDGES[request.param]


@pytest.mark.parametrize("free_surface", ["linear", "nonlinear"])
def test_any_flow_loses_its_divergence_once_and_for_all(edges, free_surface):
    sea = Sea(free_surface, **edges)
    flow = sea.any_flow()
    assert sea.divergence(*flow) > 0.1
    once = sea.balanced(*flow)
    assert sea.divergence(*once) < 1e-12
    twice = sea.balanced(*once)
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


def test_transport_that_a_potential_drives_vanishes(edges):
    sea = Sea(**edges)
    u, v = sea.of_potential()
    for before, after in zip((u, v), sea.balanced(u, v), strict=True):
        assert float(after.abs().max()) < 1e-12 * float(before.abs().max())


def test_the_change_is_the_least_and_the_same_at_all_levels(edges):
    sea = Sea("nonlinear", **edges)
    flow = sea.any_flow()
    result = sea.balanced(*flow)
    change = [after - before for before, after in zip(flow, result, strict=True)]
    for x, mask in zip(change, (sea.geometry.umask, sea.geometry.vmask), strict=True):
        assert not x[~mask].any()
        assert float((torch.where(mask, x - x[:, :1], 0.0)).abs().max()) < 1e-15
    # orthogonal to all flows without divergence: none of them would have made the change smaller
    other = sea.balanced(*sea.any_flow())
    assert abs(sea.energy(change, other)) < 1e-11 * (sea.energy(change, change) * sea.energy(other, other)) ** 0.5


@pytest.mark.parametrize("periodic", [False, True])
def test_a_streamfunction_keeps_its_flow(periodic):
    sea = Sea(periodic_i=periodic)
    grid = sea.grid
    corner = np.pad(np.where(grid.wet, 1.0, 0.0), ((0, 1), (0, 1)))
    if periodic:
        corner[:, -1] = corner[:, 0]
    inside = corner[:-1, :-1] * corner[1:, :-1] * corner[:-1, 1:] * corner[1:, 1:]
    psi = inside * np.random.default_rng(0).normal(0, 1e6, inside.shape)
    before = np.roll(psi, 1, axis=1) if periodic else np.pad(psi, ((0, 0), (1, 0)))[:, :-1]
    transport = (-np.diff(psi, axis=0, prepend=0.0), psi - before)
    depths = [(e3 * mask).sum(0) for e3, mask in ((grid.e3u, grid.umask), (grid.e3v, grid.vmask))]
    u, v = (
        np.divide(x, depth * width, out=np.zeros_like(x), where=depth > 0) * mask
        for x, depth, width, mask in zip(
            transport, depths, (grid.e2u, grid.e1v), (grid.umask, grid.vmask), strict=True
        )
    )
    assert np.abs(u).max() > 1e-3
    assert_kept(sea, u, v)


def assert_kept(sea: Sea, u: np.ndarray, v: np.ndarray) -> None:
    flow = [cut(x[None], sea.layout)[0] for x in (u, v)]
    for before, after in zip(flow, sea.balanced(*flow), strict=True):
        assert torch.equal(before, after)


def test_rest_stays():
    sea = Sea(periodic_i=True)
    assert_kept(sea, np.zeros(sea.grid.shape), np.zeros(sea.grid.shape))


def test_a_velocity_that_is_not_finite_is_refused():
    sea = Sea()
    u, v = sea.any_flow()
    u[sea.geometry.umask] = torch.nan
    with pytest.raises(ValueError, match="check that it is finite"):
        sea.balanced(u, v)


def test_the_sea_of_a_real_gyre(gyre_grid, states):
    geometry, layout = split(gyre_grid, (11, 16))
    state = states("nemo_gyre", slice(0, 1))
    u, v = (cut(np.nan_to_num(state[name]), layout)[0] for name in ("velocity_u", "velocity_v"))
    rest = stretching(None, geometry, layout, "linear")
    before, after = (u, v), without_divergence(u, v, geometry, layout, rest)
    assert column_divergence(*after, geometry, layout, rest) < 1e-12
    change = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    assert change < 1e-3  # m/s: the model's own flow has next to none
