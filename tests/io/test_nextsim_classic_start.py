"""Restarts of classic neXtSIM from a state on a grid: where triangles lie, and what of the ice follows what."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import Delaunay

from halocline.io.models import read_states
from halocline.io.nextsim_classic import read_records, write_records
from halocline.io.nextsim_classic_start import is_classic, write_classic_start
from halocline.io.nextsim_moorings import read_moorings_grid
from halocline.io.nextsim_triangles import CENTRAL_LONGITUDE, ECCENTRICITY, RADIUS, to_plane
from halocline.mesh.grid import Grid, box_grid

NJ, NI = 13, 17
ICE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
STRESS = np.array([[-2.0e3, 7.0e2], [7.0e2, -5.0e2]])  # Pa, in the plane
DRIFT = np.array([0.11, -0.07])  # m/s, likewise


def curved_grid() -> Grid:
    """Cells along parallels and meridians, whose axes turn by 40 degrees in the plane; land in one corner."""
    longitude, latitude = np.meshgrid(np.linspace(-70, -30, NI), np.linspace(80, 86, NJ))
    wet = np.ones((NJ, NI), bool)
    wet[:3, :4] = False
    box = box_grid(1, NJ, NI, wet=wet)
    places = {f"glam{p}": longitude for p in "tuvf"} | {f"gphi{p}": latitude for p in "tuvf"}
    widths = {f"{e}{p}": np.full((NJ, NI), w) for p in "tuvf" for e, w in (("e1", 3.0e4), ("e2", 5.6e4))}
    return Grid(**{**vars(box), **places, **widths})


def plane_of(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.moveaxis(to_plane(grid.gphit, grid.glamt), -1, 0))


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A restart whose mesh has moved, amid the grid; the model's order of records, fewer of them."""
    rng = np.random.default_rng(1)
    x, y = plane_of(curved_grid())
    middle, count = (x[7, 9], y[7, 9]), 60
    nodes = np.array(middle)[:, None] + rng.uniform(-1.0e5, 1.0e5, (2, count))
    elements = Delaunay(nodes.T).simplices
    moved = rng.normal(0, 3.0e3, 2 * count)
    size = len(elements)
    write_records(tmp_path / "mesh_old", {
        "Elements": (elements + 1).ravel().astype(np.int32), "id": np.arange(1, count + 1, dtype=np.int32),
        "Nodes_x": nodes[0] - moved[:count], "Nodes_y": nodes[1] - moved[count:],
    })  # fmt: skip
    of_ice = {name: rng.uniform(0.2, 0.9, size) for name in ("M_conc", "M_thick", "M_damage", "M_snow_thick")}
    write_records(tmp_path / "field_old", {
        "Misc_int": np.array([0, 192, 1, 7], np.int32), "M_dirichlet_flags": np.array([1, 5], np.int32),
        "Time": np.array([42292.0]), **of_ice, **{f"M_sigma_{k}": rng.normal(0, 1e4, size) for k in range(3)},
        "M_sst": np.full(size, -1.8), "M_conc_young": np.full(size, 0.2), "M_h_young": np.full(size, 0.1),
        "M_hs_young": np.full(size, 0.01), "M_conc_myi": np.full(size, 0.85),
        "M_VT": rng.normal(0, 0.1, 2 * count), "M_UM": moved, "M_UT": moved,
    })  # fmt: skip
    return tmp_path / "field_old"


def uniform(grid: Grid, **other: np.ndarray) -> dict[str, np.ndarray]:
    """A state that does not vary in the plane, on the axes of the grid: along i longitude grows."""
    angle = np.deg2rad(grid.glamt - CENTRAL_LONGITUDE)
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], -1).reshape(NJ, NI, 2, 2)
    drift, stress = turn @ DRIFT, turn @ STRESS @ np.swapaxes(turn, -1, -2)
    fields = {"concentration": 0.6, "thickness": 1.1, "snow": 0.1, "damage": 0.25}
    return {name: np.full((1, NJ, NI), x) for name, x in fields.items()} | {
        "ice_u": drift[None, ..., 0], "ice_v": drift[None, ..., 1], "stress_xx": stress[None, ..., 0, 0],
        "stress_yy": stress[None, ..., 1, 1], "stress_xy": stress[None, ..., 0, 1], **other,
    }  # fmt: skip


