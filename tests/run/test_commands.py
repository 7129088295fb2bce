"""The main job from end to end: train, sample, evaluate, restart, as a user types them."""

import json
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
from case import NI, NJ, NK, OCEAN, STEPS, Case, here, mask_of, several, told

from halocline.io.nemo import States, read_member, read_restart, read_states
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.layout import Layout
from halocline.physics.balance import column_divergence
from halocline.physics.free_surface import stretching
from halocline.physics.geometry import Geometry
from halocline.physics.operators import geostrophic_velocity
from halocline.physics.spectra import largest_wet_rectangle
from halocline.physics.stability import density_step, interfaces
from halocline.run.judging import diagnose_fields, eos_of
from halocline.run.run_folder import load_generator
from halocline.run.sample import adjust
from halocline.run.statistics import level_statistics, surface_spectrum
from halocline.state.variables import VARIABLES


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    """A folder that is not there while the block runs."""
    elsewhere = path.rename(path.with_name("moved"))
    yield
    elsewhere.rename(path)


def sampled(trained: Case, path: Path, *options: str) -> dict[str, np.ndarray]:
    """Samples in this process and returns the variables of the file as they lie there."""
    result = here("sample", trained.run, f"output={path}", *options)
    assert result.status == 0, result.err
    with netCDF4.Dataset(path) as file:
        return {name: np.ma.filled(variable[...], np.nan) for name, variable in file.variables.items()}


def unstable_fraction(trained: Case, path: Path) -> np.ndarray:
    """Of each member in a file: wet volume above denser water, without any tolerance."""
    generator = load_generator(trained.run)
    states = read_states(path, OCEAN, generator.grid)
    found = diagnose_fields(states.fields, generator.grid, generator.lattice, generator.config.data)
    return found["unstable_fraction_strict"].numpy()


def test_run_folder_samples_without_the_training_data(trained: Case, states: Path, tmp_path):
    with moved_away(trained.folder / "data"):
        sampled(trained, tmp_path / "again.nc", "members=5", "seed=4")
    assert (tmp_path / "again.nc").read_bytes() == states.read_bytes()


@pytest.mark.parametrize(("ranks", "sizes"), [(1, (0,)), (2, (0, 1)), (3, (0,)), (4, (0, 1, 2))])
def test_file_is_the_same_to_the_byte_on_any_ranks(ranks, sizes, trained: Case, states: Path, mpirun, tmp_path):
    paths = [tmp_path / f"{size}.nc" for size in sizes]
    commands = [
        ["sample", trained.run, "members=5", "seed=4", f"output={path}", f"ranks_per_member={size}"]
        for path, size in zip(paths, sizes, strict=True)
    ]
    status, output = mpirun(ranks, *several(commands), cwd=tmp_path, limit=60)
    assert status == 0, output
    assert [[result.status for result in results] for results in told(output)] == [[0] * ranks] * len(sizes), output
    for path in paths:
        assert path.read_bytes() == states.read_bytes(), path.name


def test_members_seeds_and_months_differ_and_more_members_do_not_change_the_first(trained: Case, tmp_path):
    few = sampled(trained, tmp_path / "few.nc", "members=2", "months=[6]", "seed=1")
    more = sampled(trained, tmp_path / "more.nc", "members=3", "months=[6]", "seed=1")
    other = sampled(trained, tmp_path / "other.nc", "members=2", "months=[6]", "seed=2")
    winter = sampled(trained, tmp_path / "winter.nc", "members=2", "months=[12]", "seed=1")
    for name in ("votemper", "vosaline", "vozocrtx", "vomecrty", "sossheig"):
        assert np.array_equal(few[name], more[name][:2], equal_nan=True), name
        assert not np.array_equal(more[name][1], more[name][2], equal_nan=True), name
        assert not np.array_equal(few[name], other[name], equal_nan=True), name
    # The case has 6 degC of seasons at the surface and 0.1 degC of weather.
    assert np.nanmean(few["votemper"][:, 0] - winter["votemper"][:, 0]) > 1


