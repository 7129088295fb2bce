"""A forecast as a batch job: what one process writes, two tasks write to the bit."""

import sys
from pathlib import Path

import numpy as np
import xarray
from private_slurm import PrivateSlurm

sys.path.append(str(Path(__file__).parents[1] / "run"))

from case import alone, command
from ice_case import TIMES, write_case

SCRIPT = Path(__file__).parents[2] / "jobs/slurm/forecast.sbatch"


def test_forecast_does_not_depend_on_the_number_of_tasks(slurm: PrivateSlurm, tmp_path: Path) -> None:
    config = write_case(tmp_path, training={"steps": 5})
    assert alone(*command("train", config)).status == 0  # apart: MPI and the engine leave variables in the environment
    files = tmp_path / "trajectories.nc"
    words = (tmp_path / "run", f"start={files}", f"state={2 * TIMES}", f"forcing={files}", "forcing_trajectory=2")
    words += ("lead=6", "steps=2", "members=2", "ranks_per_member=2")
    assert alone(*command("forecast", *words[:-1], f"output={tmp_path / 'one.zarr'}")).status == 0
    job = slurm.run("--ntasks=2", SCRIPT, *words, "output=two.zarr", cwd=tmp_path)
    assert job.status == 0, job.output
    with xarray.open_zarr(tmp_path / "one.zarr") as one, xarray.open_zarr(tmp_path / "two.zarr") as two:
        assert one.complete.values.tolist() == two.complete.values.tolist() == [2, 2]
        assert np.array_equal(one.thickness.values, two.thickness.values, equal_nan=True)
