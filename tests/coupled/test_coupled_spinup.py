"""A campaign with the embedded host: generated starts and rest, for winds that change the ocean."""

import json
from pathlib import Path

import f90nml
import pytest
import yaml
from basin_jobs import GRID, Case, halocline, read

from halocline.run.campaign_config import LEARNED

TEMPLATE = Path(__file__).parents[2] / "jobs/configs/campaign.yaml"
WINDS = (0.1, 0.14)


@pytest.fixture
def campaign(case: Case, tmp_path: Path) -> Path:
    """The campaign of jobs/configs, made small; its limits are what the training run itself shows in a year."""
    values = yaml.safe_load(TEMPLATE.read_text())
    f90nml.patch(TEMPLATE.parent / "basin.namelist", {"grid": GRID}, tmp_path / "basin.namelist")
    small = {
        "output": "campaign", "generator": str(case.generator), "methods": ["generated", "rest", "mean"], "members": 1,
        "parameters": [{"rn_wind": wind} for wind in WINDS], "block_years": 1, "drift_years": 0, "max_years": 2,
        "max_attempts": 1, "equilibrium": [str(case.generator.parent / "spin/states.nc")],
    }  # fmt: skip
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump({**values, **small}))
    return tmp_path / "campaign.yaml"


def test_every_member_of_a_campaign_with_basin_comes_to_an_outcome(campaign: Path, case: Case):
    done = halocline(campaign.parent, case.basin, "spinup", campaign)
    assert done.status == 0, done.output
    output = campaign.parent / "campaign"
    states = {path.parent.name: json.loads(path.read_text()) for path in output.glob("*/state.json")}
    assert len(states) == 3 * len(WINDS)
    assert {state["outcome"] for state in states.values()} <= {"accepted", "rejected", "exhausted"}
    rest = [states[f"rest-rn_wind={wind}-000"] for wind in WINDS]
    assert [len(state["attempts"][0]["blocks"]) for state in rest] == [2, 2]
    ends = [read(output / f"rest-rn_wind={wind}-000" / s["attempts"][0]["blocks"][1]["restart"]) for wind, s in
            zip(WINDS, rest, strict=True)]  # fmt: skip
    assert [int(end["kt"]) for end in ends] == [240, 240]  # two years; a block goes on where the one before has ended
    assert abs(ends[0]["un"] - ends[1]["un"]).max() > 1e-3
    limits = yaml.safe_load((output / "campaign.yaml").read_text())["limits"]
    assert set(limits) == set(LEARNED) and min(limits.values()) > 0
    assert "rest" in (output / "report/report.txt").read_text()
