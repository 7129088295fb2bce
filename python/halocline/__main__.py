"""The command line: `halocline <job> …`, the same command alone, under mpirun, or under srun."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from halocline import __version__
from halocline.mesh.communicator import Communicator, Serial, world

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Generate ocean states on the grid of a numerical model, start the model from them, judge them.",
    epilog="Every job runs alone, under mpirun, or under srun: mpirun -n 4 halocline sample RUN …",
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Options and overrides, listed below.", show_default=False),
]
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that `halocline train` made.", show_default=False)
]


def launch(job: Callable[[Communicator | Serial], None]) -> None:
    """Runs a job on all ranks and turns an error into one sentence and a non-zero exit of the whole job.

    An error that was agreed on by all ranks is printed once. Any other one is known to this rank alone, and
    the others may be waiting for it: it ends the process group. A mistake of ours is printed where it happened, with
    its place in the code.
    """
    comm = world()
    try:
        job(comm)
    except (Exception, KeyboardInterrupt) as error:
        foreseen = isinstance(error, (ValueError, OSError, RuntimeError, KeyboardInterrupt))
        agreed = comm.size == 1 or getattr(error, "agreed", False)
        speaker = 0 if foreseen else getattr(error, "origin", 0)
        if comm.rank == speaker or not agreed:
            where = "" if agreed else f" (rank {comm.rank})"
            sentence = f"halocline: error{where}: {error or type(error).__name__}\n"
            sys.stderr.write(sentence if foreseen else traceback.format_exc())
            sys.stderr.flush()
        if not agreed:
            comm.abort(1)
        sys.exit(1)


def version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        print(f"halocline {__version__}")
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all jobs."""


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, see jobs/configs.")],
    overrides: Overrides = None,
) -> None:
    """Learn the states of a model from its output. Resumes where a run folder holds a checkpoint.

    Leaves a run folder that carries everything sampling needs. Data-parallel over ranks.

    \b
    output=RUN              run folder, made if needed (required)
    data.grid=FILE          NEMO mesh_mask or domain_cfg (required)
    data.states=FILES       output or restarts; a list or patterns (required)
    data.equation_of_state=eos80
                            the model's: eos80, teos10, seos or dino
    data.free_surface=linear
                            the model's: linear, nonlinear or top_layer
    lattice.tile=[J,I]      owned cells of a tile along j and i (required)
    lattice.halo=4          cells around it that the network sees
    network.width=64        channels of the network at full resolution
    training.steps=6000     optimiser steps in all
    training.batch=16       tile windows per step, over all ranks
    training.learning_rate=0.002
                            highest rate
    training.precision=bf16 bf16 or fp32
    training.seed=0         of weights, batches, times and noise
    training.checkpoint_minutes=2
                            a killed run loses at most this
    sampling.sampler=heun   default of `halocline sample`
    sampling.steps=20       likewise
    …                       any key of the file, with dots
    """
    from halocline.run.train import train as job

    launch(lambda comm: job(config, overrides or [], comm))


@app.command()
def sample(run: Run, overrides: Overrides = None) -> None:
    """Generate states: same seed, same bits, on any number of ranks.

    Writes one netCDF file, dimensions (member, deptht, y, x), NEMO's output names, CF attributes.

    \b
    members=12              states to generate
    seed=0                  integer in [0, 2^32)
    output=states.nc        file to write
    months=[1,…,12]         month (end of) of each member in turn
    parameters.NAME=VALUE   physical parameters (required if trained with some)
    sampling.steps=20       steps from noise to data; the run's, if set there
    sampling.sampler=heun   euler, heun, ddim or ancestral; likewise
    convection=true         mix unstable columns, conserving heat and salt, as the
                            model would first; false: the network's own state
    ranks_per_member=0      ranks that share the tiles of a member; 0: chosen
    """
    from halocline.run.sample import sample as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command()
def evaluate(run: Run, overrides: Overrides = None) -> None:
    """Compare generated with reference states: profiles, maps, spectra, water masses, stability.

    Leaves report.png and table.json, prints a table.

    \b
    states=FILE             what `halocline sample` wrote (required)
    output=evaluation       folder for report.png and table.json
    reference=FILES         states to compare with (default: the training data)
    """
    from halocline.run.evaluate import evaluate as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command()
def restart(run: Run, overrides: Overrides = None) -> None:
    """Write a generated state as a NEMO restart file, from which the model starts.

    \b
    states=FILE             what `halocline sample` wrote (required)
    output=FILE             file to write; per rank: FILE_0000.nc, … (required)
    member=0                which of the states
    like=RESTART            restart of the same configuration: grid, step and
                            date to go on from (default: NEMO's namelist)
    calendar=360_day        the model's: 360_day, noleap or standard
    velocity=generated      generated, rest, or geostrophic (by T, S, sea level)
    depth_means=false       true: add uu_n, vv_n, ssha, which NEMO else computes
    per_rank=[I,J]          a file for each of I x J ranks (default: one for all)
    """
    from halocline.run.restart import restart as job

    launch(lambda comm: job(run, overrides or [], comm))


def main() -> None:
    """Entry point of the `halocline` command."""
    app()


if __name__ == "__main__":
    main()
