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
    help="Generate ocean states on the grid of a numerical model, start the model from them, judge them, "
    "and judge the model while it runs.",
    epilog="Jobs run alone, under mpirun, or under srun: mpirun -n 4 halocline sample RUN …",
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Options and overrides, listed below.", show_default=False),
]
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that `halocline train` made.", show_default=False)
]

FIRST_CODE, EXCEPTION = 80, 3  # exit codes and status of the bridge; see halocline.h


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
        agreed = comm.size == 1 or getattr(error, "agreed", False)
        speaker = 0 if foreseen(error) else getattr(error, "origin", 0)
        if comm.rank == speaker or not agreed:
            tell(error, "" if agreed else f" (rank {comm.rank})")
        if not agreed:
            comm.abort(1)
        sys.exit(getattr(error, "exit_code", 1))


def launch_beside(job: Callable[[], None]) -> None:
    """Runs a job that shares MPI's world with a model, and turns an error into the end of both.

    The model may be waiting for this rank, so whatever ends the job before its time ends the world: an exception, an
    interrupt, and a `sys.exit` of any code, too. The exit code is not 0: 80 plus the status that the model would see.
    """
    try:
        job()
    except BaseException as error:
        where, abort = place_in_world()
        tell(error, where)
        code = FIRST_CODE + getattr(error, "halocline_status", EXCEPTION)
        if abort is not None:
            abort(code)
        sys.exit(code)


def place_in_world() -> tuple[str, Callable[[int], object] | None]:
    """Names this rank, and returns what ends all ranks; nothing where MPI is not up."""
    if "mpi4py.MPI" not in sys.modules:
        return "", None
    from mpi4py import MPI

    if not MPI.Is_initialized() or MPI.Is_finalized():
        return "", None
    return f" (rank {MPI.COMM_WORLD.rank})", MPI.COMM_WORLD.Abort


def look(job: Callable[[], None]) -> None:
    """Runs a job that is no MPI job, also where a launcher's environment is around, and tells its error."""
    try:
        job()
    except Exception as error:
        tell(error)
        sys.exit(1)


def foreseen(error: BaseException) -> bool:
    """Whether an error is told in its own sentence; any other is a mistake of ours, and told with its place."""
    return isinstance(error, (ValueError, OSError, RuntimeError, KeyboardInterrupt))