def test_the_plane_is_conformal_and_true_at_sixty_degrees() -> None:
    """On the ellipsoid a radian along a parallel is N cos(phi) long, one along a meridian M."""
    phi, step = np.array([60.0, 72.0, 85.0]), 1e-4
    e2 = (ECCENTRICITY * np.sin(np.deg2rad(phi))) ** 2
    normal, meridian = RADIUS / np.sqrt(1 - e2), RADIUS * (1 - ECCENTRICITY**2) / (1 - e2) ** 1.5
    along = np.linalg.norm(to_plane(phi, 10 + step) - to_plane(phi, 10 - step + 0 * phi), axis=-1)
    across = np.linalg.norm(to_plane(phi + step, 10 + 0 * phi) - to_plane(phi - step, 10 + 0 * phi), axis=-1)
    scale_i = along / (2 * np.deg2rad(step) * normal * np.cos(np.deg2rad(phi)))
    scale_j = across / (2 * np.deg2rad(step) * meridian)
    np.testing.assert_allclose(scale_i, scale_j, rtol=1e-7)
    assert scale_i[0] == pytest.approx(1, rel=1e-9)
    assert np.allclose(to_plane(np.array(90.0), np.array(0.0)), 0, atol=1e-6)


def test_linear_fields_are_exact_on_triangles_that_have_moved(example: Path, tmp_path: Path) -> None:
    grid = curved_grid()
    x, y = plane_of(grid)

    def linear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 1.0 + 2e-7 * x - 3e-7 * y

    fields = uniform(grid, thickness=np.where(grid.tmask[0], linear(x, y), 99.0)[None])  # land is not looked at
    write_classic_start(tmp_path / "field_new.bin", fields, grid, like=example.with_name("field_old.dat"))
    mesh, old, new = (read_records(tmp_path / name) for name in ("mesh_new", "field_old", "field_new"))
    corners = mesh["Elements"].reshape(-1, 3) - 1
    moved = old["M_UM"].reshape(2, -1)
    centres = [(mesh[f"Nodes_{axis}"] + moved[k])[corners].mean(axis=1) for k, axis in enumerate("xy")]
    np.testing.assert_allclose(new["M_thick"], linear(*centres), rtol=1e-12)
    assert np.ptp(new["M_thick"]) > 0.02
    assert (tmp_path / "mesh_new.bin").read_bytes() == (tmp_path / "mesh_old.bin").read_bytes()


def test_drift_and_stress_are_turned_to_the_axes_of_the_plane(example: Path, tmp_path: Path) -> None:
    grid = curved_grid()
    write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example, stress=True)
    new = read_records(tmp_path / "field_new")
    drift = new["M_VT"].reshape(2, -1)
    fixed = new["M_dirichlet_flags"] - 1
    assert (drift[:, fixed] == 0).all()
    # the direction of the axes is a difference of neighbours, and a turning vector between cells is not quite linear
    np.testing.assert_allclose(np.delete(drift, fixed, axis=1).T, DRIFT + np.zeros((58, 2)), atol=2e-4)
    for k, expected in enumerate((STRESS[0, 0], STRESS[1, 1], STRESS[0, 1])):
        np.testing.assert_allclose(new[f"M_sigma_{k}"], expected, atol=6.0)


def test_what_depends_on_the_ice_follows_it_and_all_else_is_the_examples(example: Path, tmp_path: Path) -> None:
    grid = curved_grid()
    bare = np.where(plane_of(grid)[0] < plane_of(grid)[0][7, 9], 0.0, 0.6)[None]
    damage = np.full((1, NJ, NI), 1.0)
    fields = uniform(grid, concentration=bare, damage=damage, snow=damage)
    write_classic_start(tmp_path / "field_new", fields, grid, like=example, stress=True)
    old, new = read_records(example), read_records(tmp_path / "field_new")
    none = new["M_conc"] == 0
    assert 0 < none.sum() < len(none)
    for name in ("M_thick", "M_snow_thick", "M_sigma_0", "M_sigma_1", "M_sigma_2", "M_conc_myi"):
        assert (new[name][none] == 0).all(), name
    assert (new["M_conc_myi"] <= new["M_conc"]).all()
    for name in ("M_conc_young", "M_h_young", "M_hs_young"):
        assert (new[name] == 0).all(), name
    assert (new["M_damage"] == 1 - 1e-10).all()  # no more, says the model
    floats = (1025 - 917) / 330 * new["M_thick"][~none]
    assert np.allclose(new["M_snow_thick"][~none], floats, rtol=1e-12)
    for name in ("Misc_int", "M_dirichlet_flags", "Time", "M_sst", "M_UM", "M_UT"):
        assert np.array_equal(new[name], old[name]), name
    assert list(new) == list(old)


