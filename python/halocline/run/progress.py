"""Progress of long work, told by one rank: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Reporter", "seconds"]

LINE_INTERVAL = 15.0  # s between lines where there is no terminal


def seconds(duration: float) -> str:
    """Formats a duration as 1:02:03 or 2:03."""
    whole = max(0, round(duration))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Reporter:
    """Context manager that reports steps of a job.

    Arguments:
        title: What is being done.
        total: Steps in all.
        done: Steps already done (a resumed job).
        speaks: Whether this rank reports.
    """

    def __init__(self, title: str, total: int, done: int = 0, speaks: bool = True) -> None:
        self.title, self.total, self.done, self.first = title, total, done, done
        self.speaks = speaks
        self.started = self.spoken = time.monotonic()
        self.console = Console()
        # mpirun gives its ranks a terminal of their own, wherever its own output goes.
        launched = "OMPI_COMM_WORLD_SIZE" in os.environ
        self.bar = self._make_bar() if speaks and self.console.is_terminal and not launched else None

    def _make_bar(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        return Progress(*columns, console=self.console)

    def __enter__(self) -> Reporter:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, note: str = "") -> None:
        """Counts one step; `note` is shown beside it."""
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.task, advance=1, note=note)
        elif self.speaks and self._due():
            self._line(note)

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self.spoken < LINE_INTERVAL and self.done < self.total:
            return False
        self.spoken = now
        return True

    def _line(self, note: str) -> None:
        elapsed = time.monotonic() - self.started
        left = elapsed / (self.done - self.first) * (self.total - self.done)
        text = f"{self.title}: {self.done}/{self.total}, {seconds(elapsed)} gone, {seconds(left)} left"
        print(f"{text}, {note}" if note else text, flush=True)
