import numpy as np
import pytest
import torch

from halocline.flow.noise import Noise
from halocline.mesh.communicator import Serial
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout


@pytest.mark.mpi
def test_noise_is_the_same_on_any_number_of_ranks(comm):
    lattice = Lattice.build(np.ones((9, 14)), (4, 5), 1, periodic_i=True, fold="T")
    points, signs = ("T", "U", "V", "F", "T"), (1, -1, -1, 1, 1)
    whole = Noise.build(Layout.build(lattice, Serial()), points, signs).draw(3, [0, 5], 1, 2)
    owners = np.arange(lattice.count)[::-1] % comm.size
    for layout in (Layout.build(lattice, comm), Layout.build(lattice, comm, owners)):
        mine = Noise.build(layout, points, signs).draw(3, [0, 5], 1, 2)
        assert torch.equal(mine, whole[:, layout.local])
