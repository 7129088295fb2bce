"""The embedded host conserves what it must and looks like an ocean."""

from __future__ import annotations

import numpy as np
import pytest
from basin_runs import Run, Runner, read

STILL = {
    name: 0.0
    for name in (
        "rn_lambda",
        "rn_fresh",
        "rn_noise_wind",
        "rn_noise_heat",
        "rn_noise_fresh",
    )
}
UNIFORM = {"rn_t_top": 12.0, "rn_t_deep": 12.0}


Water = tuple[np.ndarray, np.ndarray]  # temperature and salinity


def density_step(upper: Water, lower: Water, depth: np.ndarray) -> np.ndarray:
    """Density of the upper minus that of the lower water at one depth, S-EOS of DINO, kg/m3."""

    def rho(t: np.ndarray, s: np.ndarray) -> np.ndarray:
        dt = t - 10.0
        return -0.165 * (1.0 + 0.03 * dt + 1.497e-4 * depth) * dt + 0.76554 * (s - 35.0)

    return rho(*upper) - rho(*lower)


@pytest.mark.parametrize("cyclic", [False, True])
def test_heat_and_salt_change_by_the_surface_input(run: Runner, cyclic: bool) -> None:
    done = run("budget", run={"nn_steps": 120, "nn_diag_steps": 40}, grid={"ln_cyclic": cyclic})
    assert done.code == 0, done.err
    series = done.diagnostics()
    for quantity in ("heat", "salt"):
        content = series[f"{quantity}_content"]
        gap = np.diff(content) - series[f"{quantity}_gain"][1:]
        # Each of 40 steps rounds every cell once or twice, 1.1e-16 of it; were all roundings of
        # one sign, 1e-14 would remain. The sums over the grid add a few 1e-15.
        assert np.abs(gap / content[0]).max() < 2e-14
    assert np.abs(np.diff(series["heat_content"])).min() > 1e-6 * series["heat_content"][0]


def test_fresh_water_redistributes_salt_but_adds_none(run: Runner) -> None:
    done = run("salt", forcing={"rn_fresh": 1.0, "rn_noise_fresh": 0.5})
    series, restart = done.diagnostics(), read(done.restart(24))
    # The patterns sum to zero over the area up to the rounding of some hundred terms.
    assert np.abs(series["salt_gain"] / series["salt_content"][0]).max() < 1e-16
    wet = read(done.folder / "mesh_mask.nc")["tmask"][0] == 1
    assert np.ptp(restart["sn"][0][wet]) > 0.1


def test_uniform_tracer_stays_uniform_in_the_wind(run: Runner) -> None:
    done = run("uniform", physics=UNIFORM, forcing=STILL, run={"nn_steps": 60})
    restart, mesh = read(done.restart(60)), read(done.folder / "mesh_mask.nc")
    wet = mesh["tmask"] == 1
    assert np.abs(restart["un"]).max() > 1e-2
    # 60 steps of rounding in flux differences of a value of 12 (35): some 1e-14 each, at random.
    assert np.abs(restart["tn"][wet] - 12.0).max() < 1e-11
    assert np.abs(restart["sn"][wet] - 35.0).max() < 1e-11
    assert np.all(restart["tn"][~wet] == 0.0)


def test_nothing_moves_without_forcing(run: Runner) -> None:
    done = run("rest", physics=UNIFORM, forcing={**STILL, "rn_wind": 0.0})
    restart = read(done.restart(24))
    for name in ("un", "vn", "sshn"):
        # Implicit mixing rounds 12 degC by 1e-15: pressure differences of 1e-14 m2/s2 and less.
        assert np.abs(restart[name]).max() < 1e-12