def tell(error: BaseException, where: str = "") -> None:
    """Writes an error to stderr."""
    sys.stdout.flush()
    sentence = f"halocline: error{where}: {str(error) or type(error).__name__}\n"
    sys.stderr.write(sentence if foreseen(error) else traceback.format_exc())
    sys.stderr.flush()


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, on what, with how much memory, and end.")
    ] = False,
) -> None:
    """Learn the states of a model from its output. Resumes where a run folder holds a checkpoint.

    Leaves a run folder that carries everything sampling needs. Runs alone, under
    mpirun or under srun; the number of ranks and the ZeRO stage may change when
    it goes on. SIGTERM and SIGUSR1 write a checkpoint and end with exit code 75.

    \b
    output=RUN              run folder, made if needed (required)
    data.grid=FILE          NEMO mesh_mask or domain_cfg, neXtSIM_DG start file
                            (required)
    data.states=FILES       output or restarts; a list or patterns (required)
    data.store=""           training store, made or added to if needed; "":
                            data.zarr in the run folder
    data.held_out_years=[Y,Y]
                            first and last year for validation only (none)
    data.parameters=[NAMES] physical parameters in the files, numbers that
                            condition the states (none)
    data.coarsen=1          cells along i and j taken together as files are read,
                            of 1, 2, 4, 8: a generator of coarse states
    data.equation_of_state=eos80
                            the model's: eos80, teos10, seos or dino
    data.free_surface=linear
                            the model's: linear, nonlinear or top_layer
    lattice.tile=[J,I]      owned cells of a tile along j and i (required)
    lattice.halo=4          cells around it that the network sees
    coarse.factor=1         2, 4, 8: the network is told, in each cell, the coarse
                            state of the place; sampling.coarse says which
    coarse.noise=0.1        in what it is told, in standard deviations; and
                            coarse.variables=[…], those at T points (all)
    forecast.leads=[]       hours: learn how the state changes over these leads,
                            for `halocline forecast`; [] learns states
    forecast.loss=censored  likelihood of values on their bounds, or squared, or,
                            where deterministic, gaussian: mean and spread
    forecast.deterministic=false
                            true: the mean of what can follow, without noise
    forecast.first_guess=RUN
                            of deterministic forecasts of mean and spread: learn
                            what they leave open, in units of their spread (none)
    forecast.state_noise=0  on states in training, of the change over a lead: a
                            forecast learns to take away what its own carry
    data.forcing=[NAMES]    what a forecast is told, from the same files (none):
                            wind_u, wind_v (m/s), air_temperature (degC),
                            specific_humidity (kg/kg), and the degree-days (K)
                            that `halocline degree-days` makes
    data.held_out_trajectories=[N,N]
                            first and last run of the model, from 0, that are
                            never learned from (none)
    backbone=unet           or transformer, with transformer.width=192 and
                            transformer.blocks=6
    network.width=64        channels of the U-Net at full resolution
    training.steps=6000     optimiser steps in all
    training.batch=16       tile windows per step, over all ranks
    training.accumulate=1   parts in which a rank takes its share of them
    training.zero=0         ZeRO stage: shared out over the ranks are 0 nothing,
                            1 optimiser, 2 gradients, too, 3 weights, too
    training.recompute=false
                            true: compute activations twice, to save memory
    training.learning_rate=0.002
                            highest rate
    training.schedule=cosine
                            or constant; training.warm_up=100 steps before
    training.precision=bf16 bf16 or fp32
    training.centre=cell    what is learned are departures from the mean of each
                            cell; of each level; or, with conditions, of each
                            cell at its season and data.parameters
    training.windows=lattice
                            windows of the tiles, or free: anywhere where at least
                            training.least_wet=0.1 of the cells are wet
    training.scales=[1]     coarsening factors drawn, of 1, 2, 4, 8
    training.symmetries=none
                            none; turns by quarters, where the Coriolis parameter
                            hardly varies; flips or all: the network is told
    training.seed=0         of weights, batches, times and noise
    training.begin=RUN      run folder of the same network whose weights the
                            training begins with (none: random ones)
    training.time_shift=1   odds of path times, t/(1-t), over those of uniform
                            ones: above 1 more are near the noise
    training.checkpoint_minutes=2
                            a killed run loses at most this
    training.keep=2         last checkpoints kept, beside the best
    training.validate_steps=1000
                            steps between comparisons with held-out states
    training.cache=512      memory for data read, per rank, MiB
    training.ranks=0        ranks that the job must have (0: any number)
    sampling.sampler=heun   default of `halocline sample`
    sampling.steps=20       likewise
    …                       any key of the file, with dots
    """
    from halocline.run.train import train as job

    launch(lambda comm: job(config, overrides or [], comm, dry_run))


@app.command()
def data(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, see jobs/configs.")],
    overrides: Overrides = None,
) -> None:
    """Turn model output into a training store; a second run adds only what is new.

    `halocline train` does so, too. Where the files of the model are absent, a
    store is used as it is. Ranks share the work; the store does not depend on
    their number. Killed at any moment, the same command goes on.

    \b
    data.store=""           where it is, or will be; "": OUTPUT/data.zarr
    data.grid=FILE          NEMO mesh_mask or domain_cfg, neXtSIM_DG start file
    data.states=FILES       output or restarts; a list or patterns
    data.first_year=Y       years to train on; data.last_year=Y (all)
    data.held_out_years=[Y,Y]
                            years for validation only (none)
    data.held_out_trajectories=[N,N]
                            runs of the model for validation only (none)
    data.forcing=[NAMES]    kept beside the states, for forecasts (none)
    data.coarsen=1          cells along i and j taken together, of 1, 2, 4, 8
    lattice.tile=[J,I]      cells of a chunk
    training.scales=[1]     coarsening factors kept beside the states, with
                            coarse.factor
    """
    from halocline.run.data import data as job

    launch(lambda comm: job(config, overrides or [], comm))


