"""Runs of neXtSIM_DG from start files: configuration, executable, diagnostics.

Nothing here is collective: one process runs one model after the other.
"""

from __future__ import annotations

import configparser
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.nextsim import write_start
from halocline.io.nextsim_files import DGFile
from halocline.io.nextsim_states import DG_NAMES
from halocline.mesh.grid import Grid

__all__ = ["Case", "duration", "is_done", "read_output", "run_model", "start_model", "start_of"]

EPOCH = np.datetime64("1970-01-01T00:00:00")
LAST_LINES = 3  # of a log, that are told of a run that failed


@dataclass(frozen=True)
class Case:
    """How the model is run.

    Attributes:
        model: Executable of neXtSIM_DG.
        config: Its configuration; what this class names is replaced in it, and so are start file and output.
        start: When the model starts, datetime64[s].
        hours: Length of the run.
        restart_every: Hours between two restarts; the length of the run if left out.
        atmosphere: Forcing file in place of the one that the configuration names.
        limit: Seconds after which the model is ended.
        output_every: Hours between two states of the diagnostics.
    """

    model: Path
    config: Path
    start: np.datetime64
    hours: float
    restart_every: float | None = None
    atmosphere: Path | None = None
    limit: float = 600.0
    output_every: float = 1.0

    def restart(self, folder: Path) -> Path:
        """The first restart that a run leaves in a folder."""
        when = self.start + duration(self.hours if self.restart_every is None else self.restart_every)
        return folder / f"end.{str(when)[:13].replace('-', '')}.nc"


def start_of(config: Path) -> np.datetime64:
    """When the model starts by a configuration.

    Raises:
        ValueError: It is not one of neXtSIM_DG.
    """
    return np.datetime64(_read(config)["model"]["start"].rstrip("Z"), "s")


def start_model(
    case: Case, fields: Mapping[str, np.ndarray], grid: Grid, folder: Path, *, like: Path
) -> tuple[Path, str]:
    """Writes a state as a start file and runs the model from it.

    Arguments:
        case: How.
        fields: As for `write_start`.
        grid: Of the configuration.
        folder: For start file, output and log; made if it is not there.
        like: Start or restart file of the configuration.

    Returns and raises: as `run_model`, and as `write_start`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return run_model(case, write_start(folder / "start.nc", fields, grid, like=like), folder)


def run_model(case: Case, start: Path, folder: Path) -> tuple[Path, str]:
    """Runs the model from a start file or restart.

    Returns:
        Its diagnostics, which may end early or not be there, and why it failed; "" if it did not.

    Raises:
        ValueError: The configuration has no sections `model` and `ConfigOutput`.
        OSError: A file cannot be written, or the executable cannot be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "out.nc"
    output.unlink(missing_ok=True)
    _configure(case, start, folder, output)
    with (folder / "log").open("w") as log:
        command = [str(case.model.resolve()), "--config-file", "case.cfg"]
        try:
            done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, timeout=case.limit, check=False)
        except subprocess.TimeoutExpired:
            return output, f"not finished after {case.limit:g} s"
    if done.returncode == 0:
        return output, ""
    last = " / ".join((folder / "log").read_text(errors="replace").strip().splitlines()[-LAST_LINES:])
    return output, f"the model ended with {done.returncode}: {last or 'no word'}"


def is_done(folder: Path, about: str) -> bool:
    """Whether a run ended well in a folder, in which its caller then wrote a file `done` that says what it was.

    Raises:
        ValueError: It was another one, whose states would be taken for those of this.
    """
    done = folder / "done"
    if not done.exists():
        return False
    if (found := done.read_text()) != about:
        raise ValueError(f"{folder} holds the run {found}, expected {about}: name another folder, or remove that one.")
    return True


def _read(config: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    if not parser.read(config) or not {"model", "ConfigOutput"} <= set(parser.sections()):
        raise ValueError(f"Configuration {config} lacks sections model and ConfigOutput, expected one of neXtSIM_DG.")
    return parser


def _configure(case: Case, start: Path, folder: Path, output: Path) -> None:
    """Writes the configuration of a run; files that it names beside itself are found from the new folder too."""
    parser = _read(case.config)
    for section in parser.sections():
        for key, value in parser[section].items():
            beside = case.config.parent / value
            if section != "model" and beside.is_file():
                parser[section][key] = str(beside.resolve())
    parser["model"].update({
        "init_file": str(start.resolve()), "start": f"{case.start}Z", "stop": f"{case.start + duration(case.hours)}Z",
        "restart_period": _period(case.hours if case.restart_every is None else case.restart_every),
        "restart_file": "end.%Y%m%dT%H.nc",
    })  # fmt: skip
    parser["ConfigOutput"].update({
        "start": f"{case.start}Z", "period": _period(case.output_every), "filename": output.name,
        "field_names": ",".join([*DG_NAMES.values(), "sigma_I", "sigma_II"]),
    })  # fmt: skip
    if case.atmosphere is not None:
        parser["ERA5Atmosphere"]["file"] = str(case.atmosphere.resolve())
    with (folder / "case.cfg").open("w") as file:
        parser.write(file)


def duration(hours: float) -> np.timedelta64:
    return np.timedelta64(round(3600 * hours), "s")


def _period(hours: float) -> str:
    """A length of time as the model reads it: days, hours, minutes."""
    minutes = round(60 * hours)
    return f"P0-{minutes // 1440}T{minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


def read_output(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reads diagnostics as they are: values that are no numbers stay, to be counted.

    Returns:
        Times, datetime64[s]; and variable to (time, nj, ni), damage 0 where intact, land included.

    Raises:
        FileNotFoundError, OSError, ValueError: The file is missing, damaged, or lacks a variable.
    """
    file = DGFile(path)
    fields = {name: file.read_mean(model) for name, model in DG_NAMES.items()}
    fields["damage"] = 1.0 - fields["damage"]
    return EPOCH + np.round(file.read("time")).astype("timedelta64[s]"), fields
