"""The embedded host gives the same bits on every process grid and across a restart."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from basin_runs import SECONDS, Runner, built, installed_program, read

FIVE = ("tn", "sn", "un", "vn", "sshn")


def assert_same(first: Path, second: Path) -> None:
    """Asserts that two restarts hold the same bits."""
    one, two = read(first), read(second)
    assert one.keys() == two.keys()
    different = [name for name in one if one[name].tobytes() != two[name].tobytes()]
    assert not different


@pytest.mark.parametrize("cyclic", [False, True])
def test_bits_do_not_depend_on_the_process_grid(run: Runner, cyclic: bool) -> None:
    grid = {"ln_cyclic": cyclic}
    serial = run("serial", grid=grid)
    assert serial.code == 0, serial.err
    grids = [(1, 2)] if cyclic else [(4, 1), (2, 2), (1, 4)]
    for i, j in grids:
        settings = {"nn_ranks_i": i, "nn_ranks_j": j}
        parallel = run(f"{i}x{j}", ranks=i * j, grid=grid, run=settings)
        assert parallel.code == 0, parallel.err
        assert_same(serial.restart(24), parallel.restart(24))
        series = [r.folder / "t_diagnostics.csv" for r in (serial, parallel)]
        assert series[0].read_text() == series[1].read_text()


@pytest.mark.parametrize("middle", [13, 20])
def test_restart_in_the_middle_continues_bit_for_bit(run: Runner, middle: int) -> None:
    # Step 13 is neither the end of a month nor of an interval of diagnostics, 20 is both, and
    # there the restart is written while the run goes on.
    often = {"nn_diag_steps": 4, "nn_restart_months": 1}
    whole = run("whole", run={**often, "nn_steps": 24})
    first = run("first", run={**often, "nn_steps": 13}) if middle == 13 else whole
    rest = {**often, "nn_steps": 24 - middle, "cn_start": str(first.restart(middle))}
    second = run("second", run=rest, ranks=2)
    assert second.code == 0, second.err
    assert_same(whole.restart(24), second.restart(24))
    names = ["kt", "heat_content", "heat_gain", "salt_gain", "kinetic_energy"]
    for column in names:
        assert whole.diagnostics()[column][-1] == second.diagnostics()[column][-1]


def test_seed_changes_the_weather_only_with_noise(run: Runner) -> None:
    quiet = {"rn_noise_wind": 0.0, "rn_noise_heat": 0.0, "rn_noise_fresh": 0.0}

    def temperature(name: str, seed: int, forcing: dict[str, float]) -> np.ndarray:
        settings = {"nn_steps": 6}
        return read(run(name, run=settings, forcing={**forcing, "nn_seed": seed}).restart(6))["tn"]

    assert np.array_equal(temperature("q1", 1, quiet), temperature("q2", 2, quiet))
    assert not np.array_equal(temperature("n1", 1, {}), temperature("n2", 2, {}))


def write_five_fields(source: Path, target: Path, dtype: str = "f8") -> None:
    """Copies the five required fields, nothing else, as a generated state would be written."""
    with netCDF4.Dataset(source) as old, netCDF4.Dataset(target, "w") as new:
        for name, dimension in old.dimensions.items():
            if name in ("x", "y", "nav_lev"):
                new.createDimension(name, len(dimension))
        new.createDimension("time_counter", None)
        for name in FIVE:
            new.createVariable(name, dtype, old[name].dimensions)[:] = old[name][:]


def test_five_fields_are_a_start(run: Runner, tmp_path: Path) -> None:
    quiet = {"rn_noise_wind": 0.0, "rn_noise_heat": 0.0, "rn_noise_fresh": 0.0}
    first = run("first", forcing=quiet, run={"nn_steps": 10})
    write_five_fields(first.restart(10), tmp_path / "five.nc")
    exact = {"nn_steps": 5, "cn_start": str(first.restart(10))}
    five = {"nn_steps": 5, "cn_start": str(tmp_path / "five.nc"), "nn_kt": 10}
    one, two = run("one", forcing=quiet, run=exact), run("two", forcing=quiet, run=five)
    assert two.code == 0, two.err
    for name in FIVE:  # without noise the five fields and the step are the whole state
        assert np.array_equal(read(one.restart(15))[name], read(two.restart(15))[name])
    energy = [r.diagnostics()["kinetic_energy"][0] for r in (first, two)]
    assert energy[0] == 0.0 and energy[1] > 0.0  # velocities of the file count in the first row


def face_and_program() -> tuple[str, Path | None]:
    """Folder of the Python face, empty if it is installed, and the program of the same build."""
    if importlib.util.find_spec("halocline_basin") is not None:
        return "", installed_program()
    found = built("halocline_basin/_face*")
    if not found:
        return "", None
    folder = found[-1].parents[1]  # <build of the model>/python
    return str(folder), folder.parent / "basin.x"


def test_python_face_gives_the_bits_of_the_program(run: Runner, environment: dict[str, str]) -> None:
    path, host = face_and_program()
    if host is None:
        pytest.skip("halocline_basin is not built: f90wrap was not found")
    reference = run("program", host=host)
    script = (
        "import json, halocline_basin as b, numpy as np\n"
        "b.init('namelist')\n"
        "b.step(24)\n"
        "shape, kt = b.shape(), b.kt()\n"
        f"np.savez('face.npz', **{{n: b.get(n) for n in {FIVE!r}}})\n"
        "try:\n    b.get('nothing')\nexcept RuntimeError as error:\n    text = str(error)\n"
        "print(json.dumps([shape, kt, text]))\n"
        "b.finalize()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=reference.folder,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    shape, kt, text = json.loads(done.stdout)
    assert shape == [8, 23, 17] and kt == 24 and "tn, sn, un, vn or sshn" in text
    fields, restart = np.load(reference.folder / "face.npz"), read(reference.restart(24))
    for name in FIVE:
        assert np.array_equal(fields[name], restart[name]) and np.any(fields[name] != 0.0)
