"""Projection onto stable columns."""

import numpy as np
import pytest
import torch
from scipy.optimize import isotonic_regression, minimize
from setting import content
from test_convection import column  # noqa: F401, a fixture

from halocline.constants import RHO0
from halocline.physics.convection import adjust_columns
from halocline.physics.projection import MARGIN, isotonic, project_columns
from halocline.physics.seawater import SimplifiedEOS, equation_of_state
from halocline.physics.stability import density_step

LINEAR = SimplifiedEOS(rn_lambda1=0.0, rn_lambda2=0.0, rn_mu1=0.0, rn_mu2=0.0, rn_nu=0.0)


def pairs(column):  # noqa: F811
    return (column["tmask"][1:] & column["tmask"][:-1]).expand(2, -1, -1, -1)


@pytest.mark.parametrize("name", ["eos80", "teos10", "seos", "dino"])
def test_no_column_is_left_unstable_in_float32_either(column, name):  # noqa: F811
    eos = equation_of_state(name)
    T, S = project_columns(**column, eos=eos)
    step = density_step(T.float().double(), S.float().double(), column["gdepw"], eos)
    assert (density_step(column["T"], column["S"], column["gdepw"], eos)[pairs(column)] > 0).any()
    assert (step[pairs(column)] <= 0).all()


def test_heat_and_salt_of_each_column_stay(column):  # noqa: F811
    T, S = project_columns(**column, eos=equation_of_state("eos80"))
    for before, after in ((column["T"], T), (column["S"], S)):
        contents = [content(x, column["e3t"], column["tmask"]) for x in (before, after)]
        torch.testing.assert_close(*contents, rtol=1e-13, atol=1e-9)  # round-off of nine terms


def test_isotonic_regression_is_that_of_scipy():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(17, 40, generator=generator, dtype=torch.float64)
    weight = torch.rand(17, 40, generator=generator, dtype=torch.float64) + 0.1
    depth = torch.randint(1, 18, (40,), generator=generator)
    wet = torch.arange(17)[:, None] < depth
    found = isotonic(x, torch.where(wet, weight, 0.0), wet)
    for column, n in enumerate(depth.tolist()):  # noqa: F402
        expected = isotonic_regression(x[:n, column].numpy(), weights=weight[:n, column].numpy()).x
        np.testing.assert_allclose(found[:n, column], expected, rtol=0, atol=1e-13)


def test_change_is_the_least_that_a_quadratic_programme_finds():
    """The equation of state is linear, so the regression is the exact answer; the margin is added to the programme."""
    rng = np.random.default_rng(2)
    n, scale = 6, (1.3, 0.15)
    e, T, S = rng.uniform(5, 50, n), 10 + rng.normal(size=n), 35 + 0.3 * rng.normal(size=n)
    a, b = (float(c) * RHO0 for c in LINEAR.expansion(torch.tensor(10.0), torch.tensor(35.0), 0.0))

    unit = np.concatenate([scale[0] / np.sqrt(e), scale[1] / np.sqrt(e)])  # of the variables: the cost is a circle

    def density(y):
        d = unit * y
        return -a * (T + d[:n]) + b * (S + d[n:])

    constraints = [
        {"type": "ineq", "fun": lambda y: np.diff(density(y)) - MARGIN},
        {"type": "eq", "fun": lambda y: np.array([(e * (unit * y)[:n]).sum(), (e * (unit * y)[n:]).sum()])},
    ]
    best = minimize(lambda y: (y**2).sum(), np.zeros(2 * n), constraints=constraints, method="SLSQP", tol=1e-13)
    assert best.success
    shape = (n, 1, 1)
    found = project_columns(
        *(torch.as_tensor(x).reshape(shape) for x in (T, S, e, np.cumsum(e) - e)), torch.ones(shape, dtype=torch.bool),
        LINEAR, scale,
    )  # fmt: skip
    change = torch.cat([x.flatten() for x in found]).numpy() - np.concatenate([T, S])
    np.testing.assert_allclose(change, unit * best.x, rtol=0, atol=1e-6)  # what the programme reaches


def test_change_is_about_half_that_of_mixing(column):  # noqa: F811
    eos = equation_of_state("seos")

    def change(result):
        parts = zip(result, (column["T"], column["S"]), (1.0, 0.2), strict=True)
        return sum((column["e3t"] * ((x - before) / s) ** 2).sum() for x, before, s in parts)

    assert change(project_columns(**column, eos=eos)) < 0.6 * change(adjust_columns(**column, eos=eos))


def test_stable_columns_and_land_keep_their_bits(column):  # noqa: F811
    eos = equation_of_state("seos")
    T, S = project_columns(**column, eos=eos)
    stable = (density_step(column["T"], column["S"], column["gdepw"], eos) <= 0) | ~pairs(column)
    kept = stable.all(dim=1, keepdim=True) | ~column["tmask"]
    assert torch.equal(T[kept.expand_as(T)], column["T"][kept.expand_as(T)])
    assert torch.equal(S[kept.expand_as(S)], column["S"][kept.expand_as(S)])
    again = project_columns(T, S, column["e3t"], column["gdepw"], column["tmask"], eos)
    assert torch.equal(again[0], T) and torch.equal(again[1], S)


def test_bits_of_a_column_do_not_depend_on_its_neighbours(column):  # noqa: F811
    eos = equation_of_state("teos10")
    T, _ = project_columns(**column, eos=eos)
    for j, i in ((1, 2), (3, 4)):
        alone = {name: x[..., j : j + 1, i : i + 1] for name, x in column.items()}
        assert torch.equal(project_columns(**alone, eos=eos)[0], T[..., j : j + 1, i : i + 1])
