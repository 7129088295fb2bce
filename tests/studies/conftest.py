"""The small script that stands for neXtSIM_DG, its configuration and its start file."""

import stat
import sys
from pathlib import Path

import pytest
from fake_model import CONFIG, MODEL
from start_file import NI, NJ, write_start_file

from halocline.run.ice_model import Case, start_of


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "model").write_text(MODEL.format(python=sys.executable, nj=NJ, ni=NI))
    (tmp_path / "model").chmod((tmp_path / "model").stat().st_mode | stat.S_IXUSR)
    (tmp_path / "case.cfg").write_text(CONFIG)
    (tmp_path / "atm.nc").touch()
    return Case(tmp_path / "model", tmp_path / "case.cfg", start_of(tmp_path / "case.cfg"), 4.0)


@pytest.fixture
def like(tmp_path: Path) -> Path:
    """A start file of the configuration."""
    usual = {"tsurf": -10.0, "sst": -1.7, "sss": 32.0, "cice": 0.8, "hice": 1.0, "hsnow": 0.1, "damage": 0.5}
    return write_start_file(tmp_path / "like.nc", **usual, u=0.1, v=0.0)
