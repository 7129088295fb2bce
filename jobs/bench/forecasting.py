"""What a step of our own forecast costs, `forecasting.py cost`, and its memory, `forecasting.py memory`. Prints JSON.

The network of jobs/configs/ice.yaml, untrained, on 64 x 64 cells of 20 km, which are 4 tiles, with members at once as
`halocline forecast` has them. Cost: steps of 12 h by sampler, one with a first guess of the same size, on this number
of ranks; CPU seconds are those of all ranks, and apart are steps that every rank makes alone, of all tiles, at the same
time as the others: what the machine gives. Memory: the highest resident memory during forecasts that stream their
forcing from a file and whose states go nowhere, short, long, and of many members; on one rank, on Linux.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import torch
from torch import Tensor

from halocline.io.forcing import Forcing, open_forcing
from halocline.mesh.communicator import AnyCommunicator, Serial, world
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.layout import Layout
from halocline.run.config import RunConfig, read_config
from halocline.run.forecast import run_members, start_members
from halocline.run.forecast_options import ForecastOptions, Start
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator, Parameters
from halocline.run.increments import Increments
from halocline.state.state import Channels, Standardisation

CONFIG = Path(__file__).resolve().parents[1] / "configs/ice.yaml"
SIDE, WIDTH, HOURS = 64, 2.0e4, 12.0
AT_ONCE = ForecastOptions("").at_once
SAMPLERS = {
    "heun, 20 steps": ("heun", 20, False), "multistep, 8": ("multistep", 8, False),
    "multistep, 4": ("multistep", 4, False), "multistep, 8, first guess": ("multistep", 8, True),
}  # fmt: skip
ROUNDS = 3
FEW, MANY, MEMBERS = 4, 64, 16  # steps of a short and of a long forecast, members of a large one
WHEN = np.datetime64("2010-01-10T00:00:00")
RECORDS = 8  # of the forcing, which begins again after them
NAMES = {"wind_u": ("uas", "m/s"), "wind_v": ("vas", "m/s"), "air_temperature": ("tas", "degC")}


def build(comm: AnyCommunicator, sampler: str) -> Stepper:
    """Builds the steps of an untrained generator on the tiles of this rank."""
    config, grid = read_config(CONFIG), box_grid(1, SIDE, SIDE, e1=WIDTH, e2=WIDTH, latitude=80.0)
    kind, steps, guided = SAMPLERS[sampler]
    config = replace(config, sampling=replace(config.sampling, sampler=kind, steps=steps))
    generator = untrained(config, grid, guided)
    return Stepper.build(generator, Layout.build(generator.lattice, comm))


def untrained(config: RunConfig, grid: Grid, guided: bool = False) -> Generator:
    """Builds the generator of a configuration, and its first guess if it has one, without data."""
    stored = Channels.build(config.data.stored, grid)
    noise = np.random.default_rng(0).standard_normal((2, stored.count, SIDE, SIDE))
    leads = torch.tensor(config.forecast.leads, dtype=torch.float64)
    scale = torch.full((len(leads), stored.count), 0.05, dtype=torch.float64)
    shares, ones = torch.full((2, stored.count), 0.1), torch.ones(2, stored.count)
    increments = Increments(leads, scale, shares, scale, ones, torch.zeros(2, stored.count))
    standardisation = Standardisation.fit(stored, noise, grid, centre="level")
    none = Parameters.fit((), torch.zeros(2, 0))
    guess = None
    if guided:
        first = replace(config, forecast=replace(config.forecast, loss="gaussian", deterministic=True))
        guess = Generator.build(first, grid, standardisation, none, increments=increments)
        config = replace(config, forecast=replace(config.forecast, first_guess="guess"))
    return Generator.build(config, grid, standardisation, none, increments=increments, guess=guess)


def start(stepper: Stepper) -> Start:
    """A state far from most bounds."""
    names = stepper.generator.config.data.variables
    values = {"concentration": 0.9, "thickness": 1.0, "damage": 0.5, "snow": 0.2}
    return Start(WHEN, {name: np.full((SIDE, SIDE), values.get(name, 0.0), np.float32) for name in names})


def write_forcing(path: Path) -> None:
    """Writes wind and temperature that differ from record to record."""
    draw = np.random.default_rng(1)
    with netCDF4.Dataset(path, "w") as file:
        for axis, size in (("time", RECORDS), ("y", SIDE), ("x", SIDE)):
            file.createDimension(axis, size)
        clock = file.createVariable("time", "f8", ("time",))
        clock.setncatts({"units": f"hours since {str(WHEN).replace('T', ' ')}", "calendar": "standard"})
        clock[:] = HOURS * np.arange(RECORDS)
        for name, unit in NAMES.values():
            variable = file.createVariable(name, "f4", ("time", "y", "x"))
            variable.units = unit
            variable[:] = draw.standard_normal((RECORDS, SIDE, SIDE))


def cost(comm: AnyCommunicator) -> dict[str, object]:
    """Seconds of a step of all members by sampler: elapsed, of all processors, and elapsed apart."""
    steppers = {name: (build(comm, name), build(Serial(), name)) for name in SAMPLERS}
    kinds = ("elapsed", "processor", "apart")
    seconds: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in SAMPLERS}
    for number in range(ROUNDS + 1):  # the first warms up
        for name, (together, apart) in steppers.items():
            elapsed, own = timed(together, number, comm)
            alone, _ = timed(apart, number, comm)
            if number:
                found = {"elapsed": elapsed, "processor": sum(comm.allgather(own)), "apart": alone}
                for kind, value in found.items():
                    seconds[name][kind].append(value)
    return {"members": AT_ONCE, "seconds": seconds}


def timed(stepper: Stepper, number: int, comm: AnyCommunicator) -> tuple[float, float]:
    """Seconds of a step of all members until all ranks have made theirs, and of this processor."""
    members = tuple(range(AT_ONCE))
    forcing = 2 * [np.random.default_rng(2).standard_normal((len(NAMES), SIDE, SIDE)).astype(np.float32)]
    x = start_members(start(stepper), members, stepper)
    comm.barrier()
    clock, own = time.perf_counter(), time.process_time()
    stepper(x, forcing, HOURS, number, 0, members)
    own = time.process_time() - own
    comm.barrier()
    return time.perf_counter() - clock, own


def highest(stepper: Stepper, forcing: Forcing, steps: int, members: int) -> int:
    """Highest resident memory during a forecast, bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    options = ForecastOptions("", lead=HOURS, steps=steps, members=members)
    for first in range(0, members, AT_ONCE):
        group = range(first, min(first + AT_ONCE, members))
        x = start_members(start(stepper), group, stepper)
        run_members(stepper, x, forcing, WHEN, options, group, discard)
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024  # type: ignore[union-attr]


def discard(step: int, x: Tensor) -> None:
    """Keeps nothing."""


def memory(comm: AnyCommunicator) -> dict[str, object]:
    """Highest resident memory of forecasts, bytes: short ones of few members and of many, and a long one."""
    stepper = build(comm, "multistep, 4")
    with tempfile.TemporaryDirectory() as folder:
        write_forcing(Path(folder) / "forcing.nc")
        names, grid = stepper.generator.config.data.forcing, stepper.generator.grid
        forcing = open_forcing(Path(folder) / "forcing.nc", names, grid, cycle=True)
        highest(stepper, forcing, FEW, AT_ONCE)  # warms up
        cases = {"short": (FEW, AT_ONCE), "many": (FEW, MEMBERS), "long": (MANY, AT_ONCE)}
        found = {name: highest(stepper, forcing, *case) for name, case in cases.items()}
    return {"steps": (FEW, MANY), "members": (AT_ONCE, MEMBERS), **found}


def main(what: str) -> None:
    torch.set_num_threads(1)
    comm = world()
    result = {"cost": cost, "memory": memory}[what](comm)
    if comm.is_root:
        print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
