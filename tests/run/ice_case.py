"""A tiny case of sea ice in neXtSIM's files: a start file for the grid, trajectories with wind, odd sizes, land."""

from pathlib import Path

import netCDF4
import numpy as np
import yaml

NJ, NI, WIDTH = 13, 19, 2.0e4
TILE = (8, 8)  # 2 x 3 tiles, of which one is land
TIMES, RUNS, HOURS = 9, 3, 6.0

CONFIG = {
    "data": {
        "grid": "init.nc", "states": ["trajectories.nc"],
        "variables": ["concentration", "thickness", "damage", "snow", "ice_u", "ice_v"],
        "forcing": ["wind_u", "wind_v", "air_temperature"], "held_out_trajectories": [2, 2],
    },
    "lattice": {"tile": list(TILE), "halo": 2},
    "network": {"width": 8, "multipliers": [1, 2], "blocks": 1, "embedding": 16, "cell_features": 0},
    "forecast": {"leads": [6, 12]},
    "sigma_given": 0.7,
    "training": {
        "steps": 30, "batch": 4, "centre": "level", "precision": "fp32", "validate_steps": 0, "learning_rate": 5e-3,
        "warm_up": 10,
        "seed": 5,
    },
    "sampling": {"sampler": "heun", "steps": 2, "tile_batch": 4},
    "output": "run",
}  # fmt: skip

UNITS = {"sic": "1", "sit": "m", "sid": "1", "snt": "m", "siu": "m/s", "siv": "m/s", "uas": "m/s", "vas": "m/s",
         "tas": "degC"}  # fmt: skip


def sea() -> np.ndarray:
    """Land around, one tile of land, and a cell of it in the middle."""
    mask = np.ones((NJ, NI), bool)
    mask[0], mask[:, 0], mask[8:, 8:16], mask[5, 4] = False, False, False, False
    return mask


def trajectories() -> dict[str, np.ndarray]:
    """Waves that move with the wind, clipped to the bounds, (trajectory, time, y, x), float32."""
    y, x = np.mgrid[:NJ, :NI] / 6.0
    run, time = (a[..., None, None] for a in np.meshgrid(np.arange(RUNS), np.arange(TIMES), indexing="ij"))
    phase = 0.6 * time + 1.7 * run
    wind = 5.0 * np.sin(0.5 * phase) + 0.0 * x
    wave = np.sin(x + phase) * np.cos(y - 0.5 * phase)
    fields = {
        "sic": np.clip(0.95 + 0.2 * wave, 0, 1), "sit": np.clip(1.0 + 0.6 * wave + 0.02 * time, 0, None),
        "sid": np.clip(0.5 + 0.8 * np.cos(x - phase), 0, 1), "snt": np.clip(0.1 + 0.12 * wave, 0, None),
        "siu": 0.02 * wind + 0.02 * wave, "siv": -0.01 * wind + 0.02 * wave, "uas": wind, "vas": 0.5 * wind + wave,
        "tas": -15.0 + 3.0 * wave,
    }  # fmt: skip
    mask = sea()
    return {name: np.where(mask, field, 0.0).astype(np.float32) for name, field in fields.items()}


def write_grid(path: Path) -> None:
    """A start file, as far as it tells the grid."""
    j, i = np.meshgrid(np.arange(NJ + 1.0), np.arange(NI + 1.0), indexing="ij")
    with netCDF4.Dataset(path, "w") as file:
        for name in ("structure", "metadata"):
            file.createGroup(name).type = "parametric_rectangular"
        data = file.createGroup("data")
        for name, size in {"ydim": NJ, "xdim": NI, "yvertex": NJ + 1, "xvertex": NI + 1, "ncoords": 2}.items():
            data.createDimension(name, size)
        data.createVariable("mask", "f8", ("ydim", "xdim"))[:] = sea()
        data.createVariable("coords", "f8", ("yvertex", "xvertex", "ncoords"))[:] = WIDTH * np.stack([i, j], axis=-1)
        for name, corner in (("x", i), ("y", j)):
            data.createVariable(name, "f8", ("ydim", "xdim"))[:] = WIDTH * (corner[:-1, :-1] + 0.5)


def write_trajectories(path: Path, **changed: np.ndarray) -> None:
    """All fields, mask and time; `changed` in place of some of them."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"trajectory": RUNS, "time": TIMES, "y": NJ, "x": NI}.items():
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "hours since 2010-01-10 00:00:00", "standard"
        time[:] = HOURS * np.arange(TIMES)
        file.createVariable("mask", "i1", ("y", "x"))[:] = sea()
        for name, field in (trajectories() | changed).items():
            variable = file.createVariable(name, "f4", ("trajectory", "time", "y", "x"))
            variable.units = UNITS[name]
            variable[:] = field


def write_case(folder: Path, **sections: dict[str, object]) -> Path:
    """Writes grid, trajectories and configuration; returns the last."""
    write_grid(folder / "init.nc")
    write_trajectories(folder / "trajectories.nc")
    config = {k: {**v, **sections.get(k, {})} if isinstance(v, dict) else v for k, v in CONFIG.items()}
    path = folder / "ice.yaml"
    path.write_text(yaml.safe_dump(config | {k: v for k, v in sections.items() if k not in config}))
    return path
