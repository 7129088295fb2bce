"""GenSIM's public training step and ours, on GenSIM's own network and patches, on one core. Prints JSON.

`training_gensim.py CHECKOUT`, of github.com/cerea-daml/gensim. Its code runs as it is (`gensim.model`, `config.yaml`),
in Lightning, in bf16-mixed, uncompiled, with clipping and averaged weights, on random fields and a mask of our own, and
`PATCHES` patches per step. Ours is the engine, at stage 0 of ZeRO (which is what Lightning does) and at stage 1 (bf16
weights), around the same module, with the loss of `halocline train` and averages, on windows of the same size. What
differs is small beside the network: theirs cuts patches out of whole fields and trains a scale of the loss, a few
layers on a vector. One step of each in turn.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import netCDF4
import torch
from torch import Tensor, nn

from halocline.flow.denoiser import PreconditionedDenoiser, training_loss
from halocline.flow.path import LinearPath
from halocline.mesh.communicator import Serial
from halocline.run.config import TrainingConfig
from halocline.run.engine import Engine, leave

FIELD, PATCHES, ROUNDS = 512, 2, 5
WARM = 2  # first steps, which are not counted
STAGES = (0, 1)
STATES, FORCINGS, DEGREE_DAYS, INPUTS, LABELS = 6, 4, 4, 18, 3
PACKAGES = ("lightning", "hydra", "omegaconf", "cosine_annealing_warmup")


def missing(checkout: Path) -> str:
    """Says why the checkout cannot be used, or "" if it can."""
    if not str(checkout).strip("."):
        return "give a checkout of github.com/cerea-daml/gensim with --gensim PATH"
    if not (checkout / "gensim/model.py").is_file():
        return f"{checkout} holds no gensim/model.py, expected a checkout of github.com/cerea-daml/gensim"
    sys.path.insert(0, str(checkout))
    try:
        import gensim.model  # noqa: F401
    except ImportError as error:
        return f"GenSIM cannot be imported ({error}): put {', '.join(PACKAGES)} and what they need on PYTHONPATH"
    return ""


def theirs(checkout: Path, folder: Path) -> Any:
    """Builds GenSIM's training module from its own configuration."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    mask = folder / "mask.nc"
    with netCDF4.Dataset(mask, "w") as file:
        for axis in "yx":
            file.createDimension(axis, FIELD)
        file.createVariable("mask", "f4", ("y", "x"))[:] = 1.0
    config = OmegaConf.load(checkout / "config.yaml")
    config.surrogate.patch_generator.mask_path = str(mask)
    config.surrogate.patch_generator.n_patches = PATCHES
    return instantiate(config.surrogate, _recursive_=False)


def sample() -> dict[str, Tensor]:
    """Draws what GenSIM's data set gives for one time."""
    km = torch.arange(FIELD, dtype=torch.float32) * 12.5
    return {
        "states": torch.rand(2, STATES, FIELD, FIELD),
        "forcings": torch.rand(2, FORCINGS, FIELD, FIELD),
        "degree_days": torch.rand(DEGREE_DAYS, FIELD, FIELD),
        "mesh": torch.stack(torch.meshgrid(km, km, indexing="ij")),
        "mask": torch.ones(1, FIELD, FIELD),
        "resolution": torch.tensor([12.5]),
    }


class AsOurs(nn.Module):
    """GenSIM's network, called as one of ours; its pseudo-time runs the other way."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, inputs: Tensor, mesh: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        resolution = torch.full((len(x), 1), 12.5)
        return self.network(torch.cat([x, inputs], dim=1), mesh, mask, 1 - t[:, None], labels, resolution)


class Ours:
    """Our engine around a network, on windows that lie in memory."""

    def __init__(self, network: nn.Module, window: tuple[int, ...], halo: int, stage: int) -> None:
        config = TrainingConfig(zero=stage, precision="bf16")
        self.engine = Engine.start(AsOurs(network), config, Serial(), torch.device("cpu"))
        self.denoiser = PreconditionedDenoiser(self.engine.network, LinearPath())
        self.window, self.owned = window, slice(halo, -halo)

    def step(self) -> None:
        x0 = torch.randn(PATCHES, STATES, *self.window)
        conditions = {
            "inputs": torch.randn(PATCHES, INPUTS, *self.window),
            "mesh": torch.rand(PATCHES, 2, *self.window),
            "mask": torch.ones(PATCHES, 1, *self.window),
            "labels": torch.zeros(PATCHES, LABELS),
        }
        wet = torch.ones_like(x0, dtype=torch.bool)
        count = float(wet[..., self.owned, self.owned].sum())
        loss = training_loss(
            self.denoiser, x0, torch.randn_like(x0), torch.rand(PATCHES, dtype=torch.float64), wet, count,
            conditions=conditions, owned=self.owned,
        )  # fmt: skip
        self.engine.backward(loss.total)
        self.engine.step(5e-4)
        self.engine.shards.average(0.9999)


def alternate(module: Any, ours: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Lets Lightning train, makes one step of each of ours after each of its own, and returns seconds per step."""
    import lightning.pytorch as pl

    times: dict[str, list[float]] = {"theirs": [], **{name: [] for name in ours}}

    class Turns(pl.Callback):
        began = time.perf_counter()

        def on_train_batch_end(self, *_: object) -> None:
            self.note("theirs")
            for name, step in ours.items():
                step()
                self.note(name)

        def note(self, name: str) -> None:
            now = time.perf_counter()
            times[name].append(now - self.began)
            self.began = now

    trainer = pl.Trainer(
        accelerator="cpu", devices=1, precision="bf16-mixed", max_steps=WARM + ROUNDS, callbacks=[Turns()],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader([sample()] * (WARM + ROUNDS), batch_size=1))
    return times


def main(checkout: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if reason := missing(checkout):
        print(json.dumps({"skipped": reason}))
        return
    with tempfile.TemporaryDirectory() as folder:
        module = theirs(checkout, Path(folder))
    halo = module.overlap_size[0]
    window = tuple(n + 2 * halo for n in module.patch_size)
    ours = {f"ours {stage}": Ours(deepcopy(module.network), window, halo, stage) for stage in STAGES}
    times = alternate(module, {name: one.step for name, one in ours.items()})
    for one in ours.values():
        one.engine.close()
    leave()
    weights = sum(p.numel() for p in module.network.parameters())
    counted = {name: took[WARM:] for name, took in times.items()}
    print(json.dumps({"parameters": weights, "patches": PATCHES, "window": window, **counted}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
