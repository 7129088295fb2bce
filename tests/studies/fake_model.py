"""A small script in the place of neXtSIM_DG, and states for it."""

import numpy as np
from start_file import sea

START = np.datetime64("2010-01-20T00:00:00")
CONFIG = """[model]
init_file = init.nc
start = 2010-01-20T00:00:00Z
stop = 2010-01-21T00:00:00Z
time_step = P0-0T00:30:00

[ERA5Atmosphere]
file = atm.nc

[ConfigOutput]
filename = old.nc
field_names = cice
"""
MODEL = '''#!{python}
"""Moves the ice by +0.01 in concentration an hour from what the start file has; the start's u says how it fails."""
import configparser, datetime, shutil, sys
import netCDF4, numpy as np
config = configparser.ConfigParser(interpolation=None)
config.read(sys.argv[2])
model, output = config["model"], config["ConfigOutput"]
start, stop = (np.datetime64(model[key].rstrip("Z")) for key in ("start", "stop"))
hours = int((stop - start) / np.timedelta64(1, "h"))
with netCDF4.Dataset(model["init_file"]) as file:
    data = file["data"]
    fields = {{name: data[name][:].data for name in ("cice", "hice", "hsnow", "damage", "u", "v")}}
    x, y = data["x"][:].data, data["y"][:].data
kind = round(float(fields["u"].max()), 2)
if kind == 0.91:
    print("no wind\\nout of range")
    sys.exit(7)
if kind == 0.92:
    hours -= 2
origin = (start - np.datetime64("1970-01-01T00:00:00")) / np.timedelta64(1, "s")

def write(path, times, change):
    with netCDF4.Dataset(path, "w") as file:
        file.createGroup("structure").type = "parametric_rectangular"
        data = file.createGroup("data")
        for name, size in (("time", None), ("ydim", {nj}), ("xdim", {ni})):
            data.createDimension(name, size)
        data.createVariable("time", "f8", ("time",))[:] = times
        for name, z in {{"x": x, "y": y, **fields}}.items():
            out = data.createVariable(name, "f8", ("time", "ydim", "xdim"))
            for k in range(len(times)):
                out[k] = z + change(name, round((times[k] - origin) / 3600))

def change(name, hour):
    if kind == 0.93 and name == "hice" and hour > 1:
        bad = np.zeros(x.shape)
        bad[1, 1], bad[1, 2] = np.nan, 1e6
        return bad
    return 0.01 * hour if name == "cice" else 0.0

every = output["period"].split("T")[1].split(":") if "period" in output else ["1"]
write(output["filename"], origin + 3600.0 * np.arange(int(every[0]), hours + 1, int(every[0])), change)
left = stop.astype(datetime.datetime).strftime(model["restart_file"])
shutil.copy(model["init_file"], left)
with netCDF4.Dataset(left, "a") as file:
    file["data"]["cice"][:] += 0.01 * hours
'''


def state(u: float = 0.1, concentration: float = 0.8) -> dict[str, np.ndarray]:
    values = {"concentration": concentration, "thickness": 1.0, "snow": 0.1, "damage": 0.5, "ice_u": u, "ice_v": 0.0}
    return {name: np.where(sea(), x, np.nan)[None] for name, x in values.items()}