def test_months_set_the_coordinates_of_the_members(trained: Case, tmp_path):
    file = sampled(trained, tmp_path / "states.nc", "members=5", "months=[3,12]")
    assert file["member"].tolist() == [0, 1, 2, 3, 4]
    assert file["month"].tolist() == [3, 12, 3, 12, 3]
    assert file["season"].tolist() == [0.25, 0.0, 0.25, 0.0, 0.25]


def test_file_has_the_names_dimensions_and_attributes_of_the_documentation(trained: Case, states: Path):
    with netCDF4.Dataset(states) as file:
        assert {name: len(d) for name, d in file.dimensions.items()} == {"member": 5, "deptht": NK, "y": NJ, "x": NI}
        assert file.Conventions == "CF-1.8" and file.seed == 4
        assert file.sampler == "heun, 3 steps" and f"training step {STEPS}" in file.source
        for name in OCEAN:
            row, variable = VARIABLES[name], file[VARIABLES[name].nemo_output]
            levels = ("deptht",) if row.is_3d else ()
            assert variable.dimensions == ("member", *levels, "y", "x")
            assert (variable.units, variable.standard_name) == (row.unit, row.standard_name)
            assert variable.dtype == np.float32
            land = np.ma.getmaskarray(variable[:]).reshape(5, -1, NJ, NI)
            assert np.array_equal(land, np.broadcast_to(~mask_of(name, trained.grid), land.shape)), name


def test_no_column_is_unstable_unless_convection_is_off(trained: Case, tmp_path):
    sampled(trained, tmp_path / "mixed.nc", "members=6")
    sampled(trained, tmp_path / "raw.nc", "members=6", "convection=false")
    assert (unstable_fraction(trained, tmp_path / "mixed.nc") == 0).all()
    assert (unstable_fraction(trained, tmp_path / "raw.nc") > 0).any()


def test_columns_that_differ_by_a_rounding_are_stable_as_written(trained: Case):
    generator, rng = load_generator(trained.run), np.random.default_rng(1)
    layout = Layout.build(generator.lattice, Serial())
    geometry, eos = Geometry.build(generator.grid, layout), eos_of(generator.config.data)
    shape = (50, *geometry.tmask.shape)
    tiles = {"temperature": 10 + 3e-6 * rng.standard_normal(shape), "salinity": 35 + 3e-6 * rng.standard_normal(shape)}
    tiles = {name: torch.as_tensor(x) for name, x in tiles.items()}
    adjust(tiles, generator, layout)
    T, S = (tiles[name].float().double() for name in ("temperature", "salinity"))
    unstable = density_step(T, S, geometry.gdepw, eos) > 0
    assert not (unstable & interfaces(geometry.tmask)).any()


def test_temperature_is_named_as_the_equation_of_state_takes_it(trained: Case, tmp_path):
    run, path = tmp_path / "run", tmp_path / "states.nc"
    words = ("data.equation_of_state=teos10", "training.steps=1")
    assert here("train", trained.config, f"output={run}", *words).status == 0
    assert here("sample", run, "members=1", "sampling.steps=1", f"output={path}").status == 0
    with netCDF4.Dataset(path) as file:
        assert file["votemper"].standard_name == "sea_water_conservative_temperature"
        assert file["vosaline"].standard_name == "sea_water_absolute_salinity"


def test_sampling_options_replace_those_of_the_run(trained: Case, states: Path, tmp_path):
    path = tmp_path / "states.nc"
    sampled(trained, path, "members=5", "seed=4", "sampling.sampler=euler", "sampling.steps=2")
    with netCDF4.Dataset(path) as file, netCDF4.Dataset(states) as heun:
        assert file.sampler == "euler, 2 steps"
        assert not np.array_equal(file["votemper"][:], heun["votemper"][:])


