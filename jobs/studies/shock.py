r"""Sets the first days of a model from generated states against those of a run of its own.

Of the restarts that the model leaves after some steps it takes the mean kinetic energy, the vertical velocity

.. math:: w_k = -\frac{1}{e_1 e_2} \sum_{k' \ge k} \big( \delta_i (e_2 e_3 u) + \delta_j (e_1 e_3 v) \big)

(rms over all cells, and at the surface, where it is the rise of the sea), and the largest sea level. The shock is the
largest ratio to the model's own run at the same step, geometric mean over members.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import f90nml
import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.io.nemo import read_restart, read_states, write_restart
from halocline.mesh.grid import Grid
from halocline.physics.operators import divergence
from halocline.run.run_folder import load_generator

DAY = 86400.0
CHOICES: Mapping[str, Mapping[str, str]] = {
    f"{velocity}/{sea_level}": {"velocity": velocity, "sea_level": sea_level}
    for velocity, sea_level in (
        ("generated", "generated"), ("balanced", "generated"), ("geostrophic", "generated"), ("rest", "generated"),
        ("generated", "mean-free"), ("generated", "rest"), ("balanced", "rest"), ("rest", "rest"),
    )
}  # fmt: skip
OWN = "own"
QUANTITIES = {
    "energy": "kinetic energy, 1e-4 m2/s2",
    "vertical": "vertical velocity, m/day",
    "rise": "rise of the sea, mm/day",
    "level": "largest sea level, m",
}

Model = Callable[[Path, Path, Sequence[int]], Mapping[int, Path]]


@dataclass(frozen=True)
class Snapshot:
    """What a restart holds: choice, member, step, and a value of each of `QUANTITIES`."""

    choice: str
    member: int
    step: int
    energy: float
    vertical: float
    rise: float
    level: float


def measured(path: Path, grid: Grid, choice: str, member: int, step: int) -> Snapshot:
    """Reads a restart and measures its flow."""
    state = read_restart(path, grid)
    u, v, sea_level = state["velocity_u"], state["velocity_v"], state["sea_level"][0]
    volume_u, volume_v = grid.e1u * grid.e2u * grid.e3u * grid.umask, grid.e1v * grid.e2v * grid.e3v * grid.vmask
    energy = 0.5 * ((u**2 * volume_u).sum() + (v**2 * volume_v).sum()) / grid.cell_volume.sum()
    inflow = -divergence(u, v, grid).numpy() * grid.e3t * grid.tmask
    w = np.cumsum(inflow[::-1], axis=0)[::-1]  # through the top of each cell
    area = np.where(grid.wet, grid.e1t * grid.e2t, 0.0)
    rise = np.sqrt((w[0] ** 2 * area).sum() / area.sum())
    vertical = np.sqrt((w**2 * grid.cell_volume).sum() / grid.cell_volume.sum())
    level = np.abs(sea_level[grid.wet]).max()
    return Snapshot(choice, member, step, 1e4 * energy, vertical * DAY, rise * DAY * 1e3, float(level))


def started(command: Sequence[object], folder: Path, limit: float = 600.0) -> None:
    """Runs a command in a folder; what it prints is in its log.

    Raises:
        RuntimeError: It has failed.
    """
    with (folder / "log").open("a") as log:
        words = [str(word) for word in command]
        status = subprocess.run(words, cwd=folder, stdout=log, stderr=log, timeout=limit, check=False).returncode
    if status:
        raise RuntimeError(f"{' '.join(words)} ended with {status}, expected 0: see {folder / 'log'}.")


def nemo(executable: Path, experiment: Path) -> Model:
    """NEMO in a folder with all that the experiment has but its output, from its namelist's first step and date."""

    def run(folder: Path, start: Path, steps: Sequence[int]) -> dict[int, Path]:
        for file in experiment.iterdir():
            if file.name.startswith("namelist_ref") or file.suffix == ".nc":
                (folder / file.name).symlink_to(file.resolve())
        settings = f90nml.read(experiment / "namelist_cfg")["namrun"]
        first, name = int(settings["nn_it000"]), f"{settings['cn_ocerst_in']}.nc"
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(start.resolve())
        kt = [first - 1 + step for step in steps]
        # a list that is patched keeps its old end: all ten places are given
        stock = [*kt, *[0] * (10 - len(kt))]
        changes = {"nn_itend": kt[-1], "ln_rst_list": True, "nn_stocklist": stock}
        f90nml.patch(experiment / "namelist_cfg", {"namrun": changes}, folder / "namelist_cfg")
        started(["mpirun", "-n", "1", executable], folder)
        return {step: folder / f"{settings['cn_exp']}_{k:08d}_restart.nc" for step, k in zip(steps, kt, strict=True)}

    return run


