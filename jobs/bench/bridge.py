"""What the bridge costs a model in whose process it runs. Prints one line of JSON.

A host in C, compiled here as a model would be, hands a 256 x 256 x 36 double field to an untrained generator: seconds
of a call at a step that is not due, and of one that is. Beside it: handing the same field over (host rectangle to
tiles, without judging) against a copy of the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import alternate, best

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.run.bridge import Bridge
from halocline.run.config import DataConfig, LatticeConfig, RunConfig
from halocline.run.generator import Generator, Parameters
from halocline.run.run_folder import save_generator, start_run_folder
from halocline.state.state import Channels, Standardisation

NK, NJ, NI = 36, 256, 256
TILE = (64, 64)
STEPS, CALLS = 3, 100000


def make_run(folder: Path) -> None:
    """Leaves the run folder of an untrained generator of temperature."""
    grid = box_grid(NK, NJ, NI)
    config = RunConfig(DataConfig("", (), ("temperature",)), LatticeConfig(TILE, 4), str(folder))
    channels = Channels.build(config.data.variables, grid)
    sea = channels.mask(grid)[None] * 1.0
    standardisation = Standardisation.fit(channels, np.concatenate([sea, 2 * sea]), grid)
    generator = Generator.build(config, grid, standardisation, Parameters.fit((), torch.zeros(2, 0)))
    start_run_folder(folder, generator)
    save_generator(folder, generator, generator.denoiser.network.state_dict())


def host_times(folder: Path, config: Path) -> dict[str, float]:
    """Seconds of calls in a host in C."""
    host, prefix = folder / "host", Path(sys.prefix)
    place = [f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib"]
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["mpicc", "-O2", str(source), *place, "-lhalocline", "-o", str(host)], check=True)
    command = [str(host), str(config), str(NI), str(NJ), str(NK), str(STEPS), str(CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"The host failed:\n{done.stdout}{done.stderr}")
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def hand_over(config: Path) -> dict[str, float]:
    """Seconds of handing a field over, and of a copy."""
    field, copy = np.full((NK, NJ, NI), 10.0), np.zeros((NK, NJ, NI))
    stride = (1, NI, NI * NJ)
    bridge = Bridge.build(Serial(), config)
    bridge.grid(NI, NJ, NK, 0, 0, NI, NJ, np.ones((NK, NJ, NI)).data.cast("B"), stride)
    bridge.field("temperature", "T", "degC", 8, NK, field.data.cast("B"), stride)
    bridge.ready("360_day", 3600.0, 0, 10101)
    times = alternate({"hand_over": bridge.exchange.hand_over, "copy": lambda: np.copyto(copy, field)}, rounds=20)
    return {name: best(seconds) for name, seconds in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_run(folder / "run")
        config = folder / "bridge.yaml"
        config.write_text("{run: run, output: out, observe: {every: 1000000, on_reject: continue}}\n")
        print(json.dumps({"bytes": 8 * NI * NJ * NK, **host_times(folder, config), **hand_over(config)}))


if __name__ == "__main__":
    main()
