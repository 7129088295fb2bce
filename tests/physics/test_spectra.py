"""Spectra of fields whose spectrum is known."""

import numpy as np
import pytest

from halocline.physics.spectra import isotropic_spectrum, largest_wet_rectangle, zonal_spectrum

DX = 2.0e4  # m


def wave(nj: int, ni: int, m: int, n: int = 0) -> np.ndarray:
    j, i = np.mgrid[:nj, :ni]
    return 3.0 * np.sin(2 * np.pi * (m * i / ni + n * j / nj) + 0.3)


@pytest.mark.parametrize("ni", [24, 25])
def test_zonal_spectrum_of_a_sine_is_one_line(ni):
    spectrum = zonal_spectrum(wave(7, ni, 5), DX)
    peak = spectrum.power.argmax()
    assert spectrum.wavenumber[peak] == pytest.approx(5 / (ni * DX))
    # The variance of a sine of amplitude 3, all in its band; the rest is rounding.
    assert spectrum.power[peak] * spectrum.width[peak] == pytest.approx(4.5)
    assert np.delete(spectrum.power, peak).max() < 1e-20 * spectrum.power[peak]


@pytest.mark.parametrize("ni", [12, 13])
def test_zonal_spectrum_obeys_parseval(ni):
    field = np.random.default_rng(0).normal(size=(2, 9, ni)) + 40.0
    spectrum = zonal_spectrum(field, DX)
    variance = field.var(-1).mean(-1)
    np.testing.assert_allclose((spectrum.power * spectrum.width).sum(-1), variance, rtol=1e-12)


@pytest.mark.parametrize("shape", [(12, 12), (9, 14), (11, 8)])
def test_isotropic_spectrum_obeys_parseval(shape):
    field = np.random.default_rng(1).normal(size=(3, *shape)) - 5.0
    spectrum = isotropic_spectrum(field, DX)
    variance = field.var((-2, -1))
    np.testing.assert_allclose((spectrum.power * spectrum.width).sum(-1), variance, rtol=1e-12)


def test_isotropic_spectrum_does_not_see_direction():
    along_i, along_j, oblique = wave(20, 20, 5), wave(20, 20, 0, 5), wave(20, 20, 3, 4)
    for field in (along_i, along_j, oblique):
        spectrum = isotropic_spectrum(field, DX)
        peak = spectrum.power.argmax()
        assert spectrum.wavenumber[peak] == pytest.approx(5 / (20 * DX))
        assert spectrum.power[peak] * spectrum.width[peak] == pytest.approx(4.5)


def test_isotropic_spectrum_counts_rings_on_the_longer_side():
    spectrum = isotropic_spectrum(wave(20, 12, 0, 3), DX)
    assert spectrum.wavenumber[spectrum.power.argmax()] == pytest.approx(3 / (20 * DX))


def test_hann_taper_confines_the_leak_of_a_broken_wave():
    i = np.arange(64)
    field = np.sin(2 * np.pi * 6.5 * i / 64)[None, :]
    far = slice(19, None)  # bands far from 6.5
    plain, tapered = zonal_spectrum(field, DX), zonal_spectrum(field, DX, taper="hann")
    # The leak falls as m**-2 in power without a taper and as m**-6 with Hann.
    assert tapered.power[far].sum() < 1e-2 * plain.power[far].sum()


def test_spectrum_of_a_window_ignores_the_rest():
    field = np.full((10, 30), np.nan)
    field[2:8, 3:27] = wave(6, 24, 4)
    wet = np.isfinite(field)
    rows, columns = largest_wet_rectangle(wet)
    assert (rows, columns) == (slice(2, 8), slice(3, 27))
    spectrum = zonal_spectrum(field, DX, wet, rows, columns)
    np.testing.assert_array_equal(spectrum.power, zonal_spectrum(wave(6, 24, 4), DX).power)


def test_largest_wet_rectangle_equals_brute_force():
    rng = np.random.default_rng(2)
    for _ in range(20):
        wet = rng.random((6, 7)) < 0.7
        best = max(
            (b - a) * (d - c)
            for a in range(6)
            for b in range(a + 1, 7)
            for c in range(7)
            for d in range(c + 1, 8)
            if wet[a:b, c:d].all()
        )
        rows, columns = largest_wet_rectangle(wet)
        assert wet[rows, columns].all() and wet[rows, columns].size == best


def test_land_in_the_window_is_refused():
    wet = np.ones((4, 6), dtype=bool)
    wet[1, 2] = False
    with pytest.raises(ValueError, match="must hold finite wet values only"):
        zonal_spectrum(np.zeros((4, 6)), DX, wet)
    with pytest.raises(ValueError, match="at least two cells"):
        isotropic_spectrum(np.zeros((1, 1)), DX)
    with pytest.raises(ValueError, match="'none' or 'hann'"):
        zonal_spectrum(np.zeros((4, 6)), DX, taper="box")
    with pytest.raises(ValueError, match="must have a wet cell"):
        largest_wet_rectangle(np.zeros((3, 3), dtype=bool))
