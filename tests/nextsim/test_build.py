"""halocline.cmake adds the module to a build that knows nothing of it, with the library that is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"


def test_the_installed_library_is_added_to_the_models_build(tmp_path):
    if not (Path(sys.prefix) / "lib/cmake/Halocline/HaloclineConfig.cmake").exists():
        pytest.skip(f"needs Halocline's library, installed in {sys.prefix}")
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    include = ROOT / "coupling/nextsim/halocline.cmake"
    settings = [f"-DCMAKE_PROJECT_nextsim_dg_INCLUDE={include}", f"-DCMAKE_PREFIX_PATH={sys.prefix}"]
    for command in (["-S", STANDIN, "-B", tmp_path, *settings], ["--build", tmp_path]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    settings = {"HALOCLINE_CONFIG": str(tmp_path / "missing.yaml"), "MODEL_TIME_STEP": "1800", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **settings}
    run = subprocess.run(
        [tmp_path / "nextsim"], env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert run.returncode == 82, run.stdout + run.stderr  # start: the configuration cannot be read
    assert "missing.yaml" in run.stderr