@app.command()
def export(run: Run, overrides: Overrides = None) -> None:
    """Write the generator of a checkpoint to a folder that is small enough to share.

    Plain safetensors, the configuration and the grid; it samples like a run folder.

    \b
    output=FOLDER           made if needed (required)
    checkpoint=last         last, best (in validation), or a step
    """
    from halocline.run.export import export as job

    launch(lambda comm: job(run, overrides or [], comm))


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
    sampling.sampler=heun   euler, heun, multistep, ddim or ancestral; likewise
    sampling.constraints=none   to be met, joined by "+"; levels' means
                            of ts (temperature and salinity), c1 (density) or
                            c2 (its gradient); stability of columns; strict
                            (stable by the least change, means within two
                            standard deviations of the training states')
    sampling.constraint_form=state    the noisy state is drawn, as published;
                            estimate: penalty, gradient through the network;
                            multipliers: primal-dual, Langevin-corrected
    sampling.constraint_strength=0    0: published rate x 1; penalty 4; dual
                            step 0.5
    sampling.given=FILE     states whose fields are to be met, in turn for each
                            member; with constraint_form=estimate
    sampling.given_variables=temperature   joined by "+"; likewise
    sampling.given_levels=1   from the surface down, sampling.given_error=0.1 of
                            them in standard deviations of the training states
    sampling.coarse=PATH    for a run trained with coarse.factor: run folder of a
                            generator of coarse states (data.coarsen), which then
                            makes theirs first; or a file of coarse states, in
                            turn for each member, at the months of these
    convection=true         mix unstable columns, conserving heat and salt, as the
                            model would first; false: the network's own state
    ranks_per_member=0      ranks that share the tiles of a member; 0: chosen
    """
    from halocline.run.sample import sample as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command("degree-days")
def degree_days(
    forcing: Annotated[
        Path, typer.Argument(metavar="FORCING", help="netCDF file of forcing, or of trajectories.", show_default=False)
    ],
    overrides: Overrides = None,
) -> None:
    """Add to forcing how much the air has melted and frozen over the last month and year.

    Writes all that is in FORCING and, at each record, the degree-days per day, K:
    means of max(T - T0, 0) (positive) and max(T0 - T, 0) (freezing) of the air
    temperature T over the last 30 and 366 days, with T0 = 271.35 K. data.forcing
    calls them positive_month, freezing_month, positive_year and freezing_year; in
    files they are pdd_month, fdd_month, pdd_year and fdd_year. Name the output in
    place of FORCING, in data.states or in forcing=FILES. Of several files, such as
    one for each year, the windows go on from one to the next.

    Each trajectory begins anew: as long as a window is not filled, the mean is
    over the records that there are. Their interval must divide a day. Memory is
    that of the long window: 6 kB a cell of sea if they are six-hourly, and for
    each trajectory if there are several files.

    \b
    FILE ...                more files of the series, in any order
    output=FILE             netCDF file to write, which must not exist; of several
                            files the folder for copies of their names (required)
    """
    from halocline.run.degree_days import degree_days as job

    launch(lambda comm: job(forcing, overrides or [], comm))


@app.command()
def forecast(run: Run, overrides: Overrides = None) -> None:
    """Forecast sea ice: an ensemble from a state and forcing, step after step. Same seed, same bits, on any ranks.

    Streams to a zarr folder, (member, time, y, x), which xarray opens at any time; killed at any moment, the same
    command goes on with the same bits. The run is one that was trained with forecast.leads. Every state is judged
    against the range of the training states; the verdicts are in the folder, (member, time), and summed up at the end.

    \b
    start=FILES             state to start from: what neXtSIM or Halocline wrote
                            (required)
    state=-1                its number among those of the files; -1: the last
    forcing=FILES           wind and air temperature, from the start to the end
                            (required if trained with data.forcing)
    forcing_trajectory=N    which one, where the files hold several
    cycle=false             true: the forcing begins again when it ends
    budget=false            true: the volume of ice changes only by the freezing and
                            melting that the training states show; closed basins
    drift_control=false     true: mean concentration, damage and snow are drawn back
                            where they leave the range of the training states, and
                            drift is smoothed where it is rougher than there
    lead=12                 hours of a step, within the leads that were learned
    steps=10                steps to make
    members=8               of the ensemble
    seed=0                  integer in [0, 2^32)
    output=forecast.zarr    folder to write, or to go on with
    parameters.NAME=VALUE   physical parameters (required if trained with some)
    sampling.steps=20       steps from noise to data; the run's, if set there
    sampling.sampler=heun   euler, heun, multistep, ddim or ancestral; likewise
    sampling.times=uniform  or logistic, shorter towards the data, quadratic,
                            shorter still, or cosine, short at both ends;
                            likewise
    sampling.noise=1        standard deviation that samples start from, and
    sampling.long_waves=1   factor on its long waves: more spread; likewise. Or
                            by variable: sampling.long_waves.damage=2 ...
    sampling.short_waves=1  factor on its waves of two or three cells, likewise:
                            less than 1 makes members smoother
    sampling.memory=0       hours after which they are forgotten: more spread the
                            longer the forecast; likewise
    sampling.wind_power=0   power of the wind that the noise grows with: more
                            spread in storms than in calm weather; likewise
    sampling.blend=0        cells on either side of the edge of a tile over which
                            windows pass into one another, so that no seam is
                            left; at most the halo; likewise
    sampling.spread=1       factor on the spread of a first guess, where there is
                            one: more spread in all scales; likewise
    at_once=4               members that are made at the same time: memory
    ranks_per_member=0      ranks that share the tiles of a member; 0: chosen
    """
    from halocline.run.forecast import forecast as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command()
def calibrate(run: Run, overrides: Overrides = None) -> None:
    """Make ensembles of forecasts spread as they err, and as rough as the model is.

    Round by round makes ensembles from states of runs of the model, and changes
    the factors on long and short waves of each variable's noise by what spread
    and smallest scales are too much or too little, and the power of the wind that
    it grows with by how much less spread differs from start to start than errors
    do. Leaves a run folder with the same weights and the noise of the best round.
    Ranks under mpirun share the starts; any number of them finds the same noise.

    \b
    output=FOLDER           run folder to write (required)
    states=FILES            runs of the model with forcing (the training's)
    trajectories=[N,N]      which of them, from 0 (those held out): what was
                            trained on errs too little, and what is
                            calibrated on does not test
    starts=4                in each, spread evenly; of less than 4 in all nothing is
                            said about the wind
    lead=12                 hours of a step
    steps=10                of each forecast
    members=8               of an ensemble
    rounds=5                to make
    seed=0                  integer in [0, 2^32)
    wind=true               whether to find the powers of the wind, where the run is
                            told one; false leaves sampling.wind_power as it is
    sampling.KEY=VALUE      as for `halocline forecast`, in place of the run's: where
                            the factors begin, and what is left beside them
    """
    from halocline.run.calibration import calibrate as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command()
def evaluate(run: Run, overrides: Overrides = None) -> None:
    """Compare generated with reference states: profiles, maps, spectra, water masses, stability.

    Leaves report.png and table.json, prints a table.

    \b
    states=FILE             what `halocline sample` wrote (required)
    output=evaluation       folder for report.png and table.json
    reference=FILES         states to compare with (default: the training data)

    For a run of forecasts, which are scored by lead beside persistence, free
    drift and damped anomaly. Ranks under mpirun share the starts; the scores are
    the same, bit for bit:

    \b
    forecasts=[FOLDERS]     what `halocline forecast` wrote (required)
    trajectories=[N]        run of the reference that each is a forecast of, where
                            several have its times
    output, reference       likewise
    """
    from halocline.run.evaluate import evaluate as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command()
def restart(run: Run, overrides: Overrides = None) -> None:
    """Write a generated state as a file from which NEMO, neXtSIM_DG or classic neXtSIM starts.

    \b
    states=FILE             what `halocline sample` or `forecast` wrote (required)
    output=FILE             file to write; per rank: FILE_0000.nc, …; of classic
                            neXtSIM field_NAME, with mesh_NAME (required)
    member=0                which of the states
    hours=H                 which time of a forecast, from its start (the last)
    like=RESTART            restart of the same configuration: grid, step and
                            date to go on from (default: NEMO's namelist); of
                            classic neXtSIM its field_NAME, beside mesh_NAME
    calendar=360_day        the model's: 360_day, noleap or standard
    velocity=generated      generated, balanced (no column gains water from it),
                            geostrophic (by T, S, sea level), or rest
    sea_level=generated     generated, mean-free, or rest
    stress=rest             of ice in classic neXtSIM: rest (none), or generated,
                            where it was learned; it breaks ice where it does not
                            match the damage
    depth_means=false       true: add uu_n, vv_n, ssha, which NEMO else computes
    per_rank=[I,J]          a file for each of I x J ranks (default: one for all)
    """
    from halocline.run.restart import restart as job

    launch(lambda comm: job(run, overrides or [], comm))


@app.command()
def spinup(
    campaign: Annotated[
        Path, typer.Argument(metavar="CAMPAIGN", help="YAML file, see jobs/configs/campaign.yaml.", show_default=False)
    ],
    overrides: Overrides = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show how far the campaign is, and end; a folder of one will do, too.")
    ] = False,
) -> None:
    """Bring a model to equilibrium from generated and other starts, and report what each has cost.

    Each member: make a start, run the model in blocks of years, judge; then go
    on, accept, or reject and take another start. Killed at any moment, the same
    command goes on. Leaves report/ in the output folder. Run it alone, without
    mpirun: it starts the ranks of the model. Keys of the file:

    \b
    output=FOLDER           of the campaign, made if needed (required)
    generator=RUN           run folder of `halocline train` (required)
    store=""                training store for baselines; "": the generator's
    methods=METHODS         rest, generated, mean, nearest, interpolated,
                            extrapolation (rest and generated)
    members=8               of each method and parameter value
    parameters=LIST         of NAME: VALUE, to run (none: the model's own)
    seed=0                  of the starts; month=12 at whose end they stand
    workers=1               model runs at once
    block_years=10          years between two looks at a member
    drift_years=0           over which drift is taken; 0: one block
    settled_blocks=1        blocks in a row at whose ends drift must be small
    max_years=1000          most years from one start
    max_attempts=3          generated starts that a member may use up
    drift.NAME=VALUE        limits of temperature_deep (degC/century),
                            salinity_deep (1e-3/century),
                            heat_content_per_area (W/m2), ...
    equilibrium=FILES       states of runs whose drift is the limit, where it is
                            not given
    velocity, sea_level     as for `halocline restart`
    keep_blocks=false       true: keep the files of all blocks, not the last's
    model.command=PROGRAM   started with the path of its namelist
    model.namelist=FILE     template; model.set fills it in
    model.restart=PATTERN   what a run leaves in its folder
    model.ranks=1           of a run; model.limit_minutes=60 that it may take
    model.environment.NAME  value of a variable of its environment
    task=N                  work on this of tasks=M shares only
    report=true             only report on what is there
    """
    from halocline.run.spinup import spinup as job
    from halocline.run.spinup import status as show

    if status:
        look(lambda: show(campaign, overrides or []))
    else:
        launch(lambda comm: job(campaign, overrides or [], comm))


@app.command()
def serve(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file that the model names, too.", show_default=False)
    ],
) -> None:
    """Generate and judge for a running model, on ranks beside it, in one MPI job.

    \b
    mpirun -n 4 model : -n 2 halocline serve CONFIG
    srun --kill-on-bad-exit=1 --multi-prog FILE

    As many ranks as wanted, up to the number of tiles; they end with the model.
    Keys of the file, with their defaults:

    \b
    run=RUN                 run folder of `halocline train` (required)
    output=halocline        folder for verdicts.log and trajectory.nc
    deadline=300            longest wait for an answer, s
    generate_deadline=3600  longest wait for a generated state, s
    idle_deadline=3600      longest wait for the next call of the model, s
    on_fault=stop           stop, or continue: the model goes on alone
    generate.seed=0         state that the model starts from; as in `halocline
    generate.member=0       sample` and `halocline restart`
    generate.month=0        end of month 1 to 12; 0: nearest to the model's date
    generate.velocity=generated
                            generated, balanced, geostrophic or rest
    generate.sea_level=generated
                            generated, mean-free or rest
    observe.every=1         time steps between verdicts
    observe.lag=0           verdicts that the model may be ahead
    observe.diagnostics=judged
                            judged (those with limits) or all
    observe.on_suspect=continue
                            continue, stop or fallback
    observe.on_reject=stop  likewise
    record=FOLDER           record what passes, for `halocline replay`
    """
    from halocline.run.peer import serve as job

    launch_beside(lambda: job(config))


@app.command()
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Output folder of a coupled run.", show_default=False)
    ],
    once: Annotated[bool, typer.Option("--once", help="Show the newest verdict and end.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="S", help="Time between two looks, s.")] = 2.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that has not begun.")] = False,
) -> None:
    """Show the verdicts on a running model as they come: values, limits, history.

    Reads only files, so it runs on a login node. Ctrl-C ends it.
    In a pipe, the lines of verdicts.log follow each other as they come.
    """
    from halocline.run.watch import watch as job

    look(lambda: job(folder, once, every, wait))


@app.command()
def replay(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the bridge.", show_default=False)],
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="Folder that `record` named in a coupled run.", show_default=False)
    ],
) -> None:
    """Play recorded traffic to the emulator, without the model, and compare bit for bit.

    Any number of ranks, whatever the recorded run had. Prints how many
    verdicts and generated states are equal, and the first difference.
    Exits with 1 if there is one.
    """
    from halocline.run.replay import replay as job

    launch(lambda comm: job(config, record, comm))


def main() -> None:
    """Entry point of the `halocline` command."""
    app()


if __name__ == "__main__":
    main()
