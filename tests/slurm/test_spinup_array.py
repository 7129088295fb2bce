"""jobs/spinup.sbatch: a campaign as an array whose tasks go back into the queue, and a job after it that reports."""

import json
from pathlib import Path

import f90nml
import pytest
import yaml
from basin_jobs import GRID, Case
from private_slurm import PrivateSlurm, until

SCRIPT = Path(__file__).parents[2] / "jobs/spinup.sbatch"
CONFIGS = SCRIPT.parent / "configs"
INTERRUPTED = """#!/bin/bash
echo "$@"
[ ${SLURM_RESTART_COUNT:-0} = 0 ] || exit 0
while :; do sleep 0.1; done
"""


@pytest.fixture
def campaign(case: Case, tmp_path: Path) -> Path:
    """Four members with basin, from rest and generated, a year each."""
    f90nml.patch(CONFIGS / "basin.namelist", {"grid": GRID}, tmp_path / "basin.namelist")
    values = yaml.safe_load((CONFIGS / "campaign.yaml").read_text())
    small = {
        "output": "campaign", "generator": str(case.generator), "methods": ["generated", "rest"], "members": 2,
        "parameters": [], "block_years": 1, "drift_years": 0, "max_years": 1, "max_attempts": 1, "equilibrium": [],
        "drift": {"temperature_deep": 1.0}, "workers": 1,
    }  # fmt: skip
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump({**values, **small}))
    return tmp_path / "campaign.yaml"


def test_array_shares_a_campaign_and_the_job_after_it_reports(slurm: PrivateSlurm, campaign: Path, tmp_path: Path):
    array = slurm.submit("--array=0-1", SCRIPT, campaign, cwd=tmp_path)
    after = slurm.submit(f"--dependency=afterany:{array}", SCRIPT, campaign, "report=true", cwd=tmp_path)
    job = slurm.wait(after, tmp_path, 120)
    assert job.status == 0, job.output
    states = [json.loads(path.read_text()) for path in (tmp_path / "campaign").glob("*/state.json")]
    assert len(states) == 4 and all(state["outcome"] for state in states)
    assert (tmp_path / "campaign/report/report.png").exists()
    assert "rest" in job.output


def test_campaign_whose_time_is_over_is_queued_again(slurm: PrivateSlurm, tmp_path: Path):
    program = tmp_path / "bin/halocline"
    program.parent.mkdir()
    program.write_text(INTERRUPTED)
    program.chmod(0o755)
    number = slurm.submit(SCRIPT, "campaign.yaml", cwd=tmp_path, HALOCLINE_ENVIRONMENT=str(tmp_path))
    output = tmp_path / f"job-{number}.out"
    assert until(lambda: output.exists() and "spinup campaign.yaml" in output.read_text(), 30)
    slurm.call("scancel", "--batch", "--signal=USR1", number)  # as Slurm does before the time is over
    job = slurm.wait(number, tmp_path, 60)
    assert (job.status, slurm.value(number, "Restarts")) == (0, "1"), job.output
    assert job.output.count("spinup: queued again") == 1
