"""What a training holds, of all kinds, is what was estimated before it."""

import gc

import pytest
import torch
from torch import Tensor, nn

from halocline.mesh.communicator import AnyCommunicator
from halocline.run.config import TrainingConfig
from halocline.run.engine import Engine
from halocline.run.memory import estimate

WIDTH, LAYERS = 512, 18  # a rank whose share ends within a layer keeps the gradient of the whole layer


class Network(nn.Module):
    """Layers that are large beside what they keep, and none so small that stage 3 does not share it out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(x)


def living() -> dict[int, int]:
    """Bytes of all memory that tensors of this process are in, by its address."""
    gc.collect()
    found = {}
    for item in gc.get_objects():
        if issubclass(type(item), Tensor):
            both = (item, item.grad) if item.is_leaf else (item,)
            for x in both:
                if x is not None and x.layout == torch.strided:
                    found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return found


def backward(engine: Engine, comm: AnyCommunicator) -> None:
    out = engine.network(torch.ones(1, WIDTH), torch.zeros(1))
    engine.backward(out.float().square().mean() / comm.size)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_estimate_is_within_a_tenth_of_all_tensors_that_live_after_a_backward_pass(comm, zero, precision):
    torch.set_num_threads(1)
    before = living()  # held on to by tests before this one
    network = Network()
    count = sum(p.numel() for p in network.parameters())
    engine = Engine.start(network, TrainingConfig(zero=zero, precision=precision), comm, torch.device("cpu"))
    backward(engine, comm)
    engine.step(1e-4)  # makes the moments
    backward(engine, comm)
    held = sum(size for place, size in living().items() if before.get(place) != size)
    assert held == pytest.approx(estimate(count, comm.size, zero, precision).total, rel=0.1)
    engine.close()
