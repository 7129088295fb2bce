"""What a campaign has on disk: its configuration, and what has happened to each member. Killed, it goes on from there.

::

    OUTPUT/campaign.yaml            the campaign, resolved; a folder of another one is refused
    OUTPUT/lock                     byte n is locked by the process that works on member n
    OUTPUT/MEMBER/state.json        what has happened; a block is done when it says so
    OUTPUT/MEMBER/attempt-0/        start.nc and a folder for each run of the model
    OUTPUT/report/                  pictures and tables

Each event replaces state.json in one step. What lies in a folder and is not in state.json is a run that was killed:
it is thrown away and made again, with the same start, namelist and seed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from halocline.io.atomic import atomic_path
from halocline.run.campaign_config import CampaignConfig, write_campaign
from halocline.run.config_reader import build

__all__ = ["CAMPAIGN", "ENDED", "STATE", "Attempt", "Block", "Locks", "State", "claim_folder", "load", "save", "sweep"]

CAMPAIGN, STATE, LOCK = "campaign.yaml", "state.json", "lock"
CHANGEABLE = ("workers", "limit_minutes", "output")  # what the same campaign may be given anew
ENDED = ("accepted", "rejected", "exhausted")
"""Outcomes that stand. "failed", a model that could not be started, is tried again by the next command."""


@dataclass(frozen=True)
class Block:
    """A run of the model that has ended well.

    Attributes:
        years: Of the model.
        restart: That it left, relative to the member's folder.
        cpu_seconds: Of all its processes.
        verdict, reason: On the state that it left.
        diagnostics: Of that state, those of `DRIFTS`.
        drift: Over the last `drift_years`; empty where the state before them is unknown.
        settled: Whether drift and verdict are those of an equilibrium.
        before: Whether it is a year of a spin-up that is to be extrapolated.
    """

    years: float
    restart: str
    cpu_seconds: float
    verdict: str
    reason: str
    diagnostics: dict[str, float]
    drift: dict[str, float] = field(default_factory=dict)
    settled: bool = False
    before: bool = False


@dataclass(frozen=True)
class Attempt:
    """A start and what came of it.

    Attributes:
        verdict: On the start, "" before it is made and for rest.
        diagnostics: Of the start, those of `DRIFTS`; empty for rest.
        start_cpu_seconds: That making it took, in this process.
        blocks: That followed.
        lost_runs: Of the model, that did not end well.
        lost_cpu_seconds: That they took.
        rejected: Why it was given up; "" otherwise.
    """

    verdict: str = ""
    reason: str = ""
    diagnostics: dict[str, float] = field(default_factory=dict)
    start_cpu_seconds: float = 0.0
    blocks: tuple[Block, ...] = ()
    lost_runs: int = 0
    lost_cpu_seconds: float = 0.0
    rejected: str = ""


@dataclass(frozen=True)
class State:
    """A member.

    Attributes:
        method, parameters, number: Which one.
        outcome: "" while it is under way, else "accepted", "rejected", "exhausted" (of its years) or "failed".
        reason: Of the outcome.
        attempts: The last one is under way.
    """

    method: str
    parameters: dict[str, float]
    number: int
    outcome: str = ""
    reason: str = ""
    attempts: tuple[Attempt, ...] = (Attempt(),)

    @property
    def years(self) -> float:
        """Model years integrated, those of rejected starts included."""
        return sum(block.years for attempt in self.attempts for block in attempt.blocks)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the model, and of making the starts."""
        others = sum(attempt.lost_cpu_seconds + attempt.start_cpu_seconds for attempt in self.attempts)
        return others + sum(block.cpu_seconds for attempt in self.attempts for block in attempt.blocks)

    @property
    def last(self) -> Attempt:
        """The attempt under way."""
        return self.attempts[-1]

    def with_last(self, **changes: Any) -> State:
        """Returns the member with changes of its last attempt."""
        return dataclasses.replace(self, attempts=(*self.attempts[:-1], dataclasses.replace(self.last, **changes)))


def load(folder: Path) -> State | None:
    """Reads the state of a member; None where nothing has happened.

    Raises:
        ValueError: The file is damaged.

    Collective: no.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        return build(State, json.loads(path.read_text()), "")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove {folder}, and the member begins anew.") from error


def save(folder: Path, state: State) -> None:
    """Writes the state of a member, whole or not at all.

    Raises:
        OSError: The disk does not take it; what happened before stands.

    Collective: no.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / STATE) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(state), indent=1) + "\n")


def sweep(folder: Path, state: State) -> None:
    """Throws away what a killed run has left in the folder of a member.

    Collective: no.
    """
    done = {block.restart.split("/")[1] for block in state.last.blocks}
    for path in (folder / f"attempt-{len(state.attempts) - 1}").glob("block-*"):
        if path.name not in done:
            shutil.rmtree(path)


def claim_folder(config: CampaignConfig, found: Mapping[str, Any]) -> Path:
    """Makes the folder of a campaign, or finds that it is its own.

    Arguments:
        config: Resolved campaign.
        found: What else defines it: digests of files, limits of drift.

    Raises:
        ValueError: The folder belongs to something else; the sentence names what differs.
        OSError: It cannot be made.

    Collective: no.
    """
    folder = Path(config.output)
    mine = {**yaml.safe_load(write_campaign(config)), **found}
    path = folder / CAMPAIGN
    folder.mkdir(parents=True, exist_ok=True)
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    if names and CAMPAIGN not in names:
        raise ValueError(f"Folder {folder} holds files and no {CAMPAIGN}: choose another output.")
    if not names:  # of several processes that begin together each writes the same
        with atomic_path(path) as temporary:
            temporary.write_text(yaml.safe_dump(mine, sort_keys=False))
    theirs = yaml.safe_load(path.read_text())
    if different := first_difference(mine, theirs if isinstance(theirs, dict) else {}):
        raise ValueError(
            f"Folder {folder} holds another campaign: {different}. Choose another output, or remove the folder."
        )
    return folder


def first_difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], where: str = "") -> str:
    """Names the first key in which two campaigns differ; "" if they are the same."""
    for key in dict.fromkeys((*mine, *theirs)):
        a, b = mine.get(key), theirs.get(key)
        if a == b or key in CHANGEABLE:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            if inner := first_difference(a, b, f"{where}{key}."):
                return inner
            continue
        return f"{where}{key} is {b} there and {a} here"
    return ""


class Locks:
    """Members that this process alone works on; the locks end with the process, however it ends.

    Arguments:
        folder: Of the campaign.
        numbers: Places of the members in the campaign.

    Raises:
        OSError: Another process works on one of them.

    Collective: no.
    """

    def __init__(self, folder: Path, numbers: Sequence[int]) -> None:
        self.file: BinaryIO = open(folder / LOCK, "ab")  # noqa: SIM115 (as long as this object)
        for number in numbers:
            try:
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError as error:
                self.file.close()
                raise OSError(
                    f"Another process works on campaign {folder}: let it end, or give each process its share with "
                    "task=N tasks=M."
                ) from error

    def release(self) -> None:
        """Gives the members free."""
        self.file.close()
