import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout

NJ, NI = 13, 18
POINTS, SIGNS = ("T", "U", "V", "F", "U", "W"), (1, -1, -1, 1, 1, 1)
EDGES = {
    "closed": {},
    "cyclic": {"periodic_i": True},
    "torus": {"periodic_i": True, "periodic_j": True},
    "T fold": {"periodic_i": True, "fold": "T"},
    "F fold": {"periodic_i": True, "fold": "F"},
}


def sea():
    wet = np.random.default_rng(5).random((NJ, NI)) > 0.3
    wet[5:10, 4:8] = False  # an all-land tile
    return wet


def layouts(comm, edges, halo=2):
    """The lattice on one rank, and dealt in several ways to all."""
    lattice = Lattice.build(sea(), (5, 4), halo, **edges)
    assert lattice.count == 14
    shuffled = np.random.default_rng(3).permutation(np.arange(lattice.count) % comm.size)
    lonely = np.minimum(np.arange(lattice.count), comm.size - 1)[::-1]
    return Layout.build(lattice, Serial()), [Layout.build(lattice, comm, o) for o in (None, shuffled, lonely)]


def field(size, members=2, seed=0):
    """Values on all tiles, also outside the grid, the same on every rank."""
    shape = (members, *size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("edges", EDGES)
def test_halo_is_the_same_on_any_number_of_ranks_and_in_any_deal(comm, edges, dtype):
    serial, dealt = layouts(comm, EDGES[edges])
    x = field((14, len(POINTS), 5, 4)).to(dtype)
    alone = HaloPlan.build(serial, POINTS, SIGNS)
    windows, gradient = alone.fill(x), alone.adjoint(alone.fill(x))
    for layout in dealt:
        plan = HaloPlan.build(layout, POINTS, SIGNS)
        mine = plan.fill(x[:, layout.local])
        assert torch.equal(mine, windows[:, layout.local])
        # the additions of the adjoint run in lattice order, hence equal bits
        assert torch.equal(plan.adjoint(mine), gradient[:, layout.local])


@pytest.mark.mpi
@pytest.mark.parametrize("edges", EDGES)
def test_halo_equals_the_slice_of_the_global_field(comm, edges):
    _, dealt = layouts(comm, EDGES[edges])
    whole = np.random.default_rng(1).normal(size=(2, len(POINTS), NJ, NI))
    for layout in dealt:
        windows = HaloPlan.build(layout, POINTS, SIGNS).fill(torch.from_numpy(np.moveaxis(layout.cut(whole), 0, 1)))
        for c, (point, sign) in enumerate(zip(POINTS, SIGNS, strict=True)):
            expected = np.moveaxis(layout.cut(whole[:, c], halo=True, point=point, sign=sign), 0, 1)
            assert np.array_equal(windows[:, :, c], expected)


@pytest.mark.mpi
@pytest.mark.parametrize("edges", EDGES)
def test_halo_adjoint_dot_product(comm, edges):
    _, dealt = layouts(comm, EDGES[edges])
    for layout in dealt:
        plan = HaloPlan.build(layout, POINTS, SIGNS)
        x = field((14, len(POINTS), 5, 4))[:, layout.local]
        y = field((14, len(POINTS), 9, 8), seed=1)[:, layout.local]
        forward, backward = (plan.fill(x) * y).sum(), (x * plan.adjoint(y)).sum()
        left, right = comm.sum_arrays(np.array([forward, backward]))
        # two float64 sums of 12,096 products of order 1: rounding below 12,096 x 1e-16, generously
        assert abs(left - right) < 1e-11


@pytest.mark.mpi
def test_gradient_through_the_halo_equals_serial(comm):
    serial, dealt = layouts(comm, EDGES["T fold"])
    x = field((14, 2, 5, 4))
    weight = field((14, 2, 9, 8), seed=2)

    def gradient(layout, x, weight):
        x = x.clone().requires_grad_()
        plan = HaloPlan.build(layout, ("U", "T"), (-1, 1))
        return torch.autograd.grad((torch.tanh(plan.fill(x)) ** 2 * weight).sum(), x)[0]

    whole = gradient(serial, x, weight)
    for layout in dealt:
        assert torch.equal(gradient(layout, x[:, layout.local], weight[:, layout.local]), whole[:, layout.local])


@pytest.mark.mpi
def test_exchanges_under_way_at_once_do_not_mix(comm):
    _, (layout, *_) = layouts(comm, EDGES["cyclic"])
    plan = HaloPlan.build(layout, ("T",), (1,))
    first, second = (field((14, 1, 5, 4), seed=s)[:, layout.local] for s in (1, 2))
    expected = plan.fill(first), plan.fill(second)
    one, two = plan.start(first), plan.start(second)
    got_two, got_one = plan.finish(two), plan.finish(one)
    assert torch.equal(got_one, expected[0]) and torch.equal(got_two, expected[1])
    with pytest.raises(RuntimeError, match="finished twice"):
        plan.finish(one)


@pytest.mark.mpi
def test_bytes_sent_are_those_of_the_halo(comm):
    _, dealt = layouts(comm, EDGES["torus"])
    for layout in dealt:
        plan = HaloPlan.build(layout, ("T", "T"), (1, 1))
        sources = layout.lattice.source("T", layout.local)
        owner = layout.owners[layout.lattice.locate(sources[sources >= 0])[0]]
        wanted = comm.sum_arrays(np.array([4 * 3 * 2 * np.count_nonzero(owner != comm.rank)]))
        assert comm.sum_arrays(np.array([plan.bytes_per_fill(3)])) == wanted
        assert comm.rank not in plan.neighbours


@pytest.mark.mpi
def test_ranks_that_disagree_on_channels_all_hear_of_it(comm):
    _, (layout, *_) = layouts(comm, {})
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    with pytest.raises(ValueError, match="differ between ranks"):
        HaloPlan.build(layout, ("T",) if comm.is_root else ("U",), (1,))


@pytest.mark.mpi
def test_reduction_independent_of_rank_count(comm):
    serial, dealt = layouts(comm, {})
    partial = torch.randn(3, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    partial *= 10.0 ** torch.arange(14) % 7
    for layout in dealt:
        mine = partial[:, layout.local]
        assert torch.equal(layout.sum(mine), serial.sum(partial))
        assert torch.equal(layout.maximum(mine), partial.max(1).values)
        assert torch.equal(layout.minimum(mine), partial.min(1).values)


@pytest.mark.mpi
def test_collect_and_place_assemble_the_global_field(comm):
    serial, dealt = layouts(comm, EDGES["F fold"])
    whole = np.random.default_rng(1).normal(size=(2, NJ, NI)).astype(np.float32)
    expected = serial.collect(serial.cut(whole)[None], fill=7)
    for layout in dealt:
        owned = layout.cut(whole)
        assembled = layout.collect(torch.from_numpy(owned)[None], fill=7)
        assert (assembled is None) == (not comm.is_root)
        assert assembled is None or np.array_equal(assembled, expected)
        assert np.array_equal(layout.place(owned[:, 1], fill=7), expected[0, 1])


@pytest.mark.mpi
def test_layout_errors_are_raised_on_all_ranks(comm):
    lattice = Lattice.build(np.ones((2, comm.size)), (2, 1), 1)
    if comm.size > 1:
        with pytest.raises(ValueError, match="differ from rank 0's"):
            Layout.build(lattice, comm, np.roll(np.arange(comm.size), comm.rank))
    smaller = Lattice.build(np.ones((2, 2)), (2, 2), 0)
    if comm.size > 1:
        with pytest.raises(ValueError, match=f"{comm.size} ranks for 1 tiles"):
            Layout.build(smaller, comm)
    layout = Layout.build(lattice, comm)
    with pytest.raises(ValueError, match="rank 0"):
        layout.sum(torch.zeros(3 if comm.is_root else 1))
