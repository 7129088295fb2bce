"""What a training learns does not depend on ranks and ZeRO stage, and its checkpoints can be read by any."""

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from halocline.flow.networks import UNet, UNetConfig
from halocline.mesh.communicator import AnyCommunicator
from halocline.run.checkpoints import Checkpoint, newest_checkpoint, write_checkpoint
from halocline.run.config import TrainingConfig
from halocline.run.engine import Engine
from halocline.run.shards import KINDS

BATCH, CHANNELS, STATIC, CONDITIONS, SIDE, CELLS = 12, 5, 4, 4, 8, 100
STEPS = 50
CONFIG = TrainingConfig(steps=STEPS, precision="fp32", learning_rate=4e-3, clip=0.05)  # it clips
EMA = 0.95
KNOWN = {"config": "", "history": {}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield


@pytest.fixture
def folder(comm: AnyCommunicator, tmp_path_factory) -> Iterator[Path]:
    """A folder that all ranks share."""
    made = comm.broadcast(tmp_path_factory.mktemp("run") if comm.is_root else None)
    yield made
    comm.barrier()
    if comm.is_root:
        shutil.rmtree(made)


def network() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(width=8, multipliers=(1, 2), blocks=1, embedding=16, cell_features=2)
    made = UNet(config, CHANNELS, STATIC, CONDITIONS, CELLS)
    with torch.no_grad():
        for p in made.parameters():  # layers that begin at zero would pass no gradient on
            p.add_(0.05 * torch.randn_like(p))
    return made


def batch(step: int) -> tuple[Tensor, ...]:
    """Windows of unequal amounts of water: an average over ranks would be wrong."""
    g = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=g)
    wet = torch.rand(BATCH, 1, SIDE, SIDE, generator=g) < torch.linspace(0.1, 1, BATCH)[:, None, None, None]
    conditions = (
        torch.rand(BATCH, generator=g),
        torch.randn(BATCH, STATIC, SIDE, SIDE, generator=g),
        torch.randn(BATCH, CONDITIONS, generator=g),
        torch.randint(-1, CELLS, (BATCH, SIDE, SIDE), generator=g),
    )
    return x, wet, *conditions


def loss_of(model: nn.Module, part: tuple[Tensor, ...], count: Tensor) -> Tensor:
    x, wet, t, static, conditions, cells = part
    f = model(x, t, static=static, conditions=conditions, cells=cells).float()
    return torch.where(wet, (f - x.tanh()).square(), 0).sum() / count


def train(engine: Engine, comm: AnyCommunicator, first: int, last: int) -> list[float]:
    """Losses of the global batch, step by step."""
    losses = []
    for step in range(first, last):
        whole, total = batch(step), 0.0
        count = whole[1].sum() * CHANNELS
        for part in range(engine.config.accumulate):
            mine = [x[comm.rank :: comm.size][part :: engine.config.accumulate] for x in whole]
            loss = loss_of(engine.network, tuple(mine), count)
            engine.backward(loss)
            total += float(loss.detach())
        engine.step(rate(step))
        engine.shards.average(EMA)
        losses.append(sum(comm.allgather(total)))
    return losses


def rate(step: int) -> float:
    return CONFIG.learning_rate * min(1, (step + 1) / 10)


