"""Training: what interrupts it costs little and changes nothing, and neither does the number of ranks."""

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from case import (
    KILLED,
    STEPS,
    Case,
    accident,
    alone,
    averaged,
    command,
    here,
    last_step,
    losses,
    same_bits,
    seasonal_states,
    write_output,
)

from halocline.io.nemo import read_member
from halocline.run import trainer
from halocline.run.checkpoints import find_checkpoint, folders
from halocline.run.config import read_config
from halocline.run.run_folder import WEIGHTS, load_generator
from halocline.run.shards import KINDS

SHORT = "training.steps=12"

# Gradients of several ranks are added in another order, in float32: 1e-7 of the largest. Adam divides by their size,
# so that where a gradient is that small a weight may go a part of a step (2e-2) astray; 1e-5 was seen. Losses do not
# feel such weights, but are written with six digits. Another sample, time or noise on any rank changes them by 1e-1.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-4, 1e-3


def check_same_but_for_rounding(run: Path, other: Path) -> None:
    """Two runs saw the same batches."""
    assert losses(run) == pytest.approx(losses(other), rel=LOSS_TOLERANCE)
    expected = averaged(other)
    for name, weight in averaged(run).items():
        assert torch.allclose(weight, expected[name], rtol=0, atol=WEIGHT_TOLERANCE), name


@pytest.fixture(scope="session")
def on_two_ranks(fresh: Case, mpirun, tmp_path_factory) -> Path:
    """Run folder of a short training on two ranks, not interrupted."""
    folder = tmp_path_factory.mktemp("two") / "run"
    arguments = command("train", fresh.config, f"output={folder}", SHORT)
    status, output = mpirun(2, *arguments, cwd=folder.parent, limit=60)
    assert status == 0, output
    return folder


@pytest.fixture(scope="session")
def short(fresh: Case, tmp_path_factory) -> Path:
    """Run folder of the same training by one process."""
    folder = tmp_path_factory.mktemp("one") / "run"
    assert here("train", fresh.config, f"output={folder}", SHORT).status == 0
    return folder


def test_loss_falls_on_a_case_that_can_be_learned(trained: Case):
    table = losses(trained.run)
    assert table[:, 0].tolist() == list(range(1, len(table) + 1))
    # The mean of eight batches of other weights scatters by a tenth.
    assert table[-8:, 1].mean() < 0.75 * table[:8, 1].mean()


def test_killed_training_loses_no_more_than_the_interval_and_goes_on_to_the_same_bits(trained: Case, tmp_path):
    arguments = ("train", trained.config, f"output={tmp_path / 'run'}", "training.checkpoint_minutes=2.5")
    # A step takes a minute, so that checkpoints fall behind steps 3, 6, 9, …
    killed = alone(*accident("train-kill", 0, 9, *arguments))
    assert killed.status == KILLED, killed.err
    assert last_step(tmp_path / "run") == 6
    resumed = alone(*command(*arguments))
    assert resumed.status == 0, resumed.err
    assert same_bits(averaged(tmp_path / "run"), averaged(trained.run))
    assert np.array_equal(losses(tmp_path / "run"), losses(trained.run))


def test_job_ends_with_a_killed_rank_and_goes_on_to_the_same_bits_on_as_many_ranks(
    fresh: Case, on_two_ranks: Path, short: Path, mpirun, tmp_path
):
    run, copy = tmp_path / "run", tmp_path / "copy"
    arguments = ("train", fresh.config, f"output={run}", "training.checkpoint_minutes=2.5", SHORT)
    status, output = mpirun(2, *accident("train-kill", 1, 9, *arguments), cwd=tmp_path, limit=30)
    assert status != 0, output
    assert last_step(run) == 6
    shutil.copytree(run, copy)
    status, output = mpirun(2, *command(*arguments), cwd=tmp_path, limit=30)
    assert status == 0, output
    assert same_bits(averaged(run), averaged(on_two_ranks))
    # and on another number, to the same up to the order of sums
    assert here("train", fresh.config, f"output={copy}", SHORT).status == 0
    check_same_but_for_rounding(copy, short)


@pytest.mark.parametrize("ranks", [2, 3])
def test_number_of_ranks_changes_only_the_order_of_sums(ranks, fresh: Case, short, on_two_ranks, mpirun, tmp_path):
    run = on_two_ranks
    if ranks != 2:
        run = tmp_path / "run"
        status, output = mpirun(ranks, *command("train", fresh.config, f"output={run}", SHORT), cwd=tmp_path, limit=60)
        assert status == 0, output
    check_same_but_for_rounding(run, short)


