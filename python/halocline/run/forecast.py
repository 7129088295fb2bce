"""`halocline forecast`: ensembles of trajectories, members × tiles over ranks, streamed to disk as they are made.

Members are made a few at a time, from start to end, so that memory does not grow with the ensemble; a step holds
the state and two records of the forcing, so that it does not grow with the length either. Every state is judged against
the range of the training states; the forecast goes on whatever the verdict. What the bits of a member depend on is in
`flow.noise` and `run.forecast_step`; not among it are the ranks, the members made beside it, or whether the job was
interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline.io.forcing import Forcing
from halocline.io.forecast_store import ForecastStore, create_forecast
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.layout import Layout
from halocline.run.budget import check_closure
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.forecast_judge import ForecastJudge, summary
from halocline.run.forecast_options import ForecastOptions, Start, forcing_of, read_start, what_is_made
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator
from halocline.run.progress import Reporter
from halocline.run.run_folder import load_content, load_generator
from halocline.run.teams import Team, form_team

__all__ = ["forecast", "run_members"]


def forecast(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Makes a forecast, or goes on with one that was interrupted.

    Raises:
        ValueError, OSError: Wrong run folder, start, forcing, or output.

    Collective: yes.
    """
    with comm.together():
        options = build(ForecastOptions, apply_overrides({}, parse_overrides(arguments)), "")
        generator = load_generator(run, options.sampling)
        check_generator(generator, options, run)
        start = read_start(generator, options)
        forcing = forcing_of(generator, options, start)
        about = what_is_made(generator, options, start, load_content(run)["crc32"])
        given = torch.tensor([[options.parameters[name] for name in generator.parameters.names]], dtype=torch.float64)
        for text in generator.parameters.beyond(given[0]) if comm.is_root else ():
            print(f"halocline: warning: {text}", flush=True)
    torch.set_num_threads(1)  # one thread per rank: part of what fixes the bits
    path = Path(options.output)
    with comm.together():
        if comm.is_root:
            prepare_output(path, generator, options, start, about)
    comm.barrier()
    with comm.together():
        store = ForecastStore(path)
    team = form_team(comm, len(generator.lattice.tiles), options.members, options.ranks_per_member)
    layout = Layout.build(generator.lattice, team.comm)
    stepper = Stepper.build(generator, layout, given[0].tolist(), options.budget, options.drift_control)
    try:
        run_team(stepper, team, options, start, forcing, store, comm)
    except Exception as error:
        if team.comm.size < comm.size:
            error.agreed = False  # type: ignore[attr-defined]  # the other teams are at work and do not know of it
        raise
    comm.barrier()
    if comm.is_root:
        print(f"{options.members} members of {options.steps} steps of {options.lead:g} h written to {path}", flush=True)
        if text := summary(store, generator):
            print(text, flush=True)


def check_generator(generator: Generator, options: ForecastOptions, run: Path) -> None:
    """Refuses what the run folder cannot forecast.

    Raises:
        ValueError: It makes states; or it has not learned the lead; or a parameter is missing or unknown; or it cannot
            close the budget or control drift.
    """
    if generator.increments is None:
        raise ValueError(
            f"{run} is a generator of states, expected one of forecasts: train with forecast.leads, or use `halocline "
            "sample`."
        )
    generator.increments.at(options.lead)
    if set(options.parameters) != set(generator.parameters.names):
        raise ValueError(
            f"parameters are {sorted(options.parameters) or 'not given'}, expected a value for each of "
            f"{list(generator.parameters.names) or 'none (the run was trained without)'}: add parameters.NAME=VALUE."
        )
    if generator.config.forecast.deterministic and options.members > 1:
        raise ValueError(f"members is {options.members}, but the network is deterministic: ask for members=1.")
    check_closure(generator, options.budget, options.drift_control)


def prepare_output(
    path: Path, generator: Generator, options: ForecastOptions, start: Start, about: dict[str, object]
) -> None:
    """Makes the file, or checks that the one that is there is of the same forecast. On the root.

    Raises:
        ValueError: It is of another one; the sentence says what differs.
    """
    hours = options.lead * np.arange(options.steps + 1)
    if not path.exists():
        tile = generator.config.lattice.tile
        names, mask = generator.config.data.variables, generator.grid.mask("T")[0]
        create_forecast(path, names, mask, tile, options.members, hours, start.when, about)
        return
    store = ForecastStore(path)
    found = store.about
    if differ := [key for key in about if found.get(key) != about[key]]:
        key = differ[0]
        raise ValueError(
            f"Output {path} is a forecast with {key} = {found.get(key)}, but now it is {about[key]}: name another "
            "output, or remove this one."
        )
    if (there := store.array("time").shape[0] - 1) != options.steps:
        raise ValueError(
            f"Output {path} is a forecast of {there} steps, but now steps is {options.steps}: name another output."
        )