def test_evaluation_leaves_a_picture_a_table_and_prints_it(trained: Case, states: Path, tmp_path):
    folder = tmp_path / "some" / "where"
    result = here("evaluate", trained.run, f"states={states}", f"output={folder}")
    assert result.status == 0, result.err
    for word in (*OCEAN, "rmse of a member", "kinetic_energy", "5 ok"):
        assert word in result.out, word
    table = json.loads((folder / "table.json").read_text())
    assert (table["members"], table["reference_states"]) == (5, 12)
    for name in OCEAN:
        assert set(table["errors"][name]) == {"rmse", "profile_rmse", "seasonal_rms"}
        assert all(math.isfinite(x) and x > 0 for x in table["errors"][name].values()), name
    for name, numbers in table["diagnostics"].items():
        assert all(math.isfinite(x) for x in numbers.values()), name
    assert sum(table["verdicts"].values()) == 5
    check_levels(table["levels"], states, trained.grid)
    check_spectrum(table["spectrum"], states, trained.grid)
    check_picture(folder / "report.png")


def check_levels(levels: dict, states: Path, grid: Grid) -> None:
    """Each level of each 3-D variable, by numpy's own weighted mean."""
    fields = read_states(states, OCEAN, grid).fields
    assert set(levels) == {f"{name}_{moment}" for name in OCEAN[:4] for moment in ("mean", "std")}
    areas = {"T": grid.e1t * grid.e2t * grid.e3t, "U": grid.e1u * grid.e2u * grid.e3u}
    areas["V"] = grid.e1v * grid.e2v * grid.e3v
    for name in OCEAN[:4]:
        mask, means, deviations = mask_of(name, grid), [], []
        for k in range(NK):
            weights, x = areas[VARIABLES[name].point][k][mask[k]], fields[name][:, k, mask[k]].astype(float)
            mean = np.average(x, axis=1, weights=weights)
            means.append(mean.mean())
            deviations.append(np.sqrt(np.average((x - mean[:, None]) ** 2, axis=1, weights=weights)).mean())
        # float64 sums in another order; a velocity may average to almost nothing
        assert levels[f"{name}_mean"]["generated"] == pytest.approx(means, rel=1e-9, abs=1e-12), name
        assert levels[f"{name}_std"]["generated"] == pytest.approx(deviations, rel=1e-9), name
        assert levels[f"{name}_mean"]["reference"] != levels[f"{name}_mean"]["generated"], name


def check_spectrum(spectrum: dict, states: Path, grid: Grid) -> None:
    """Its integral is the variance of the tapered window."""
    rows, columns = largest_wet_rectangle(grid.tmask[0])
    surface = read_states(states, OCEAN, grid).fields["temperature"][:, 0, rows, columns].astype(float)
    anomaly = surface - surface.mean((1, 2), keepdims=True)
    tapers = [1 - np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in anomaly.shape[1:]]
    for axis, taper in enumerate(tapers):
        anomaly = anomaly * np.expand_dims(taper / np.sqrt((taper**2).mean()), axis=1 - axis)
    wavenumber, power = np.array(spectrum["wavenumber"]), np.array(spectrum["generated"])
    tapered_mean = (anomaly.mean((1, 2)) ** 2).mean()
    assert (power * wavenumber[0]).sum() == pytest.approx((anomaly**2).mean() - tapered_mean, rel=1e-9)
    assert wavenumber == pytest.approx(wavenumber[0] * np.arange(1, len(wavenumber) + 1))
    assert len(spectrum["reference"]) == len(power) and spectrum["reference"] != spectrum["generated"]


def test_statistics_know_land_levels_and_narrow_seas():
    """A dry level has no mean, and a strait of three columns no spectrum."""
    grid = box_grid(3, 9, 5, levels=np.pad(np.full((7, 3), 2), 1))
    rng = np.random.default_rng(2)
    fields = {"temperature": rng.standard_normal((2, *grid.shape))}
    nothing = np.zeros(2)
    states = States(fields, nothing, nothing, nothing, nothing, {})
    levels = level_statistics(states, states, grid)["temperature_mean"]["generated"]
    assert [x is None for x in levels] == [False, False, True]
    assert surface_spectrum(states, states, grid) == {}


