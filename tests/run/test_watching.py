"""What a training says: estimates before, a log while it runs, validation now and then."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from case import Case, command, here

from halocline.flow.networks import UNet, UNetConfig
from halocline.mesh.communicator import Serial
from halocline.run.config import TrainingConfig
from halocline.run.engine import Engine
from halocline.run.memory import activations, estimate
from halocline.run.training_log import LossByNoise, TrainingLog

CHANNELS, STATIC, CONDITIONS, SIDE = 5, 4, 4, 8


def network(width: int) -> UNet:
    return UNet(UNetConfig(width=width, embedding=16, cell_features=0), CHANNELS, STATIC, CONDITIONS, SIDE * SIDE)


def inputs(batch: int) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    conditions = {
        "static": torch.zeros(batch, STATIC, SIDE, SIDE),
        "conditions": torch.zeros(batch, CONDITIONS),
        "cells": torch.zeros(batch, SIDE, SIDE, dtype=torch.long),
    }
    return (torch.zeros(batch, CHANNELS, SIDE, SIDE), torch.zeros(batch)), conditions


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_estimated_memory_is_that_of_the_tensors_of_the_engine(zero: int, precision: str):
    made = network(32)
    count = sum(p.numel() for p in made.parameters())
    engine = Engine.start(made, TrainingConfig(zero=zero, precision=precision), Serial(), torch.device("cpu"))
    measured, expected = engine.tensors(), estimate(count, 1, zero, precision)
    for kind, size in measured.items():
        if zero == 3 and kind == "weights":
            continue  # small parameters are kept whole beside their shares, which large networks do not show
        assert size == pytest.approx(getattr(expected, kind), rel=0.01), kind  # padding
    engine.close()


def test_activations_grow_with_the_batch_and_leave_the_weights_out():
    made = network(8)
    one, two, four = (activations(made, *inputs(n)) for n in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)
    assert one < sum(p.numel() for p in made.parameters()) * 4  # the weights alone are more


def test_dry_run_says_what_would_be_done_and_does_nothing(fresh: Case, mpirun, tmp_path):
    words = ("train", fresh.config, f"output={tmp_path / 'run'}", "training.zero=2", "--dry-run")
    result = here(*words)
    assert result.status == 0, result.err
    assert not (tmp_path / "run").exists()
    for expected in (
        r"1 files of 0\.\d MiB in all, to be made into .*data.zarr",
        r"19 x 13 x 4, 5 tiles of 8 x 8 with halo 2; 12 states, 17 channels, 60 windows of 0.01 MiB",
        r"100 steps of 8 windows \(8 at once on each of 1 ranks\), 7.5 steps per epoch, 13.3 epochs",
        r"\n \*   2 ",
    ):
        assert re.search(expected, result.out), result.out
    status, output = mpirun(2, *command(*words), cwd=tmp_path, limit=60)
    assert status == 0, output
    assert "(4 at once on each of 2 ranks)" in output
    assert here("data", fresh.config, f"output={tmp_path / 'run'}", "data.held_out_years=[2,2]").status == 0
    after = here(*words, "data.held_out_years=[2,2]")
    assert "6 states, 17 channels, 30 windows" in after.out
    assert "6 more states held out" in after.out


def rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def test_log_of_a_resumed_run_has_each_step_once(tmp_path):
    with TrainingLog(tmp_path, 0, True) as log:
        for step in range(1, 8):
            log.write(step, {"loss": 1 / step, "empty": float("nan")})
    with (tmp_path / "training.csv").open("a") as file:
        file.write("8,0.1")  # a kill cut the rest off
    with TrainingLog(tmp_path, 5, True) as log:
        for step in range(6, 10):
            log.write(step, {"loss": 2.0, "empty": 1.0})
    found = rows(tmp_path / "training.csv")
    assert found[0] == ["step", "loss", "empty"]
    assert [row[0] for row in found[1:]] == [str(n) for n in range(1, 10)]
    assert [row[1] for row in found[5:8]] == ["0.2", "2", "2"]
    assert (found[1][2], found[-1][2]) == ("", "1")
    assert list((tmp_path / "tensorboard").iterdir())


def test_log_can_be_read_at_every_checkpoint(tmp_path):
    with TrainingLog(tmp_path, 0, True) as log:
        log.write(1, {"loss": 1.0})
        log.flush()
        assert [row[0] for row in rows(tmp_path / "training.csv")] == ["step", "1"]


def test_only_the_rank_that_speaks_writes(tmp_path):
    with TrainingLog(tmp_path, 0, False) as log:
        log.write(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_loss_by_noise_is_the_mean_over_wet_values_of_the_samples_in_a_bin():
    noise = LossByNoise(bins=2)
    noise.add(torch.tensor([0.1, 0.4, 1.0]), torch.tensor([1.0, 3.0, 5.0]), torch.tensor([10, 30, 1]))
    assert noise.values(Serial()) == {"loss_t0.0-0.5": 2.5, "loss_t0.5-1.0": 5.0}
    assert np.isnan(list(noise.values(Serial()).values())).all()


def test_training_leaves_loss_norm_rate_memory_and_loss_by_noise(trained: Case):
    table = np.genfromtxt(trained.run / "training.csv", delimiter=",", names=True)
    assert {"step", "loss", "gradient_norm", "learning_rate", "waited", "memory", "samples_per_second"} <= set(
        table.dtype.names
    )
    bins = np.array([table[name] for name in table.dtype.names if name.startswith("loss_t")])
    assert len(bins) == 5
    # Bins are unequally filled in batches of eight, so the mean over them is the loss only roughly.
    assert np.nanmean(bins) == pytest.approx(table["loss"].mean(), rel=0.2)
    assert (table["memory"] > 50).all()


@pytest.mark.parametrize("ranks", [2, 3])
def test_validation_does_not_depend_on_ranks_and_improves_with_training(ranks: int, fresh: Case, mpirun, tmp_path):
    words = ("training.steps=40", "training.validate_steps=20", "training.validation_members=2")
    words = ("train", fresh.config, "data.held_out_years=[2,2]", *words)
    assert here(*words, f"output={tmp_path / 'one'}").status == 0
    status, output = mpirun(ranks, *command(*words, f"output={tmp_path / 'some'}"), cwd=tmp_path, limit=90)
    assert status == 0, output
    one, some = (
        np.genfromtxt(tmp_path / name / "validation.csv", delimiter=",", names=True) for name in ("one", "some")
    )
    assert one["step"].tolist() == [20, 40]
    assert one["score"][1] < one["score"][0]
    for name in one.dtype.names:  # the weights differ by the order of sums; see test_training
        assert some[name] == pytest.approx(one[name], rel=2e-2, abs=1e-3), name