def run_team(
    stepper: Stepper,
    team: Team,
    options: ForecastOptions,
    start: Start,
    forcing: Forcing | None,
    store: ForecastStore,
    comm: Communicator | Serial,
) -> None:
    """Makes the members of a team, a few at a time. Collective: yes, over all teams."""
    layout, names = stepper.layout, stepper.generator.config.data.variables
    mask, judge = stepper.mask.numpy(), ForecastJudge.build(stepper.generator, layout)
    complete = store.complete()
    groups = [team.members[n : n + options.at_once] for n in range(0, len(team.members), options.at_once)]
    done = sum(min(int(complete[m]) for m in group) for group in groups)
    total, begun = len(groups) * options.steps, time.monotonic()
    with Reporter("forecast", total, max(done, 0), comm.is_root) as reporter:
        for group in groups:
            first = min(int(complete[m]) for m in group)

            def keep(step: int, x: Tensor, group: Sequence[int] = group) -> None:
                # What is whole is neither written again nor uncounted: these members were further than the others.
                late = [n for n, member in enumerate(group) if complete[member] < step]
                members = [group[n] for n in late]
                verdicts = ["not_judged" if not v.checks else v.status for v in judge(x[late])] if late else []
                with layout.comm.together():
                    fields = np.where(mask, x[late].numpy(), np.float32(np.nan))
                    for channel, name in enumerate(names):
                        store.write(name, step, members, fields[:, :, channel], layout)
                layout.comm.barrier()
                with layout.comm.together():
                    if layout.comm.is_root:
                        store.judged(step, members, verdicts)
                        store.count(step, members)
                if step:
                    rate = (reporter.done + 1 - reporter.first) * len(group) * options.lead / 24
                    days = rate / max(time.monotonic() - begun, 1e-9)
                    reporter.advance(f"{days:.2f} model days per second")

            x = read_members(store, first, group, names, layout) if first >= 0 else start_members(start, group, stepper)
            if first < 0:
                keep(0, x)
            run_members(stepper, x, forcing, start.when, options, group, keep, max(first, 0))


def start_members(start: Start, members: Sequence[int], stepper: Stepper) -> Tensor:
    """Gives every member the state of the start, shape (member, tile, channel, j, i). Collective: no."""
    names = stepper.generator.config.data.variables
    tiles = stepper.layout.cut(np.stack([start.fields[name] for name in names]))
    x = torch.where(stepper.mask, torch.as_tensor(tiles).float(), 0)
    return x.expand(len(members), *x.shape).contiguous()


def read_members(
    store: ForecastStore, step: int, members: Sequence[int], names: Sequence[str], layout: Layout
) -> Tensor:
    """Reads members back from the file, shape (member, tile, channel, j, i), 0 on land. Collective: yes."""
    with layout.comm.together():
        return torch.from_numpy(store.read_states(names, step, members, layout))


def run_members(
    stepper: Stepper,
    x: Tensor,
    forcing: Forcing | None,
    when: np.datetime64,
    options: ForecastOptions,
    members: Sequence[int],
    keep: Callable[[int, Tensor], None],
    first: int = 0,
) -> Tensor:
    """Makes the steps of some members that are still to be made.

    Arguments:
        stepper: Of the layout.
        x: State after step `first`, shape (member, tile, channel, j, i).
        forcing: None where the network is told none.
        when: Time of the start, datetime64[s].
        options: Lead, steps, seed.
        members: Their numbers.
        keep: Called with the number of each step and its state.
        first: Steps that have been made.

    Returns:
        The last state.

    Raises:
        ValueError, OSError: The forcing cannot be read; a member has diverged.

    Collective: yes.
    """
    step = np.timedelta64(round(options.lead * 3600), "s")
    names = stepper.generator.config.data.forcing

    def read(number: int) -> np.ndarray:
        with stepper.layout.comm.together():
            if forcing is None:
                return np.zeros((0, *stepper.generator.grid.shape[-2:]), np.float32)
            fields = forcing.read(when + number * step)
            return np.stack([fields[name] for name in names])

    before = read(first)
    for number in range(first, options.steps):
        after = read(number + 1)
        x = stepper(x, (before, after), options.lead, number, options.seed, members)
        keep(number + 1, x)
        before = after
    return x