def test_columns_are_statically_stable(run: Runner) -> None:
    # A salty, cold start over warm water would need mixing everywhere: reverse the profile.
    done = run("mixed", physics={"rn_t_top": 4.0, "rn_t_deep": 12.0}, run={"nn_steps": 3})
    restart, mesh = read(done.restart(3)), read(done.folder / "mesh_mask.nc")
    t, s, wet = restart["tn"], restart["sn"], mesh["tmask"] == 1
    step = density_step((t[:-1], s[:-1]), (t[1:], s[1:]), mesh["gdepw_0"][1:])
    # Mixed levels are equal: only the rounding of densities of order one is left.
    assert step[wet[1:]].max() < 1e-12
    assert done.diagnostics()["unstable_fraction"][0] > 0.5
    assert done.diagnostics().size == 1


@pytest.fixture
def young_ocean(run: Runner) -> Run:
    """Eight years on the default grid: gyres and thermocline are there, the deep is not."""
    settings = {"nn_steps": 0, "nn_years": 8, "nn_diag_steps": 0, "nn_states_year": 8}
    default = {"nn_nx": 32, "nn_ny": 40, "nn_nz": 16, "rn_dlon": 2.0, "rn_dlat": 1.5}
    return run("ocean", run=settings, grid=default)


def test_ocean_has_gyres_with_western_boundary_current_and_thermocline(young_ocean: Run) -> None:
    assert young_ocean.code == 0, young_ocean.err
    restart = read(young_ocean.restart(8 * 240))
    mesh = read(young_ocean.folder / "mesh_mask.nc")
    transport = (restart["vn"] * mesh["e3v_0"]).sum(0) * mesh["e1v"] * 1e-6
    stream = np.cumsum(transport, axis=1)
    nj, ni = stream.shape
    centre = np.unravel_index(stream.argmax(), stream.shape)
    assert stream.max() > 10.0 and centre[0] < nj / 2  # subtropical gyre, Sv
    assert stream.min() < -5.0 and np.unravel_index(stream.argmin(), stream.shape)[0] > nj / 2
    strongest = transport[nj // 6 : nj // 2].sum(0).argmax()
    assert strongest < ni / 3  # the northward flow of the subtropics hugs the western wall
    volume = mesh["e1t"] * mesh["e2t"] * mesh["e3t_0"] * mesh["tmask"]
    profile = (restart["tn"] * volume).sum((1, 2))[:-1] / volume.sum((1, 2))[:-1]
    assert np.all(np.diff(profile) < 0.0) and profile[0] > profile[-1] + 5.0
    series = young_ocean.diagnostics()
    assert series["unstable_fraction"][-1] == 0.0
    assert np.all(np.diff(series["deep_temperature"][4:]) < 0.0)  # the deep has just begun to move


def test_outputs_have_the_layout_of_nemo(run: Runner) -> None:
    done = run("layout", run={"nn_steps": 40, "nn_states_months": 1})
    states, mesh = read(done.folder / "states.nc"), read(done.folder / "mesh_mask.nc")
    assert states["votemper"].shape == (2, 8, 23, 17) and states["sossheig"].shape == (2, 23, 17)
    assert list(states["month"]) == [1, 2] and list(states["year"]) == [1, 1]
    assert list(states["time"]) == [30.0, 60.0] and list(states["kt"]) == [20, 40]
    restart = read(done.restart(40))
    pairs = {"votemper": "tn", "vosaline": "sn", "vozocrtx": "un", "vomecrty": "vn"}
    for (output, name), point in zip(pairs.items(), "ttuv", strict=True):
        wet = mesh[f"{point}mask"] == 1
        assert np.array_equal(states[output][-1][wet], restart[name][wet].astype(np.float32))
        assert np.all(states[output][-1][~wet] == np.float32(1e20))
        assert np.all(restart[name][~wet] == 0.0)
    tmask = mesh["tmask"].astype(bool)
    assert np.array_equal(mesh["umask"][..., :-1], tmask[..., :-1] & tmask[..., 1:])
    assert np.array_equal(mesh["vmask"][:, :-1], tmask[:, :-1] & tmask[:, 1:])
    assert not tmask[-1].any() and not tmask[:, 0].any() and not tmask[..., -1].any()
    assert restart["ndastp"] == 10230.0 and restart["adatrj"] == 60.0 and restart["kt"] == 40.0
