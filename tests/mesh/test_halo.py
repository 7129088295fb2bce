import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.mesh.moves import FLIPPED, REVERSED, ZERO, compress


def make_plan(shape=(8, 10), tile=(4, 5), halo=2, points=("T",), signs=(1,), **edges):
    layout = Layout.build(Lattice.build(np.ones(shape), tile, halo, **edges), Serial())
    return HaloPlan.build(layout, points, signs)


def owned(plan, seed=0, members=2, dtype=torch.float64):
    shape = (members, len(plan.layout.local), plan.channels, *plan.layout.lattice.tile)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_cyclic_seam_invisible():
    plan = make_plan(periodic_i=True, periodic_j=True)
    field = np.random.default_rng(0).normal(size=(1, 8, 10))
    windows = plan.fill(torch.from_numpy(plan.layout.cut(field))[None])
    torus = np.pad(field[0], 2, mode="wrap")
    for (J, I), window in zip(plan.layout.lattice.tiles, windows[0, :, 0], strict=True):
        assert np.array_equal(window, torus[4 * J : 4 * J + 8, 5 * I : 5 * I + 9])


def test_grid_of_one_column_shows_itself_on_both_sides():
    plan = make_plan((3, 1), (3, 1), 1, periodic_i=True)
    windows = plan.fill(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3, 1))
    assert windows[0, 0, 0].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3], [0, 0, 0]]
    assert plan.adjoint(windows).flatten().tolist() == [3, 6, 9]


def test_shift_of_cyclic_origin_commutes():
    plan = make_plan(periodic_i=True)
    field = np.random.default_rng(0).normal(size=(1, 8, 10))
    here = plan.fill(torch.from_numpy(plan.layout.cut(field))[None])
    there = plan.fill(torch.from_numpy(plan.layout.cut(np.roll(field, 5, axis=-1)))[None])
    east_of = [plan.layout.lattice.index[J, (I + 1) % 2] for J, I in plan.layout.lattice.tiles]
    assert torch.equal(there[:, east_of], here)


def test_vector_sign_across_fold():
    plan = make_plan(points=("T", "U", "V", "V"), signs=(1, -1, -1, 1), periodic_i=True, fold="T")
    x = torch.ones(1, 4, 4, 4, 5)
    top = plan.fill(x)[0, 2:, :, :, 2:7]  # the northern tiles, without their side halos
    beyond = top[:, :, 6:]
    assert (beyond[:, 0] == 1).all() and (beyond[:, 1:3] == -1).all() and (beyond[:, 3] == 1).all()
    # row J: T and U repeat in their right half, V repeats row J - 1 as a whole
    assert (top[:, 0, 5] == 1).all()
    assert (top[0, 1, 5] == 1).all() and (top[1, 1, 5] == -1).all()
    assert (top[:, 2, 5] == -1).all() and (top[:, 3, 5] == 1).all()
    assert (top[:, :, :5] == 1).all()


@pytest.mark.parametrize("fold", ["T", "F"])
def test_fill_projects_and_projecting_twice_changes_nothing(fold):
    points, signs = ("T", "U", "V", "F"), (1, -1, -1, 1)
    plan = make_plan((9, 10), (4, 5), 1, points, signs, periodic_i=True, fold=fold)
    windows = plan.fill(owned(plan))
    again = plan.fill(windows[..., 1:-1, 1:-1])
    assert torch.equal(again, windows)


def test_values_outside_the_grid_never_enter():
    plan = make_plan((7, 9), (4, 5), 2)
    x = owned(plan)
    dirty = torch.where(torch.from_numpy(plan.layout.lattice.owned_mask)[:, None], x, torch.nan)
    windows = plan.fill(dirty)
    assert not windows.isnan().any()
    assert (windows[:, torch.from_numpy(plan.layout.lattice.source() < 0)[:, None]] == 0).all()


def test_halo_adjoint_adds_into_owners():
    plan = make_plan((2, 4), (2, 2), 1)
    gradient = plan.adjoint(torch.ones(1, 2, 1, 4, 4, dtype=torch.float64))
    # the columns on either side of the cut are seen by both windows
    assert gradient[0, 0, 0].tolist() == [[1, 2], [1, 2]] and gradient[0, 1, 0].tolist() == [[2, 1], [2, 1]]


