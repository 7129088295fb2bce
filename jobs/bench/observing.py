"""What observing basin adds to its run time, in its process and beside it. Prints one line of JSON.

The default grid with a step of a day. A run that is attached but never judged is the reference, so that starting Python
does not count; what remains is handing over and judging. Beside it, one emulator rank judges while the model goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "configs/basin.yaml"
YEARS, ROUNDS, DAYS = 4, 3, 360


def run(folder: Path, name: str, group: str = "", beside: Path | None = None) -> float:
    """Seconds of a run."""
    (folder / name).mkdir(exist_ok=True)
    namelist = folder / name / "namelist"
    namelist.write_text(
        f"&run cn_output='{folder / name}' nn_years={YEARS} rn_dt=86400.0 nn_states_months=6 nn_progress_years=0 /\n"
        f"{group}\n"
    )
    command = ["mpirun", "-n", "1", str(Path(sys.prefix) / "bin/basin.x"), str(namelist)]
    if beside:
        command += [":", "-n", "1", sys.executable, "-m", "halocline", "serve", str(beside)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def train(folder: Path) -> None:
    """Leaves a run folder whose thresholds and grid are those of basin; its weights do not matter here."""
    keys = [f"data.grid={folder}/plain/mesh_mask.nc", f"data.states={folder}/plain/states.nc", f"output={folder}/run"]
    command = [sys.executable, "-m", "halocline", "train", str(CONFIG), *keys, "training.steps=1", "network.width=8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"Training failed:\n{done.stderr}")


def observed(folder: Path, mode: str, every: int) -> float:
    """Seconds of a run that is judged each `every` days, or never."""
    config = folder / f"{mode}_{every}.yaml"
    settings = f"{{every: {every}, lag: {2 * (mode == 'mpmd')}, on_reject: continue}}"
    config.write_text(f"{{run: run, mode: {mode}, output: out_{mode}_{every}, observe: {settings}}}\n")
    group = f"&halocline cn_config='{config}' /"
    return run(folder, f"{mode}_{every}", group, config if mode == "mpmd" else None)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "plain")
        train(folder)
        plain = min(run(folder, "plain") for _ in range(ROUNDS))
        result: dict[str, float] = {"plain": plain, "days": YEARS * DAYS}
        for mode in ("in_process", "mpmd"):
            times = {every: min(observed(folder, mode, every) for _ in range(ROUNDS)) for every in (0, 1, 30, DAYS)}
            result |= {f"{mode}_{every}": times[every] - times[0] for every in (1, 30, DAYS)}
        print(json.dumps(result))


if __name__ == "__main__":
    main()
