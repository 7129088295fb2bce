"""Sea water against NEMO's check values, hand formulae and TEOS-10's own library."""

import gsw
import numpy as np
import pytest
import torch

from halocline.constants import GRAVITY, RHO0
from halocline.physics.polynomial import EOS80_TABLE, TEOS10_TABLE, evaluate
from halocline.physics.seawater import (
    DINO_SEOS,
    EOS80,
    REFERENCE_SEOS,
    TEOS10,
    SimplifiedEOS,
    buoyancy_frequency,
    equation_of_state,
    equation_of_state_from_namelist,
    potential_density,
)

# NEMO's polynomial takes depth in metres for pressure in decibar: with that reading it follows gsw
# to 3e-4 kg/m3, with rho0 g z it would miss by ten times as much.
DBAR_PER_METRE = 1.0
# Largest departures of two fits of one standard (52 terms of density, 75 of specific volume) over
# waters that exist; Roquet et al. report rms errors a few times smaller.
FIT_DENSITY = 5e-4  # kg/m3
FIT_EXPANSION = 3e-7  # 1/K, kg/g; alpha is near 2e-4, beta near 7.6e-4


def ocean_water() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Waters that exist: warm only near the surface, (T, S, depth)."""
    rng = np.random.default_rng(3)
    depth = rng.uniform(0.0, 5000.0, 400)
    T = rng.uniform(-1.5, 28.0, 400) * np.exp(-depth / 1500.0)
    return torch.tensor(T), torch.tensor(rng.uniform(33.0, 37.5, 400)), torch.tensor(depth)


def rho(S, T, p) -> np.ndarray:
    """Density by gsw, which wants arrays rather than tensors."""
    return gsw.rho(np.asarray(S), np.asarray(T), np.asarray(p))


@pytest.mark.parametrize(("eos", "expected"), [(TEOS10, 1028.21993233072), (EOS80, 1028.35011066567)])
def test_polynomial_reproduces_nemo_check_value(eos, expected):
    density = eos.density(torch.tensor(3.0), torch.tensor(35.5), 3000.0)
    # The published check values have 15 digits.
    assert density.item() == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("table", [TEOS10_TABLE, EOS80_TABLE])
def test_polynomial_has_52_coefficients(table):
    assert sum(len(row) for plane in table for row in plane) == 52


def test_teos10_surface_density_equals_gsw():
    T, S, _ = ocean_water()
    density = TEOS10.density(T, S, 0.0)
    # At the surface the missing reference profile is zero.
    np.testing.assert_allclose(density, rho(S, T, 0.0), rtol=0, atol=FIT_DENSITY)


def test_teos10_horizontal_density_difference_equals_gsw():
    T, S, z = ocean_water()
    ours = TEOS10.density(T, S, z) - TEOS10.density(torch.tensor(4.0), torch.tensor(35.0), z)
    p = z * DBAR_PER_METRE
    # Differences at one depth do not see the reference profile.
    np.testing.assert_allclose(ours, rho(S, T, p) - rho(35.0, 4.0, p), rtol=0, atol=FIT_DENSITY)


def test_teos10_expansion_equals_gsw():
    T, S, z = ocean_water()
    alpha, beta = TEOS10.expansion(T, S, z)
    p = z * DBAR_PER_METRE
    ratio = rho(S, T, p) / RHO0  # NEMO divides by rho0, gsw by rho
    S, T, p = S.numpy(), T.numpy(), p.numpy()
    np.testing.assert_allclose(alpha, gsw.alpha(S, T, p) * ratio, rtol=0, atol=FIT_EXPANSION)
    np.testing.assert_allclose(beta, gsw.beta(S, T, p) * ratio, rtol=0, atol=FIT_EXPANSION)


@pytest.mark.parametrize("eos", [TEOS10, EOS80, REFERENCE_SEOS, DINO_SEOS])
def test_expansion_is_the_derivative_of_density(eos):
    T, S, z = ocean_water()
    T.requires_grad_()
    S.requires_grad_()
    d_dT, d_dS = torch.autograd.grad(eos.density(T, S, z).sum(), (T, S))
    alpha, beta = eos.expansion(T.detach(), S.detach(), z)
    # Both are exact; only the order of rounding differs.
    torch.testing.assert_close(alpha, -d_dT / RHO0, rtol=1e-10, atol=0)
    torch.testing.assert_close(beta, d_dS / RHO0, rtol=1e-10, atol=0)


def test_eos80_stays_close_to_teos10_in_practical_variables():
    # Potential temperature and practical salinity of the same water; the two standards differ by
    # less than 0.05 kg/m3 in the open ocean, mistaken units by 0.1 or more.
    SP, pt = np.array([34.0, 35.0, 36.0]), np.array([2.0, 10.0, 20.0])
    SA = SP * 35.16504 / 35.0
    expected = gsw.rho(SA, gsw.CT_from_pt(SA, pt), 0.0)
    np.testing.assert_allclose(EOS80.density(pt, SP, 0.0), expected, rtol=0, atol=0.05)


def test_seos_equals_its_formula():
    # T = 14, S = 33, z = 200: dT = 4, dS = -2, reference namelist, worked by hand.
    thermal = 0.16550 * (1 + 0.5 * 0.05952 * 4 + 1.4970e-4 * 200) * 4
    haline = 0.76554 * (1 + 0.5 * 7.4914e-4 * 2 - 1.1090e-5 * 200) * -2
    expected = 1026.0 - thermal + haline + 2.4341e-3 * 4 * 2
    density = REFERENCE_SEOS.density(torch.tensor(14.0), torch.tensor(33.0), 200.0)
    assert density.item() == pytest.approx(expected, rel=1e-14)


def test_dino_seos_equals_its_formula():
    density = DINO_SEOS.density(torch.tensor(5.0), torch.tensor(36.0), 1000.0)
    expected = 1026 - 0.165 * (1 - 0.03 * 5 + 0.1497) * -5 + 0.76554
    assert density.item() == pytest.approx(expected, rel=1e-14)


def test_buoyancy_frequency_equals_gsw():
    rng = np.random.default_rng(5)
    z = np.cumsum(rng.uniform(20.0, 200.0, 21))
    T, S = 18.0 * np.exp(-z / 800.0) + 1.0, 36.0 - 1.2 * (1 - np.exp(-z / 600.0))
    top = np.concatenate([[0.0], 0.5 * (z[1:] + z[:-1])])
    spacing = np.diff(z, prepend=0.0)
    column = [torch.tensor(x)[:, None, None] for x in (T, S, z, top, spacing)]
    N2 = buoyancy_frequency(*column, TEOS10)[1:, 0, 0]

    p = z * DBAR_PER_METRE
    expected, p_mid = gsw.Nsquared(S, T, p, lat=0.0)
    g = gsw.grav(0.0, p_mid)
    # gsw returns g**2 rho (beta dS - alpha dT) / dp with dp in Pa, 1e4 Pa per dbar; NEMO computes
    # GRAVITY rho / rho0 (beta dS - alpha dT) / dz.
    expected = expected * GRAVITY * 1e4 / (RHO0 * g**2)
    # gsw takes alpha and beta of the mean water, NEMO their mean: second order in the step, largest
    # across the thermocline. The fit of alpha adds 3e-7 of 1e-4.
    np.testing.assert_allclose(N2, expected, rtol=5e-3)


def test_buoyancy_frequency_of_linear_column_is_exact():
    # Linear T, no salinity, constant alpha: N2 = g alpha dT/dz, whatever the spacing of levels.
    eos = SimplifiedEOS(rn_lambda1=0.0, rn_lambda2=0.0, rn_mu1=0.0, rn_mu2=0.0, rn_nu=0.0)
    z = torch.tensor([5.0, 17.0, 40.0, 120.0], dtype=torch.float64)[:, None, None]
    top = torch.tensor([0.0, 11.0, 30.0, 70.0], dtype=torch.float64)[:, None, None]
    spacing = torch.diff(z, dim=0, prepend=torch.zeros(1, 1, 1))
    N2 = buoyancy_frequency(20.0 - 0.01 * z, torch.full_like(z, 35.0), z, top, spacing, eos)
    assert N2[0] == 0.0
    expected = GRAVITY * 0.1655 / RHO0 * 0.01
    torch.testing.assert_close(N2[1:], torch.full_like(N2[1:], expected), rtol=1e-12, atol=0)


def test_buoyancy_frequency_interpolates_expansion_to_the_interface():
    # alpha = a0 lambda1 (T - T0) / rho0 with T = 10 above and 20 below: the weight of the lower
    # level is (w - z_upper) / (z_lower - z_upper) = 3/4 when the interface is nearer to it.
    eos = SimplifiedEOS(rn_b0=0.0, rn_lambda2=0.0, rn_mu1=0.0, rn_mu2=0.0, rn_nu=0.0)
    T = torch.tensor([10.0, 20.0], dtype=torch.float64)[:, None, None]
    z = torch.tensor([10.0, 50.0], dtype=torch.float64)[:, None, None]
    top = torch.tensor([0.0, 40.0], dtype=torch.float64)[:, None, None]
    e3w = torch.tensor([20.0, 40.0], dtype=torch.float64)[:, None, None]
    N2 = buoyancy_frequency(T, torch.full_like(T, 35.0), z, top, e3w, eos)
    alpha = 0.1655 * (1 + 0.05952 * 10 * 0.75) / RHO0
    assert N2[1].item() == pytest.approx(GRAVITY * alpha * -10.0 / 40.0, rel=1e-12)


def test_potential_density_ignores_the_depth_of_the_water():
    T, S, _ = ocean_water()
    torch.testing.assert_close(potential_density(T, S, TEOS10), TEOS10.density(T, S, 0.0))
    p = 2000.0 * DBAR_PER_METRE
    at_2000 = rho(S, T, p) - rho(35.0, 4.0, p)
    water = torch.tensor([4.0], dtype=torch.float64), torch.tensor([35.0], dtype=torch.float64)
    ours = potential_density(T, S, TEOS10, 2000.0) - potential_density(*water, TEOS10, 2000.0)
    # Warm water brought to 2000 m leaves the waters for which the fit was made: four times the
    # error.
    np.testing.assert_allclose(ours, at_2000, rtol=0, atol=4 * FIT_DENSITY)


def test_freezing_point_reproduces_unesco_check_value():
    # UNESCO: -2.588567 degC for S = 40 at 500 m.
    assert EOS80.freezing_point(torch.tensor(40.0), 500.0).item() == pytest.approx(-2.588567, abs=5e-7)


@pytest.mark.parametrize("eos", [TEOS10, DINO_SEOS])
def test_freezing_point_equals_gsw_at_the_surface(eos):
    S = torch.linspace(1.0, 40.0, 14, dtype=torch.float64)
    # NEMO's fit is that of the in-situ temperature of water saturated with air, good to 2e-4 K.
    expected = gsw.t_freezing(S.numpy(), 0.0, 1.0)
    np.testing.assert_allclose(eos.freezing_point(S), expected, rtol=0, atol=2e-4)


def test_factory_accepts_names_and_coefficients():
    assert equation_of_state("teos_10") is TEOS10
    assert equation_of_state("EOS80") is EOS80
    assert equation_of_state("DINO") == DINO_SEOS
    assert equation_of_state("s-eos", rn_a0=0.2) == SimplifiedEOS(rn_a0=0.2)


@pytest.mark.parametrize(
    ("name", "coefficients", "message"),
    [
        ("linear", {}, "must be one of TEOS-10, EOS-80, S-EOS, DINO, got 'linear'"),
        ("S-EOS", {"a0": 0.1}, "must be among rn_T0.*got a0"),
        ("EOS-80", {"rn_a0": 0.1}, "fixed coefficients, got rn_a0"),
    ],
)
def test_factory_refuses_what_it_does_not_know(name, coefficients, message):
    with pytest.raises(ValueError, match=message):
        equation_of_state(name, **coefficients)


def test_namelist_selects_equation_and_coefficients():
    block = {"ln_SEOS": True, "ln_teos10": False, "rn_a0": 0.165, "rn_lambda1": 0.06}
    eos = equation_of_state_from_namelist(block)
    assert eos == SimplifiedEOS(rn_a0=0.165, rn_lambda1=0.06)
    assert equation_of_state_from_namelist({"ln_eos80": True, "rn_a0": 0.1}) is EOS80


@pytest.mark.parametrize("block", [{}, {"ln_teos10": True, "ln_eos80": True}])
def test_namelist_must_select_exactly_one_equation(block):
    with pytest.raises(ValueError, match="exactly one of ln_teos10"):
        equation_of_state_from_namelist(block)


@pytest.mark.parametrize("eos", [TEOS10, EOS80])
def test_density_has_the_bits_of_the_polynomial_whatever_the_blocks(eos):
    """More cells than a block holds, of a number that blocks do not divide."""
    rng = np.random.default_rng(4)
    T, S = torch.as_tensor(rng.uniform(-2, 30, 40001)), torch.as_tensor(rng.uniform(0, 40, 40001))
    s, t = torch.sqrt(torch.abs(S + eos.salinity_shift) / eos.salinity_scale), T / 40.0
    water = eos.water(T, S)
    for depth in (torch.tensor(0.0), torch.tensor(1234.5), torch.as_tensor(rng.uniform(0, 6000, (3, 1)))):
        density = eos.density_of(water, depth)
        assert torch.equal(density, evaluate(eos.table, s, t, depth.double() / 1e4))
        assert torch.equal(density, eos.density(T, S, depth))
        assert torch.equal(density[..., -5:], eos.density(T[-5:], S[-5:], depth))
