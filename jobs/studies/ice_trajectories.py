"""More trajectories to learn from, made by neXtSIM_DG itself.

Each begins at the first state of one run, its thickness and snow times factors, at rest, and goes through the weather
of another run, turned by one to three quarters of a circle: wind with its components, air temperature as the departure
from the mean of its row, so that the north stays cold. A turn, unlike a reflection, is weather that the rotation of the
earth allows; against coasts that are not turned it is new. With --mixed the weather of two runs is added, each turned,
with weights cos a and sin a for an angle a of 30 to 60 degrees: winds as strong as theirs, in places where neither has
them. With --drawn the weather is no run's: wind and air temperature of every hour are drawn (ice_weather.py), the wind
times a factor. Over the first day, which is not kept, the wind grows from nothing, since a pack that meets a full wind
without stress breaks as a whole. Between its times weather is linear.

The file that is left has the times, variables, units and rounding of the one that was given. Name runs that are learned
from: what is to test a forecast must not be among those whose weather or states are used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import netCDF4
import numpy as np
from ice_plans import HOUR, STATE, WEATHER, Given, Plan, draw, drawn_weather, weather

from halocline.io.atomic import atomic_path
from halocline.io.forcing import open_forcing
from halocline.io.models import read_grid
from halocline.io.nextsim import write_start
from halocline.io.nextsim_forcing import ATMOSPHERE, write_forcing
from halocline.run.ice_model import Case, is_done, read_output, run_model
from halocline.run.progress import Reporter

LIMITS = {"sic": (0.0, 1.0), "sid": (0.0, 1.0), "sit": (0.0, np.inf), "snt": (0.0, np.inf)}


def write_weather(path: Path, times: np.ndarray, fields: dict[str, np.ndarray]) -> Path:
    """A forcing file with a day before the first time, in which the wind grows from nothing."""
    days = np.arange(times[0] - 24 * HOUR, times[0], times[1] - times[0])
    share = (np.arange(len(days)) / len(days))[:, None, None]
    with netCDF4.Dataset(path, "w") as file:
        for axis, size in (("time", None), *zip(("y", "x"), fields["tas"].shape[1:], strict=True)):
            file.createDimension(axis, size)
        time = file.createVariable("time", "f8", ("time",))
        time.setncatts({"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard"})
        time[:] = (np.concatenate([days, times]) - np.datetime64("1970-01-01T00:00:00")).astype(np.float64)
        for name, unit in zip(WEATHER, ("m s-1", "m s-1", "degC"), strict=True):
            x = fields[name]
            variable = file.createVariable(name, "f4", ("time", "y", "x"))
            variable.units = unit
            variable[:] = np.concatenate([x[:1] * (1.0 if name == "tas" else share) + np.zeros_like(share), x])
    return path


def prepare(arguments: argparse.Namespace, given: Given, plan: Plan, folder: Path) -> tuple[Case, Path]:
    """Writes forcing and start file of a plan."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = read_grid(arguments.like)
    if plan.windiness is None:
        flat = write_weather(folder / "weather.nc", given.times, weather(given, plan))
    else:
        flat = write_weather(folder / "weather.nc", given.hours(), drawn_weather(given, plan))
    start, hours = given.times[0] - 24 * HOUR, float((given.times[-1] - given.times[0]) / HOUR) + 24.0
    times = start + HOUR * np.arange(int(np.ceil(hours)) + 1)
    atmosphere = write_forcing(
        folder / "atmosphere.nc", open_forcing(flat, ATMOSPHERE, grid), times, like=arguments.atmosphere,
        emissivity=arguments.emissivity,
    )  # fmt: skip
    state = {name: given.fields[short][plan.start, 0].astype(np.float64) for name, short in STATE.items()}
    state["thickness"] *= plan.factor
    state["snow"] *= plan.factor if plan.snow is None else plan.snow
    at_rest = {name: np.where(given.wet, x, np.nan)[None] for name, x in state.items() if not name.startswith("ice_")}
    every = float((given.times[1] - given.times[0]) / HOUR)
    case = Case(arguments.model, arguments.config, start, hours, None, atmosphere, arguments.limit, every)
    return case, write_start(folder / "start.nc", at_rest, grid, like=arguments.like)


def run_plans(arguments: argparse.Namespace, given: Given, plans: Sequence[Plan]) -> list[Path]:
    """Runs the model for each plan that was not run, some at a time; folders in order.

    Raises:
        RuntimeError: The model failed.
    """
    folders = [arguments.folder / f"run_{n:03d}" for n in range(len(plans))]
    about = [f"{plan} {arguments.trajectories} {arguments.emissivity}" for plan in plans]
    missing = [n for n, folder in enumerate(folders) if not is_done(folder, about[n])]
    cases = {n: prepare(arguments, given, plans[n], folders[n]) for n in missing}  # netCDF does not bear threads
    with Reporter("runs of the model", len(missing)) as reporter, ThreadPoolExecutor(arguments.jobs) as pool:
        ran = pool.map(lambda n: run_model(*cases[n], folders[n]), missing)
        for n, (_, failure) in zip(missing, ran, strict=True):
            if failure:
                pool.shutdown(cancel_futures=True)
                raise RuntimeError(f"The model failed in {folders[n]}: {failure}.")
            (folders[n] / "done").write_text(about[n])
            reporter.advance(f"{plans[n]}")
    return folders