@pytest.mark.parametrize("learned", [True, False])
def test_there_is_no_stress_unless_it_is_asked_for(example: Path, tmp_path: Path, learned: bool) -> None:
    fields = {name: x for name, x in uniform(curved_grid()).items() if learned or not name.startswith("stress")}
    write_classic_start(tmp_path / "field_new", fields, curved_grid(), like=example)
    new = read_records(tmp_path / "field_new")
    assert (read_records(example)["M_sigma_0"] != 0).all() and (new["M_conc"] > 0).all()
    assert not any(new[f"M_sigma_{k}"].any() for k in range(3))
    if not learned:
        with pytest.raises(ValueError, match=r"stress of the state is asked for, but it has concentration, .* only"):
            write_classic_start(tmp_path / "field_new", fields, curved_grid(), like=example, stress=True)


def test_new_ice_has_the_temperatures_of_the_nearest_ice_of_the_example(example: Path, tmp_path: Path) -> None:
    grid, records = curved_grid(), read_records(example)
    mesh, size = read_records(tmp_path / "mesh_old"), len(records["M_conc"])
    corners = mesh["Elements"].reshape(-1, 3) - 1
    nodes = np.stack([mesh["Nodes_x"], mesh["Nodes_y"]]) + records["M_UM"].reshape(2, -1)
    centres = nodes[:, corners].mean(axis=-1).T
    open_water = centres[:, 0] < np.median(centres[:, 0])
    layers = {f"M_tice_{k}": np.where(open_water, -0.275, -3.0 - k - np.arange(size) / size) for k in range(3)}
    ice = {name: np.where(open_water, 0.0, records[name]) for name in ("M_conc", "M_thick", "M_snow_thick")}
    write_records(example, records | ice | layers)
    write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example)
    new = read_records(tmp_path / "field_new")
    distance = np.linalg.norm(centres[:, None] - centres[~open_water][None], axis=-1)
    nearest = np.flatnonzero(~open_water)[distance.argmin(axis=1)]
    assert (nearest[~open_water] == np.flatnonzero(~open_water)).all()
    for name, old in layers.items():
        assert np.array_equal(new[name], old[nearest]), name
    still_open = np.where(plane_of(grid)[0] < np.median(centres[:, 0]) - 2e4, 0.0, 0.6)[None]
    write_classic_start(tmp_path / "field_new", uniform(grid, concentration=still_open), grid, like=example)
    new = read_records(tmp_path / "field_new")
    bare = new["M_conc"] == 0
    assert bare.any() and (new["M_tice_1"][bare] == -0.275).all() and (new["M_tice_1"][~bare] <= -4).all()
    write_records(example, records | layers | {name: np.zeros(size) for name in ice})
    with pytest.raises(ValueError, match=r"field_old has no ice, expected some"):
        write_classic_start(tmp_path / "field_other", uniform(grid), grid, like=example)
    assert not list(tmp_path.glob("*other*"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.pop("snow"), "The state lacks snow"),
        (lambda f: f.pop("ice_v"), "The state has ice_u only, expected ice_u, ice_v or none"),
        (lambda f: f.pop("stress_xy"), "The state has stress_xx, stress_yy only"),
        (lambda f: f.update(concentration=np.full((1, NJ, NI), 1.4)), "concentration"),
        (lambda f: f.update(damage=np.full((1, NJ, NI), np.nan)), "damage"),
    ],
)
def test_impossible_states_are_refused(example: Path, tmp_path: Path, change: Callable, sentence: str) -> None:
    fields = uniform(curved_grid())
    change(fields)
    with pytest.raises(ValueError, match=sentence):
        write_classic_start(tmp_path / "field_new", fields, curved_grid(), like=example)
    assert not list(tmp_path.glob("*new*"))