def test_sigterm_on_any_rank_writes_a_checkpoint_and_ends_with_a_sentence(fresh: Case, mpirun, tmp_path):
    run = tmp_path / "run"
    arguments = ("train", fresh.config, f"output={run}", "training.checkpoint_minutes=1000")
    status, output = mpirun(2, *accident("train-stop", 1, 5, *arguments), cwd=tmp_path, limit=30)
    assert status != 0, output
    assert output.count("halocline: error") == 1
    assert "\x1b" not in output, "a file is no terminal"
    assert f"Stopped by SIGTERM at step 5 of {STEPS}: the same command goes on from there." in output
    assert last_step(run) == 5
    assert len(losses(run)) == 5


def test_averaged_weights_are_those_that_sample_and_not_the_last(trained: Case):
    saved, network = find_checkpoint(trained.run, "last"), load_generator(trained.run).denoiser.network
    weights, averages = saved.whole("weights"), saved.whole("averages")
    assert same_bits(network.state_dict(), averages)
    moved = [name for name, w in weights.items() if not torch.equal(w, averages[name])]
    assert moved == list(weights)


def test_finished_run_has_nothing_to_do(trained: Case):
    before = (trained.run / WEIGHTS).stat()
    result = here("train", trained.config)
    assert (result.status, result.out.count("nothing to do")) == (0, 1)
    after = (trained.run / WEIGHTS).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("culprit", ["loss", "gradient"])
