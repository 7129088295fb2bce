"""Forecasts of sea ice from starts in runs of the model that were held out, scored against what the model did.

A forecast is named as NAME=RUN[,key=value...], where the keys are those of the section `sampling`, so that one table
holds several generators, or several samplers of one: with few evaluations and with many. Ranks under mpirun share the
starts; the forecasts are the same.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from halocline.__main__ import launch
from halocline.io.atomic import atomic_path
from halocline.io.models import StateSource, open_states
from halocline.io.nemo import States
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.coherence import measure_coherence, print_coherence, write_coherence
from halocline.run.config import apply_overrides, parse_overrides
from halocline.run.forecast_maps_figure import Example
from halocline.run.forecast_report import leave_report
from halocline.run.forecast_score_baselines import Baselines, Training, add_baselines, fit_baselines
from halocline.run.forecast_score_cases import Case
from halocline.run.forecast_score_drift import DRIFT_HOURS
from halocline.run.forecast_scores import score_forecasts
from halocline.run.generator import Generator
from halocline.run.hindcast import ensemble
from halocline.run.outputs import table_console
from halocline.run.progress import Reporter
from halocline.run.run_folder import WEIGHTS, load_generator


@dataclass(frozen=True)
class Trajectories:
    """States and forcing of the runs of the model.

    Attributes:
        fields: Variable to shape (run, time, nj, ni), 0 on land.
        step: Hours between states.
    """

    fields: dict[str, np.ndarray]
    step: float

    @classmethod
    def read(cls, source: StateSource) -> Trajectories:
        """Reads runs of equal length."""
        time = source.stamps.time
        count = int(np.flatnonzero(np.diff(time) <= 0)[0]) + 1
        states = source.read(np.arange(len(source)))
        fields = {k: np.nan_to_num(x[:, 0]).reshape(-1, count, *x.shape[2:]) for k, x in states.fields.items()}
        return cls(fields, float(24 * (time[1] - time[0])))


@dataclass(frozen=True)
class Entry:
    """A forecast to be made: its name, what was asked for, its generator and that one's digest, and its members.

    The digest tells a generator from one that was trained further, or given other noise, in the same folder.
    """

    name: str
    text: str
    generator: Generator
    digest: str
    members: int

    @classmethod
    def parse(cls, text: str, members: int) -> Entry:
        """Reads NAME=RUN[,key=value...]."""
        name, _, rest = text.partition("=")
        run, *overrides = rest.split(",")
        generator = load_generator(Path(run), apply_overrides({}, parse_overrides(overrides)))
        digest = hashlib.sha256((Path(run) / WEIGHTS).read_bytes()).hexdigest()[:16]
        return cls(name, text, generator, digest, 1 if generator.config.forecast.deterministic else members)


def make(entry: Entry, run: dict[str, np.ndarray], first: int, every: int, lead: float, steps: int, seed: int) -> dict:
    """Makes the members of a forecast of one start, variable to shape (member, time, nj, ni)."""
    cut = {name: x[first : first + steps * every + 1 : every] for name, x in run.items()}
    return ensemble(entry.generator, cut, lead, entry.members, seed)


def starts(arguments: argparse.Namespace, data: Trajectories) -> tuple[int, list[tuple[int, int]]]:
    """Records of a step, and run and record of each start, spread over the runs."""
    every = round(arguments.lead / data.step)
    length = next(iter(data.fields.values())).shape[1]
    firsts = np.linspace(0, length - 1 - arguments.steps * every, arguments.starts).astype(int).tolist()
    return every, [(run, first) for run in arguments.runs for first in firsts]


def place_of(arguments: argparse.Namespace, entry: Entry, run: int, first: int) -> Path:
    """File in which the forecasts of a start are kept."""
    return Path(arguments.folder / f"{entry.name}_{run}_{first}.npz".replace(" ", "_"))


def asked_for(arguments: argparse.Namespace, entry: Entry) -> str:
    """What a kept forecast was made of, and must be asked for again."""
    size = f"{entry.members} members, {arguments.steps} steps of {arguments.lead:g} h"
    return f"{entry.text}, {size}, generator {entry.digest}"


def is_made(path: Path, asked: str) -> bool:
    """Whether a forecast has been made before.

    Raises:
        ValueError: Another one has, under its name.
    """
    if not path.exists():
        return False
    with np.load(path) as file:
        kept = str(file["asked"]) if "asked" in file else "something older"
    if kept != asked:
        raise ValueError(f"File {path} holds {kept}, expected {asked}: choose another --folder or another name.")
    return True


def make_all(
    arguments: argparse.Namespace, entries: list[Entry], data: Trajectories, comm: Communicator | Serial
) -> None:
    """Makes the forecasts of all starts that were not made before. Collective: yes."""
    every, places = starts(arguments, data)
    mine = range(comm.rank, len(places), comm.size)
    with comm.together(), Reporter("starts", len(mine), 0, comm.is_root) as reporter:
        for number in mine:
            run, first = places[number]
            here = {name: x[run] for name, x in data.fields.items()}
            for entry in entries:
                path = place_of(arguments, entry, run, first)
                asked = asked_for(arguments, entry)
                if not is_made(path, asked):
                    made = make(entry, here, first, every, arguments.lead, arguments.steps, number)
                    with atomic_path(path) as temporary, temporary.open("wb") as file:
                        np.savez(file, asked=asked, **made)
            reporter.advance()


def cases(arguments: argparse.Namespace, entries: list[Entry], data: Trajectories) -> Iterator[Case]:
    """Reads all forecasts of each start in turn, and what the model did."""
    every, places = starts(arguments, data)
    hours = tuple(arguments.lead * n for n in range(arguments.steps + 1))
    state = entries[0].generator.config.data.variables
    for run, first in places:
        made = {}
        for entry in entries:
            with np.load(place_of(arguments, entry, run, first)) as file:
                made[entry.name] = {name: file[name] for name in state}
        cut = {name: x[run, first : first + arguments.steps * every + 1 : every] for name, x in data.fields.items()}
        truth = {name: cut[name] for name in state}
        yield Case(hours, truth, made, {k: x for k, x in cut.items() if k not in state})


def add_size(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which forecasts, and how many."""
    parser.add_argument("--runs", type=int, nargs="+", default=[6, 7], help="runs to forecast (%(default)s)")
    parser.add_argument("--starts", type=int, default=4, help="in each run (%(default)s)")
    parser.add_argument("--lead", type=float, default=12.0, help="hours of a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps (%(default)s)")
    parser.add_argument("--members", type=int, default=8, help="of an ensemble (%(default)s)")


