"""What the coupled tests share: one generator, trained for a second, and jobs that end in time."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import f90nml
import netCDF4
import pytest
import yaml
from basin_jobs import GRID, MEMBER, MONTH, SEED, TRAINING, Case, Done, Job, command, halocline, run, start, write

RunJob = Callable[..., Done]
StartJob = Callable[[Job], "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def basin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program; skips where it is not installed, or was built without the bridge."""
    path = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])
    found = shutil.which("basin.x", path=path)
    if found is None or shutil.which("mpirun") is None:
        pytest.skip("basin.x or mpirun is not installed")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "namelist").write_text("&halocline\n cn_config = 'none.yaml'\n/\n")
    if "built without Halocline" in command(folder, Path(found), found, "namelist").output:
        pytest.skip(f"{found} was built without the bridge (HALOCLINE_BRIDGE=OFF)")
    return Path(found)


@pytest.fixture(scope="session")
def case(basin: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two years of the small ocean, a generator trained on them, and a state of it as a restart file."""
    folder = tmp_path_factory.mktemp("case")
    (folder / "spin").mkdir()
    spin = {"cn_name": "t", "cn_output": "spin", "nn_years": 2, "nn_states_months": 1}
    f90nml.write({"run": spin, "grid": GRID}, folder / "namelist")
    (folder / "training.yaml").write_text(yaml.safe_dump(TRAINING))
    steps = [
        command(folder, basin, basin, "namelist"),
        halocline(folder, basin, "train", "training.yaml"),
        halocline(
            folder, basin, "sample", "generator", f"seed={SEED}", f"members={MEMBER + 1}", f"months=[{MONTH}]",
            "output=states.nc",
        ),
        halocline(
            folder, basin, "restart", "generator", "states=states.nc", f"member={MEMBER}", "output=start.nc"
        ),
    ]  # fmt: skip
    assert all(step.status == 0 for step in steps), steps
    return Case(basin, folder / "generator", folder / "start.nc")


@pytest.fixture
def begin(case: Case, tmp_path: Path) -> StartJob:
    """Writes a job's files and starts it."""

    def go(job: Job) -> "subprocess.Popen[str]":
        write(tmp_path / job.name, case, job)
        return start(tmp_path / job.name, job.command, case.basin)

    return go


@pytest.fixture(name="run")
def run_fixture(case: Case, tmp_path: Path) -> RunJob:
    """Runs a job to its end: ``run(Job(...), limit=60)``."""

    def go(job: Job, limit: float = 60) -> Done:
        return run(tmp_path / job.name, case, job, limit)

    return go


@pytest.fixture(scope="session")
def alone(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The ocean without Halocline, started from the restart file: what all coupled runs are held against."""
    done = run(tmp_path_factory.mktemp("alone") / "run", case, Job("run", run={"cn_start": str(case.restart)}))
    assert done.status == 0, done.output
    return done


@pytest.fixture(scope="session")
def together(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The ocean with Halocline in its one process, started from memory; recorded."""
    done = run(tmp_path_factory.mktemp("together") / "run", case, Job("run", "in_process", bridge={"record": "record"}))
    assert done.status == 0, done.output
    return done


@pytest.fixture(scope="session")
def salty(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where to start with too much salt everywhere: nothing blows up, but no training state was like this."""
    path = tmp_path_factory.mktemp("salty") / "start.nc"
    shutil.copyfile(case.restart, path)
    with netCDF4.Dataset(path, "a") as file:
        salinity = file["sn"][:]
        file["sn"][:] = salinity + 0.05 * (salinity != 0)
    return {"cn_start": str(path)}
