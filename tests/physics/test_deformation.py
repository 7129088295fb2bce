"""Deformation of drift: linear fields, lines of shear, white noise, tails of known exponent."""

import numpy as np
import pytest

from halocline.mesh.grid import box_grid
from halocline.physics.deformation import (
    SIZES,
    box_moments,
    contour_gradients,
    drift_strain,
    mean_drift,
    tail_excess,
)

DX = 2.0e4  # m


def plane(n: int = 65, **options):
    """n cells are n - 1 quadrilaterals a side."""
    return box_grid(1, n, n, e1=DX, e2=DX, **options)


def positions(n: int = 65) -> tuple[np.ndarray, np.ndarray]:
    j, i = np.mgrid[:n, :n]
    return i * DX, j * DX


def test_contours_are_exact_for_linear_velocities_on_any_quadrilateral():
    x = np.array([0.0, 3.0, 4.0, -1.0]) * 1e4
    y = np.array([0.0, 0.5, 3.0, 2.0]) * 1e4
    expected = np.array([2.0, -3.0, 5.0, 7.0]) * 1e-6
    u, v = (0.1 + a * x + b * y for a, b in expected.reshape(2, 2))
    gradients, area = contour_gradients(u, v, x, y)
    np.testing.assert_allclose(gradients, expected, rtol=1e-10)
    # the diagonals d, e of any quadrilateral give its area |d x e| / 2
    d, e = (np.array([x[b] - x[a], y[b] - y[a]]) for a, b in ((0, 2), (1, 3)))
    assert area == pytest.approx(0.5 * (d[0] * e[1] - d[1] * e[0]))


def test_rotation_and_translation_do_not_deform():
    x, y = positions(9)
    strain = drift_strain(0.2 - 1e-6 * y[None], 0.1 + 1e-6 * x[None], plane(9))
    assert np.abs(strain.rates.total).max() < 1e-18
    assert (strain.area > 0).all()


def test_divergence_and_shear_of_linear_fields():
    x, y = positions(9)
    opening = drift_strain(1e-6 * x[None], 2e-6 * y[None], plane(9)).rates
    np.testing.assert_allclose(opening.divergence, 3e-6, rtol=1e-9)
    np.testing.assert_allclose(opening.shear, 1e-6, rtol=1e-9)
    shearing = drift_strain(4e-6 * y[None], 3e-6 * x[None], plane(9)).rates
    np.testing.assert_allclose(shearing.divergence, 0.0, atol=1e-18)
    np.testing.assert_allclose(shearing.total, 7e-6, rtol=1e-9)


def test_uniform_strain_does_not_scale():
    x, y = positions()
    found = box_moments(drift_strain(1e-6 * x[None], 3e-6 * y[None], plane())).scaling()
    np.testing.assert_allclose(found.beta, 0.0, atol=1e-10)
    np.testing.assert_allclose(found.lengths, DX * np.array(SIZES), rtol=1e-12)
    assert found.boxes == tuple((64 // n) ** 2 for n in SIZES)


def test_a_line_of_shear_scales_with_q_minus_one():
    _, y = positions()
    u = np.where(y > 20 * DX, 0.1, 0.0)[None]
    found = box_moments(drift_strain(u, 0 * u, plane())).scaling()
    np.testing.assert_allclose(found.beta, [0.0, 1.0, 2.0], atol=1e-10)
    # the line crosses n / 64 of the boxes, in which the shear is 0.1 / (n dx)
    np.testing.assert_allclose(found.moments[0], 0.1 / (64 * DX), rtol=1e-10)


def test_white_noise_has_its_known_slope():
    s, samples = 0.05, 20
    u, v = np.random.default_rng(0).normal(0, s, (2, samples, 65, 65))
    found = box_moments(drift_strain(u, v, plane())).scaling()
    # Along each side of a box of n quadrilaterals, weights 1/2, 1, ..., 1, 1/2 have squares of sum n - 1/2.
    n = np.array(SIZES, float)
    second = 6 * 2 * (n - 0.5) * s**2 / (n**4 * DX**2)
    np.testing.assert_allclose(found.moments[1], second, rtol=0.15)  # 320 boxes of the largest size
    expected = -np.polyfit(np.log(n), np.log(second), 1)[0]
    assert found.beta[1] == pytest.approx(expected, rel=0.03)
    assert found.beta[2] / found.beta[0] == pytest.approx(3.0, rel=0.03)  # Gaussian: not multifractal


def test_boxes_count_where_half_of_them_is_ice():
    wet = np.ones((17, 17), bool)
    wet[9:] = False  # quadrilaterals of rows 0 to 7 are left: half of the one box of 16
    x, y = positions(17)
    u, v = np.where(wet, 1e-6 * x, np.nan)[None], np.where(wet, 2e-6 * y, np.nan)[None]
    strain = drift_strain(u, v, plane(17, wet=wet))
    found = box_moments(strain).scaling()
    assert found.boxes == (8 * 16, 4 * 8, 2 * 4, 1 * 2, 1)
    assert found.lengths[-1] == pytest.approx(np.sqrt(8 * 16) * DX)
    np.testing.assert_allclose(found.moments[0], np.hypot(3e-6, 1e-6), rtol=1e-10)
    less = box_moments(drift_strain(u, v, plane(17, wet=wet), covered=wet & (x < 15 * DX))).scaling()
    assert less.boxes[-1] == 0 and np.isfinite(less.beta).all()


def test_sums_of_boxes_add_up():
    u, v = np.random.default_rng(1).normal(0, 0.1, (2, 6, 33, 33))
    grid = plane(33)
    whole = box_moments(drift_strain(u, v, grid)).scaling()
    parts = box_moments(drift_strain(u[:2], v[:2], grid)) + box_moments(drift_strain(u[2:], v[2:], grid))
    np.testing.assert_allclose(parts.scaling().beta, whole.beta, rtol=1e-12)


@pytest.mark.parametrize("alpha", [1.5, 3.0])
def test_tail_of_a_power_law_has_its_exponent(alpha):
    rates = 1e-7 * (1 + np.random.default_rng(2).pareto(alpha, 100_000))
    assert 1 / tail_excess(rates) == pytest.approx(alpha, rel=0.04)  # 10 000 rates: 1 %
    assert np.isnan(tail_excess(np.zeros(10))) and np.isnan(tail_excess([]))


def test_mean_drift_is_exact_for_a_steady_change():
    times = np.array([0.0, 6.0, 12.0, 18.0, 24.0])
    assert mean_drift(0.1 + 0.01 * times) == pytest.approx(0.1 + 0.01 * 12.0)
    assert mean_drift(np.array([[[3.0, 9.0]]]), axis=1).tolist() == [[3.0, 9.0]]
