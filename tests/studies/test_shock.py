"""The study of starts measures flows that are known."""

import sys
from pathlib import Path

import numpy as np
import pytest

from halocline.io.nemo import write_restart
from halocline.mesh.grid import Grid, box_grid

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import shock

NK, NJ, NI = 3, 4, 6


def box() -> Grid:
    return box_grid(NK, NJ, NI, thickness=np.full(NK, 100.0), e1=1e4, e2=2e4)


def restart(path: Path, grid: Grid, u: np.ndarray) -> Path:
    fields = {name: np.full(grid.shape, 10.0) for name in ("temperature", "salinity")}
    sea_level = np.zeros((1, NJ, NI))
    sea_level[0, 1, 2] = -0.5
    flow = {"velocity_u": u * grid.umask, "velocity_v": np.zeros(grid.shape)}
    return write_restart(path, {**fields, **flow, "sea_level": sea_level}, grid)[0]


def test_flow_through_one_face_of_one_level(tmp_path: Path):
    """It lowers the sea west of the face and raises it to the east, from its level up."""
    grid, u = box(), np.zeros((NK, NJ, NI))
    u[1, 1, 2] = 0.2
    found = shock.measured(restart(tmp_path / "restart.nc", grid, u), grid, "own", 0, 0)
    w = 0.2 * 100.0 / 1e4 * shock.DAY  # m/day, through the tops of two cells in each of two columns
    assert found.rise == pytest.approx(1e3 * w * np.sqrt(2 / (NJ * NI)))
    assert found.vertical == pytest.approx(w * np.sqrt(4 / (NK * NJ * NI)))
    assert found.energy == pytest.approx(1e4 * 0.5 * 0.2**2 / (NK * NJ * NI))
    assert found.level == 0.5


def test_shock_is_the_largest_ratio_after_the_start(tmp_path: Path, capsys):
    def row(choice: str, member: int, step: int, x: float):
        return shock.Snapshot(choice, member, step, x, x, x, x)

    own = [row("own", 0, step, 2.0) for step in (0, 1, 2)]
    others = [row("rest/rest", n, step, x) for n in (0, 1) for step, x in enumerate((90.0, 4.0 * 4**n, 2.0))]
    shock.show([*own, *others], tmp_path / "table.csv")
    assert "4.000" in capsys.readouterr().out  # of ratios 2 and 8
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 9
