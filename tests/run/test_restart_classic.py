"""From Moorings with stress to a generator, and from what it makes to a restart of classic neXtSIM."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from scipy.spatial import Delaunay

from halocline.io.models import read_states
from halocline.io.nextsim_classic import read_records, write_records
from halocline.io.nextsim_moorings import read_moorings_grid
from halocline.io.nextsim_triangles import to_plane
from halocline.mesh.communicator import Serial
from halocline.run.restart import restart
from halocline.run.sample import sample
from halocline.run.train import train

NJ, NI, STATES = 11, 13, 6
LONGITUDE, LATITUDE = np.meshgrid(np.linspace(-60, -30, NI), np.linspace(80, 84, NJ))
MEANS = {  # and units
    "sic": (0.8, "1"), "sit": (1.2, "m"), "snt": (0.1, "m"), "damage": (0.5, "1"), "siu": (0.02, "m s-1"),
    "siv": (-0.03, "m s-1"), "sigma_11": (-4.0e3, "Pa"), "sigma_22": (-1.0e3, "Pa"), "sigma_12": (5.0e2, "Pa"),
}  # fmt: skip
STATE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v", "stress_xx", "stress_yy", "stress_xy")


def write_moorings(path: Path) -> None:
    rng = np.random.default_rng(0)
    with netCDF4.Dataset(path, "w") as file:
        for axis, size in (("time", None), ("y", NJ), ("x", NI)):
            file.createDimension(axis, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 1900-01-01 00:00:00"
        time[:] = 42290.125 + 0.25 * np.arange(STATES)
        for name, x in (("latitude", LATITUDE), ("longitude", LONGITUDE)):
            file.createVariable(name, "f8", ("y", "x"))[:] = x
        for name, (mean, unit) in MEANS.items():
            x = file.createVariable(name, "f4", ("time", "y", "x"), fill_value=-1e14)
            x.units = unit
            if name == "damage":
                x.standard_name = "sea_ice_damage"
            x[:] = mean * (1 + 0.05 * rng.standard_normal((STATES, NJ, NI)))


def write_example(stem: Path) -> None:
    rng = np.random.default_rng(1)
    middle = to_plane(LATITUDE[5, 6], LONGITUDE[5, 6])
    nodes = middle[:, None] + rng.uniform(-6.0e4, 6.0e4, (2, 30))
    elements = Delaunay(nodes.T).simplices
    write_records(stem.with_name("mesh_old"), {
        "Elements": (elements + 1).ravel().astype(np.int32), "Nodes_x": nodes[0], "Nodes_y": nodes[1],
    })  # fmt: skip
    names = ("M_conc", "M_thick", "M_damage", "M_snow_thick", "M_sigma_0", "M_sigma_1", "M_sigma_2")
    write_records(stem, {
        "M_dirichlet_flags": np.array([1], np.int32), **{name: np.full(len(elements), 0.5) for name in names},
        "M_VT": np.ones(60), "M_UM": np.zeros(60),
    })  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; beside it states.nc with two members, and the example field_old."""
    folder = tmp_path_factory.mktemp("classic")
    write_moorings(folder / "Moorings.nc")
    write_example(folder / "field_old")
    config = {
        "data": {"grid": "Moorings.nc", "states": "Moorings.nc", "variables": list(STATE)},
        "lattice": {"tile": [8, 8], "halo": 2},
        "network": {"width": 8, "multipliers": [1], "blocks": 1, "embedding": 8, "cell_features": 0},
        "training": {"steps": 4, "batch": 4, "warm_up": 1, "precision": "fp32", "symmetries": "all"},
        "sampling": {"steps": 2, "tile_batch": 4},
        "output": "run",
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    train(folder / "train.yaml", [], Serial())
    sample(folder / "run", ["members=2", "months=[10]", f"output={folder / 'states.nc'}"], Serial())
    return folder / "run"


def written(run: Path, path: Path, *words: str) -> dict[str, np.ndarray]:
    states, like = run.parent / "states.nc", run.parent / "field_old"
    restart(run, [f"states={states}", "member=1", f"output={path}", f"like={like}", *words], Serial())
    return read_records(path)


def test_a_generator_that_learned_stress_starts_the_model_with_it(trained: Path, tmp_path: Path, capsys) -> None:
    new = written(trained, tmp_path / "field_start", "stress=generated")
    told = capsys.readouterr().out
    assert all(f"{kind}_start{end}" in told for kind in ("field", "mesh") for end in (".bin", ".dat"))
    grid = read_moorings_grid(trained.parent / "Moorings.nc")
    states = read_states(trained.parent / "states.nc", STATE, grid)
    for name, record, size in (("stress_yy", "M_sigma_1", 1e3), ("thickness", "M_thick", 1.2)):
        x = states.fields[name][1]
        assert x.min() - 0.05 * size <= new[record].min() <= new[record].max() <= x.max() + 0.05 * size
        assert np.ptp(new[record]) > 0 and not (new[record] == 0.5).any()  # nothing is the example's
    assert (new["M_VT"][[0, 30]] == 0).all() and (new["M_VT"][1:30] != 1).all()


def test_stress_is_left_out_unless_it_is_asked_for(trained: Path, tmp_path: Path) -> None:
    new = written(trained, tmp_path / "field_start")
    assert not any(new[f"M_sigma_{k}"].any() for k in range(3))
    with pytest.raises(ValueError, match="stress is 'none', expected"):
        written(trained, tmp_path / "field_start", "stress=none")


def test_ice_may_start_at_rest(trained: Path, tmp_path: Path) -> None:
    assert (written(trained, tmp_path / "field_rest", "velocity=rest")["M_VT"] == 0).all()
