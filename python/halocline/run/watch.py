"""A live view of a coupled run in a terminal. It reads the files that the run leaves, and nothing else.

On a terminal the view is drawn anew every few seconds; into a pipe or a file go the lines of the log, as they come.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from halocline.io.trajectory import Recent, read_recent
from halocline.run.check_text import Limits, concern, number, ok_text, reject_text

__all__ = ["LOG", "TRAJECTORY", "watch"]

LOG, TRAJECTORY = "verdicts.log", "trajectory.nc"
COLOURS = {"ok": "green", "suspect": "yellow", "reject": "red", "unjudged": "bright_black", "unchecked": "bright_black"}
BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
MARKS = {"ok": ".", "suspect": "s", "reject": "R", "unjudged": "?"}
HISTORY = 120  # states that are read: more than a line holds
CURVE, SHORTEST_CURVE = 24, 6  # characters of the history of a check
WIDTH = 92  # characters of a line without it
UNLIMITED = 140  # characters of a line where there is no terminal
TITLES = 2  # lines of the table that are not checks: the titles, and how many there are more
POLL = 0.2  # s between looks at a growing log


def watch(folder: Path, once: bool = False, every: float = 2.0, wait: bool = False) -> None:
    """Shows the verdicts of a run until interrupted.

    Arguments:
        folder: Output folder of the run.
        once: Show the newest state and end.
        every: Time between two looks at the files, s.
        wait: Whether to wait for files that are not there yet.

    Raises:
        FileNotFoundError: There are none, and `wait` is false.
        OSError, ValueError: They cannot be read, or are something else.

    Collective: no.
    """
    if not every > 0:
        raise ValueError(f"--every is {every:g}, expected a time in seconds above 0.")
    console = Console()
    if not console.is_terminal:
        console.width = UNLIMITED
    try:
        await_files(folder, wait, every)
        if once:
            console.print(view(folder, console))
        elif console.is_terminal:
            show(folder, console, every)
        else:
            follow(folder / LOG, every)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def await_files(folder: Path, wait: bool, every: float) -> None:
    """Returns once a run has begun to write."""
    told = False
    while not (folder / LOG).is_file():
        if not wait:
            raise FileNotFoundError(
                f"Folder {folder} has no {LOG}: name the output folder of a coupled run, or wait for it with --wait."
            )
        if not told:
            print(f"waiting for {folder / LOG}", file=sys.stderr, flush=True)
        told = True
        time.sleep(every)


def follow(log: Path, every: float) -> None:
    """Prints the lines of the log, old and new."""
    with log.open("rb") as file:
        rest = b""
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                print(line.decode(errors="replace"))
            if lines:
                sys.stdout.flush()
            time.sleep(min(every, POLL))


def show(folder: Path, console: Console, every: float) -> None:
    """Draws the view again and again."""
    with Live(view(folder, console), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(view(folder, console), refresh=True)


def view(folder: Path, console: Console) -> Group | Text:
    """Draws the newest state and the history before it."""
    path = folder / TRAJECTORY
    if not path.is_file():
        return Text(f"{folder}: no verdict yet")
    recent = read_recent(path, HISTORY)
    if not recent.total:
        return Text(f"{folder}: no verdict yet")
    above = Group(header(folder, recent), history(recent, console), Text())
    used = len(console.render_lines(above)) + TITLES
    room = max(1, console.height - used) if console.is_terminal else len(recent.checks)
    return Group(above, checks(recent, console, room))


def header(folder: Path, recent: Recent) -> Text:
    """Says what is watched, and the newest verdict."""
    level = recent.levels[-1]
    age = max(0.0, time.time() - (folder / TRAJECTORY).stat().st_mtime)
    text = Text(f"{folder}, emulator {recent.attributes['run']}\n", style="bright_black")
    text.append(f"{recent.clocks[-1]}, step {recent.steps[-1]}: ", style="default")
    text.append(level.upper(), style=f"bold {COLOURS[level]}")
    text.append(f", the model was told to {recent.actions[-1]}; written {_ago(age)} ago\n", style="default")
    text.append(recent.reasons[-1], style="default")
    return text


def history(recent: Recent, console: Console) -> Text:
    """One character for each of the newest verdicts, and how many there were of each level."""
    counts = Counter(recent.levels)
    text = Text()
    for level in recent.levels[-max(CURVE, console.width - 2) :]:
        text.append(MARKS[level], style=COLOURS[level])
    told = ", ".join(f"{counts[level]} {level}" for level in MARKS if counts[level])
    newest = f"the newest {len(recent.levels)}" if len(recent.levels) < recent.total else "all"
    return text.append(f"\n{recent.total} verdicts; {newest}: {told}", style="bright_black")


def checks(recent: Recent, console: Console, room: int) -> Table:
    """Lists as many checks as there is room for, those nearest to their limits first."""
    curve = min(CURVE, console.width - WIDTH)
    titles = ["check", "value", "ok", "reject", "status", "history"]
    shown = titles if curve >= SHORTEST_CURVE else titles[:-1] if curve >= 0 else titles[:-2]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in shown:
        table.add_column(title, no_wrap=True, justify="right" if title == "value" else "left")
    limits: list[Limits] = [(row[0], row[1], row[2], row[3]) for row in recent.limits.tolist()]
    order = sorted(range(len(limits)), key=lambda n: _rank(recent, n, limits[n]))
    for n in order[:room]:
        status, value = str(recent.statuses[-1, n]), float(recent.values[-1, n])
        line = sparkline(recent.values[-max(1, curve) :, n], _bars(console))
        told = "-" if status == "unchecked" else number(value)
        cells = (recent.checks[n], told, ok_text(limits[n]), reject_text(limits[n]), status, line)
        table.add_row(*cells[: len(shown)], style="" if status == "ok" else COLOURS[status])
    if len(order) > room:
        table.add_row(f"and {len(order) - room} more", style="bright_black")
    return table


def _rank(recent: Recent, n: int, limits: Limits) -> tuple[bool, float]:
    """Sorts by concern, checks that were not made last."""
    unchecked = bool(recent.statuses[-1, n] == "unchecked")
    return unchecked, 0.0 if unchecked else -concern(float(recent.values[-1, n]), limits)


def sparkline(values: np.ndarray, bars: str = BARS) -> str:
    """Draws numbers as a line of bars from the lowest to the highest; "x" where one is not finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "x" * len(values)
    low, extent = finite.min(), np.ptp(finite)
    places = [
        bars[round((value - low) / extent * (len(bars) - 1)) if extent else 0] if np.isfinite(value) else "x"
        for value in values
    ]
    return "".join(places)


def _bars(console: Console) -> str:
    return BARS if "utf" in console.encoding.lower() else ASCII_BARS


def _ago(seconds: float) -> str:
    """A duration in one unit."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
