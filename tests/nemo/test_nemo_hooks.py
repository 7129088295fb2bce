"""What the hooks do in a model that has NEMO's names, decomposition, halos, time levels and way to end."""

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from nemo_tools import HOOKS, Configuration, Experiment, run

NI, NJ, NK = 7, 5, 3
SEED = {"temperature": 1e4, "salinity": 2e4, "velocity_u": 3e4, "velocity_v": 4e4, "sea_level": 5e4}
START = "ln_generate = .true."
APART = """
import ctypes, sys
from mpi4py import MPI
library, part = ctypes.CDLL(sys.argv[1]), ctypes.c_int()
assert library.halocline_split(MPI.COMM_WORLD.py2f(), b"other", ctypes.byref(part)) == 0
"""


def generated(name: str) -> np.ndarray:
    """What the bridge generates: numbers that name their cell, 0 on land."""
    k, j, i = np.indices((1 if name == "sea_level" else NK, NJ, NI))
    sea = (i > 0) & (i < NI - 1) & (j > 0) & (j < NJ - 1) & (k < NK - 1)
    return np.where(sea, SEED[name] + 1000 * k + 100 * j + i, 0)


@pytest.fixture(scope="session")
def from_my_src(standin: Configuration) -> Path:
    """The stand-in built anew with the hooks in MY_SRC, as makenemo would: MY_SRC goes over WORK."""
    status, output = run(HOOKS / "fill_my_src", standin.folder, cwd=standin.folder)
    assert status == 0, output
    for file in (standin.folder / "MY_SRC").iterdir():
        link = standin.folder / "WORK" / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    order = (
        "par_oce in_out_manager dom_oce sbc_oce oce halocline_nemo_start nemo_lib_mpp lib_mpp lbclnk halocline_nemo "
        "nemo_restart restart nemo_usrdef_istate usrdef_istate nemo_stpctl stpctl nemogcm nemo"
    )
    other = Configuration(standin.folder.parent / "my_src")
    for name in ("obj", "inc", "bin", "ppsrc"):
        (other.build / name).mkdir(parents=True)
    (other.folder / "WORK").symlink_to(standin.folder / "WORK")
    for name in order.split():
        other.compile(standin.folder / "WORK" / f"{name}.F90", name, f"-I{sys.prefix}/include/halocline")
    executable = other.build / "bin" / "nemo.exe"
    objects = sorted((other.build / "obj").glob("*.o"))
    libraries = [f"-L{sys.prefix}/lib", f"-Wl,-rpath,{sys.prefix}/lib", "-lhalocline_fortran", "-lhalocline"]
    status, output = run("mpifort", "-o", executable, *objects, *libraries, cwd=other.folder)
    assert status == 0, output
    return executable


@pytest.fixture(params=["wrapped", "from_my_src"])
def executable(request: pytest.FixtureRequest) -> Path:
    """The stand-in with the hooks, in both ways."""
    return request.getfixturevalue(request.param)


def test_without_namelist_nothing_is_called(executable: Path, experiment: Experiment) -> None:
    status, output = experiment.start(executable, None, fail="ready")
    assert status == 0, output
    assert "restart at step 6" in output
    assert not list(experiment.folder.glob("heard_*"))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_inner_points_are_declared_at_global_offsets(wrapped: Path, experiment: Experiment, ranks: int) -> None:
    status, output = experiment.start(wrapped, "", ranks)
    assert status == 0, output
    told = [experiment.heard(rank) for rank in range(ranks)]
    starts = [rank * NI // ranks for rank in range(ranks + 1)]
    assert [one["corner"] for one in told] == [[i, 0] for i in starts[:-1]]
    assert [one["cells"] for one in told] == [[b - a, NJ] for a, b in pairwise(starts)]
    assert sum(one["sea"] for one in told) == (NI - 2) * (NJ - 2) * (NK - 1)
    assert told[0]["fields"] == {
        "temperature": ["T", "degC", NK], "salinity": ["T", "1e-3", NK], "velocity_u": ["U", "m/s", NK],
        "velocity_v": ["V", "m/s", NK], "sea_level": ["T", "m", 1],
    }  # fmt: skip
    assert {key: told[-1][key] for key in ("globe", "calendar", "time_step", "step", "date")} == {
        "globe": [NI, NJ, NK], "calendar": "360_day", "time_step": 14400, "step": 0, "date": 610101,
    }  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2])
