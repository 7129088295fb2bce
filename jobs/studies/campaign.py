"""The campaign of the embedded host from its beginning: spin-ups to learn from, spin-ups that say what an equilibrium
is, the generator, and the campaign. Every step is a command that a user could type; what it left is not made again.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import f90nml
import yaml

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = {"rn_wind": "forcing", "rn_avt_deep": "physics"}  # parameter and its group of the namelist
LEARNED = {"rn_wind": (0.06, 0.12, 0.18), "rn_avt_deep": (0.6e-4, 1.2e-4, 2.4e-4)}
LEARNED_MONTHS, EQUILIBRIUM_MONTHS = 3, 12  # interval of states
EQUILIBRIUM_YEARS = 200  # in which the drift of an equilibrium is looked at
Values = dict[str, float]


def spin_up(folder: Path, values: Values, years: int, last: int, months: int) -> None:
    """Runs the ocean from rest, with states of the last years, unless it has run."""
    if (folder / "states.nc").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    namelist = f90nml.read(CONFIGS / "basin.namelist")
    namelist["run"] |= {
        "cn_output": str(folder), "nn_years": years, "nn_states_months": months,
        "nn_states_year": max(1, years - last + 1),
    }  # fmt: skip
    for name, value in values.items():
        namelist[NAMES[name]][name] = value
    namelist.write(folder / "namelist", force=True)
    call(["basin.x", folder / "namelist"], folder / "log")


def call(command: Sequence[object], log: Path | None = None) -> None:
    """Runs a command; its output goes into a log where one is named."""
    print("$", *command, flush=True)
    words = [str(word) for word in command]
    if log is None:
        subprocess.run(words, check=True)
    else:
        with log.open("w") as file:
            subprocess.run(words, check=True, stdout=file, stderr=subprocess.STDOUT)


def label(values: Values) -> str:
    """Folder of a run."""
    return ",".join(f"{name}={value:g}" for name, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="campaign", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/parameters"), help="for everything")
    parser.add_argument("--years", type=int, default=2500, help="model years of each spin-up")
    parser.add_argument("--learn", type=int, default=60, help="years at the end of a spin-up that are learned from")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps of the training")
    parser.add_argument("--members", type=int, default=8, help="members of each method and value")
    parser.add_argument("--options", nargs="*", default=[], help="further options of halocline spinup")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    learned = [dict(zip(LEARNED, values, strict=True)) for values in itertools.product(*LEARNED.values())]
    held_out = yaml.safe_load((CONFIGS / "campaign.yaml").read_text())["parameters"]
    jobs = [(folder / "learned" / label(v), v, arguments.years, arguments.learn, LEARNED_MONTHS) for v in learned]
    jobs += [(folder / "equilibrium" / label(v), v, arguments.years, EQUILIBRIUM_YEARS, EQUILIBRIUM_MONTHS)
             for v in held_out]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(spin_up, *job) for job in jobs]:
            done.result()
    call(["halocline", "train", CONFIGS / "parameters.yaml", f"output={folder}/generator",
          f"data.grid={jobs[0][0]}/mesh_mask.nc", f"data.states={folder}/learned/*/states.nc",
          f"training.steps={arguments.steps}"])  # fmt: skip
    call(["halocline", "spinup", CONFIGS / "campaign.yaml", f"output={folder}/campaign",
          f"generator={folder}/generator", f"equilibrium=[{folder}/equilibrium/*/states.nc]",
          f"members={arguments.members}", *arguments.options])  # fmt: skip


if __name__ == "__main__":
    main()
