"""The fold against two statements of it that were derived independently of the code, and of each other."""

import numpy as np
import pytest

from halocline.mesh.fold import Edges

NJ = 9


def loop_table(pivot, point, N, J):
    """{(row, column): source} beyond and in the last row, 0-based, from the index loops of lbc_nfd_generic.h90."""
    row, column, last = {
        ("T", "T"): (lambda m: J - m, lambda p: -p % N, "right"),
        ("T", "U"): (lambda m: J - m, lambda p: N - 1 - p, "right"),
        ("T", "V"): (lambda m: J - 1 - m, lambda p: -p % N, "whole"),
        ("T", "F"): (lambda m: J - 1 - m, lambda p: N - 1 - p, "whole"),
        ("F", "T"): (lambda m: J + 1 - m, lambda p: N - 1 - p, "none"),
        ("F", "U"): (lambda m: J + 1 - m, lambda p: (N - 2 - p) % N, "none"),
        ("F", "V"): (lambda m: J - m, lambda p: N - 1 - p, "right"),
        ("F", "F"): (lambda m: J - m, lambda p: (N - 2 - p) % N, "right"),
    }[pivot, point]
    table = {(J + m, p): (row(m), column(p)) for m in (1, 2, 3) for p in range(N)}
    for p in range(N):
        left = column(p)
        if last == "whole":
            table[J, p] = (J - 1, left)
        elif last == "right" and p >= N // 2 and left < p:
            table[J, p] = (J, left)
        else:
            table[J, p] = (J, p)
    return table


def model_table(pivot, point, N, J):
    """The same from the 1-based table that modellers use: (i, Nj + h) takes (., .)."""
    Ni, Nj = N, J + 1
    i_of, j_of, first, halves = {
        ("T", "T"): (lambda i: Ni + 2 - i, lambda h: Nj - h, 1, lambda i: i > Ni // 2 + 1),
        ("T", "U"): (lambda i: Ni + 1 - i, lambda h: Nj - h, 1, lambda i: i > Ni // 2),
        ("T", "V"): (lambda i: Ni + 2 - i, lambda h: Nj - 1 - h, 0, None),
        ("T", "F"): (lambda i: Ni + 1 - i, lambda h: Nj - 1 - h, 0, None),
        ("F", "T"): (lambda i: Ni + 1 - i, lambda h: Nj + 1 - h, 1, None),
        ("F", "U"): (lambda i: Ni - i, lambda h: Nj + 1 - h, 1, None),
        ("F", "V"): (lambda i: Ni + 1 - i, lambda h: Nj - h, 1, lambda i: i > Ni // 2),
        ("F", "F"): (lambda i: Ni - i, lambda h: Nj - h, 1, lambda i: Ni // 2 < i < Ni),
    }[pivot, point]
    table = {}
    for i in range(1, Ni + 1):
        column = (i_of(i) - 1) % Ni
        table[J, i - 1] = (J, column) if halves and halves(i) else (J, i - 1)
        for h in range(first, 4):
            table[J + h, i - 1] = (j_of(h) - 1, column)
    return table


@pytest.mark.parametrize("table", [loop_table, model_table])
@pytest.mark.parametrize("N", [2, 6, 8])
@pytest.mark.parametrize("point", "TUVF")
@pytest.mark.parametrize("pivot", "TF")
def test_north_fold_matches_nemo_all_points_both_pivots(pivot, point, N, table):
    edges, J = Edges(NJ, N, True, False, pivot), NJ - 1
    for (j, i), (jj, ii) in table(pivot, point, N, J).items():
        for turn in (-N, 0, N):  # columns are modulo N before anything else
            cell, crossed = edges.canonical(point, j, i + turn)
            assert divmod(int(cell), N) == (jj, ii)
            assert bool(crossed) == ((jj, ii) != (j, i))


@pytest.mark.parametrize("point", "TUVFW")
@pytest.mark.parametrize("pivot", "TF")
def test_fold_is_idempotent(pivot, point):
    edges = Edges(NJ, 8, True, False, pivot)
    once, _ = edges.canonical(point, np.arange(-2, NJ + 3)[:, None], np.arange(-3, 11))
    held = once >= 0
    twice, crossed = edges.canonical(point, once[held] // 8, once[held] % 8)
    assert np.array_equal(twice, once[held])
    assert not crossed.any()


def test_w_points_fold_like_t_points():
    edges = Edges(NJ, 8, True, False, "T")
    j, i = np.arange(NJ + 2)[:, None], np.arange(8)
    assert np.array_equal(edges.canonical("W", j, i), edges.canonical("T", j, i))


def test_closed_edges_show_nothing_and_cyclic_ones_wrap():
    j, i = np.arange(-1, 4)[:, None], np.arange(-1, 6)
    closed, _ = Edges(3, 5).canonical("U", j, i)
    assert (closed[1:-1, 1:-1] == np.arange(15).reshape(3, 5)).all()
    assert (closed[[0, -1]] == -1).all() and (closed[:, [0, -1]] == -1).all()
    torus, _ = Edges(3, 5, True, True).canonical("U", j, i)
    assert np.array_equal(torus, np.pad(np.arange(15).reshape(3, 5), 1, mode="wrap"))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((0, 4), "at least 1 x 1"),
        ((4, 4, True, False, "N"), "none of"),
        ((4, 4, False, False, "T"), "needs periodic_i"),
        ((4, 4, True, True, "T"), "exclude each other"),
        ((4, 5, True, False, "F"), "even number of columns, got 5"),
    ],
)
def test_impossible_edges_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Edges(*arguments)


def test_unknown_point_is_refused():
    with pytest.raises(ValueError, match="'Q' is none of"):
        Edges(3, 4).canonical("Q", 0, 0)
