"""One member of a campaign: start, blocks of model years, verdict, and what follows from it."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from halocline.run.campaign_config import DRIFTS, Member
from halocline.run.campaign_desk import Desk, drift
from halocline.run.campaign_model import ModelFailed, ModelNotStarted, Run, Segment, run_model
from halocline.run.campaign_starts import make_start
from halocline.run.campaign_state import ENDED, Attempt, Block, State, load, save, sweep

__all__ = ["Journey"]

START = "start.nc"


@dataclass(eq=False)
class Journey:
    """Takes a member from wherever it stands to its outcome. Each event is on disk before the next begins.

    Attributes:
        desk: Of the campaign.
        member: Whose journey it is.
        stop: Ends it, to be continued, when it is set.
    """

    desk: Desk
    member: Member
    stop: threading.Event

    def __post_init__(self) -> None:
        self.folder = Path(self.desk.config.output) / self.member.name
        self.state = load(self.folder) or State(self.member.method, self.member.parameters, self.member.number)

    def __call__(self) -> State:
        """Goes on to the outcome.

        Raises:
            OSError: The disk does not take a result.
            KeyboardInterrupt: `stop` was set.
        """
        if self.state.outcome in ENDED:
            return self.state
        self.set(dataclasses.replace(self.state, outcome="", reason=""))
        sweep(self.folder, self.state)
        while not self.state.outcome:
            if self.stop.is_set():
                raise KeyboardInterrupt
            self.thin()
            try:
                self.advance()
            except ModelNotStarted as error:
                self.finish("failed", str(error))
            except ModelFailed as error:
                self.lose(error)
                self.give_up(str(error))
        return self.state

    def thin(self) -> None:
        """Removes the files of blocks that nobody needs any more: all but the last, and years that wait for a jump."""
        blocks = self.state.last.blocks
        if self.desk.config.keep_blocks or not blocks or (blocks[-1].before and not self.state.last.verdict):
            return
        for block in blocks[:-1]:
            shutil.rmtree(self.attempt_folder / block.restart.split("/")[1], ignore_errors=True)

    def set(self, state: State) -> None:
        """Writes what has happened."""
        save(self.folder, state)
        self.state = state

    def finish(self, outcome: str, reason: str) -> None:
        """Ends the journey."""
        self.set(dataclasses.replace(self.state, outcome=outcome, reason=reason))

    def give_up(self, reason: str) -> None:
        """Rejects the attempt; a generated start is followed by another one while there are some left."""
        state = self.state.with_last(rejected=reason)
        if self.member.method == "generated" and len(state.attempts) < self.desk.config.max_attempts:
            self.set(dataclasses.replace(state, attempts=(*state.attempts, Attempt())))
        else:
            self.set(dataclasses.replace(state, outcome="rejected", reason=reason))

    @property
    def attempt_folder(self) -> Path:
        """Folder of the attempt under way."""
        return self.folder / f"attempt-{len(self.state.attempts) - 1}"

    def advance(self) -> None:
        """Makes the next event happen: a year to be extrapolated, the start, or a block."""
        last, config = self.state.last, self.desk.config
        waits = config.extrapolation.years if self.member.method == "extrapolation" else 0
        if len(last.blocks) < waits:
            self.block(1, before=True)
        elif self.member.method != "rest" and not last.verdict:
            self.start()
        else:
            self.block(config.block_years)

    def start(self) -> None:
        """Makes, judges and writes the start; a generated one that is rejected costs no model year."""
        years = [self.folder / block.restart for block in self.state.last.blocks]
        with self.desk.lock:
            begun = time.thread_time()
            try:
                fields = make_start(self.desk, self.member, len(self.state.attempts) - 1, years)
                verdict, values = self.desk.judge(fields)
                self.desk.write(self.attempt_folder / START, fields)
            except ValueError as error:
                self.give_up(f"no start could be made: {error}")
                return
            seconds = time.thread_time() - begun
        told = {"verdict": verdict.status, "reason": verdict.reason, "diagnostics": values}
        self.set(self.state.with_last(**told, start_cpu_seconds=seconds))
        if verdict.status == "reject" and self.member.method == "generated":
            self.give_up(f"its start: {verdict.reason}")

    def block(self, years: int, before: bool = False) -> None:
        """Runs a block, judges what it leaves, and decides."""
        run = self.run_twice(years, before)
        with self.desk.lock:
            try:
                verdict, values = self.desk.judge(self.desk.read(run.restart))
            except ValueError as error:  # the model ended well and left what is no state of an ocean
                raise ModelFailed(f"the model left a state that cannot be read: {error}", run.cpu_seconds) from error
        drifts = {} if before else self.drift(values)
        settled = verdict.status != "reject" and self.desk.settled(drifts)
        restart = str(run.restart.relative_to(self.folder))
        judged = (verdict.status, verdict.reason, values, drifts)
        block = Block(float(years), restart, run.cpu_seconds, *judged, settled, before)
        self.set(self.state.with_last(blocks=(*self.state.last.blocks, block)))
        if not before:
            self.decide()

    def run_twice(self, years: int, before: bool) -> Run:
        """Runs the model, and once more where it ends with an error: an ocean blows up again, a machine recovers."""
        try:
            return self.run(years, before)
        except ModelFailed as error:
            if not error.again:
                raise
            self.lose(error)
            sweep(self.folder, self.state)
            return self.run(years, before)

    def lose(self, error: ModelFailed) -> None:
        """Counts a run that was in vain."""
        last = self.state.last
        lost = last.lost_cpu_seconds + error.cpu_seconds
        self.set(self.state.with_last(lost_runs=last.lost_runs + 1, lost_cpu_seconds=lost))

    def run(self, years: int, before: bool) -> Run:
        """Runs the model from where the attempt stands."""
        blocks, config = self.state.last.blocks, self.desk.config
        jumped = bool(blocks) and blocks[-1].before and not before
        made = self.attempt_folder / START
        first = None if before or self.member.method == "rest" else made
        start = self.folder / blocks[-1].restart if blocks and not jumped else first
        done = int(sum(block.years for block in blocks))
        folder = self.attempt_folder / f"block-{len(blocks) + 1:04d}"
        seed = 1 + self.member.number + 1000 * config.seed
        return run_model(config.model, Segment(folder, self.member, start, years, done, seed), self.stop)

    def drift(self, values: dict[str, float]) -> dict[str, float]:
        """Drift up to the end of the block under way; empty where too few years lie behind it.

        What the model itself starts from at rest is not known, so that its years count from the end of the first block.
        """
        config, last = self.desk.config, self.state.last
        states = [last.diagnostics, *(block.diagnostics for block in last.blocks if not block.before)]
        if len(states) < config.window_blocks:
            return {}
        return drift(states[-config.window_blocks], values, config.window_years, config.calendar)

    def decide(self) -> None:
        """Continues, accepts, rejects, or finds that the years are used up."""
        last, config = self.state.last, self.desk.config
        blocks = [block for block in last.blocks if not block.before]
        if blocks[-1].verdict == "reject" and self.member.method == "generated":
            self.give_up(f"its state after {sum(b.years for b in blocks):g} years: {blocks[-1].reason}")
        elif len(blocks) >= config.settled_blocks and all(b.settled for b in blocks[-config.settled_blocks :]):
            self.finish("accepted", "")
        elif sum(block.years for block in last.blocks) + config.block_years > config.max_years:
            self.finish("exhausted", f"not settled after {config.max_years} years: {self.why(blocks[-1])}")

    def why(self, block: Block) -> str:
        """Says what keeps a block from being settled."""
        if block.verdict == "reject":
            return block.reason
        limits = self.desk.limits
        if not block.drift or block.settled:
            return "too few blocks to tell"
        name = max(limits, key=lambda name: abs(block.drift[name]) / limits[name])
        return f"drift of {name} is {block.drift[name]:.3g} {DRIFTS[name]}, above its limit {limits[name]:.3g}"