def plain_torch(last: int, autocast: bool = False) -> tuple[list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Losses, weights and averages of one process without any of this."""
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=CONFIG.weight_decay)
    averages, losses = copy.deepcopy(dict(model.named_parameters())), []
    for step in range(last):
        whole = batch(step)
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(model, whole, whole[1].sum() * CHANNELS)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip)
        optimiser.param_groups[0]["lr"] = rate(step)
        optimiser.step()
        with torch.no_grad():
            for name, p in model.named_parameters():
                averages[name].lerp_(p, 1 - EMA)
        losses.append(float(loss.detach()))
    return losses, dict(model.named_parameters()), averages


def start(comm: AnyCommunicator, **changes: object) -> Engine:
    return Engine.start(network(), replace(CONFIG, **changes), comm, torch.device("cpu"))


def save(engine: Engine, folder: Path, step: int, comm: AnyCommunicator) -> Checkpoint:
    shapes = {name: list(p.shape) for name, p in network().named_parameters()}
    return write_checkpoint(folder, step, engine.shards, shapes, KNOWN, comm)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of all values together, relative."""
    a, b = (torch.cat([x[name].detach().flatten() for name in sorted(x)]) for x in (one, other))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_fifty_steps_end_where_those_of_plain_torch_on_one_process_do(comm, folder, zero: int):
    engine = start(comm, zero=zero, accumulate=2)
    losses = train(engine, comm, 0, STEPS)
    saved = save(engine, folder, STEPS, comm)
    expected, weights, averages = plain_torch(STEPS)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < 0.6 * expected[0]
    assert distance(saved.whole("weights"), weights) < 1e-5
    assert distance(saved.whole("averages"), averages) < 1e-5
    engine.close()


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_bfloat16_learns_as_plain_torch_under_autocast_does(comm, zero: int):
    engine = start(comm, zero=zero, precision="bf16")
    losses = train(engine, comm, 0, STEPS)
    expected, _, _ = plain_torch(STEPS, autocast=True)
    # Eight bits: 4e-3 of each product; the losses are sums of many. 2e-3 was seen.
    assert losses[:2] == pytest.approx(expected[:2], rel=4e-3)
    assert losses[-1] == pytest.approx(expected[-1], rel=2e-2)
    engine.close()


def test_activations_that_are_computed_twice_change_nothing(comm):
    once, twice = (start(comm, zero=1, recompute=again) for again in (False, True))
    assert train(once, comm, 0, 5) == train(twice, comm, 0, 5)
    for engine in (once, twice):
        engine.close()


def test_training_goes_on_in_any_other_stage_from_the_same_curve(comm, folder):
    expected, weights, averages = plain_torch(STEPS)
    engine, edges = start(comm, zero=0), (0, 10, 20, 30, STEPS)
    losses = train(engine, comm, 0, 10)
    for zero, first, last in zip((3, 2, 1), edges[1:], edges[2:], strict=False):
        saved = save(engine, folder, first, comm)
        engine.close()
        engine = start(comm, zero=zero)
        engine.shards.restore(saved.read, first)
        losses += train(engine, comm, first, last)
    assert losses == pytest.approx(expected, rel=1e-4)
    saved = save(engine, folder, STEPS, comm)
    assert distance(saved.whole("weights"), weights) < 1e-5
    assert distance(saved.whole("averages"), averages) < 1e-5
    engine.close()


@pytest.mark.parametrize(("zero", "precision"), [(0, "bf16"), (1, "bf16"), (2, "fp32"), (3, "bf16")])
def test_training_that_goes_on_in_the_same_layout_ends_with_the_same_bits(comm, folder, zero, precision):
    through = start(comm, zero=zero, precision=precision)
    train(through, comm, 0, 3)
    half = save(through, folder, 3, comm)
    losses = train(through, comm, 3, 6)
    expected = save(through, folder, 6, comm)
    through.close()
    again = start(comm, zero=zero, precision=precision)
    again.shards.restore(half.read, 3)
    assert train(again, comm, 3, 6) == losses
    found = save(again, folder / "again", 6, comm)
    for kind in KINDS:
        one, other = found.whole(kind), expected.whole(kind)
        assert all(torch.equal(one[name], other[name]) for name in one), kind
    again.close()


def test_optimiser_and_averages_are_shared_out_over_the_ranks(comm):
    whole = sum(p.numel() for p in network().parameters()) * 4
    # Each parameter, or all together, is padded to a multiple of a few values on each rank; stage 0 deals parameters.
    largest = max(p.numel() for p in network().parameters()) * 4
    share = pytest.approx(whole / comm.size, abs=largest)
    for zero in (0, 1, 2, 3):
        engine = start(comm, zero=zero)
        train(engine, comm, 0, 1)
        held = engine.tensors()
        assert held["averages"] == share
        assert held["optimiser"] / 2 == (whole if zero == 0 else share)
        engine.close()


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-50] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("harm", [cut_short, flip, Path.unlink])
@pytest.mark.parametrize("victim", ["averages-*.safetensors", "manifest.json"])
def test_damaged_checkpoint_is_passed_over_with_its_reason(comm, folder, harm: Callable, victim: str):
    engine = start(comm, zero=1)
    for step in (1, 2):
        save(engine, folder, step, comm)
    if comm.is_root:
        harm(next((folder / "checkpoints/step-0000002").glob(victim)))
    comm.barrier()
    found, reasons = newest_checkpoint(folder, comm)
    assert found.step == 1
    assert len(reasons) == 1 and "step-0000002" in reasons[0]
    engine.close()


def test_checkpoint_of_another_network_is_refused_by_name(comm, folder):
    engine = start(comm, zero=2)
    saved = save(engine, folder, 1, comm)
    with pytest.raises(ValueError, match="0 values of weights of nothing from 0 on, expected 7"):
        saved.read("weights", "nothing", 0, 7)
    engine.close()