def test_examples_that_do_not_fit_are_refused(example: Path, tmp_path: Path) -> None:
    grid = curved_grid()
    south = Grid(**{**vars(grid), "gphit": grid.gphit - 9})
    with pytest.raises(ValueError, match=r"of .* triangles of .*field_old lie farther than 3 cells from all sea"):
        write_classic_start(tmp_path / "field_new", uniform(grid), south, like=example)
    with pytest.raises(ValueError, match="expected to be named field_NAME"):
        write_classic_start(tmp_path / "new", uniform(grid), grid, like=example)
    with pytest.raises(ValueError, match="would replace its own example"):
        write_classic_start(example, uniform(grid), grid, like=example)
    records = read_records(example)
    write_records(example, records | {"M_UM": records["M_UM"][:-2]})
    with pytest.raises(ValueError, match="mesh_ and field_ are of two restarts"):
        write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example)
    write_records(example, {name: x for name, x in records.items() if name != "M_UM"})
    with pytest.raises(ValueError, match="has no M_UM in its field_ pair"):
        write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example)
    (tmp_path / "mesh_old.bin").unlink()
    with pytest.raises(FileNotFoundError, match="mesh_old"):
        write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example)
    assert not list(tmp_path.glob("*new*"))


def test_mesh_and_fields_are_replaced_together_or_not_at_all(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = curved_grid()
    first = write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example)
    before = {file: file.read_bytes() for file in first}
    mesh = read_records(tmp_path / "mesh_old")
    write_records(tmp_path / "mesh_old", mesh | {"Nodes_x": mesh["Nodes_x"] + 1.0e3})

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)  # the last of the four files
        with pytest.raises(OSError, match=r"No space left on device.*free space"):
            write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example)
    assert {file: file.read_bytes() for file in first} == before
    assert not list(tmp_path.glob(".*part"))
    assert write_classic_start(tmp_path / "field_new", uniform(grid), grid, like=example) == first
    assert (tmp_path / "mesh_new.bin").read_bytes() == (tmp_path / "mesh_old.bin").read_bytes() != before[first[0]]


def test_restarts_are_told_by_their_pair(example: Path, tmp_path: Path) -> None:
    assert all(is_classic(f"{example}{end}") for end in ("", ".bin", ".dat"))
    assert not is_classic(tmp_path / "mesh_old.bin") and not is_classic(tmp_path / "start.nc")


def test_moorings_of_a_run_give_its_own_restart(require, tmp_path: Path) -> None:
    """The last record, an hour's mean on 16 km, put on the triangles of the state that the run ended in."""
    grid = read_moorings_grid(require("nextsim/classic/Moorings.nc"))
    example = require("nextsim/classic/field_final.bin")
    states = read_states(require("nextsim/classic/Moorings.nc"), ICE, grid)
    write_classic_start(tmp_path / "field_new", {k: x[-1] for k, x in states.fields.items()}, grid, like=example)
    old, new = read_records(example.with_suffix("")), read_records(tmp_path / "field_new")
    with_young = {"M_conc": "M_conc_young", "M_thick": "M_h_young"}
    for name in ("M_conc", "M_thick", "M_damage", "M_snow_thick"):
        expected = old[name] + old.get(with_young.get(name, ""), 0)
        assert np.corrcoef(new[name], expected)[0, 1] > 0.8, name  # misplaced, transposed or mirrored: near 0
        assert abs(new[name].mean() - expected.mean()) < 0.1 * expected.std(), name
    assert np.corrcoef(new["M_VT"], old["M_VT"])[0, 1] > 0.98
    moving = np.setdiff1d(np.arange(len(old["M_VT"]) // 2), old["M_dirichlet_flags"] - 1)
    slope = (new["M_VT"][moving] * old["M_VT"][moving]).sum() / (old["M_VT"][moving] ** 2).sum()
    assert slope == pytest.approx(1, abs=0.05)