def basin(namelist: Path) -> Model:
    """The embedded host, run anew for each number of steps: it leaves a restart at its end."""

    def run(folder: Path, start: Path, steps: Sequence[int]) -> dict[int, Path]:
        kept = {}
        for step in steps:
            output = folder / str(step)
            output.mkdir()
            settings = f90nml.read(namelist)
            changes = {
                "cn_start": str(start.resolve()), "cn_output": ".", "nn_steps": step, "nn_years": 0,
                "nn_states_months": 0, "nn_restart_months": 0, "nn_diag_steps": 0,
            }  # fmt: skip
            settings.setdefault("run", f90nml.Namelist()).update(changes)
            settings.write(output / "namelist")
            started(["basin.x", "namelist"], output)
            (kept[step],) = output.glob("*_restart.nc")
        return kept

    return run


def own_start(restart: Path, grid: Grid, folder: Path) -> Path:
    """Writes the five fields of the model's own restart as those of a generated state are written."""
    return write_restart(folder / "start.nc", read_restart(restart, grid), grid, like=restart)[0]


def generated_start(arguments: argparse.Namespace, choice: str, member: int, folder: Path) -> Path:
    """Writes a generated state as a start."""
    path = folder / "start.nc"
    told = {
        "states": arguments.states.resolve(), "member": member, "like": arguments.own.resolve(),
        "output": path.resolve(), **CHOICES[choice],
    }  # fmt: skip
    started(["halocline", "restart", arguments.run.resolve(), *(f"{k}={v}" for k, v in told.items())], folder)
    return path


def study(arguments: argparse.Namespace, model: Model) -> list[Snapshot]:
    """Makes the starts, runs the model and measures."""
    generator = load_generator(arguments.run)
    grid = generator.grid
    months = read_states((str(arguments.states),), ("sea_level",), grid).month
    members = [n for n, month in enumerate(months.tolist()) if int(month) == arguments.month][: arguments.members]
    if not members:
        sys.exit(f"shock: {arguments.states} has no state of month {arguments.month}, expected that of the restart.")
    found = []
    for choice, member in [(OWN, 0), *((choice, n) for choice in arguments.choices for n in members)]:
        folder = arguments.folder / f"{choice.replace('/', '-')}-{member}"
        folder.mkdir(parents=True)
        if choice == OWN:
            start = own_start(arguments.own, grid, folder)
        else:
            start = generated_start(arguments, choice, member, folder)
        kept = {0: start, **model(folder, start, arguments.steps)}
        found += [measured(path, grid, choice, member, step) for step, path in kept.items()]
        print(f"{choice}, member {member}", flush=True)
    return found


def show(found: Sequence[Snapshot], path: Path) -> None:
    """Prints a table for each quantity, means over members, and writes all values."""
    steps = sorted({s.step for s in found})
    for quantity, title in QUANTITIES.items():
        table = Table(title=f"{title}, after steps")
        for head in ("start", *map(str, steps), "shock"):
            table.add_column(head, no_wrap=True)
        own = {s.step: getattr(s, quantity) for s in found if s.choice == OWN}
        for choice in dict.fromkeys(s.choice for s in found):
            values = {n: [getattr(s, quantity) for s in found if (s.choice, s.step) == (choice, n)] for n in steps}
            ratios = [np.log(np.array(values[n]) / own[n]) for n in steps if n > 0]
            shock = float(np.exp(np.mean(np.max(ratios, axis=0))))
            table.add_row(choice, *(f"{np.mean(values[n]):.3g}" for n in steps), f"{shock:.3f}")
        Console(width=160).print(table)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["choice", "member", "step", *QUANTITIES])
        writer.writerows([s.choice, s.member, s.step, *(getattr(s, q) for q in QUANTITIES)] for s in found)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="shock", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder of a trained generator")
    parser.add_argument("states", type=Path, help="generated states, as halocline sample writes them")
    parser.add_argument("own", type=Path, help="restart of a run of the model's own")
    parser.add_argument("--folder", type=Path, required=True, help="for starts, runs and table; a new one")
    parser.add_argument("--month", type=int, default=12, help="at whose end the restart stands (12)")
    parser.add_argument("--members", type=int, default=3, help="states of that month to start from (3)")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[2, 4, 6, 12, 18, 30, 60, 120, 180],
        help="after which the flow is measured: at most ten; NEMO cannot leave restarts of successive steps",
    )
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=CHOICES, metavar="VELOCITY/SEA",
                        help=f"of the start: {', '.join(CHOICES)}")  # fmt: skip
    parser.add_argument(
        "--basin", type=Path, help="namelist of basin; without it NEMO is run: HALOCLINE_NEMO names a folder that "
        "makenemo has built, HALOCLINE_NEMO_EXPERIMENT one from which it runs",
    )  # fmt: skip
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    if arguments.basin:
        model = basin(arguments.basin)
    else:
        missing = [name for name in ("HALOCLINE_NEMO", "HALOCLINE_NEMO_EXPERIMENT") if name not in os.environ]
        if missing:
            sys.exit(f"shock: {', '.join(missing)} not set, expected the folders of a NEMO: set them, or give --basin.")
        executable = Path(os.environ["HALOCLINE_NEMO"]) / "BLD" / "bin" / "nemo.exe"
        model = nemo(executable, Path(os.environ["HALOCLINE_NEMO_EXPERIMENT"]))
    show(study(arguments, model), arguments.folder / "table.csv")


if __name__ == "__main__":
    main()
