"""From files of neXtSIM_DG to a generator, and from it to a start file, to verdicts, and to a state in memory."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml

from halocline.io.models import read_grid, read_states
from halocline.io.nextsim_start import ice_for_model
from halocline.mesh.communicator import Serial
from halocline.mesh.rearrange import Rect
from halocline.physics.ice import ICE_JUDGED
from halocline.physics.verdict import Thresholds
from halocline.run.bridge_config import read_bridge_config
from halocline.run.contract import OK, REJECT, Declaration, FieldDeclaration
from halocline.run.emulator import Emulator
from halocline.run.restart import restart
from halocline.run.run_folder import load_generator
from halocline.run.sample import sample
from halocline.run.train import train
from halocline.state.variables import VARIABLES

ICE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
NJ, NI, WIDTH = 11, 13, 2.0e4
START = 14619 * 86400  # 2010-01-10
STATES = 6


def sea() -> np.ndarray:
    mask = np.ones((NJ, NI))
    mask[[0, -1]] = 0
    mask[4, 5:7] = 0
    return mask


def add_data(file: netCDF4.Dataset) -> netCDF4.Group:
    """Groups, dimensions and coordinates of every file of the model."""
    for name in ("structure", "metadata"):
        file.createGroup(name).type = "parametric_rectangular"
    data = file.createGroup("data")
    sizes = {"ydim": NJ, "xdim": NI, "yvertex": NJ + 1, "xvertex": NI + 1, "y_cg": NJ + 1, "x_cg": NI + 1}
    for name, size in {**sizes, "dg_comp": 3, "dgstress_comp": 3, "ncoords": 2}.items():
        data.createDimension(name, size)
    vertex = np.stack(np.meshgrid(WIDTH * np.arange(NI + 1), WIDTH * np.arange(NJ + 1)), axis=-1)
    data.createVariable("coords", "f8", ("yvertex", "xvertex", "ncoords"))[:] = vertex
    centre = vertex[:-1, :-1] + 0.5 * WIDTH
    for name, values in (("x", centre[..., 0]), ("y", centre[..., 1]), ("grid_azimuth", 0 * centre[..., 0])):
        data.createVariable(name, "f8", ("ydim", "xdim"))[:] = values
    return data


def write_case(folder: Path) -> None:
    """Writes init.nc and out.nc: six states that differ little."""
    with netCDF4.Dataset(folder / "init.nc", "w") as file:
        data = add_data(file)
        for name, value in (("mask", sea()), ("tsurf", -10.0 * sea()), ("sst", -1.75 * sea()), ("sss", 32.0 * sea())):
            data.createVariable(name, "f8", ("ydim", "xdim"))[:] = value
    rng = np.random.default_rng(0)
    means = {"cice": 0.8, "hice": 1.2, "hsnow": 0.1, "damage": 0.5, "u": 0.02, "v": -0.03}
    with netCDF4.Dataset(folder / "out.nc", "w") as file:
        data = add_data(file)
        data.createDimension("time", STATES)
        data.createVariable("time", "f8", ("time",))[:] = START + 3600.0 * np.arange(STATES)
        for name, mean in means.items():
            x = mean * (1 + 0.05 * rng.standard_normal((STATES, NJ, NI)))
            data.createVariable(name, "f8", ("time", "ydim", "xdim"))[:] = x


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, and beside it states.nc with two members."""
    folder = tmp_path_factory.mktemp("ice")
    write_case(folder)
    config = {
        "data": {"grid": "init.nc", "states": "out.nc", "variables": list(ICE)},
        "lattice": {"tile": [8, 8], "halo": 2},
        "network": {"width": 8, "multipliers": [1], "blocks": 1, "embedding": 8, "cell_features": 0},
        "training": {"steps": 4, "batch": 4, "warm_up": 1, "precision": "fp32"},
        "sampling": {"steps": 2, "tile_batch": 4},
        "output": "run",
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    train(folder / "train.yaml", [], Serial())
    sample(folder / "run", ["members=2", "seed=3", "months=[1]", f"output={folder / 'states.nc'}"], Serial())
    return folder / "run"


def start_file(run: Path, path: Path, *words: str) -> dict[str, np.ndarray]:
    states = run.parent / "states.nc"
    restart(run, [f"states={states}", "member=1", f"output={path}", *words], Serial())
    with netCDF4.Dataset(path) as file:
        file["data"].set_auto_mask(False)
        return {name: variable[:] for name, variable in file["data"].variables.items()}


def emulator(run: Path, folder: Path, velocity: str = "generated") -> Emulator:
    wanted = {"seed": 3, "member": 1, "month": 1, "velocity": velocity}
    settings = {"run": str(run), "output": str(folder / "out"), "generate": wanted}
    (folder / "halocline.yaml").write_text(yaml.safe_dump(settings))
    made = Emulator.build(read_bridge_config(folder / "halocline.yaml"), Serial())
    rows = [VARIABLES[name] for name in ICE]
    fields = tuple(FieldDeclaration(row.name, row.point, row.unit, 1, 8) for row in rows)
    made.check(Declaration(NI, NJ, 1, fields, "standard", 1800.0, 701712, 20100110, (Rect(0, NJ, 0, NI),)))
    return made


def test_a_generator_of_ice_learns_thresholds_of_ice(trained):
    thresholds = Thresholds.from_json(load_generator(trained).thresholds)
    assert set(thresholds.limits) == set(ICE_JUDGED)
    limit = thresholds.limits["ice_thickness_mean"]
    middle = 0.5 * (limit.low + limit.high)
    assert middle == pytest.approx(1.2 / 0.8, rel=0.02)


@pytest.mark.parametrize("velocity", ["generated", "rest"])
def test_a_state_in_memory_is_that_of_the_start_file(trained, tmp_path, velocity):
    content = start_file(trained, tmp_path / "start.nc", f"like={trained.parent / 'init.nc'}", f"velocity={velocity}")
    made = emulator(trained, tmp_path, velocity)
    tiles, _ = made.generate(20100110)
    fields = {name: made.layout.collect(x) for name, x in tiles.items()}
    for name, x in ice_for_model(fields, made.grid).items():
        np.testing.assert_array_equal(content[name], x)
    made.finalize()


def test_ice_at_rest_and_wrong_wishes(trained, tmp_path):
    like = f"like={trained.parent / 'init.nc'}"
    content = start_file(trained, tmp_path / "start.nc", like, "velocity=rest")
    assert (content["u"] == 0).all() and (content["v"] == 0).all() and content["hice"].any()
    with pytest.raises(ValueError, match="like is missing"):
        start_file(trained, tmp_path / "start.nc")
    with pytest.raises(ValueError, match="velocity is 'geostrophic'"):
        start_file(trained, tmp_path / "start.nc", like, "velocity=geostrophic")


def test_the_models_own_states_are_ok_and_a_grown_cell_is_not(trained, tmp_path):
    made = emulator(trained, tmp_path)
    states = read_states(trained.parent / "out.nc", ICE, read_grid(trained.parent / "init.nc"))
    tiles = {name: made.layout.cut(x[2]) for name, x in states.fields.items()}
    assert made.observe(701713, 0.0, tiles).level == OK
    tiles["thickness"][0, 0, 3, 3] = 4.0e6  # seen after a restart with open water
    judgement = made.observe(701714, 0.0, tiles)
    assert judgement.level == REJECT and "ice_thickness_max = 4e+06" in judgement.reason
    made.finalize()
