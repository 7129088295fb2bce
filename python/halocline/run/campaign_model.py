"""One run of the model in a folder of its own: namelist, links, processes, time limit, and the restart that it leaves.

The model ends with this process, however that ends: nothing goes on writing where the next command works.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import f90nml
import yaml

from halocline.run.campaign_config import Member, ModelConfig

__all__ = ["ModelFailed", "ModelNotStarted", "Run", "Segment", "run_model"]

LOG = "model.log"
POLL = 0.05  # s between looks at a model that runs
BANNER = re.compile(r"^-{20,}\n.*?^-{20,}$", re.DOTALL | re.MULTILINE)
GRACE = 10.0  # s in which a model that is told to end may do so
NOT_STARTED = (126, 127)  # what a shell, and mpirun, say of a program that cannot be executed
GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit(143)
try: os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error: sys.exit(print(error, flush=True) or 127)
"""
"""Asks the kernel to end the model with its parent (PR_SET_PDEATHSIG), and becomes the model."""


class ModelFailed(RuntimeError):
    """A run of the model that did not end well; `cpu_seconds` is what it has cost.

    Where `again` is true the machine may be to blame, and the same run may end well.
    """

    def __init__(self, text: str, cpu_seconds: float, again: bool = False) -> None:
        super().__init__(text)
        self.cpu_seconds, self.again = cpu_seconds, again


class ModelNotStarted(RuntimeError):
    """The program of the model cannot be executed."""


@dataclass(frozen=True)
class Segment:
    """What is to be run.

    Attributes:
        folder: Of the run, made anew.
        member: Whose it is.
        start: Restart to begin with; None: from rest.
        years: To run.
        years_before: Since the start of the attempt.
        seed: Of the model.
    """

    folder: Path
    member: Member
    start: Path | None
    years: int
    years_before: int
    seed: int

    def words(self, model: ModelConfig, namelist: Path) -> dict[str, object]:
        """What stands for the names in braces."""
        start = self.start or Path("rest")
        first = 1 + self.years_before * model.steps_per_year
        return {
            "start": start, "start_folder": start.parent, "start_name": start.name.removesuffix(".nc"),
            "years": self.years, "output": self.folder, "name": self.member.name, "seed": self.seed,
            "first_step": first, "last_step": first - 1 + self.years * model.steps_per_year,
            "ranks": model.ranks, "namelist": namelist,
        }  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run that has ended well: its last restart, and processor time of all its processes, s."""

    restart: Path
    cpu_seconds: float


def run_model(model: ModelConfig, segment: Segment, stop: threading.Event) -> Run:
    """Runs the model once, in an empty folder.

    Arguments:
        model: How.
        segment: What.
        stop: Ends the run when it is set.

    Raises:
        ModelNotStarted: The program cannot be executed.
        ModelFailed: It ended with an error, took too long, or left no restart.
        KeyboardInterrupt: `stop` was set.
        ValueError: A text of the configuration has an unknown name in braces.

    Collective: no.
    """
    namelist = segment.folder / Path(model.namelist).name
    words = segment.words(model, namelist)
    command = command_of(model, words)
    segment.folder.mkdir(parents=True)
    write_namelist(model, segment, words, namelist)
    link_files(model, segment.folder)
    environment = {**os.environ, **model.environment}
    status, cpu_seconds, seconds = execute(command, segment.folder, environment, 60 * model.limit_minutes, stop)
    log = segment.folder / LOG
    if status is None:
        raise ModelFailed(f"the model took longer than {seconds / 60:.3g} minutes; its output is {log}", cpu_seconds)
    if status in NOT_STARTED:
        raise ModelNotStarted(f"the model cannot be started ({last_line(log)}); its output is {log}")
    if status:
        text = f"the model ended with status {status} ({last_line(log)}); its output is {log}"
        raise ModelFailed(text, cpu_seconds, again=True)
    restarts = sorted(segment.folder.glob(model.restart))
    if not restarts:
        raise ModelFailed(f"the model left no {model.restart} in {segment.folder}", cpu_seconds)
    return Run(restarts[-1], cpu_seconds)


def write_namelist(model: ModelConfig, segment: Segment, words: Mapping[str, object], path: Path) -> None:
    """Writes the template with the changes of a run."""
    content = f90nml.read(model.namelist)
    changes: dict[str, Any] = {**model.set, **(model.rest if segment.start is None else {})}
    for key, value in changes.items():
        change(content, key, fill(value, words, key) if isinstance(value, str) else value)
    for name, value in segment.member.parameters.items():
        change(content, model.parameters[name], value)
    content.write(path)


def change(content: f90nml.Namelist, key: str, value: object) -> None:
    """Sets one variable of a namelist, in a group that may be new."""
    group, variable = key.split(".")
    content.setdefault(group, f90nml.Namelist())[variable] = value


def fill(text: str, words: Mapping[str, object], key: str) -> Any:
    """Puts values into a text; what then reads as a number or a logical is one.

    Raises:
        ValueError: A name in braces is unknown.
    """
    try:
        filled = text.format_map(words)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"'{text}' of {key} has a name in braces that is none of {', '.join(words)}.") from error
    value = yaml.safe_load(filled) if "{" in text else filled
    return value if isinstance(value, (bool, int, float)) else filled


def command_of(model: ModelConfig, words: Mapping[str, object]) -> list[str]:
    """Words that start the model.

    Raises:
        ModelNotStarted: There is no such program.
    """
    command = [str(word).format_map(words) for word in model.command]
    if not any("{namelist}" in word for word in model.command):
        command.append(str(words["namelist"]))
    launcher = [word.format_map(words) for word in model.launcher] if model.ranks > 1 else []
    for program in (*launcher[:1], command[0]):
        if shutil.which(program) is None:
            raise ModelNotStarted(f"the model cannot be started: {program} is no program that can be executed here")
    return [*launcher, *command]


def link_files(model: ModelConfig, folder: Path) -> None:
    """Links what the model expects in its folder; what the run has of its own is left."""
    for pattern in map(Path, model.files):
        for path in sorted(pattern.parent.glob(pattern.name)):
            link = folder / path.name
            if not link.exists():
                link.symlink_to(path)


def execute(
    command: list[str], folder: Path, environment: Mapping[str, str], limit: float, stop: threading.Event
) -> tuple[int | None, float, float]:
    """Runs a command to its end.

    Returns:
        Exit status, 128 and more for signals, or None if it took longer than the limit; processor time, s; limit, s.

    Raises:
        KeyboardInterrupt: `stop` was set.
    """
    guarded = [sys.executable, "-I", "-S", "-c", GUARD, str(os.getpid()), *command]
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            guarded, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + limit
    while True:
        pid, state, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(state)
            status = process.returncode if process.returncode >= 0 else 128 - process.returncode
            return status, usage.ru_utime + usage.ru_stime, limit
        if stop.is_set() or time.monotonic() > deadline:
            break
        stop.wait(POLL)
    seconds = end(process)
    if stop.is_set():
        raise KeyboardInterrupt
    return None, seconds, limit


def end(process: subprocess.Popen[bytes]) -> float:
    """Ends a model and what it has started, and returns the processor time that they took, s."""
    os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while True:
        pid, state, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(state)
            return float(usage.ru_utime + usage.ru_stime)
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(POLL)


def last_line(log: Path) -> str:
    """The last words of a model, before those of an MPI that was aborted, which come between rules."""
    text = BANNER.sub("", log.read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