def records(given: Given, plan: Plan, folder: Path) -> dict[str, np.ndarray]:
    """States and weather of a run at the times of the given ones, by names of the file, shape (time, nj, ni).

    Raises:
        ValueError: A time is missing, or a value is not finite.
    """
    times, fields = read_output(folder / "out.nc")
    there = {int(when.astype(np.int64)): n for n, when in enumerate(times)}
    try:
        chosen = [there[int(when.astype("datetime64[s]").astype(np.int64))] for when in given.times]
    except KeyError:
        raise ValueError(
            f"{folder} lacks times, expected {given.times[0]} to {given.times[-1]}: run it again."
        ) from None
    found = {short: fields[name][chosen] for name, short in STATE.items()} | weather(given, plan)
    if bad := [name for name, x in found.items() if not np.isfinite(x[:, given.wet]).all()]:
        raise ValueError(f"{folder} has values that are not finite in {', '.join(bad)}: leave this run out.")
    return found


def write_trajectories(path: Path, like: Path, runs: Sequence[dict[str, np.ndarray]], plans: Sequence[Plan]) -> None:
    """Writes trajectories with the layout and the rounding of a file of such."""
    with netCDF4.Dataset(like) as given, atomic_path(path) as part, netCDF4.Dataset(part, "w") as file:
        file.setncatts({name: given.getncattr(name) for name in ("Conventions", "title", "source")})
        file.made_of = "; ".join(map(str, plans))
        for name, axis in given.dimensions.items():
            file.createDimension(name, len(runs) if name == "trajectory" else len(axis))
        wet = np.asarray(given["mask"][:]) > 0
        for name, x in given.variables.items():
            packed = {"zlib": True, "shuffle": True} if x.ndim > 1 else {}
            new = file.createVariable(name, x.dtype, x.dimensions, **packed)
            new.setncatts({key: x.getncattr(key) for key in x.ncattrs() if key != "_FillValue"})
            if name in runs[0]:
                step, least = float(x.quantization_step), LIMITS.get(name, (-np.inf, np.inf))
                for n, run in enumerate(runs):
                    new[n] = np.where(wet, np.clip(np.round(run[name] / step) * step, *least), 0.0)
            else:
                new[:] = np.arange(len(runs)) if name == "seed" else x[:]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="ice_trajectories", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("trajectories", type=Path, help="a file of trajectories with forcing (sic, sit, ... uas, vas, tas)")
    add("--runs", type=int, nargs="+", required=True, help="those whose weather and states may be used, from 0")
    add("--output", type=Path, required=True, help="file to write")
    add("--folder", type=Path, required=True, help="for the runs; one of before is gone on with")
    add("--model", type=Path, required=True, help="executable of neXtSIM_DG")
    add("--config", type=Path, required=True, help="its configuration; start, end, atmosphere and output are replaced")
    add("--like", type=Path, required=True, help="start file of it: coordinates, temperatures, sea surface")
    add("--atmosphere", type=Path, required=True, help="forcing file of it, for pressure and dew point")
    add("--emissivity", type=float, help="of the sky, in place of that of --atmosphere, 1")
    add("--count", type=int, default=10, help="trajectories to make (10)")
    add("--seed", type=int, default=0, help="of turns, starts and factors of thickness (0)")
    add("--mixed", action="store_true", help="add a second weather to each")
    add("--drawn", action="store_true", help="draw the weather; that of the runs is not used")
    add("--windiness", type=float, nargs=2, default=(0.4, 1.0), metavar=("LEAST", "MOST"),
        help="factors of the wind that is drawn (0.4 1.0)")
    add("--thickness", type=float, nargs=2, default=(0.8, 1.2), metavar=("LEAST", "MOST"),
        help="factors of thickness of the starts (0.8 1.2)")
    add("--snow", type=float, nargs=2, metavar=("LEAST", "MOST"), help="factors of snow (those of thickness)")
    add("--jobs", type=int, default=2, help="runs of the model at a time (2)")
    add("--limit", type=float, default=3600.0, help="seconds after which a run is ended (3600)")
    arguments = parser.parse_args(words)
    try:
        given = Given.read(arguments.trajectories)
        if wrong := [run for run in arguments.runs if not 0 <= run < len(given.fields["sic"])]:
            raise ValueError(f"--runs has {wrong}, expected 0 to {len(given.fields['sic']) - 1}.")
        if arguments.mixed and arguments.drawn:
            raise ValueError("--mixed and --drawn are both given, expected one of them.")
        for name in ("thickness", "snow", "windiness"):
            if (factors := getattr(arguments, name)) and not 0.0 < factors[0] <= factors[1]:
                raise ValueError(f"--{name} has {factors}, expected two factors above 0, the smaller first.")
        square = given.wet.shape[0] == given.wet.shape[1]
        plans = draw(arguments.runs, arguments.count, square, arguments.seed, arguments.thickness, arguments.snow,
                     arguments.mixed, arguments.windiness if arguments.drawn else None)  # fmt: skip
        folders = run_plans(arguments, given, plans)
        runs = [records(given, plan, folder) for plan, folder in zip(plans, folders, strict=True)]
        write_trajectories(arguments.output, arguments.trajectories, runs, plans)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"ice_trajectories: {error}")
    print(f"{len(runs)} trajectories are in {arguments.output}")


if __name__ == "__main__":
    main()
