"""One evaluation of GenSIM's public network on a domain of tiles, through its wrapper and through ours. Prints JSON.

`forecasting_gensim.py [CHECKOUT]`, of github.com/cerea-daml/gensim. Both have the published size, the same random
weights, the same tiles with the same halo, and a domain that is closed by land, beyond which theirs repeats the
outermost cells and ours has nothing. Theirs is `PatchedNetwork`: it crops all inputs serially, evaluates all windows at
once, and folds. Ours is the evaluation in `halocline forecast`: halos of the noisy state are filled, the windows go
through in batches, owned cells are kept; what conditions them was filled when the step began. Theirs computes in bf16
within one autocast around `REPEAT` evaluations, as its notebook does around a forecast, ours within one per batch.
Memory that is freed stays with the process: page faults of large blocks would slow down theirs, whose batch is larger.

Without the argument ours alone, on any number of ranks.
"""

from __future__ import annotations

import ctypes
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import alternate
from torch import Tensor, nn
from training_gensim import INPUTS, LABELS, STATES, missing

from halocline.flow.conditions import CellConditions
from halocline.flow.denoiser import Posterior, PreconditionedDenoiser
from halocline.flow.networks.gensim import GenSIMNetwork, published_name
from halocline.flow.path import LinearPath
from halocline.flow.tiled import TiledDenoiser
from halocline.mesh.communicator import AnyCommunicator, world
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout

SIDE, TILE, HALO, BATCH = 128, 64, 8, 2  # two windows at a time, which two ranks with two tiles each can fill
TIME, KM = 0.5, 12.5
ROUNDS, REPEAT = 3, 2
CLOSE = 1e-5  # largest difference of the velocities in fp32
PRECISIONS = ("fp32", "bf16")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc


class Published(PreconditionedDenoiser):
    """Denoiser around the published network, whose pseudo-time runs from noise to data: m = x + t v."""

    def forward(
        self, x: Tensor, t: Any, conditions: Any = None, owned: slice = slice(None), wet: Tensor | None = None
    ) -> Posterior:
        mask, inputs, mesh = conditions["static"].split([1, INPUTS, 2], dim=1)
        time = t.float()[:, None]
        told = (1 - time, torch.zeros(len(x), LABELS), torch.full((len(x), 1), KM))
        velocity = self.network(torch.cat([x, inputs], dim=1), mesh, mask, *told)
        return Posterior((x + time[..., None, None] * velocity)[..., owned, owned])


def domain() -> dict[str, np.ndarray]:
    """Draws the fields of a closed domain, shape (channel, nj, ni)."""
    draw = np.random.default_rng(0)
    mask = np.zeros((1, SIDE, SIDE), np.float32)
    mask[:, 1:-1, 1:-1] = 1
    inner = draw.random((SIDE // 8, SIDE // 8)) > 0.1  # islands of 8 x 8 cells
    mask *= np.kron(inner, np.ones((8, 8), np.float32))
    return {
        "x": draw.standard_normal((STATES, SIDE, SIDE)).astype(np.float32) * mask,
        "inputs": draw.standard_normal((INPUTS, SIDE, SIDE)).astype(np.float32) * mask,
        "mesh": np.stack(np.meshgrid(*2 * [np.arange(SIDE, dtype=np.float32) * np.float32(KM)])),
        "mask": mask,
    }


def ours(network: nn.Module, fields: dict[str, np.ndarray], comm: AnyCommunicator, precision: str) -> TiledDenoiser:
    """Binds the network to the tiles of this rank."""
    lattice = Lattice.build(fields["mask"][0] > 0, (TILE, TILE), HALO)
    layout = Layout.build(lattice, comm)
    windows = {name: torch.as_tensor(layout.cut(field, halo=True)) for name, field in fields.items()}
    cells = torch.as_tensor(lattice.source("T")[layout.local])
    return TiledDenoiser(
        denoiser=Published(network, LinearPath()).eval(),
        halo=HaloPlan.build(layout, ["T"] * STATES, [1] * STATES),
        cell_conditions=CellConditions(windows["mask"], cells),
        conditions=torch.zeros(1, 0),
        mask=torch.as_tensor(layout.cut(fields["mask"])),
        batch=BATCH,
        owned=slice(HALO, -HALO),
        precision=precision,
        context=torch.cat([windows["inputs"], windows["mesh"]], dim=1)[None],
    )


def theirs(checkout: Path) -> Any:
    """Builds GenSIM's network in its wrapper from its own configuration."""
    from gensim.wrapper import PatchedNetwork
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    network = instantiate(OmegaConf.load(checkout / "config.yaml").surrogate.network)
    return PatchedNetwork(network, (TILE, TILE), (HALO, HALO)).eval()


def call_theirs(wrapper: nn.Module, fields: dict[str, np.ndarray], precision: str) -> Callable[[], Tensor]:
    """Returns what makes `REPEAT` evaluations as its sampler does."""
    x, inputs, mesh, mask = (torch.as_tensor(fields[name])[None] for name in ("x", "inputs", "mesh", "mask"))
    time = torch.full((1, 1), 1 - TIME)

    def call() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            for _ in range(REPEAT):
                joined = torch.cat([x, inputs], dim=1)
                velocity = wrapper(joined, mesh, mask, torch.zeros(1, LABELS), time, torch.full((1, 1), KM))
        return velocity.float()

    return call


def call_ours(denoiser: TiledDenoiser, fields: dict[str, np.ndarray], comm: AnyCommunicator) -> Callable[[], Tensor]:
    """Returns what makes as many of ours; the tiles of this rank."""
    x = torch.as_tensor(denoiser.halo.layout.cut(fields["x"]))[None]

    def call() -> Tensor:
        for _ in range(REPEAT):
            mean = denoiser(x, TIME).mean
        comm.barrier()
        return (mean - x) / TIME

    return call


def difference(one: Tensor, other: Tensor, layout: Layout) -> float:
    """Largest difference of their velocity on the domain from ours on tiles."""
    return float((torch.as_tensor(layout.cut(one[0].numpy())) - other[0]).abs().max())


@torch.no_grad()
def main(checkout: str | None) -> None:
    warnings.simplefilter("ignore")
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**25)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**30)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    comm, fields = world(), domain()
    if checkout is not None and (reason := missing(Path(checkout))):
        print(json.dumps({"skipped": reason}))
        return
    network = GenSIMNetwork().eval()
    calls: dict[str, Callable[[], object]] = {}
    result: dict[str, float] = {}
    wrapper = theirs(Path(checkout)) if checkout is not None else None
    if wrapper is not None:
        weights = wrapper.model.state_dict()
        network.load_state_dict({name: weights[published_name(name)] for name in network.state_dict()})
    for precision in PRECISIONS:
        denoiser = ours(network, fields, comm, precision)
        own = call_ours(denoiser, fields, comm)
        calls[f"ours {precision}"] = own
        if wrapper is not None:
            other = call_theirs(wrapper, fields, precision)
            calls[f"theirs {precision}"] = other
            result[f"difference {precision}"] = difference(other(), own(), denoiser.halo.layout)
    if not result.get("difference fp32", 0.0) <= CLOSE:
        sys.exit(f"Velocities differ by {result['difference fp32']:.1e}, expected at most {CLOSE:.0e}: mend the bench.")
    times = alternate(calls, ROUNDS)
    if comm.is_root:
        seconds = {name: [s / REPEAT for s in took] for name, took in times.items()}
        print(json.dumps({"parameters": sum(p.numel() for p in network.parameters()), **result, **seconds}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