def test_start_and_trajectory_are_those_of_the_new_time_level(
    executable: Path, experiment: Experiment, ranks: int
) -> None:
    status, output = experiment.start(executable, START, ranks)
    assert status == 0, output
    assert experiment.observed == [1, 2, 3, 4, 5, 6]
    for name in SEED:
        for step in experiment.observed:  # the stand-in adds 1 per step, on land, too
            np.testing.assert_array_equal(experiment.seen(name, step), generated(name) + step)


def test_fields_that_the_namelist_leaves_out_start_as_in_nemo(executable: Path, experiment: Experiment) -> None:
    status, output = experiment.start(executable, f"{START} cn_fields = 'salinity', 'temperature'")
    assert status == 0, output
    assert list(experiment.heard()["fields"]) == ["temperature", "salinity"]
    assert re.search(r"step 1 +1\.0 +0\.0\n", output), output  # the corner: land, 0 + 1; NEMO's own sea level, -1 + 1


def test_a_restart_file_comes_before_a_generated_state(executable: Path, experiment: Experiment) -> None:
    status, output = experiment.start(executable, START, run_control="ln_rstart = .true.")
    assert status == 0 and "W A R N I N G hal_istate_ssh" in output, output
    np.testing.assert_array_equal(experiment.seen("temperature", 1), 0)  # NEMO's -1, plus 1


@pytest.mark.parametrize("run_control", ["", "ln_rstart = .true."])
def test_only_generating_parts_before_the_first_step(
    executable: Path, experiment: Experiment, run_control: str
) -> None:
    status, output = experiment.start(executable, f"{START} ln_observe = .false.", run_control=run_control)
    assert status == 0 and experiment.observed == [], output
    assert ("step" in experiment.heard()) == (run_control == "")


def test_nothing_to_do_starts_nothing(wrapped: Path, experiment: Experiment) -> None:
    status, output = experiment.start(wrapped, "ln_observe = .false.")
    assert status == 0 and not list(experiment.folder.glob("heard_*")), output


@pytest.mark.parametrize(
    ("run_control", "at", "last"),
    [
        ("", 2, 4),  # the ordinary case: opened at 3, written at 4
        ("nitrst = 3", 2, 3),  # the restart of step 3 is open already
        ("", 5, 6),  # the end comes first
        ("nitend = 20, nitrst = 20, nn_fsbc = 3", 4, 12),  # ice restarts are opened 2 nn_fsbc - 1 ahead, at multiples
    ],
)
def test_a_request_to_stop_ends_with_a_restart(
    executable: Path, experiment: Experiment, run_control: str, at: int, last: int
) -> None:
    status, output = experiment.start(executable, "", 2, run_control, reject=[at, 1])
    assert status == 123, output
    assert f"restart at step {last}" in output and f"step {last + 1} " not in output
    assert "E R R O R" in output and f"a sentence on step {at}" in output
    assert experiment.observed == list(range(1, at + 1))


def test_a_rejected_state_that_may_go_on_changes_nothing(wrapped: Path, experiment: Experiment) -> None:
    for action in (0, 2):
        status, output = experiment.start(wrapped, "", reject=[2, action])
        assert status == 0 and "reject at time step 2: a sentence on step 2" in output, output
        assert experiment.observed == [1, 2, 3, 4, 5, 6]


def test_a_generated_state_that_is_refused_runs_no_step(executable: Path, experiment: Experiment) -> None:
    status, output = experiment.start(executable, START, 2, generated=[2, 1])
    assert status == 123 and "step 1" not in output and "a sentence on the generated state" in output, output


def test_falling_back_starts_from_the_own_state_of_nemo(executable: Path, experiment: Experiment) -> None:
    status, output = experiment.start(executable, START, generated=[2, 2])
    assert status == 0, output
    np.testing.assert_array_equal(experiment.seen("salinity", 1), 0)
    np.testing.assert_array_equal(experiment.seen("sea_level", 1), 0)


