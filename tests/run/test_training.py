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
    losses,
    same_bits,
    seasonal_states,
    write_output,
)

from halocline.mesh.communicator import Serial
from halocline.run import trainer, training_data
from halocline.run.config import read_config
from halocline.run.generator import load_checkpoint, load_generator
from halocline.run.train import prepare
from halocline.run.training_data import epoch_order, load_states

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
    assert load_checkpoint(tmp_path / "run")["step"] == 6
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
    assert load_checkpoint(run)["step"] == 6
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
    assert load_checkpoint(run)["step"] == 5
    assert len(losses(run)) == 5


def test_batch_is_the_same_on_any_number_of_ranks(fresh: Case):
    config = read_config(fresh.config)
    _, data = prepare(config, *load_states(config))
    last_epoch = len(data) // config.training.batch  # its batch is of two epochs
    for step in (0, last_epoch):
        whole = data.batch(1, step, 8, 0, 1)
        for ranks in (2, 3):
            parts = [data.batch(1, step, 8, rank, ranks) for rank in range(ranks)]
            for rank, part in enumerate(parts):
                assert part.wet_count == whole.wet_count
                for name in ("x0", "z", "t", "wet"):
                    assert torch.equal(getattr(part, name), getattr(whole, name)[rank::ranks]), name
                for name, values in whole.conditions.items():
                    assert torch.equal(part.conditions[name], values[rank::ranks]), name


def test_averaged_weights_are_those_that_sample_and_not_the_last(trained: Case):
    saved, network = load_checkpoint(trained.run), load_generator(trained.run).denoiser.network
    assert same_bits(network.state_dict(), saved["averaged"])
    moved = [name for name, w in saved["weights"].items() if not torch.equal(w, saved["averaged"][name])]
    assert moved == list(saved["weights"])


def test_finished_run_has_nothing_to_do(trained: Case):
    before = (trained.run / "checkpoint.pt").stat()
    result = here("train", trained.config)
    assert (result.status, result.out.count("nothing to do")) == (0, 1)
    after = (trained.run / "checkpoint.pt").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("culprit", ["loss", "gradient"])
def test_step_that_is_not_finite_is_not_made_and_the_run_goes_on_from_before(
    culprit: str, fresh: Case, short: Path, tmp_path, monkeypatch
):
    run, healthy, calls = tmp_path / "run", trainer.sum_gradients, itertools.count(1)

    def sick(network: torch.nn.Module, loss: torch.Tensor, comm: Serial) -> float:
        value = healthy(network, loss, comm)
        if next(calls) != 4:
            return value
        if culprit == "gradient":
            next(network.parameters()).grad.view(-1)[0] = float("inf")
        return float("nan") if culprit == "loss" else value

    monkeypatch.setattr(trainer, "sum_gradients", sick)
    words = ("train", fresh.config, f"output={run}", "training.checkpoint_minutes=1e-9", SHORT)
    result = here(*words)
    assert result.status == 1
    loss, norm = (r"nan", r"\d\S+") if culprit == "loss" else (r"\d\S+", "inf")
    expected = rf"The loss is {loss} and the norm of its gradient {norm} at step 4, .* lower training.learning_rate"
    assert re.search(expected, result.sentence), result.sentence
    assert load_checkpoint(run)["step"] == 3
    # healthy again
    assert here(*words).status == 0
    assert same_bits(averaged(run), averaged(short))


def test_weight_lost_on_one_rank_ends_all_with_one_sentence_and_a_good_checkpoint(fresh: Case, mpirun, tmp_path):
    run = tmp_path / "run"
    words = ("train", fresh.config, f"output={run}", "training.checkpoint_minutes=1.5")
    status, output = mpirun(2, *accident("train-nan", 1, 5, *words), cwd=tmp_path, limit=30)
    assert status == 1, output
    assert output.count("halocline: error: The loss is nan") == output.count("halocline: error") == 1, output
    saved = load_checkpoint(run)
    assert saved["step"] == 4
    assert all(w.isfinite().all() for group in ("weights", "averaged") for w in saved[group].values())


@pytest.mark.parametrize("change", ["a value", "a state"])
def test_run_does_not_go_on_with_other_data_in_the_same_files(change: str, tmp_path):
    case = Case.write(tmp_path)
    assert here("train", case.config, "training.steps=2").status == 0
    before, states = (case.run / "checkpoint.pt").read_bytes(), seasonal_states(case.grid)
    if change == "a value":
        states["salinity"][3, 1, 9, 9] += 1e-3
    else:
        states = {name: np.concatenate([x[:-1], x[:1]]) for name, x in states.items()}
    write_output(case.folder / "data" / "states.nc", states)
    result = here("train", case.config, "training.steps=4")
    assert result.status == 1
    assert re.search(
        r"data.states have changed since step 2 of .*run \(reference of standardisation, scale of standardisation\): "
        "restore them to go on, or choose another output",
        result.sentence,
    )
    assert (case.run / "checkpoint.pt").read_bytes() == before
    write_output(case.folder / "data" / "states.nc", seasonal_states(case.grid))
    assert here("train", case.config, "training.steps=4").status == 0


def test_every_window_is_seen_once_an_epoch_in_an_order_drawn_once(fresh: Case, monkeypatch):
    drawn = []
    monkeypatch.setattr(training_data, "epoch_order", lambda *key: drawn.append(key) or epoch_order(*key))
    _, data = prepare(read_config(fresh.config), *load_states(read_config(fresh.config)))
    chosen = [data._choose(5, sample) for sample in range(2 * len(data))]
    first, second = chosen[: len(data)], chosen[len(data) :]
    assert sorted(first) == sorted(second) == list(range(len(data)))
    assert first != second
    assert drawn == [(5, 0, len(data)), (5, 1, len(data))]


def test_folder_of_a_run_killed_before_its_first_checkpoint_is_no_obstacle(fresh: Case, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("half a fi")
    assert here("train", fresh.config, f"output={run}", "training.steps=1").status == 0
    assert load_checkpoint(run)["step"] == 1
