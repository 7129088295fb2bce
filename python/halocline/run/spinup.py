"""`halocline spinup`: a campaign of model runs from generated and other starts, until each has settled or failed."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.campaign_config import CampaignConfig, Member, read_campaign
from halocline.run.campaign_desk import Desk
from halocline.run.campaign_member import Journey
from halocline.run.campaign_report import report
from halocline.run.campaign_starts import far_parameters
from halocline.run.campaign_state import Locks, State, claim_folder
from halocline.run.campaign_status import status
from halocline.run.config_reader import build, parse_overrides
from halocline.run.run_folder import WEIGHTS

__all__ = ["spinup", "status"]

BASELINES = ("mean", "nearest", "interpolated")  # need a training store


@dataclasses.dataclass(frozen=True)
class Share:
    """What this command does of a campaign: a share of its members, or the report alone.

    Attributes:
        task: Number of the share, from 0.
        tasks: Shares; 0: one process does all, and reports.
        report: Whether only to report on what is there.
    """

    task: int = 0
    tasks: int = 0
    report: bool = False

    def __post_init__(self) -> None:
        if self.tasks < 0 or not 0 <= self.task < max(1, self.tasks):
            raise ValueError(f"task is {self.task} with tasks={self.tasks}, expected a number from 0 to tasks - 1.")

    def of(self, count: int) -> list[int]:
        """Numbers of its members. They are dealt out in a random order, the same for all, so that shares are alike."""
        order = range(count) if self.tasks < 2 else np.argsort(np.random.Philox(key=0).random_raw(count)).tolist()
        return sorted(order[self.task :: max(1, self.tasks)])


def spinup(path: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Runs a campaign, or goes on with it, and reports.

    Arguments:
        path: Campaign file.
        arguments: `key=value` overrides; besides the keys of the file `task`, `tasks` and `report`.
        comm: This process alone: the model starts processes of its own.

    Raises:
        ValueError, OSError: The campaign, its generator or its folder is wrong.
        RuntimeError: No run of the model has ended well.

    Collective: yes.
    """
    with comm.together():
        if comm.size > 1:
            raise ValueError(
                f"halocline spinup was started on {comm.size} ranks, expected one process, which starts the model by "
                "itself: leave mpirun out, and set workers and model.ranks."
            )
        own = {field.name for field in dataclasses.fields(Share)}
        mine = [a for a in arguments if a.partition("=")[0] in own]
        share: Share = build(Share, parse_overrides(mine), "")
        config = read_campaign(path, [a for a in arguments if a not in mine])
        torch.set_num_threads(1)  # part of what fixes the bits of generated states
        desk = Desk.open(config)
        folder = claim_folder(config, identity(config, desk))
        if not share.report:
            warn(desk)
            open_store(desk)
            numbers = share.of(len(config.every_member()))
            locks = Locks(folder, numbers)
            try:
                check_runs(work(desk, [config.every_member()[n] for n in numbers]))
            finally:
                locks.release()
        if share.report or share.tasks < 2:
            print(report(desk), flush=True)


def identity(config: CampaignConfig, desk: Desk) -> dict[str, Any]:
    """What defines a campaign besides its file."""
    files = {"generator": Path(config.generator) / WEIGHTS, "namelist": Path(config.model.namelist)}
    digests = {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()}
    return {"fingerprints": digests, "limits": dict(desk.limits)}


def warn(desk: Desk) -> None:
    """Warns of parameters that nobody has learned."""
    for sentence in far_parameters(desk):
        print(f"halocline: warning: {sentence}", file=sys.stderr, flush=True)


def open_store(desk: Desk) -> TrainingStore | None:
    """Opens the training store where a method needs one, before anything is run."""
    return desk.store if any(method in BASELINES for method in desk.config.methods) else None


def work(desk: Desk, members: Sequence[Member]) -> list[State]:
    """Takes members to their outcomes, several at once.

    Raises:
        OSError: A disk does not take a result; the others end at once, to be continued.
    """
    stop, states = threading.Event(), []
    with ThreadPoolExecutor(desk.config.workers) as pool:
        jobs = {pool.submit(Journey(desk, member, stop)): member for member in members}
        try:
            for job in as_completed(jobs):
                states.append(job.result())
                print(f"{jobs[job].name}: {told(states[-1])}", flush=True)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return states


def told(state: State) -> str:
    """The outcome in words."""
    attempts = f", start number {len(state.attempts)}" if len(state.attempts) > 1 else ""
    reason = f": {state.reason}" if state.reason else ""
    return f"{state.outcome} after {state.years:g} model years{attempts}{reason}"


def check_runs(states: Sequence[State]) -> None:
    """Refuses to report on a campaign in which the model never ran.

    Raises:
        RuntimeError: Every first run has failed.
    """
    dead = [state for state in states if state.outcome == "failed" or any(a.lost_runs for a in state.attempts)]
    if states and len(dead) == len(states) and not any(state.years for state in states):
        raise RuntimeError(f"No run of {len(states)} members has ended well; of the first, {states[0].reason}.")
