"""Stands in for a model: relaxes the temperature of a restart towards an equilibrium, as fast as its namelist says.

Usage: relaxing_model.py NAMELIST. With wind its mode is "drifts" (for ever), "dies" (with status 1, after it has
begun), "breaks" (leaves NaN) or "waits" (never ends).
"""

import shutil
import sys
import time
from pathlib import Path

import f90nml
import netCDF4
import numpy as np

run = f90nml.read(sys.argv[1])["run"]
output, mode = Path(run["output"]), run["mode"] if run["wind"] > 0 else "settles"
print("begins", run["start"], flush=True)
with open(run["log"], "a") as log:
    log.write(f"begins {output}\n")
time.sleep(run["seconds"])
if mode == "dies":
    (output / "half.nc").touch()
    sys.exit("the ocean has blown up")
while mode == "waits":
    time.sleep(1)
path = output / "model_restart.nc"
shutil.copy(run["start"], path)
with netCDF4.Dataset(run["equilibrium"]) as file:
    goal = file["tn"][:].filled(0)
with netCDF4.Dataset(path, "r+") as file:
    x = file["tn"][:].filled(0)
    y = goal + (x - goal) * np.exp(-run["years"] / run["relaxation"])
    file["tn"][:] = {"drifts": x + (x != 0) * 0.05 * run["years"], "breaks": np.nan}.get(mode, y)
with open(run["log"], "a") as log:
    log.write(f"ends {output}\n")