def test_adjoint_moves_gradients_of_repeated_cells_to_their_canonical_ones():
    plan = make_plan((4, 6), (4, 6), 0, ("V", "T"), (-1, 1), periodic_i=True, fold="T")
    gradient = plan.adjoint(torch.ones(1, 1, 2, 4, 6, dtype=torch.float64))[0, 0]
    assert (gradient[0, 3] == 0).all() and (gradient[0, 2] == 0).all()  # 1 of its own, -1 from across
    assert gradient[1, 3].tolist() == [1, 2, 2, 1, 0, 0]


@pytest.mark.parametrize("edges", [{}, {"periodic_i": True, "periodic_j": True}, {"periodic_i": True, "fold": "F"}])
def test_autograd_is_the_adjoint_in_both_directions(edges):
    plan = make_plan((5, 6), (2, 3), 1, ("T", "U"), (1, -1), **edges)
    x = owned(plan, members=1).requires_grad_()
    assert torch.autograd.gradcheck(plan.fill, (x,))
    w = torch.randn_like(plan.fill(x)).requires_grad_()
    assert torch.autograd.gradcheck(plan.adjoint, (w,))
    assert torch.autograd.gradgradcheck(plan.fill, (x,))


def test_float32_moves_the_same_bits_as_float64():
    plan = make_plan((9, 10), (4, 5), 1, ("U", "T"), (-1, 1), periodic_i=True, fold="T")
    x = owned(plan, dtype=torch.float32)
    assert torch.equal(plan.fill(x).double(), plan.fill(x.double()))


def test_views_are_filled_like_copies():
    plan = make_plan()
    x = owned(plan, members=4)
    assert torch.equal(plan.fill(x[::2]), plan.fill(x)[::2])


def test_no_members_are_filled_to_no_windows():
    assert make_plan().fill(torch.zeros(0, 4, 1, 4, 5)).shape == (0, 4, 1, 8, 9)


def test_stale_halo_detected():
    plan = make_plan()
    x = owned(plan)
    pending = plan.start(x)
    assert torch.equal(plan.finish(pending), plan.fill(x))
    with pytest.raises(RuntimeError, match="finished twice"):
        plan.finish(pending)
    pending = plan.start(x)
    x += 1
    with pytest.raises(RuntimeError, match="changed while its halo was under way"):
        plan.finish(pending)


def test_inference_tensors_are_filled():
    plan = make_plan()
    with torch.inference_mode():
        assert plan.fill(owned(plan)).shape == (2, 4, 1, 8, 9)


@pytest.mark.parametrize(
    "x, sentence",
    [
        (torch.zeros(1, 4, 1, 4, 5, dtype=torch.bfloat16), "got torch.bfloat16, expected float32 or float64"),
        (torch.zeros(1, 4, 2, 4, 5), r"got shape \(1, 4, 2, 4, 5\), expected \(member, 4, 1, 4, 5\)"),
        (torch.zeros(4, 1, 4, 5), "got shape"),
    ],
)
def test_wrong_state_is_refused(x, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_plan().fill(x)


@pytest.mark.parametrize("points, signs", [(("T", "U"), (1,)), (("T",), (0,))])
def test_wrong_channels_are_refused(points, signs):
    with pytest.raises(ValueError, match="one sign, 1 or -1, per channel"):
        make_plan(points=points, signs=signs)


def test_serial_plan_sends_nothing():
    plan = make_plan(periodic_i=True)
    assert plan.bytes_per_fill(3) == 0 and plan.neighbours == []


def test_runs_join_what_moves_together():
    at = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12])
    source = np.array([5, 6, 7, 3, 2, 1, -1, -1, 9, 10, 11])
    flipped = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], bool)
    assert compress(at, source, flipped).tolist() == [
        [0, 5, 3, 0],
        [3, 3, 3, REVERSED],
        [6, 0, 2, ZERO],
        [8, 9, 1, 0],
        [9, 10, 1, FLIPPED],
        [12, 11, 1, FLIPPED],
    ]
