import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from halocline.io.atomic import atomic_path, atomic_paths


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_no_file_of_a_set_is_moved_before_all_are_complete(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(OSError, match="Cannot write"), atomic_paths(paths) as temporaries:
        temporaries[0].write_text("complete")  # the second is never written
    assert os.listdir(tmp_path) == []


def test_full_disk_is_a_sentence_with_file_space_and_remedy(tmp_path):
    with (
        pytest.raises(OSError, match=r"write .*a.txt .No space left.* free in .*free space") as info,
        atomic_path(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert info.value.errno == errno.ENOSPC
    assert "4 bytes were written" in str(info.value)
    assert os.listdir(tmp_path) == []


def test_file_larger_than_the_disk_is_refused_before_writing(tmp_path):
    reached = False
    with (
        pytest.raises(OSError, match="0 bytes of 1000000000000000000 needed were written"),
        atomic_path(tmp_path / "a", needed=10**18),
    ):
        reached = True
    assert not reached


def test_missing_folder_is_named(tmp_path):
    sentence = r"folder .*nowhere does not exist"
    with pytest.raises(FileNotFoundError, match=sentence), atomic_path(tmp_path / "nowhere" / "a"):
        pass


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from halocline.io.nemo import write_restart, write_states
from halocline.io.store import save_grid
from halocline.mesh.grid import box_grid
from halocline.state.variables import VARIABLES

kind, folder = sys.argv[1], Path(sys.argv[2])
grid = box_grid(12, 41, 37)
rng = np.random.default_rng(0)
fields = {n: 20 + rng.random((12 if VARIABLES[n].is_3d else 1, 41, 37))
          for n in ("temperature", "salinity")}
fields |= {n: rng.random((12 if VARIABLES[n].is_3d else 1, 41, 37))
           for n in ("velocity_u", "velocity_v", "sea_level")}
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    if kind == "restart":
        write_restart(folder / "r.nc", fields, grid)
    elif kind == "states":
        write_states(folder / "s.nc", {n: x[None] for n, x in fields.items()}, grid, months=[3])
    else:
        save_grid(grid, folder / "g.nc")
except OSError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("kind", ["restart", "states", "grid"])
def test_writers_that_hit_a_file_size_limit_leave_nothing(kind, tmp_path):
    path = os.pathsep.join(part for part in sys.path if part)
    script = LIMITED.replace("30000", "500") if kind == "grid" else LIMITED  # a grid compresses well
    job = subprocess.run(
        [sys.executable, "-c", script, kind, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert job.returncode == 7, (job.returncode, job.stdout, job.stderr)
    assert job.stdout.startswith("Cannot write ") and "or choose another" in job.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_device_without_space_is_reported_by_the_system(tmp_path):
    with (
        pytest.raises(OSError, match="No space left"),
        atomic_path(tmp_path / "a"),
        open("/dev/full", "w") as full,
    ):
        full.write("x")
        full.flush()
