"""Kills a training at random moments and holds what it leaves against a training that nobody disturbed.

The moments are drawn beforehand from the seed: while the training starts, between two steps, or while a checkpoint is
being written. After each the same command goes on. In the end weights, averages and moments must be equal bit for bit,
and the tables must hold every step once with the same losses, so that no sample was lost or seen twice.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[2] / "tests/run"))  # a basin of 13 x 19 x 4 cells, twelve states

from case import Case

MOMENTS = ("starting", "training", "writing")
LIMIT = 300.0  # s, of one launch
PAUSE = 0.002  # s between two looks at a folder
TIMINGS = {"waited", "memory", "samples_per_second"}  # columns that no two runs have in common


@dataclass(frozen=True)
class Job:
    """A training that can be launched again and again.

    Attributes:
        case: Data and configuration.
        run: Run folder.
        ranks: Processes; one needs no launcher.
        options: Words behind the configuration.
    """

    case: Case
    run: Path
    ranks: int
    options: tuple[str, ...]

    def launch(self, number: int) -> Launch:
        """Starts the command in a session of its own."""
        words = [sys.executable, "-m", "halocline", "train", str(self.case.config), f"output={self.run}", *self.options]
        if self.ranks > 1:
            words = ["mpirun", "-n", str(self.ranks), *words]
        output = self.run.with_name(f"{self.run.name}-{number}.log")
        with output.open("wb") as file:
            process = subprocess.Popen(
                words, cwd=self.case.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        return Launch(self, process, output, time.time())


@dataclass(frozen=True)
class Launch:
    """A training that runs, or has run.

    Attributes:
        job: What was started.
        process: The launcher, or the only rank.
        output: What all ranks print.
        began: When it was started, by the clock of files.
    """

    job: Job
    process: subprocess.Popen[bytes]
    output: Path
    began: float

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def finish(self, limit: float = LIMIT) -> int:
        """Waits for the end and returns the exit status; one that hangs is ended and told."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            sys.exit(f"kill_training: not finished after {limit:g} s: {self.complaint}")

    def kill(self) -> None:
        """Kills everything at once, the launcher first so that it tells nobody."""
        for process in (self.process.pid, *self._processes()):
            send_kill(process)
        self.process.wait()
        while self._processes():
            time.sleep(PAUSE)

    def kill_rank(self, rank: int) -> None:
        """Kills one rank; the others and the launcher are left to find out."""
        if self.job.ranks == 1:
            send_kill(self.process.pid)
        for process in self._processes():
            if f"OMPI_COMM_WORLD_RANK={rank}".encode() in read_bytes(Path(f"/proc/{process}/environ")).split(b"\0"):
                send_kill(process)

    def _processes(self) -> list[int]:
        """Those of the session that live."""
        found = []
        for entry in Path("/proc").iterdir():
            # "number (name) state parent group session …"; the name may hold anything
            fields = read_bytes(entry / "stat").rpartition(b") ")[2].split() if entry.name.isdigit() else []
            if len(fields) > 3 and int(fields[3]) == self.process.pid and fields[0] not in b"ZX":
                found.append(int(entry.name))
        return found

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text(errors="replace")

    @property
    def complaint(self) -> str:
        """Its error, or the last it has printed."""
        found = re.findall(r"^halocline: error.*", self.text, re.MULTILINE)
        return found[0] if found else self.text[-1000:]

    @property
    def went_on_from(self) -> str:
        """Step of the checkpoint that it took, "-" if it took none or did not come so far."""
        told = re.search(r"going on from \S*step-(\d+)", self.text)
        return str(int(told.group(1))) if told else "-"

    @property
    def writes(self) -> bool:
        """Whether it has begun a checkpoint that is not whole yet."""
        for part in self.job.run.glob("checkpoints/.step-*"):  # also those that earlier kills have left
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime > self.began:
                    return True
        return False


@dataclass(frozen=True)
class Kill:
    """A moment at which to kill.

    Attributes:
        moment: One of `MOMENTS`.
        step: Step that is to be reached before, for the last two of them.
        wait: Time to wait then, relative to the duration of a start, or of a twentieth of all steps.
        rank: Rank to kill, if only one is.
    """

    moment: str
    step: int
    wait: float
    rank: int