@pytest.mark.parametrize("zero", [0, 1])
def test_step_that_is_not_finite_is_not_saved_and_the_run_goes_on_from_before(
    zero: int, culprit: str, fresh: Case, short: Path, tmp_path, monkeypatch
):
    run, healthy, calls = tmp_path / "run", trainer.training_loss, itertools.count(1)

    def sick(*arguments, **options):
        loss = healthy(*arguments, **options)
        if next(calls) != 4:
            return loss
        nothing = loss.total - loss.total.detach()
        # a root has no finite slope at 0
        return loss._replace(total=loss.total * torch.nan if culprit == "loss" else loss.total + nothing.sqrt())

    monkeypatch.setattr(trainer, "training_loss", sick)
    words = ("train", fresh.config, f"output={run}", "training.checkpoint_minutes=1e-9", SHORT, f"training.zero={zero}")
    result = here(*words)
    assert result.status == 1
    loss = r"nan" if culprit == "loss" else r"\d\S+"
    expected = (
        rf"The loss is {loss} and the norm of its gradient (nan|inf) at step 4, expected finite numbers; the last good "
        r"checkpoint is .*step-0000003: lower training.learning_rate and choose another output"
    )
    assert re.search(expected, result.sentence), result.sentence
    assert last_step(run) == 3
    # healthy again
    assert here(*words).status == 0
    assert distance(averaged(run), averaged(short)) < 1e-5


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Of all weights together, relative."""
    a, b = (torch.cat([x[name].flatten() for name in sorted(x)]) for x in (one, other))
    return float((a - b).norm() / b.norm())


def test_weight_lost_on_one_rank_ends_all_with_one_sentence_and_a_good_checkpoint(fresh: Case, mpirun, tmp_path):
    run = tmp_path / "run"
    words = ("train", fresh.config, f"output={run}", "training.checkpoint_minutes=1.5")
    status, output = mpirun(2, *accident("train-nan", 1, 5, *words), cwd=tmp_path, limit=30)
    assert status == 1, output
    assert output.count("halocline: error: The loss is nan") == output.count("halocline: error") == 1, output
    saved = find_checkpoint(run, "last")
    assert saved.step == 4
    assert all(w.isfinite().all() for kind in KINDS for w in saved.whole(kind).values())


@pytest.mark.parametrize("change", ["a value", "a state"])
def test_run_does_not_go_on_with_other_data_in_the_same_files(change: str, tmp_path):
    case = Case.write(tmp_path)
    assert here("train", case.config, "training.steps=2").status == 0
    before, states = (case.run / WEIGHTS).read_bytes(), seasonal_states(case.grid)
    if change == "a value":
        states["salinity"][3, 1, 9, 9] += 1e-3
    else:
        states = {name: np.concatenate([x[:-1], x[:1]]) for name, x in states.items()}
    write_output(case.folder / "data" / "states.nc", states)
    result = here("train", case.config, "training.steps=4")
    assert result.status == 1
    assert re.search(
        r"File .*states.nc, or one of .* changed since .* into training store .*data.zarr: restore it, or remove",
        result.sentence,
    )
    assert (case.run / WEIGHTS).read_bytes() == before
    write_output(case.folder / "data" / "states.nc", seasonal_states(case.grid))
    assert here("train", case.config, "training.steps=4").status == 0


def test_run_folder_says_that_its_configuration_is_to_be_read(fresh: Case, tmp_path):
    run = tmp_path / "run"
    assert here("train", fresh.config, f"output={run}", "training.steps=1").status == 0
    text = (run / "config.yaml").read_text()
    assert text.startswith("# What this run was trained with") and f"{WEIGHTS} has a copy of its own" in text
    assert read_config(run / "config.yaml").training.steps == 1


def test_folder_of_a_run_killed_before_its_first_checkpoint_is_no_obstacle(fresh: Case, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("half a fi")
    assert here("train", fresh.config, f"output={run}", "training.steps=1").status == 0
    assert last_step(run) == 1


def test_training_goes_on_with_other_ranks_and_stages_on_the_same_curve(fresh: Case, mpirun, tmp_path):
    """1, 2, 4, 1 ranks, in stages 0, 3, 2, 1, each by the same command."""
    through, parts = tmp_path / "through", tmp_path / "parts"
    whole = ("train", fresh.config, "training.steps=16", "training.schedule=constant")
    assert here(*whole, f"output={through}").status == 0
    for ranks, zero, steps in ((1, 0, 4), (2, 3, 8), (4, 2, 12), (1, 1, 16)):
        words = (*whole, f"output={parts}", f"training.zero={zero}", f"training.steps={steps}")
        status, output = mpirun(ranks, *command(*words), cwd=tmp_path, limit=60)
        assert status == 0, output
    assert losses(parts)[:, 0].tolist() == list(range(1, 17))
    assert losses(parts) == pytest.approx(losses(through), rel=1e-4)
    assert distance(averaged(parts), averaged(through)) < 1e-4


def test_last_checkpoints_and_the_best_are_kept(fresh: Case, tmp_path):
    run = tmp_path / "run"
    words = ("train", fresh.config, f"output={run}", "training.steps=7", "training.checkpoint_minutes=1e-9")
    assert here(*words, "training.validate_steps=2", "training.validation_members=1").status == 0
    scores = np.genfromtxt(run / "validation.csv", delimiter=",", names=True)
    best = int(scores["step"][scores["score"].argmin()])
    assert scores["step"].tolist() == [2, 4, 6]
    assert {folder.name for folder in folders(run)} == {f"step-{n:07d}" for n in {6, 7, best} | ({5} & {best - 1})}
    assert find_checkpoint(run, "best").step == best


def test_exported_generator_samples_what_its_run_folder_does(trained: Case, tmp_path):
    exported = tmp_path / "exported"
    assert here("export", trained.run, f"output={exported}").status == 0
    assert sorted(path.name for path in exported.iterdir()) == ["config.yaml", WEIGHTS, "grid.nc"]
    assert same_bits(averaged(exported), averaged(trained.run))
    for run in (trained.run, exported):
        assert here("sample", run, "members=1", f"output={tmp_path / run.name}.nc").status == 0
    one, other = (read_member(tmp_path / f"{run.name}.nc", 0) for run in (trained.run, exported))
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGUSR1"])
def test_signal_of_a_queue_is_answered_by_the_exit_code_for_another_try(signal: str, fresh: Case, tmp_path):
    arguments = ("train", fresh.config, f"output={tmp_path / 'run'}", "training.checkpoint_minutes=1000", SHORT)
    stopped = alone(*accident(f"train-{signal}", 0, 3, *arguments))
    assert stopped.status == 75, stopped.err
    assert f"Stopped by {signal} at step 3 of 12: the same command goes on from there." in stopped.sentence
    assert alone(*command(*arguments)).status == 0


def test_loss_that_grows_far_beyond_its_lowest_ends_the_training(fresh: Case, tmp_path, monkeypatch):
    healthy, calls = trainer.training_loss, itertools.count(1)

    def growing(*arguments, **options):
        loss = healthy(*arguments, **options)
        return loss._replace(total=loss.total * (1000 if next(calls) > trainer.WINDOW + 5 else 1))

    monkeypatch.setattr(trainer, "training_loss", growing)
    result = here("train", fresh.config, f"output={tmp_path / 'run'}", "training.checkpoint_minutes=1e-9")
    assert result.status == 1
    expected = (
        r"The loss is \S+ at step 56 \(mean of 50 steps\), expected at most training.divergence = 10 times its lowest, "
        r"\S+; the last good checkpoint is .*step-0000055: lower training.learning_rate and choose another output"
    )
    assert re.search(expected, result.sentence), result.sentence
    assert last_step(tmp_path / "run") == 55
