"""Hosts other than basin.x: one built with floating-point traps, one that breaks its own memory, Python."""

import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from basin_jobs import STEPS, Case, Done, Job, assert_same_bits, command, write

SOURCES = Path(__file__).resolve().parents[2] / "coupling/basin"
STATE = ("tn", "sn", "un", "vn", "sshn")
STOPPED = """
basin.init('namelist')
try:
    basin.step(9)
except RuntimeError as stop:
    print(f'at step {basin.kt()}: {stop}')
basin.finalize()
"""


def build(folder: Path, case: Case, *targets: str, **options: str) -> Path:
    """Builds the ocean by itself, not as a part of the package."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    options = {"CMAKE_BUILD_TYPE": "None", "CMAKE_PREFIX_PATH": sys.prefix, "BASIN_PYTHON": "OFF", **options}
    words = [f"-D{name}={value}" for name, value in options.items()]
    set_up = command(folder, case.basin, "cmake", "-S", SOURCES, "-B", folder, *words)
    built = command(folder, case.basin, "cmake", "--build", folder, "--target", *targets, limit=240)
    assert built.status == 0, set_up.output + built.output
    return folder


@pytest.fixture(scope="module")
def trapping(case, tmp_path_factory) -> Path:
    """The ocean against the installed bridge, built to die of invalid numbers, division by zero and overflow."""
    flags = "-O1 -ffpe-trap=invalid,zero,overflow"
    return build(tmp_path_factory.mktemp("trapping"), case, "basin.x", "basin_host_nan", CMAKE_Fortran_FLAGS=flags)


def test_ocean_built_without_halocline_refuses_to_be_coupled(case, run, tmp_path):
    host = build(tmp_path, case, "basin.x", HALOCLINE_BRIDGE="OFF", BUILD_TESTING="OFF") / "basin.x"
    assert run(Job("alone", host=(host,))).status == 0
    done = run(Job("coupled", "in_process", (2, 1), host=(host,)))
    assert done.status == 1, done.output
    assert "cn_config names bridge.yaml, but this basin was built without Halocline" in done.output


def test_nothing_fires_under_floating_point_traps(trapping, run, alone, together):
    done = run(Job("traps", "in_process", host=(trapping / "basin.x",)))
    assert done.status == 0, done.output
    assert done.log() == together.log()
    beside = run(Job("beside", "mpmd", (2, 1), emulators=2, host=(trapping / "basin.x",)))
    assert beside.status == 0, beside.output
    assert_same_bits(beside.restart(), done.restart())


@pytest.mark.parametrize(
    "job", [Job("inside", "in_process", (2, 2)), Job("beside", "mpmd", (1, 2), emulators=1)], ids=lambda job: job.name
)
def test_nan_in_one_cell_stops_the_run_and_is_named(job, trapping, run):
    host = (trapping / "tests/basin_host_nan", STEPS, 4)
    done = run(Job(job.name, job.mode, job.ranks, job.emulators, host=host))
    assert done.status == 3, done.output
    assert "Halocline asks to stop, for the state of step 4: salinity = nan at level 0, j=" in done.output
    assert done.verdicts() == {**dict.fromkeys(range(4), "ok"), 4: "reject"}
    assert (done.folder / "t_00000004_restart.nc").exists()


def test_nan_in_one_cell_is_gone_on_with_if_the_policy_says_so(trapping, run):
    healthy = run(Job("healthy", "in_process", host=(trapping / "tests/basin_host_nan", STEPS, 0)))
    bridge = {"observe": {"on_reject": "continue", "lag": 1}}
    host = (trapping / "tests/basin_host_nan", STEPS, 4)
    done = run(Job("broken", "mpmd", (1, 2), emulators=1, host=host, bridge=bridge))
    assert healthy.status == done.status == 0, done.output
    assert [step for step, level in done.verdicts().items() if level == "reject"] == [4]
    assert_same_bits(done.restart(), healthy.restart())


@pytest.fixture
def run_python(case, tmp_path) -> Callable[..., Done]:
    """Drives the ocean from Python: ``run_python(Job(...), code)``."""
    if not (Path(sysconfig.get_path("platlib")) / "halocline_basin").is_dir():
        pytest.skip("halocline_basin is not installed")

    def go(job: Job, code: str) -> Done:
        write(tmp_path / job.name, case, job)
        return command(
            tmp_path / job.name, case.basin, sys.executable, "-c", f"import halocline_basin as basin\n{code}"
        )

    return go


def test_ocean_driven_from_python_is_coupled_in_the_interpreter_that_is_there(run_python, alone, together):
    done = run_python(
        Job("run", "in_process"), f"basin.init('namelist'); basin.step({STEPS}); basin.save(); basin.finalize()"
    )
    assert done.status == 0, done.output
    assert done.log() == together.log()
    found, expected = done.restart(), alone.restart()
    assert_same_bits({name: found[name] for name in STATE}, {name: expected[name] for name in STATE})


def test_python_hears_of_a_stop_as_an_exception(run_python, salty):
    done = run_python(Job("run", "in_process", generate=False, run=salty), STOPPED)
    assert done.status == 0, done.output
    assert "at step 1: Halocline asks to stop, for the state of step 1: salinity_volume_mean" in done.output