def main() -> None:
    """Makes and scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("states", help="trajectories with forcing, such as those of the training")
    parser.add_argument("forecasts", nargs="+", metavar="NAME=RUN[,key=value]", help="the first is drawn")
    parser.add_argument("--folder", type=Path, default=Path("ice_study"), help="what is left (%(default)s)")
    parser.add_argument("--train", type=int, nargs="+", default=list(range(6)), help="of the baselines (%(default)s)")
    add_size(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    launch(partial(study, arguments))


def study(arguments: argparse.Namespace, comm: Communicator | Serial) -> None:
    """Makes the forecasts, and scores them on one rank. Collective: yes."""
    with comm.together():
        arguments.folder.mkdir(parents=True, exist_ok=True)
        entries = [Entry.parse(text, arguments.members) for text in arguments.forecasts]
        generator = entries[0].generator
        data = Trajectories.read(open_states(arguments.states, generator.config.data.stored, generator.grid))
    make_all(arguments, entries, data, comm)
    with comm.together():
        if comm.is_root:
            score(arguments, entries, data)


def score(arguments: argparse.Namespace, entries: list[Entry], data: Trajectories) -> None:
    """Scores the forecasts, draws them, and prints what is left."""
    generator, name = entries[0].generator, entries[0].name
    baselines = fit(arguments, generator, data)
    found = map(partial(add_baselines, baselines=baselines, grid=generator.grid), cases(arguments, entries, data))
    kept: list[Case] = []
    ends: dict[int, list[Case]] = {n: [] for n in (1, arguments.steps)}

    def remember(case: Case) -> Case:
        kept[:] = [case]
        for n, cut in ends.items():
            cut.append(only(case, n, name))
        return case

    scores = score_forecasts(map(remember, found), generator.grid)
    example = Example(kept[0], name, arguments.lead * min(arguments.steps, 4), DRIFT_HOURS)
    leave_report(arguments.folder, scores, generator.grid, example)
    for n, cut in ends.items():
        print(f"\nseams of {name} after {arguments.lead * n:g} h, against the model at the same times")
        coherence = measure_coherence(*states_of(cut, name), generator.grid, generator.lattice)
        print_coherence(coherence, table_console())
        write_coherence(arguments.folder / f"seams_{arguments.lead * n:g}h.csv", coherence)


def only(case: Case, n: int, name: str) -> Case:
    """A case cut to one time and one forecast."""
    cut = {variable: x[:, n] for variable, x in case.forecasts[name].items()}
    return Case((case.hours[n],), {variable: x[n] for variable, x in case.truth.items()}, {name: cut})


def states_of(cases: list[Case], name: str) -> tuple[States, States]:
    """Members and truths of all starts, as states of one month."""
    sets = []
    for fields in ([case.forecasts[name] for case in cases], [{k: x[None] for k, x in c.truth.items()} for c in cases]):
        joined = {k: np.concatenate([f[k] for f in fields])[:, None] for k in fields[0]}
        count = len(next(iter(joined.values())))
        zero = np.zeros(count)
        sets.append(States(joined, zero.astype(int), zero.astype(int) + 1, zero, zero, {}))
    return sets[0], sets[1]


def fit(arguments: argparse.Namespace, generator: Generator, data: Trajectories) -> Baselines:
    """Fits the baselines to the runs that were learned from."""
    chosen = {name: x[arguments.train] for name, x in data.fields.items()}
    names = generator.config.data.variables
    training = Training(
        {k: chosen[k] for k in names}, {k: x for k, x in chosen.items() if k not in names}, data.step
    )
    return fit_baselines(training, generator.grid, tuple(arguments.lead * (n + 1) for n in range(arguments.steps)))


if __name__ == "__main__":
    main()
