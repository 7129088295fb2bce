"""A blend of windows that agree is what they agree on; where they do not, it passes from one to the other."""

import numpy as np
import pytest
import torch

from halocline.mesh.blend import Blend, ramp
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout

NJ, NI, POINTS, SIGNS = 19, 23, ("T", "U", "V"), (1, -1, -1)


def layout_of(**edges) -> Layout:
    wet = np.ones((NJ, NI + len(edges.get("fold", ""))), bool)
    wet[:8, 8:16] = False  # a whole tile
    return Layout.build(Lattice.from_grid(box_grid(1, *wet.shape, wet=wet, **edges), (8, 8), 3), Serial())


@pytest.mark.parametrize("edges", [{}, {"periodic_i": True}, {"periodic_i": True, "fold": "F"}])
@pytest.mark.parametrize("width", [1, 3])
def test_windows_of_one_field_blend_to_that_field(edges: dict, width: int) -> None:
    layout = layout_of(**edges)
    plan = HaloPlan.build(layout, POINTS, SIGNS)
    lattice = layout.lattice
    field = torch.as_tensor(layout.cut(np.random.default_rng(0).standard_normal((3, lattice.nj, lattice.ni))))[None]
    field = plan.fill(field)[..., 3:-3, 3:-3].contiguous()  # on a fold some cells repeat others
    blended = Blend.build(layout, POINTS, SIGNS, width)(plan.fill(field))
    cells = torch.as_tensor(lattice.cells(layout.local) >= 0)[:, None].expand_as(field[0])
    assert torch.allclose(blended[0][cells], field[0][cells], rtol=1e-13)


def test_a_jump_at_the_edge_of_tiles_becomes_a_ramp() -> None:
    lattice = Lattice.from_grid(box_grid(1, 8, 16), (8, 8), 3)
    layout = Layout.build(lattice, Serial())
    windows = torch.zeros(1, 2, 1, 14, 14)
    windows[:, 1] = 1.0
    for width, expected in ((1, [0, 0, 1 / 4, 3 / 4, 1, 1]), (3, [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12])):
        blended = Blend.build(layout, ("T",), (1,), width)(windows)
        row = torch.cat([blended[0, 0, 0, 4], blended[0, 1, 0, 4]])
        assert row[5:11].tolist() == pytest.approx(expected, abs=1e-6)
        assert row[:5].abs().max() == 0 and (row[11:] == 1).all()


def test_weights_of_neighbours_add_up_to_one() -> None:
    weights = ramp(8, 3, 2)
    assert weights[3:11].tolist() == pytest.approx([5 / 8, 7 / 8, 1, 1, 1, 1, 7 / 8, 5 / 8])
    assert (weights[8:14] + weights[:6]).tolist() == pytest.approx([1, 1, 1, 1, 1, 1])


def test_blend_is_differentiable() -> None:
    layout = layout_of(periodic_i=True, fold="F")
    blend = Blend.build(layout, ("U",), (-1,), 2)
    shape = (1, len(layout.local), 1, *layout.lattice.window)
    windows = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    direction = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(1, *blend.total.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((blend(windows) * weights).sum(), windows)
    with torch.no_grad():
        expected = (blend(direction) * weights).sum()  # the blend is linear
    assert float((gradient * direction).sum()) == pytest.approx(float(expected), rel=1e-12)


def test_blend_wider_than_the_halo_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sampling\.blend is 4, expected at most 3, the width of the halo"):
        Blend.build(layout_of(), POINTS, SIGNS, 4)
