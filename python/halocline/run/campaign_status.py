"""`halocline spinup --status`: how far a campaign is. It reads only files, so it runs anywhere and at any time."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from halocline.run.campaign_config import CampaignConfig, Member, read_campaign
from halocline.run.campaign_state import CAMPAIGN, ENDED, STATE, State, load
from halocline.run.config_reader import build

__all__ = ["Progress", "status"]

LINES = 20  # members under way that are shown
WIDTH = 140  # characters of a line where there is no terminal
OUTCOMES = ("waiting", "under way", "accepted", "rejected", "exhausted", "failed")


@dataclass(frozen=True)
class Progress:
    """A campaign as its files tell it.

    Attributes:
        config: Resolved.
        limits: Of drift.
        members: With their states, None where nothing has happened.
    """

    config: CampaignConfig
    limits: Mapping[str, float]
    members: Sequence[tuple[Member, State | None]]

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """Reads the files of a campaign.

        Raises:
            FileNotFoundError: The folder holds no campaign.
            ValueError: A file is damaged.

        Collective: no.
        """
        path = folder / CAMPAIGN
        if not path.is_file():
            raise FileNotFoundError(f"Folder {folder} holds no campaign yet: start it with `halocline spinup`.")
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict) or not {"limits", "fingerprints"} <= set(values):
            raise ValueError(f"{path} is no record of a campaign: name the campaign file, or its output folder.")
        limits = values.pop("limits")
        values.pop("fingerprints")
        config = build(CampaignConfig, {**values, "output": str(folder)}, "")
        return cls(config, limits, [(member, load(folder / member.name)) for member in config.every_member()])

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return all(state is not None and state.outcome in ENDED for _, state in self.members)


def status(path: Path, arguments: Sequence[str] = (), every: float = 2.0) -> None:
    """Shows how far a campaign is: once into a pipe, on a terminal until it has ended, or Ctrl-C.

    Arguments:
        path: Campaign file, or the folder of a campaign.
        arguments: `key=value` overrides of the file, such as output.
        every: Time between two looks, s.

    Raises:
        FileNotFoundError, ValueError: There is no such campaign, or its files are damaged.

    Collective: no.
    """
    folder = path if path.is_dir() else Path(read_campaign(path, arguments).output)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    try:
        progress = Progress.read(folder)
        if progress.ended or not console.is_terminal:
            console.print(view(folder, progress))
            return
        with Live(view(folder, progress), console=console, auto_refresh=False) as live:
            while not progress.ended:
                time.sleep(every)
                progress = Progress.read(folder)
                live.update(view(folder, progress), refresh=True)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def view(folder: Path, progress: Progress) -> Group:
    """Draws the tables: all methods, and the members under way."""
    parts: list[Table | Text] = [methods_table(folder, progress)]
    under_way = [(m, s) for m, s in progress.members if s is not None and s.outcome not in ENDED]
    if under_way:
        parts.append(members_table(folder, progress, under_way[:LINES]))
    if len(under_way) > LINES:
        parts.append(Text(f"and {len(under_way) - LINES} more"))
    return Group(*parts)


def methods_table(folder: Path, progress: Progress) -> Table:
    """One row for each method."""
    table = Table(title=f"{folder}: {len(progress.members)} members")
    for n, column in enumerate(("method", *OUTCOMES, "model years", "CPU hours")):
        table.add_column(column, justify="right" if n else "left")
    for method in progress.config.methods:
        states = [state for member, state in progress.members if member.method == method]
        counts = Counter("waiting" if s is None else s.outcome or "under way" for s in states)
        known = [s for s in states if s is not None]
        years, hours = sum(s.years for s in known), sum(s.cpu_seconds for s in known) / 3600
        table.add_row(method, *(str(counts[name] or "") for name in OUTCOMES), f"{years:g}", f"{hours:.3g}")
    return table


def members_table(folder: Path, progress: Progress, members: Sequence[tuple[Member, State]]) -> Table:
    """One row for each member under way: drift in units of its limit."""
    table = Table(title="drift of the last block / limit")
    for n, column in enumerate(("member", "start", "years", *progress.limits, "verdict", "minutes ago")):
        table.add_column(column, justify="right" if n else "left")
    for member, state in members:
        last = state.last.blocks[-1] if state.last.blocks else None
        drifts = [f"{last.drift[k] / x:+.2f}" if last and last.drift else "" for k, x in progress.limits.items()]
        verdict = state.outcome or (last.verdict if last else state.last.verdict)
        minutes = (time.time() - (folder / member.name / STATE).stat().st_mtime) / 60
        table.add_row(member.name, str(len(state.attempts)), f"{state.years:g}", *drifts, verdict, f"{minutes:.0f}")
    return table
