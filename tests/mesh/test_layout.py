import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout, tile_sums


@pytest.fixture
def layout():
    wet = np.ones((7, 9), bool)
    wet[:3, 4:8] = False
    return Layout.build(Lattice.build(wet, (3, 4), 1, periodic_i=True), Serial())


def test_cut_and_collect_are_inverse_where_tiles_are(layout):
    field = np.random.default_rng(0).normal(size=(2, 7, 9))
    owned = layout.cut(field)
    assert owned.shape == (8, 2, 3, 4)
    back = layout.collect(torch.from_numpy(owned), fill=np.nan)
    dry = np.isnan(back)
    assert dry.sum() == 2 * 3 * 4 and dry[:, :3, 4:8].all()
    assert np.array_equal(back[~dry], field[~dry])


def test_cut_windows_are_slices_of_the_global_field(layout):
    field = np.arange(63.0).reshape(7, 9)
    windows = layout.cut(field, halo=True, fill=-1)
    assert windows.shape == (8, 5, 6)
    # tile (1, 0): rows 2 to 6, columns -1 to 4 of the cyclic grid; (0, 1) was dropped
    expected = np.pad(field, 1, mode="wrap")[3:8, :6]
    expected[0, -1] = -1
    assert np.array_equal(windows[2], expected)


def test_cut_keeps_the_type_and_fills_outside(layout):
    mask = layout.cut(np.ones((7, 9), bool))
    assert mask.dtype == bool and np.array_equal(mask, layout.lattice.owned_mask)


def test_cut_refuses_another_grid(layout):
    with pytest.raises(ValueError, match=r"\(9, 7\) does not end in \(7, 9\)"):
        layout.cut(np.zeros((9, 7)))


def test_place_assembles_a_plane(layout):
    field = np.arange(63).reshape(7, 9)
    placed = layout.place(torch.from_numpy(layout.cut(field)), fill=-1)
    assert np.array_equal(placed, np.where(placed < 0, -1, field)) and (placed < 0).sum() == 12


def test_gathered_tiles_make_the_field(layout):
    field = np.random.default_rng(0).normal(size=(2, 7, 9))
    owned = torch.from_numpy(layout.cut(field))  # (tile, 2, j, i)
    gathered = layout.gather(owned.movedim(0, -1))
    assert gathered.shape == (8, 2, 3, 4)
    assert np.array_equal(layout.assemble(gathered), layout.collect(owned))


def test_tile_sum_bits_depend_on_the_tile_alone():
    x = torch.randn(3, 5, 7, 11, generator=torch.Generator().manual_seed(0)) * torch.logspace(-8, 8, 11)
    sums = tile_sums(x)
    assert sums.dtype == torch.float64
    for m in range(3):
        for t in range(5):
            assert torch.equal(tile_sums(x[m, t : t + 1]), sums[m, t : t + 1])
    assert torch.equal(tile_sums(x.mT.contiguous().mT), sums)
    # a tree of depth 7 in float64 errs by less than 7 units in the last place of the sum of magnitudes
    assert torch.allclose(sums, x.double().sum((-1, -2)), rtol=0, atol=1e-15 * float(x.abs().sum()))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_tile_sums_are_exact_for_integers_of_any_count(n):
    x = torch.arange(2 * n * 3).reshape(2, n, 3)
    assert tile_sums(x).tolist() == x.sum((1, 2)).tolist()
    assert tile_sums(x[:, None], cells=3).squeeze().tolist() == x.sum((1, 2)).tolist()


def test_tile_sums_are_differentiable():
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((tile_sums(x) * torch.tensor([2.0, 3.0])).sum(), x)
    assert torch.equal(gradient, torch.tensor([2.0, 3.0]).double()[:, None, None].expand_as(x))


def test_sum_runs_in_lattice_order(layout):
    partial = torch.tensor([[1e16, 1.0, -1e16, 1.0, 0.0, 0.0, 0.0, 0.25]], dtype=torch.float64)
    # the first 1 is lost against 1e16, the second is not: only one order gives this
    assert layout.sum(partial).tolist() == [1.25]
    assert layout.maximum(partial).tolist() == [1e16] and layout.minimum(partial).tolist() == [-1e16]


def test_sum_refuses_partial_sums_of_other_tiles(layout):
    with pytest.raises(ValueError, match="Partial sums of 3 tiles on rank 0, expected 8"):
        layout.sum(torch.zeros(3))


@pytest.mark.parametrize("owners", [np.zeros(3, int), np.full(8, 1), np.arange(8)])
def test_owners_that_do_not_fit_are_refused(layout, owners):
    with pytest.raises(ValueError, match="do not deal 8 tiles to 1 ranks"):
        Layout.build(layout.lattice, Serial(), owners)
