"""Convective adjustment."""

import pytest
import torch

from halocline.physics.convection import adjust_columns
from halocline.physics.seawater import equation_of_state
from halocline.physics.stability import density_step

NK, NJ, NI = 9, 4, 5


@pytest.fixture
def column():
    """Noisy columns on uneven layers, with a sloping bottom and one column of land."""
    generator = torch.Generator().manual_seed(3)
    e3t = (10.0 * 1.4 ** torch.arange(NK).double())[:, None, None].expand(NK, NJ, NI)
    gdepw = (e3t.cumsum(0) - e3t).expand(NK, NJ, NI)
    depth = torch.randint(1, NK + 1, (NJ, NI), generator=generator)
    depth[0, 0] = 0
    tmask = torch.arange(NK)[:, None, None] < depth
    T = 10 + torch.randn(2, NK, NJ, NI, generator=generator).double()
    S = 35 + 0.2 * torch.randn(2, NK, NJ, NI, generator=generator).double()
    return {"T": T * tmask, "S": S * tmask, "e3t": e3t, "gdepw": gdepw, "tmask": tmask}


@pytest.mark.parametrize("name", ["eos80", "teos10", "seos"])
def test_no_column_is_left_unstable(column, name):
    eos = equation_of_state(name)
    T, S = adjust_columns(**column, eos=eos)
    pairs = column["tmask"][1:] & column["tmask"][:-1]
    before = density_step(column["T"], column["S"], column["gdepw"], eos)
    assert (before[pairs.expand_as(before)] > 0).any()  # there was something to do
    # Mixed cells are equal to the bit, all others were found stable by the same function.
    assert (density_step(T, S, column["gdepw"], eos)[pairs.expand_as(before)] <= 0).all()


def test_heat_and_salt_of_each_column_are_conserved(column):
    T, S = adjust_columns(**column, eos=equation_of_state("eos80"))
    for before, after in ((column["T"], T), (column["S"], S)):
        contents = [(x * column["e3t"]).sum(-3) for x in (before, after)]
        # Sums of nine float64 terms, mixed a few times.
        torch.testing.assert_close(*contents, rtol=1e-13, atol=1e-9)


def test_stable_columns_and_land_are_left_alone(column):
    eos = equation_of_state("seos")
    ordered = torch.arange(NK, 0, -1).double()[:, None, None].expand(2, NK, NJ, NI)
    T, _ = adjust_columns(
        ordered,
        torch.full_like(ordered, 35.0),
        column["e3t"],
        column["gdepw"],
        column["tmask"],
        eos,
    )
    assert torch.equal(T, ordered)
    T, _ = adjust_columns(**column, eos=eos)
    land = ~column["tmask"].expand_as(T)
    assert torch.equal(T[land], column["T"][land])


def test_one_heavy_layer_mixes_only_as_deep_as_it_must():
    # Layers of equal thickness; 4, 10, 6, 1 degrees: 4 and 10 mix to 7, which floats on 6.
    T = torch.tensor([4.0, 10.0, 6.0, 1.0], dtype=torch.float64)[:, None, None]
    ones = torch.ones_like(T)
    depth = torch.arange(4).double()[:, None, None] * 10
    eos = equation_of_state("seos", rn_mu1=0.0, rn_mu2=0.0)
    mixed, _ = adjust_columns(T, 35 * ones, 10 * ones, depth, ones.bool(), eos)
    torch.testing.assert_close(
        mixed.flatten(), torch.tensor([7.0, 7.0, 6.0, 1.0], dtype=torch.float64)
    )


def test_column_has_the_same_bits_beside_any_others():
    """Library sums over depth group columns by their place in the array, which a tile's owner may not see."""
    generator = torch.Generator().manual_seed(5)
    nk, count = 30, 67  # above and not divisible by any width of vectors
    shape = (nk, 1, count)
    e3t = 10.0 * 1.1 ** torch.arange(nk).double()[:, None, None] * (1 + torch.rand(shape, generator=generator).double())
    gdepw = e3t.cumsum(0) - e3t
    depth = torch.randint(3, nk + 1, (count,), generator=generator)
    # Without a trend layers grow through the whole column.
    fields = [mean + torch.randn(shape, generator=generator).double() for mean in (10.0, 35.0)]
    arrays = (*fields, e3t, gdepw, torch.arange(nk)[:, None, None] < depth)
    eos = equation_of_state("eos80")
    together = adjust_columns(*arrays, eos)
    changed = together[0] != fields[0]
    assert changed.sum(0).max() >= 20
    for first, step in [(n, 1) for n in range(0, 9)] + [(0, 2), (1, 3), (4, 7), (66, 1)]:
        apart = adjust_columns(*(x[..., first::step] for x in arrays), eos)
        for whole, part in zip(together, apart, strict=True):
            assert torch.equal(whole[..., first::step], part), (first, step)
