import numpy as np
import pytest

from halocline.mesh.lattice import Lattice, _hilbert

SEA = np.ones((11, 14), bool)


def test_tiles_cover_every_cell_once():
    lattice = Lattice.build(SEA, (4, 5), 2)
    cells = lattice.cells()
    assert cells.shape == (9, 4, 5)
    assert np.array_equal(np.sort(cells[lattice.owned_mask]), np.arange(SEA.size))


def test_all_land_tile_is_dropped_and_weights_count_wet_cells():
    wet = SEA.copy()
    wet[4:8, 5:10] = False
    wet[0, 0] = False
    lattice = Lattice.build(wet, (4, 5), 1)
    assert [1, 1] not in lattice.tiles.tolist() and lattice.count == 8
    assert lattice.weights.sum() == wet.sum() and lattice.weights[0] == 19
    assert lattice.index[1, 1] == -1


def test_window_is_the_slice_of_the_padded_grid():
    lattice = Lattice.build(SEA, (4, 5), 2)
    padded = np.full((12 + 4, 15 + 4), -1)
    padded[2:13, 2:16] = np.arange(SEA.size).reshape(SEA.shape)
    for (J, I), window in zip(lattice.tiles, lattice.source(), strict=True):
        assert np.array_equal(window, padded[4 * J : 4 * J + 8, 5 * I : 5 * I + 9])


def test_padding_of_a_cyclic_grid_shows_the_wrapped_grid():
    lattice = Lattice.build(SEA, (4, 5), 2, periodic_i=True)
    assert np.array_equal(lattice.source()[2, 2], [8, 9, 10, 11, 12, 13, 0, 1, 2])


def test_dropped_neighbours_supply_nothing():
    wet = SEA.copy()
    wet[:4, 5:10] = False
    lattice = Lattice.build(wet, (4, 5), 2)
    assert (lattice.source()[0, :, -2:] == -1)[:6].all()


def test_tiles_can_be_asked_for_one_by_one():
    lattice = Lattice.build(SEA, (4, 5), 2, periodic_i=True, fold="F")
    chosen = np.array([7, 3])
    assert np.array_equal(lattice.source("U", chosen), lattice.source("U")[chosen])
    assert np.array_equal(lattice.flips("U", chosen), lattice.flips("U")[chosen])
    assert np.array_equal(lattice.canonical_mask("V", chosen), lattice.canonical_mask("V")[chosen])


@pytest.mark.parametrize(
    "fold, point, repeated",
    [
        *[("T", "T", 6), ("T", "U", 7), ("T", "V", 14), ("T", "F", 14)],
        *[("F", "T", 0), ("F", "U", 0), ("F", "V", 7), ("F", "F", 6), ("", "T", 0)],
    ],
)
def test_integral_counts_fold_cells_once(fold, point, repeated):
    lattice = Lattice.build(SEA, (4, 5), 2, periodic_i=True, fold=fold)
    assert lattice.canonical_mask(point).sum() == SEA.size - repeated


def test_size_one_grid_is_a_tile():
    lattice = Lattice.build(np.ones((1, 1)), (1, 1), 3)
    assert lattice.count == 1 and (lattice.source() >= 0).sum() == 1


def test_one_closed_tile_takes_any_halo():
    lattice = Lattice.build(np.ones((2, 3)), (4, 4), 9)
    assert lattice.source().shape == (1, 22, 22) and (lattice.source() >= 0).sum() == 6


@pytest.mark.parametrize(
    "tile, halo, edges, sentence",
    [
        ((4, 5), 4, {}, r"Halo width 4 exceeds the 3 owned rows of tile \(2, 0\)"),
        ((11, 5), 5, {}, r"Halo width 5 exceeds the 4 owned columns of tile \(0, 2\)"),
        ((11, 14), 15, {"periodic_i": True}, r"exceeds the 14 owned columns of tile \(0, 0\)"),
        ((11, 14), 12, {"periodic_j": True}, r"exceeds the 11 owned rows of tile \(0, 0\)"),
        ((11, 14), 12, {"periodic_i": True, "fold": "T"}, "exceeds the 11 owned rows"),
        ((0, 5), 1, {}, "at least 1 x 1"),
        ((4, 5), -1, {}, "halo of at least 0"),
    ],
)
def test_halo_wider_than_a_neighbour_is_refused(tile, halo, edges, sentence):
    with pytest.raises(ValueError, match=sentence):
        Lattice.build(SEA, tile, halo, **edges)


def test_grid_without_sea_is_refused():
    with pytest.raises(ValueError, match="no wet cell"):
        Lattice.build(np.zeros((4, 4)), (2, 2), 1)
    with pytest.raises(ValueError, match="3 dimensions"):
        Lattice.build(np.ones((2, 4, 4)), (2, 2), 1)


def heaviest_possible(weights, size):
    """The least heaviest piece by dynamic programming: slow and certain."""
    total = np.concatenate([[0], np.cumsum(weights)])
    best = total[1:].astype(float)
    for pieces in range(2, size + 1):
        best = np.array(
            [
                min((max(best[m - 1], total[n] - total[m]) for m in range(pieces - 1, n)), default=np.inf)
                for n in range(1, len(total))
            ]
        )
    return best[-1]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_owners_are_balanced_contiguous_and_none_is_idle(size):
    wet = np.random.default_rng(size).random((23, 31)) < np.linspace(0.02, 1, 31)
    lattice = Lattice.build(wet, (4, 5), 1)
    owners = lattice.owners(size)
    loads = np.bincount(owners, lattice.weights, size)
    assert (np.bincount(owners, minlength=size) > 0).all()
    curve = np.argsort(hilbert_of(lattice), kind="stable")
    assert (np.diff(owners[curve]) >= 0).all()
    assert loads.max() == heaviest_possible(lattice.weights[curve], size)


def hilbert_of(lattice):
    return _hilbert(lattice.tiles)


def test_space_filling_curve_visits_neighbours():
    lattice = Lattice.build(np.ones((8, 8)), (1, 1), 1)
    path = lattice.tiles[np.argsort(hilbert_of(lattice))]
    assert (np.abs(np.diff(path, axis=0)).sum(axis=1) == 1).all()
    assert len(set(hilbert_of(lattice).tolist())) == 64


def test_more_ranks_than_tiles_are_refused():
    with pytest.raises(ValueError, match="8 ranks for 4 tiles"):
        Lattice.build(np.ones((4, 4)), (2, 2), 1).owners(8)
