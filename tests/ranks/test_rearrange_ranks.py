import numpy as np
import pytest
import torch

from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rearrange, Rect, stack_tiles, tile_rectangles, unstack_tiles

NJ, NI = 23, 31


def cut_at_random(seed, size, rank_of=None):
    """A decomposition into uneven rectangles, dealt to ranks at random."""
    rng = np.random.default_rng(seed)
    pieces = [Rect(0, NJ, 0, NI)]
    while len(pieces) < 3 * size + 2:
        rect = pieces.pop(int(rng.integers(len(pieces))))
        rows, columns = rect.shape
        if rng.random() < 0.5 and rows > 1:
            cut = rect.j0 + int(rng.integers(1, rows))
            pieces += [rect._replace(j1=cut), rect._replace(j0=cut)]
        elif columns > 1:
            cut = rect.i0 + int(rng.integers(1, columns))
            pieces += [rect._replace(i1=cut), rect._replace(i0=cut)]
        else:
            pieces.append(rect)
    return [(int(rng.integers(size)) if rank_of is None else rank_of(n), rect) for n, rect in enumerate(pieces)]


def on(pieces, rank, field):
    return [np.ascontiguousarray(field[..., r.j0 : r.j1, r.i0 : r.i1]) for owner, r in pieces if owner == rank]


FIELD = np.random.default_rng(0).normal(size=(2, 3, NJ, NI))


@pytest.mark.mpi
@pytest.mark.parametrize("seed", range(4))
def test_any_two_decompositions_exchange_exactly(comm, seed):
    source, target = cut_at_random(seed, comm.size), cut_at_random(seed + 100, comm.size)
    got = Rearrange.build(source, target, comm)(on(source, comm.rank, FIELD))
    expected = on(target, comm.rank, FIELD)
    assert len(got) == len(expected)
    assert all(np.array_equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.mark.mpi
def test_two_groups_of_ranks_exchange(comm):
    host, emulator = cut_at_random(1, comm.size, lambda n: 0), cut_at_random(2, comm.size, lambda n: comm.size - 1)
    got = Rearrange.build(host, emulator, comm)(on(host, comm.rank, FIELD))
    assert all(np.array_equal(g, e) for g, e in zip(got, on(emulator, comm.rank, FIELD), strict=True))
    assert len(got) == (len(emulator) if comm.rank == comm.size - 1 else 0)


@pytest.mark.mpi
@pytest.mark.parametrize("seed", range(2))
def test_tiles_to_host_and_back_keep_every_bit(comm, seed):
    wet = np.ones((NJ, NI), bool)
    wet[5:10, 7:14] = False  # an all-land tile: the host's values there do not come back
    layout = Layout.build(Lattice.build(wet, (5, 7), 2, periodic_i=True), comm)
    tiles, host = tile_rectangles(layout), cut_at_random(seed, comm.size)
    owned = torch.from_numpy(np.moveaxis(layout.cut(FIELD), 0, 1).astype(np.float32))
    hosted = Rearrange.build(tiles, host, comm, dry=True, fill=-1)(unstack_tiles(layout, owned))
    expected = np.where(wet, FIELD, -1).astype(np.float32)
    assert all(np.array_equal(g, e) for g, e in zip(hosted, on(host, comm.rank, expected), strict=True))
    back = stack_tiles(layout, Rearrange.build(host, tiles, comm)(hosted))
    assert back.tobytes() == owned.numpy().tobytes()


@pytest.mark.mpi
def test_errors_of_one_rank_are_raised_on_all(comm):
    pieces = [(rank, Rect(rank, rank + 1, 0, 2)) for rank in range(comm.size)]
    plan = Rearrange.build(pieces, pieces, comm)
    with pytest.raises(ValueError, match="on rank 0 do not fit"):
        plan([] if comm.is_root else [np.zeros((1, 2))])
    if comm.size > 1:
        with pytest.raises(ValueError, match="differ in leading sizes or type"):
            plan([np.zeros((1, 2), np.float32 if comm.is_root else np.float64)])
