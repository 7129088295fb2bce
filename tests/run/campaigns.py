"""Campaigns with a model that takes a moment."""

from __future__ import annotations

import json
import multiprocessing
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import f90nml
import yaml
from case import PROGRAMS, Case

from halocline.io.nemo import read_states, write_restart
from halocline.mesh.communicator import Serial
from halocline.run.spinup import spinup

MODEL = PROGRAMS / "relaxing_model.py"
LIMITS = {"temperature_volume_mean": 1.0}


@dataclass(frozen=True)
class Campaign:
    """A campaign file, and where its results are."""

    path: Path

    @property
    def output(self) -> Path:
        return self.path.parent / "campaign"

    @property
    def log(self) -> list[str]:
        """What the model did: begins FOLDER, ends FOLDER."""
        path = self.path.parent / "model.log"
        return path.read_text().splitlines() if path.exists() else []

    def states(self) -> dict[str, dict[str, Any]]:
        """What is on disk of each member."""
        return {path.parent.name: json.loads(path.read_text()) for path in self.output.glob("*/state.json")}

    def table(self) -> str:
        """The report's table and reasons."""
        return (self.output / "report/report.txt").read_text()

    def blocks(self) -> dict[str, list[str]]:
        """Restarts of the blocks that are done, by member."""
        return {k: [b["restart"] for a in s["attempts"] for b in a["blocks"]] for k, s in self.states().items()}

    def beside(self) -> multiprocessing.context.ForkProcess:
        """Runs the campaign in a process of its own, without the seconds that Python takes to start."""
        process = multiprocessing.get_context("fork").Process(target=self.run)
        process.start()
        return process

    def run(self, *arguments: str) -> str:
        """Runs the campaign in this process, and returns what it printed."""
        text = StringIO()
        with redirect_stdout(text), redirect_stderr(text):
            spinup(self.path, arguments, Serial())
        return text.getvalue()


def write_campaign_case(folder: Path, case: Case, **changes: Any) -> Campaign:
    """Writes a campaign; changes are its keys, with __ for dots, and namelist__VARIABLE."""
    write_restarts(folder, case)
    namelist = {name[len("namelist__") :]: changes.pop(name) for name in list(changes) if name.startswith("namelist__")}
    group = {
        "start": "", "output": "", "years": 1, "mode": "dies", "seconds": 0.0, "relaxation": 5.0, "wind": 0.0,
        "seed": 0, "equilibrium": str(folder / "goal.nc"), "log": str(folder / "model.log"),
        **namelist,
    }  # fmt: skip
    f90nml.Namelist({"run": group}).write(folder / "namelist", force=True)
    model = {
        "command": [sys.executable, str(MODEL)], "namelist": "namelist", "restart": "*_restart.nc",
        "set": {"run.start": "{start}", "run.years": "{years}", "run.output": "{output}", "run.seed": "{seed}"},
        "rest": {"run.start": str(folder / "rest.nc")}, "parameters": {"wind": "run.wind"},
    }  # fmt: skip
    values: dict[str, Any] = {
        "output": "campaign", "generator": str(case.run), "methods": ["rest", "generated"], "members": 2, "month": 12,
        "workers": 2, "block_years": 5, "max_years": 60, "drift": {**LIMITS}, "model": model,
    }  # fmt: skip
    for key, value in changes.items():
        *sections, last = key.split("__")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    (folder / "campaign.yaml").write_text(yaml.safe_dump(values))
    return Campaign(folder / "campaign.yaml")


def write_restarts(folder: Path, case: Case) -> None:
    """A state of the training data as equilibrium, and a warmer ocean as rest."""
    names = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
    states = read_states((str(case.folder / "data/states.nc"),), names, case.grid)
    state = states.select(states.month == 12)
    goal = {name: x[0].astype(float) for name, x in state.fields.items()}
    write_restart(folder / "goal.nc", goal, case.grid)
    write_restart(folder / "rest.nc", {**goal, "temperature": goal["temperature"] + 0.5}, case.grid)
