"""The main job on the embedded host: spin up, learn, generate, start, judge. Called by jobs/quickstart.

Every step is a command that a user could type; what it left is not made again. The last step compares, for each start,
how far from equilibrium the ocean is after the test run, and in which year the spin-up from rest was as near.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import f90nml
import numpy as np
from comparison import Judge, Spinup, draw, outcome, print_table, write_table

from halocline.io.nemo import read_grid, read_restart, read_states, write_restart

ROOT = Path(__file__).parent.parent
DECEMBER = 12


@dataclass(frozen=True)
class Scale:
    """How long everything takes: model years, training steps, members."""

    spinup: int
    learn: int
    test: int
    seeds: int
    steps: int
    members: int


FULL = Scale(spinup=1500, learn=40, test=20, seeds=4, steps=1500, members=8)
BRIEF = Scale(spinup=60, learn=4, test=2, seeds=2, steps=60, members=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brief", action="store_true", help="about two minutes, too short to mean anything")
    brief = parser.parse_args().brief
    scale, folder = (BRIEF, ROOT / "runs/brief") if brief else (FULL, ROOT / "runs/quickstart")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    say(1, f"the ocean from rest, {scale.spinup} model years on 2 ranks")
    spinup = run_basin(folder / "spinup", ranks=2, years=scale.spinup, states_months=12 * max(1, scale.spinup // 60))
    say(2, f"its equilibrium, {scale.learn} years under each of {scale.seeds} seeds of the forcing; one is held out")
    held, *seeds = [folder / name for name in ("held", *(f"seed{n}" for n in range(1, scale.seeds)))]
    jobs = [lambda at=at, n=n: run_basin(at, start=spinup, years=scale.learn, states_months=3, seed=101 + n)
            for n, at in enumerate((held, *seeds))]  # fmt: skip
    together(jobs)
    say(3, f"learning from {len(seeds) * scale.learn * 4} states")
    generator = folder / "generator"
    halocline("train", ROOT / "jobs/configs/basin.yaml", f"output={generator}", f"training.steps={scale.steps}",
              f"data.grid={folder}/spinup/mesh_mask.nc", f"data.states={folder}/seed*/states.nc", ranks=2)  # fmt: skip
    say(4, f"generating {scale.members} states on 2 ranks")
    states = folder / "states.nc"
    once(states, lambda: halocline("sample", generator, f"members={scale.members}", "seed=1", f"months=[{DECEMBER}]",
                                   f"output={states}", ranks=2))  # fmt: skip
    halocline("evaluate", generator, f"states={states}", f"output={folder}/evaluation")
    say(5, f"starting the ocean from each of them, its own state, rest and the training mean; {scale.test} years")
    own = sorted(held.glob("*_restart.nc"))[-1]  # what a perfect start would be
    starts = {"own": own, **make_starts(folder, generator, states, spinup, scale.members)}
    runs = {name: folder / "test" / name for name in starts}
    together([lambda n=n: run_basin(runs[n], start=starts[n], years=scale.test, states_months=12, seed=7, diag_steps=1)
              for n in starts])  # fmt: skip
    say(6, "what came of it")
    compare(folder, starts, runs, scale)
    print(f"\n{time.monotonic() - started:.0f} s after set-up. Everything is in {folder.relative_to(ROOT)}")


def say(step: int, text: str) -> None:
    """Announces a step."""
    print(f"\n[{step}/6] {text}", flush=True)


def once(path: Path, make: object) -> None:
    """Makes a file unless it is there."""
    if path.exists():
        print(f"{path.name} is there already", flush=True)
    else:
        make()  # type: ignore[operator]


def together(jobs: list) -> None:
    """Runs jobs two at a time, one for each core."""
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def call(command: list[str], log: Path | None = None) -> None:
    """Runs a command; on failure shows the end of its output and ends the job."""
    if log is None:
        status = subprocess.run(command, check=False).returncode
    else:
        with log.open("w") as file:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        tail = "" if log is None else "".join(log.read_text().splitlines(keepends=True)[-12:])
        sys.exit(f"\nquickstart: '{' '.join(command)}' failed with status {status}.\n{tail}")


def halocline(*arguments: object, ranks: int = 1) -> None:
    """Types a halocline command."""
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, "halocline", *map(str, arguments)]
    print("$", " ".join(command), flush=True)
    call(command)


def run_basin(
    folder: Path, start: Path | None = None, years: int = 1, ranks: int = 1, states_months: int = 12, seed: int = 1,
    diag_steps: int = 0,
) -> Path:  # fmt: skip
    """Runs the ocean in a folder unless it has run there, and returns its last restart."""
    if not list(folder.glob("*_restart.nc")):
        folder.mkdir(parents=True, exist_ok=True)
        namelist = {
            "run": {
                "cn_name": "basin", "cn_start": str(start or "rest"), "cn_output": str(folder), "nn_years": years,
                "nn_states_months": states_months, "nn_diag_steps": diag_steps,
            },
            "forcing": {"nn_seed": seed},
        }  # fmt: skip
        f90nml.Namelist(namelist).write(folder / "namelist", force=True)
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        command = [*launcher, "basin.x", str(folder / "namelist")]
        print("$", " ".join(command), flush=True)
        call(command, None if ranks > 1 else folder / "log")
    return sorted(folder.glob("*_restart.nc"))[-1]


def make_starts(folder: Path, generator: Path, states: Path, like: Path, members: int) -> dict[str, Path]:
    """Writes a restart for each member and for the training mean."""
    at = folder / "starts"
    at.mkdir(exist_ok=True)
    rest = run_basin(folder / "rest", years=0, states_months=0)  # the start that the model itself would choose
    starts = {"rest": rest, "mean": at / "mean.nc"}
    once(at / "mean.nc", lambda: write_mean(folder, at / "mean.nc", like))
    for m in range(members):
        path = starts[f"member{m}"] = at / f"member{m}.nc"
        once(path, lambda m=m, path=path: halocline("restart", generator, f"states={states}", f"member={m}",
                                                    f"like={like}", f"output={path}"))  # fmt: skip
    return starts


def write_mean(folder: Path, path: Path, like: Path) -> None:
    """Writes the mean of the training states at the end of December as a restart."""
    grid = read_grid(folder / "spinup/mesh_mask.nc")
    variables = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
    states = read_states((str(folder / "seed*/states.nc"),), variables, grid)
    december = states.select(states.month == DECEMBER)
    fields = {name: x.mean(axis=0, dtype=np.float64) for name, x in december.fields.items()}
    write_restart(path, fields, grid, like=like, month=DECEMBER)


def compare(folder: Path, starts: dict[str, Path], runs: dict[str, Path], scale: Scale) -> None:
    """Measures every start against the spin-up from rest; leaves table.json and spinup.png."""
    temperatures = {name: read_restart(path)["temperature"] for name, path in starts.items()}
    spinup = Spinup.read(folder, temperatures["rest"])
    judge = Judge(folder / "generator")
    outcomes = [outcome(n, at, temperatures[n], spinup, judge) for n, at in runs.items()]
    print_table(outcomes, spinup, scale.test)
    write_table(folder / "table.json", outcomes, spinup)
    draw(folder / "spinup.png", outcomes, spinup, scale.test)


if __name__ == "__main__":
    main()
