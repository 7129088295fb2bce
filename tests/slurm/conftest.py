"""A Slurm for these tests alone, and the small coupled ocean to run in it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import f90nml
import pytest
import yaml
from private_slurm import PROCESSORS, PrivateSlurm, obstacle

sys.path.append(str(Path(__file__).parents[1] / "coupled"))  # the ocean of the coupled tests

from basin_jobs import GRID, MEMBER, MONTH, SEED, TRAINING, Case, command, halocline


@contextmanager
def started(binds: bool) -> Iterator[PrivateSlurm]:
    """A Slurm while the block runs; skips where there can be none."""
    if why := obstacle():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:  # short: for sockets
        made = PrivateSlurm(Path(folder), binds)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def slurm() -> Iterator[PrivateSlurm]:
    """One node with four processors, whatever the machine has, to which tasks are not bound."""
    with started(binds=False) as made:
        yield made


@pytest.fixture
def binding_slurm() -> Iterator[PrivateSlurm]:
    """One node with the processors of the machine, to which tasks are bound; skips where there are less than two."""
    if len(os.sched_getaffinity(0)) < max(2, PROCESSORS):
        pytest.skip("two processors are needed, and the use of all that the machine has")
    with started(binds=True) as made:
        yield made


@pytest.fixture(scope="session")
def case(slurm: PrivateSlurm, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two years of the small ocean, a generator trained on them, and a state of it as a restart file."""
    basin = Path(sys.prefix) / "bin/basin.x"
    if not basin.exists():
        pytest.skip("basin.x is not installed")
    folder = tmp_path_factory.mktemp("case")
    (folder / "spin").mkdir()
    spin = {"cn_name": "t", "cn_output": "spin", "nn_years": 2, "nn_states_months": 1}
    f90nml.write({"run": spin, "grid": GRID}, folder / "namelist")
    (folder / "training.yaml").write_text(yaml.safe_dump(TRAINING))
    draw = (f"seed={SEED}", f"members={MEMBER + 1}", f"months=[{MONTH}]", "output=states.nc")
    steps = [
        command(folder, basin, basin, "namelist"),
        halocline(folder, basin, "train", "training.yaml"),
        halocline(folder, basin, "sample", "generator", *draw),
        halocline(folder, basin, "restart", "generator", "states=states.nc", f"member={MEMBER}", "output=start.nc"),
    ]
    assert all(step.status == 0 for step in steps), steps
    return Case(basin, folder / "generator", folder / "start.nc")
