"""Forecasts of sea ice from the beginning: learned from some runs of the model, their noise found on others, and tested
on the last, which had a part in neither.

Trains a generator and a deterministic network of equal size by as many steps, each on a core of its own; finds the
noise of the generator; and scores both as `jobs/studies/ice` does. Each step is a command that a user could type, and
is printed. Killed at any moment, the same command goes on: what it left is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import netCDF4

from halocline.io.atomic import atomic_path

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "ice.yaml"
NETWORKS = {"forecast": [], "det": ["forecast.deterministic=true"]}
PARTS = ("-first", "-second", "-third", "")  # trainings, one after the other, by the folders they leave
STEPS = [4500, 5000, 5000, 7000]
MINUTE = 60.0  # between two lines on what is under way
Command = list[str]


def learning(arguments: argparse.Namespace, name: str) -> list[Command]:
    """Trainings of a network: on windows anywhere first, then on those of tiles, with a wider halo."""
    states, folder = arguments.states, arguments.folder
    held = sorted({*arguments.calibrate, *arguments.test})
    words = ["halocline", "train", str(arguments.config), f"data.grid={arguments.grid}", f"data.states=[{states}]",
             f"data.held_out_trajectories=[{held[0]},{held[-1]}]", *arguments.set]  # fmt: skip
    words += ["training.symmetries=turns", "training.learning_rate=1e-3", "forecast.state_noise=0.5", *NETWORKS[name]]
    trainings, outputs = [], [f"{folder}/{name}{part}" for part in PARTS]
    for part, (output, steps) in enumerate(zip(outputs, arguments.steps, strict=True)):
        own = ["lattice.halo=4", "training.windows=free"]
        if part:  # towards the noise, where a generator learns the mean and a deterministic network is at all times
            own = [f"training.begin={outputs[part - 1]}", "training.time_shift=3"]
        trainings.append([*words, f"output={output}", *own, f"training.seed={part}", f"training.steps={steps}"])
    return trainings


def noise(arguments: argparse.Namespace, output: Path) -> Command:
    """Finds the noise of the generator, from factors of 1: those of ice.yaml have seen the runs that are tested on."""
    files, runs = [arguments.states], list(arguments.calibrate)
    if arguments.more is not None:  # runs are numbered on from file to file
        files.append(arguments.more)
        runs += range(runs_in(arguments.states), runs_in(arguments.states) + runs_in(arguments.more))
    return ["mpirun", "-n", str(arguments.cores), "halocline", "calibrate", f"{arguments.folder}/forecast",
            f"states=[{','.join(map(str, files))}]", f"trajectories=[{','.join(map(str, runs))}]",
            f"starts={max(2, 6 // len(runs))}", "rounds=6", "sampling.noise=1", "sampling.long_waves=1",
            "sampling.short_waves=1", f"output={output}"]  # fmt: skip


def runs_in(path: Path) -> int:
    """How many runs of the model a file holds.

    Raises:
        SystemExit: It cannot be read, or holds states that are not of runs.
    """
    try:
        with netCDF4.Dataset(path) as file:
            dimensions = {name: len(axis) for name, axis in file.dimensions.items()}
    except OSError as error:
        sys.exit(f"{path} cannot be read ({error}): name a file of runs.")
    if "trajectory" not in dimensions:
        sys.exit(f"{path} has dimensions {list(dimensions)}, expected 'trajectory': name a file of runs.")
    return dimensions["trajectory"]


def test(arguments: argparse.Namespace) -> Command:
    """Scores both."""
    folder, held = arguments.folder, min(*arguments.calibrate, *arguments.test)
    return ["mpirun", "-n", str(arguments.cores), sys.executable, str(HERE / "ice.py"), str(arguments.states),
            f"forecast={folder}/calibrated", f"det={folder}/det", "--folder", f"{folder}/table",
            "--runs", *map(str, arguments.test), "--train", *map(str, range(held)),
            "--starts", str(arguments.starts), "--members", str(arguments.members)]  # fmt: skip


def run(command: Command, log: Path | None = None) -> None:
    """Runs a command; its output goes into a log where one is named.

    Raises:
        SystemExit: It failed; with what it said last, if that is in the log.
    """
    print(" ".join(["$", *command]) + "\n", end="", flush=True)  # one write: two trainings begin at once
    if log is None:
        status, said = subprocess.run(command).returncode, ""
    else:
        with log.open("a") as file:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
        said = f" {last_line(log)} (the last line of {log})"
    if status:
        sys.exit(f"`{' '.join(command[:5])} …` ended with status {status}.{said}")


def train(arguments: argparse.Namespace, name: str) -> None:
    """Trains a network."""
    for command in learning(arguments, name):
        run(command, arguments.folder / f"{name}.log")


def follow(arguments: argparse.Namespace, under_way: dict[str, Future[None]]) -> None:
    """Waits for the trainings; says every minute how far they are."""
    while wait(under_way.values(), timeout=MINUTE).not_done:
        for name in under_way:
            print(f"{name}: {last_line(arguments.folder / f'{name}.log')}", flush=True)
    for future in under_way.values():
        future.result()


def last_line(log: Path) -> str:
    """What a job said last."""
    lines = log.read_text().splitlines() if log.exists() else []
    return lines[-1] if lines else "nothing yet"


def ask(words: Sequence[str] | None) -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = argparse.ArgumentParser(
        prog="ice_from_scratch", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("states", type=Path, help="runs of the model with their forcing, such as trajectories.nc")
    parser.add_argument("grid", type=Path, help="start file of neXtSIM_DG for the grid, such as dg_init.nc")
    parser.add_argument("--folder", type=Path, default=Path("runs/ice_from_scratch"), help="for everything")
    parser.add_argument("--calibrate", type=int, nargs="+", default=[5], help="runs on which noise is found")
    parser.add_argument(
        "--more", type=Path, help="more runs for the noise, of weather and ice that neither learning nor tests know"
    )
    parser.add_argument("--test", type=int, nargs="+", default=[6, 7], help="runs that are tested on")
    parser.add_argument("--steps", type=int, nargs=len(PARTS), default=STEPS, help="of the optimiser, by training")
    parser.add_argument("--starts", type=int, default=8, help="of forecasts, in each run that is tested on")
    parser.add_argument("--members", type=int, default=32, help="of an ensemble")
    parser.add_argument("--cores", type=int, default=2, help="trainings at once, and ranks of the rest")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the trainings")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of it")
    arguments = parser.parse_args(words)
    both = [*arguments.calibrate, *arguments.test]
    if len(set(both)) < len(both):
        parser.error(f"--calibrate {arguments.calibrate} and --test {arguments.test} share runs: name different ones")
    if sorted(both) != list(range(min(both), max(both) + 1)) or min(both) < 1:
        parser.error(f"runs {sorted(both)} are held out, expected successive ones, and others before to learn from")
    for name in ("states", "grid", "folder", "config", "more"):
        if getattr(arguments, name) is not None:
            setattr(arguments, name, getattr(arguments, name).absolute())
    return arguments


def remember(arguments: argparse.Namespace) -> None:
    """Refuses a folder that was made with other options: noise and table would be those of other networks.

    Raises:
        SystemExit: See above.
    """
    path = arguments.folder / "options.json"
    asked = {name: str(value) for name, value in vars(arguments).items() if name not in ("folder", "cores")}
    kept = json.loads(path.read_text()) if path.exists() else asked
    for name, value in asked.items():
        if kept.get(name, "None") != value:  # an option that is younger than the folder
            sys.exit(f"{path} has {name} = {kept.get(name)}, expected {value}: give the same, or another --folder.")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asked, indent=1) + "\n")


def main(words: Sequence[str] | None = None) -> None:
    """Trains, calibrates, tests."""
    arguments = ask(words)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    calibrated = arguments.folder / "calibrated"
    calibration = noise(arguments, calibrated.with_suffix(".part"))  # what is wrong is told before hours of training
    remember(arguments)
    with ThreadPoolExecutor(min(arguments.cores, len(NETWORKS))) as pool:
        follow(arguments, {name: pool.submit(train, arguments, name) for name in NETWORKS})
    if not calibrated.exists():
        run(calibration)
        calibrated.with_suffix(".part").rename(calibrated)
    run(test(arguments))


if __name__ == "__main__":
    main()