def check_picture(path: Path) -> None:
    """A PNG by its signature, header and last chunk, of a size to look at."""
    raw = path.read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    assert raw[:8] == b"\x89PNG\r\n\x1a\n" and raw[-8:-4] == b"IEND"
    assert min(width, height) > 500 and len(raw) > 10_000


def test_error_of_the_training_data_against_themselves_is_their_scatter_alone(trained: Case, tmp_path):
    """A state that stands two years running at its month's mean has no error; ours stray by half their difference."""
    data = trained.folder / "data" / "states.nc"
    result = here("evaluate", trained.run, f"states={data}", f"output={tmp_path}")
    assert result.status == 0, result.err
    errors = json.loads((tmp_path / "table.json").read_text())["errors"]
    reference = read_states(data, OCEAN, trained.grid).fields
    for name in OCEAN:
        first, second = (reference[name][years].astype(float) for years in (slice(0, 6), slice(6, 12)))
        half = (0.5 * (first - second))[:, mask_of(name, trained.grid)]
        assert errors[name]["rmse"] == pytest.approx(math.sqrt((half**2).mean()), rel=1e-6)  # files are float32


@pytest.mark.parametrize("parts", ["", "per_rank=[2,1]"])
def test_restart_holds_the_member_to_the_last_bit(parts: str, trained: Case, states: Path, tmp_path):
    words = ("restart", trained.run, f"states={states}", "member=3", f"output={tmp_path / 'restart.nc'}")
    result = here(*words, *parts.split())
    assert result.status == 0, result.err
    names = ["restart_0000.nc", "restart_0001.nc"] if parts else ["restart.nc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert re.findall(r"written: .*/(\S+)", result.out) == names
    found, member = read_restart(tmp_path / names[0], trained.grid), read_member(states, 3)
    for name in OCEAN:
        expected = np.where(mask_of(name, trained.grid), member[name], 0.0)
        assert np.array_equal(found[name], expected), name
    # and is a state again, at land as in the sea
    assert np.array_equal(found["temperature"] != 0, trained.grid.tmask)


def test_restart_is_read_as_a_state_of_its_month_when_it_has_a_date(trained: Case, states: Path, tmp_path):
    first, second = tmp_path / "first.nc", tmp_path / "second.nc"
    words = ("restart", trained.run, f"states={states}")
    assert here(*words, f"output={first}").status == 0
    with netCDF4.Dataset(first, "a") as file:  # as the model leaves it
        for name, value in {"kt": 90.0, "ndastp": 10130.0, "adatrj": 30.0, "ntime": 0.0, "rdt": 3600.0}.items():
            file.createVariable(name, "f8", ())[...] = value
    assert here(*words, "member=4", f"output={second}", f"like={first}").status == 0
    back = read_states(second, OCEAN, trained.grid)
    assert (back.month.tolist(), back.season.tolist()) == ([5], [5 / 12])  # member 4 stands at the end of May
    for name, values in read_member(states, 4).items():
        assert np.array_equal(back.fields[name][0], values, equal_nan=True), name


@pytest.mark.parametrize(("calendar", "day"), [("360_day", 30), ("noleap", 31), ("standard", 31)])
def test_date_of_a_restart_follows_the_calendar(calendar: str, day: int, trained: Case, states: Path, tmp_path):
    first, second = tmp_path / "first.nc", tmp_path / "second.nc"
    words = ("restart", trained.run, f"states={states}", f"calendar={calendar}")
    assert here(*words, f"output={first}").status == 0
    with netCDF4.Dataset(first, "a") as file:
        for name, value in {"kt": 720.0, "ndastp": 10130.0, "adatrj": 30.0, "ntime": 0.0, "rdt": 3600.0}.items():
            file.createVariable(name, "f8", ())[...] = value
    assert here(*words, "member=4", f"output={second}", f"like={first}").status == 0
    with netCDF4.Dataset(second) as file:
        assert float(file["ndastp"][...]) == 10500 + day  # member 4 stands at the end of May


def test_depth_means_are_written_where_they_are_asked_for(trained: Case, states: Path, tmp_path):
    path = tmp_path / "restart.nc"
    words = ("restart", trained.run, f"states={states}", f"output={path}")
    for option, expected in (("false", set()), ("true", {"uu_n", "vv_n", "ssha"})):
        assert here(*words, f"depth_means={option}").status == 0
        with netCDF4.Dataset(path) as file:
            assert set(file.variables) & {"uu_n", "vv_n", "ssha"} == expected


def test_velocity_of_a_restart_is_what_was_asked_for(trained: Case, states: Path, tmp_path):
    found = {}
    for choice in ("generated", "balanced", "rest", "geostrophic"):
        words = ("restart", trained.run, f"states={states}", f"velocity={choice}")
        result = here(*words, f"output={tmp_path / choice}.nc")
        assert result.status == 0, result.err
        found[choice] = read_restart(tmp_path / f"{choice}.nc", trained.grid)
    for name in ("temperature", "salinity", "sea_level"):
        assert all(np.array_equal(fields[name], found["rest"][name]) for fields in found.values()), name
    generator, member = load_generator(trained.run), read_member(states, 0)
    T, S, sea_level = (member[name].astype(float) for name in ("temperature", "salinity", "sea_level"))
    balanced = geostrophic_velocity(T, S, sea_level[0], trained.grid, eos_of(generator.config.data))
    for name, velocity in zip(("velocity_u", "velocity_v"), balanced, strict=True):
        mask = mask_of(name, trained.grid)
        assert not found["rest"][name].any()
        # The command holds temperature in float32, as the file does.
        expected = torch.as_tensor(velocity).numpy() * mask
        assert found["geostrophic"][name] == pytest.approx(expected, rel=1e-3, abs=1e-4), name
        assert np.abs(found["geostrophic"][name]).max() > 1e-2


def test_balanced_restart_brings_no_water_together(trained: Case, states: Path, tmp_path):
    generator = load_generator(trained.run)
    layout = Layout.build(generator.lattice, Serial())
    geometry = Geometry.build(trained.grid, layout)
    rest = stretching(None, geometry, layout, "linear")
    left = {}
    for choice in ("generated", "balanced"):
        path = tmp_path / f"{choice}.nc"
        words = ("restart", trained.run, f"states={states}", f"velocity={choice}", f"output={path}")
        assert here(*words).status == 0
        flow = [torch.as_tensor(layout.cut(read_restart(path)[name])) for name in ("velocity_u", "velocity_v")]
        left[choice] = column_divergence(*flow, geometry, layout, rest)
    assert left["balanced"] < 1e-12 < 1e-3 < left["generated"]


@pytest.mark.parametrize("choice", ["mean-free", "rest"])
def test_sea_level_of_a_restart_is_what_was_asked_for(choice, trained: Case, states: Path, tmp_path):
    path, grid = tmp_path / "restart.nc", trained.grid
    assert here("restart", trained.run, f"states={states}", f"sea_level={choice}", f"output={path}").status == 0
    found, generated = read_restart(path)["sea_level"][0], read_member(states, 0)["sea_level"][0]
    if choice == "rest":
        assert not found.any()
    else:
        area = (grid.e1t * grid.e2t)[grid.wet]
        assert abs(np.average(found[grid.wet], weights=area)) < 1e-15
        shift = (generated - found)[grid.wet]
        assert np.ptp(shift) < 1e-12 and shift.mean() == pytest.approx(np.average(generated[grid.wet], weights=area))
