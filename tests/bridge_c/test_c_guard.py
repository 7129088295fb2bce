"""What belongs to the model stays the model's: floating-point environment, signals, threads, MPI, symbols."""

import re
import sys
from pathlib import Path

import pytest
from bridge_tools import LAUNCHER, run


@pytest.mark.parametrize("verb", ["start", "observe"])
def test_floating_point_traps_do_not_fire_and_are_kept(run_host, verb: str) -> None:
    status, output = run_host("host", {"verb": verb, "do": "odd arithmetic"}, 3, "traps", "generate")
    assert status == 0, output


def test_a_pool_of_threads_started_inside_survives_traps(run_host) -> None:
    status, output = run_host("host", {"verb": "observe", "do": "odd pool"}, 3, "traps", limit=90)
    assert status == 0, output


def test_a_fortran_host_with_traps_gets_every_field_as_generated(run_host) -> None:
    """Halos of three widths, two precisions, one level, a section of an array; traps on and bounds checked."""
    settings = {"verb": "observe", "do": "odd arithmetic"}
    for ranks in (1, 4):
        status, output = run_host("host_fortran", settings, ranks=ranks)
        assert status == 0, output
        assert output.count("all fields as generated") == ranks


def test_an_exception_under_traps_leaves_them_as_they_were(run_host) -> None:
    status, output = run_host("host", {"verb": "observe", "do": "raise", "on_fault": 1}, 3, "traps")
    assert status == 0, output


@pytest.mark.parametrize("word", ["flush", "upward"])
def test_arithmetic_inside_does_not_depend_on_the_mode_of_the_model(run_host, word: str) -> None:
    """Models built with -Ofast or -ftz flush small numbers to zero."""
    status, output = run_host("host", {"verb": "observe", "do": "small numbers"}, 2, word, "generate")
    assert status == 0, output


@pytest.mark.parametrize("settings", [{}, {"verb": "start", "do": "odd pool"}])
def test_thread_level_signals_and_mpi_are_left_alone(run_host, settings: dict) -> None:
    """torch imports Python's `signal`, which takes SIGINT wherever it finds it free."""
    status, output = run_host("host", settings, 2, "generate")
    assert status == 0, output
    assert "rank 0: thread level kept, MPI alive, signals default" in output


def test_a_second_openmp_runtime_is_named(run_host) -> None:
    """Two of different make may crash, and nothing then says why. Here a copy plays the second one."""
    status, output = run_host("host", {"verb": "start", "do": "load openmp"}, 1)
    assert status == 0, output
    assert re.search(r"more than one OpenMP runtime: .*libiomp5\.so, .*libgomp", output), output


def test_a_host_written_in_python_can_use_the_c_interface(hosts: Path, tmp_path: Path) -> None:
    """As tests of a model's Python face do: the interpreter runs already, and stays as it is."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "host.py").write_text(PYTHON_HOST)
    library = Path(sys.prefix) / "lib" / "libhalocline.so"
    command = [sys.executable, "host.py", library, "config.json"]
    status, output = run(*command, limit=60, cwd=tmp_path, **LAUNCHER)
    assert status == 0, output
    assert "temperature=24.0" in output


PYTHON_HOST = """
import ctypes as C
import sys
import numpy as np
from mpi4py import MPI

class Verdict(C.Structure):
    _fields_ = [("level", C.c_int), ("action", C.c_int), ("step", C.c_int64), ("reason", C.c_char * 512)]

library = C.CDLL(sys.argv[1])
field, mask, stride = np.ones((2, 3, 4)), np.ones((2, 3, 4)), (C.c_int64 * 3)(1, 4, 12)
address = lambda array: C.c_void_p(array.ctypes.data)
verdict = Verdict()
calls = (
    lambda: library.halocline_init(MPI.COMM_WORLD.py2f(), sys.argv[2].encode()),
    lambda: library.halocline_grid(4, 3, 2, 0, 0, 4, 3, address(mask), stride),
    lambda: library.halocline_field(b"temperature", b"T", b"degC", 8, 2, address(field), stride),
    lambda: library.halocline_ready(b"noleap", C.c_double(3600), C.c_int64(0), 10101),
    lambda: library.halocline_observe(C.c_int64(1), C.byref(verdict)),
    lambda: library.halocline_finalize(None),
)
for call in calls:
    if (status := call()):
        library.halocline_abort(status)
print(verdict.reason.decode())
"""


def test_fields_are_the_memory_of_the_model(run_host) -> None:
    """What the model writes between two calls is what Python sums: 3 levels of 12 x 8 cells that hold the step."""
    status, output = run_host("host", {}, 3)
    assert status == 0, output
    assert all(f"step {step}: temperature={288 * step}.0 " in output for step in (1, 2, 3))


@pytest.mark.parametrize("word, sentence", [("thread", "another thread"), ("parallel", "OpenMP parallel region")])
def test_a_call_from_elsewhere_is_refused(run_host, word: str, sentence: str) -> None:
    status, output = run_host("host", {}, 2, word)
    assert status == 81, output
    assert sentence in output
    status, output = run_host("host", {}, 2, word, "deaf")
    assert status == 81, output
    assert "after a failure (usage): halocline_observe was called" in output


def test_the_library_works_with_local_symbols(run_host) -> None:
    """Extension modules such as numpy's look for libpython among the global symbols."""
    status, output = run_host("host_local", {}, Path(sys.prefix) / "lib" / "libhalocline.so")
    assert status == 0, output


ORDER = "The order is split (with emulator ranks only), init, grid, field for each field, ready, then"
REFUSALS = {
    "before-mpi": "halocline_init was called before MPI_Init",
    "unstarted": f"halocline_observe was called before halocline_init. {ORDER}",
    "twice": f"halocline_grid was called after halocline_grid. {ORDER}",
    "outside": "j from 1, 8 cells (from 0, without halo); it must lie in the global grid of 12 x 8 cells",
    "swapped": "i from 0, 8 cells, and j from 0, 12 cells (from 0, without halo)",
    "overlap": "Field temperature of 12 x 8 x 3 cells has the strides 1, 8, 96",
    "half": "Field temperature has numbers of 2 bytes, expected 4 or 8",
    "levels": "Field temperature has 2 levels, expected 1 or those of the grid, 3",
    "null": "Field temperature has the address (nil)",
    "long": "expected 1 to 63 characters",
    "changed": "Field ssh was registered at point T in 'm' with 1 levels of 4 bytes, and now at point T in 'cm'",
}


@pytest.mark.parametrize("word", REFUSALS)
def test_a_wrong_call_is_refused_with_a_sentence(run_host, word: str) -> None:
    status, output = run_host("host", {}, 1, word)
    assert status == 81, output
    assert REFUSALS[word] in output


@pytest.mark.parametrize(
    "word, sentence",
    [
        ("swapped", "Field temperature has 8 x 10 cells (i, j) without its halo of 0, expected 10 x 8"),
        ("halo", "Field temperature has 12 x 10 cells (i, j) without its halo of 1, expected 10 x 8"),
        ("mask", "The mask has 2 levels, expected those of the grid, 3"),
    ],
)
def test_wrong_extents_are_refused_axis_by_axis_in_fortran(run_host, word: str, sentence: str) -> None:
    status, output = run_host("host_fortran", {}, word)
    assert status == 81, output
    assert sentence in output