def draw(seed: int, kills: int, steps: int, ranks: int) -> list[Kill]:
    """Draws the moments, in the order of their steps."""
    random_numbers = random.Random(seed)
    at = sorted(random_numbers.randrange(1, max(2, steps * 7 // 10)) for _ in range(kills))
    return [
        Kill(random_numbers.choice(MOMENTS), step, random_numbers.random(), random_numbers.randrange(ranks))
        for step in at
    ]


def wait_for(launch: Launch, kill: Kill, start: float, steps: float) -> None:
    """Returns at the moment that was drawn, or at the end of the training.

    Arguments:
        launch: The training.
        kill: The moment.
        start, steps: What a start takes, and all steps, s.
    """
    if kill.moment == "starting":
        time.sleep(kill.wait * start)
        return
    run, deadline = launch.job.run, time.monotonic() + LIMIT
    while launch.runs and last_checkpoint(run) < kill.step and time.monotonic() < deadline:
        time.sleep(PAUSE)
    time.sleep(kill.wait * steps / 20)
    while kill.moment == "writing" and launch.runs and not launch.writes and time.monotonic() < deadline:
        time.sleep(PAUSE)


def last_checkpoint(run: Path) -> int:
    """Step of the last checkpoint that is whole, 0 if there is none."""
    return max((int(folder.name.removeprefix("step-")) for folder in run.glob("checkpoints/step-*")), default=0)


def last_step(run: Path) -> int:
    """Last step of which there is a trace."""
    rows = [row for row in read_table(run / "training.csv") if row["step"].isdigit()]
    return max([last_checkpoint(run), *(int(row["step"]) for row in rows)])


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table; none where there is no file."""
    with contextlib.suppress(FileNotFoundError), path.open(newline="") as file:
        return list(csv.DictReader(file))
    return []


def differences(run: Path, reference: Path, steps: int) -> Iterator[str]:
    """Says in which a run folder differs from that of the undisturbed training."""
    for path in ("generator.safetensors", f"checkpoints/step-{steps:07d}"):
        if hash_tensors(run / path) != hash_tensors(reference / path):
            yield f"{path}: other tensors"
    for name in ("training.csv", "validation.csv"):
        found, expected = (read_table(folder / name) for folder in (run, reference))
        if [row["step"] for row in found] != [row["step"] for row in expected]:
            yield f"{name}: {len(found)} rows, expected {len(expected)}, every step once"
        elif any(row.get(key) != value for row, other in zip(found, expected, strict=True)
                 for key, value in other.items() if key not in TIMINGS):  # fmt: skip
            yield f"{name}: other values"
    if [row["step"] for row in read_table(run / "training.csv")] != [str(n + 1) for n in range(steps)]:
        yield f"training.csv: not every step from 1 to {steps} once"


def hash_tensors(path: Path) -> str:
    """SHA-256 of names, types, shapes and bits of the tensors of a file, or of all files of a folder."""
    total = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        tensors = safetensors.torch.load_file(file)
        for name in sorted(tensors):
            x = tensors[name].contiguous()
            total.update(f"{file.name} {name} {x.dtype} {list(x.shape)}".encode())
            total.update(x.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def read_bytes(path: Path) -> bytes:
    """Content of a file of /proc, b"" if the process is gone."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def send_kill(process: int) -> None:
    """Sends SIGKILL to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def undisturbed(job: Job) -> tuple[float, float]:
    """Trains without a kill and returns what the start and the steps took, s."""
    began = time.monotonic()
    launch = job.launch(0)
    while launch.runs and not last_checkpoint(job.run):
        time.sleep(PAUSE)
    start = time.monotonic() - began
    if launch.finish():
        sys.exit(f"kill_training: the undisturbed training failed: {launch.complaint}")
    return start, time.monotonic() - began - start


def disturbed(job: Job, kills: Sequence[Kill], one_rank: bool, took: tuple[float, float], table: Table) -> list[str]:
    """Trains with kills, fills the table, and returns what went wrong."""
    wrong = []
    for number, kill in enumerate(kills, 1):
        launch = job.launch(number)
        wait_for(launch, kill, *took)
        if not launch.runs:
            status = launch.finish()
            wrong.append(f"launch {number} ended before it was killed, with {status}: {launch.complaint}")
            break
        if one_rank:
            launch.kill_rank(kill.rank)
            if launch.finish() == 0:
                wrong.append(f"launch {number} ended with 0 although rank {kill.rank} was killed")
        else:
            launch.kill()
        seen = "writing" if launch.writes else "training" if kill.moment == "writing" else kill.moment
        rank = f"rank {kill.rank}" if one_rank else "all"
        table.add_row(str(number), rank, seen, launch.went_on_from, str(last_step(job.run)))
    last = job.launch(len(kills) + 1)
    if status := last.finish():
        wrong.append(f"the last launch ended with {status}: {last.complaint}")
    table.add_row(str(len(kills) + 1), "none", "finished", last.went_on_from, str(last_step(job.run)))
    return wrong


def study(arguments: argparse.Namespace, folder: Path) -> bool:
    """Runs the study in a folder and returns whether all is equal."""
    console = Console()
    case = Case.write(folder / "case")
    options = (
        f"training.steps={arguments.steps}", f"training.zero={arguments.zero}", "training.checkpoint_minutes=0.002",
        f"training.validate_steps={max(1, arguments.steps // 4)}", "training.validation_members=1",
        "training.windows=free", "training.symmetries=flips",
    )  # fmt: skip
    reference = Job(case, folder / "undisturbed", arguments.ranks, options)
    console.print(f"{arguments.steps} steps on {arguments.ranks} ranks, undisturbed", highlight=False)
    took = undisturbed(reference)
    equal = True
    for seed in arguments.seeds:
        job = Job(case, folder / f"seed-{seed}", arguments.ranks, options)
        table = Table("launch", "killed", "while", "went on from step", "reached step", title=f"seed {seed}")
        kills = draw(seed, arguments.kills, arguments.steps, arguments.ranks)
        wrong = disturbed(job, kills, arguments.one_rank, took, table)
        wrong += [] if wrong else differences(job.run, reference.run, arguments.steps)
        console.print(table)
        equal &= not wrong
        verdict = "equal to the undisturbed training, bit for bit" if not wrong else "NOT EQUAL. " + "; ".join(wrong)
        console.print(f"seed {seed}: {verdict}", highlight=False, markup=False, soft_wrap=True)
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="kill_training", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes that train")
    parser.add_argument("--kills", type=int, default=10, help="kills in a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the moments; one training for each")
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps")
    parser.add_argument("--zero", type=int, default=1, choices=range(4), help="ZeRO stage")
    parser.add_argument("--one-rank", action="store_true", help="kill one rank; the others must end by themselves")
    parser.add_argument("--folder", type=Path, help="new folder to keep runs and logs in (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True)
        sys.exit(not study(arguments, arguments.folder.absolute()))
    with tempfile.TemporaryDirectory(prefix="kill_training") as folder:
        sys.exit(not study(arguments, Path(folder)))


if __name__ == "__main__":
    main()
