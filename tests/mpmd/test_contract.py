"""What does not fit is refused before the first exchange, and both sides say so."""

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from conftest import Job

from halocline.mesh.communicator import Serial
from halocline.run import peer
from halocline.run.bridge_config import BridgeConfig


def said_by_both(output: str, sentence: str) -> bool:
    """Whether the model, whose lines name its rank, and the emulator have both printed a sentence."""
    return output.count(sentence) >= 2 and "halocline: rank 0:" in output and "halocline serve: error" in output


def test_all_differences_are_told_by_both_sides(job: Job) -> None:
    job.write()
    done = job.run(job.model(2, px=2, swap=1, unit="K", calendar="noleap"), job.emulator(2), limit=40)
    assert done.status == 84
    for sentence in (
        "Grid along i: the model has 13 cells, the emulator 19.",
        "Grid along j: the model has 19 cells, the emulator 13.",
        "Field temperature: unit 'K'.",
        "Calendar 'noleap'.",
    ):
        assert said_by_both(done.output, sentence), done.output


def test_mask_of_one_rank_is_compared_cell_by_cell(job: Job) -> None:
    job.write()
    done = job.run(job.model(2, px=2, drown=1), job.emulator(1), limit=40)
    assert done.status == 84
    assert said_by_both(done.output, "Mask of rank 1: 1 cells differ."), done.output


def test_model_with_another_configuration_is_refused(job: Job) -> None:
    job.write()
    other = job.folder / "other.yaml"
    other.write_text(job.config.read_text() + "# a comment\nobserve: {every: 2}\n")
    model = ["-n", "1", str(job.programs.model), str(other)]
    done = job.run(model, job.emulator(1), limit=40)
    assert done.status == 82
    assert said_by_both(done.output, "they differ in observe: give both the same file."), done.output


def test_configuration_for_another_mode_is_refused(job: Job) -> None:
    job.write(mode="in_process")
    done = job.run(job.model(1), job.emulator(2), limit=40)
    assert done.status == 82
    assert "says mode: in_process, but ranks of this job run `halocline serve`" in done.output


def test_more_emulator_ranks_than_tiles_are_refused() -> None:
    generator = SimpleNamespace(lattice=SimpleNamespace(count=3))
    comm = Serial()
    comm.size = 4
    with (
        mock.patch.object(peer, "load", return_value=generator),
        pytest.raises(ValueError, match=r"4 ranks .* 3 tiles"),
    ):
        peer.build_emulator(BridgeConfig(run="folder"), comm)


def test_serve_takes_the_configuration_alone() -> None:
    with pytest.raises(ValueError, match=r"got deadline=5, expected the configuration alone"):
        peer.serve(Path("bridge.yaml"), ["deadline=5"])