def test_a_state_that_nemo_does_not_take_is_an_error(wrapped: Path, experiment: Experiment) -> None:
    status, output = experiment.start(wrapped, START, run_control="ln_tsd_init = .true.")
    assert status == 123 and "set ln_tsd_init" in output, output


@pytest.mark.parametrize("verb", ["ready", "observe"])
def test_a_failure_ends_the_job_with_its_status(executable: Path, experiment: Experiment, verb: str) -> None:
    status, output = experiment.start(executable, "", 2, fail=verb)
    assert status == 83, output
    assert "E R R O R Halocline failed (exception)" in output and f"provoked in {verb}" in output


def test_nemo_that_ends_before_its_first_step_ends_the_job(executable: Path, experiment: Experiment) -> None:
    status, output = experiment.start(executable, "", 2, run_control="nstop = 1")
    assert status not in (0, 124) and "step 1" not in output, output


@pytest.mark.parametrize(
    ("hooks", "sentence"),
    [("cn_fields = 'temprature'", "cn_fields has 'temprature', expected temperature"), ("ln_foo = .true.", "ln_foo")],
)
def test_a_wrong_namelist_ends_the_job(wrapped: Path, experiment: Experiment, hooks: str, sentence: str) -> None:
    status, output = experiment.start(wrapped, hooks, 2)
    assert status == 81 and sentence in output, output


def test_a_calendar_unknown_to_the_emulator_is_told_as_it_is(wrapped: Path, experiment: Experiment) -> None:
    experiment.start(wrapped, "", run_control="nleapy = 20")
    assert experiment.heard()["calendar"] == "nn_leapy = 20"


def test_programs_beside_nemo_are_left_out_of_its_communicator(executable: Path, experiment: Experiment) -> None:
    apart = (sys.executable, "-c", APART, f"{sys.prefix}/lib/libhalocline.so")
    status, output = experiment.start(executable, "", 2, beside=apart)
    assert status == 0 and "NEMO stands in on 2 ranks" in output, output
    assert experiment.heard()["size"] == 2


def test_my_src_keeps_the_own_module_of_the_configuration(standin: Configuration, tmp_path: Path) -> None:
    for name in ("WORK", "MY_SRC"):
        (tmp_path / name).mkdir()
    for module in ("lib_mpp", "restart", "stpctl"):
        (tmp_path / "WORK" / f"{module}.F90").symlink_to(standin.folder / "WORK" / f"{module}.F90")
    own = tmp_path / "MY_SRC" / "usrdef_istate.F90"
    own.write_text("! of the configuration\n")
    (tmp_path / "WORK" / "usrdef_istate.F90").symlink_to(own)
    for _ in range(2):  # the second time nothing is lost
        assert run(HOOKS / "fill_my_src", tmp_path, cwd=tmp_path)[0] == 0
        assert (tmp_path / "MY_SRC" / "nemo_usrdef_istate.h90").read_text() == "! of the configuration\n"
        assert "hal_istate" in own.read_text()


def test_linking_says_what_is_missing(standin: Configuration, tmp_path: Path) -> None:
    status, output = run(HOOKS / "link_nemo", tmp_path, cwd=tmp_path)
    assert status == 1 and "build it with makenemo first" in output
    status, output = run(HOOKS / "link_nemo", standin.folder, cwd=tmp_path, HALOCLINE_PREFIX=str(tmp_path))
    assert status == 1 and "has no libhalocline.so" in output
    status, output = run(HOOKS / "link_nemo", "--flags", standin.folder, cwd=tmp_path)
    assert status == 0 and "-Wl,--wrap=__stpctl_MOD_stp_ctl" in output and "-lhalocline" in output, output


def test_settings_of_the_example_are_known(wrapped: Path, experiment: Experiment) -> None:
    text = (HOOKS / "namelist_halocline").read_text().replace("halocline.yaml", "halocline.json")
    (experiment.folder / "namelist_halocline").write_text(text)
    status, output = experiment.start(wrapped, None)
    assert status == 0 and json.loads((experiment.folder / "heard_0000.json").read_text())["sea"] > 0, output
