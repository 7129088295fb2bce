"""`halocline train` and a plain loop of torch on the same network, samples and optimiser. Prints JSON on rank 0.

The network and the data of jobs/configs/gyre.yaml, `BATCH` windows per rank. Ours is the whole step of the trainer:
loader, loss, engine, averages, sums over ranks, log. All contenders train in one process and take turns, a few steps
each, so that load on the machine meets all alike; the first steps of each go over the same samples, and their losses
are compared, so that it is the same training which is timed.

`python training.py FOLDER` keeps the training store in the folder, and makes it there at the first call.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ddp_loop import PlainLoop
from timing import alternate, median

from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial, world
from halocline.run.config import RunConfig, read_config
from halocline.run.data import ensure_store
from halocline.run.engine import leave
from halocline.run.loader import WindowLoader
from halocline.run.train import prepare
from halocline.run.trainer import Trainer
from halocline.run.training_log import LossByNoise, TrainingLog

CONFIG = Path(__file__).parent.parent / "configs/gyre.yaml"
BATCH = 8  # windows per rank
STEPS, ROUNDS, SAME = 4, 3, 4
ALONE = 25  # steps in a row, in which nobody else gives the loader time
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}  # of losses; bf16 has 8 bits and our weights have them, too


class Ours:
    """The trainer with its log; without checkpoints and validation."""

    def __init__(self, config: RunConfig, store: TrainingStore, comm: Communicator | Serial, log: TrainingLog) -> None:
        generator = prepare(config, store)
        self.comm, self.log, self.noise = comm, log, LossByNoise()
        self.loader = WindowLoader(store, generator, comm.rank, comm.size)
        self.trainer = Trainer(generator, store, log.folder, comm, torch.device("cpu"))
        self.losses: list[float] = []

    def step(self) -> None:
        told = self.trainer.advance(self.loader, self.noise, [])
        self.log.write(self.trainer.step, told | self.noise.values(self.comm))
        self.losses.append(told["loss"])

    def close(self) -> None:
        self.loader.close()
        self.trainer.close()


def contenders(
    store: TrainingStore, config: RunConfig, comm: Communicator | Serial, log: TrainingLog
) -> dict[str, Ours | PlainLoop]:
    """Builds ours and the plain loop in both precisions.

    Collective: yes.
    """
    made: dict[str, Ours | PlainLoop] = {}
    for precision in ("bf16", "fp32"):
        this = replace(config, training=replace(config.training, precision=precision))
        ours = made[f"ours {precision}"] = Ours(this, store, comm, log)
        batches = [ours.loader.draw(step)[0] for step in range(SAME)]
        made[f"plain {precision}"] = PlainLoop(prepare(this, store), batches, comm.size)
    return made


def seconds(contender: Ours | PlainLoop, steps: int, comm: Communicator | Serial) -> float:
    """Seconds per step of all ranks.

    Collective: yes.
    """
    comm.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        contender.step()
    comm.barrier()
    return (time.perf_counter() - start) / steps


def check_same(made: dict[str, Ours | PlainLoop], comm: Communicator | Serial) -> None:
    """Ends unless both have had the same losses so far.

    Collective: yes.
    """
    for precision, tolerance in TOLERANCE.items():
        ours = np.array(made[f"ours {precision}"].losses[:SAME])
        plain = comm.sum_arrays(np.array(made[f"plain {precision}"].losses[:SAME]))
        if not np.allclose(ours, plain, rtol=tolerance):
            raise SystemExit(f"Losses in {precision} are {ours} and, of the plain loop, {plain}: expected the same.")


def waiting(ours: Ours, comm: Communicator | Serial) -> float:
    """Share of the time of steps in a row that goes into waiting for the loader.

    Collective: yes.
    """
    before = ours.loader.waited
    took = seconds(ours, ALONE, comm) * ALONE
    return (ours.loader.waited - before) / took


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    comm = world()
    if comm.size == 1:  # as mpirun does with several: the loader has no core of its own
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    settings = [f"output={folder}", f"training.batch={BATCH * comm.size}", "training.checkpoint_minutes=1000"]
    config = read_config(CONFIG, settings)
    store = ensure_store(config, comm)
    with TrainingLog(folder, 0, comm.is_root) as log:
        made = contenders(store, config, comm, log)
        for contender in made.values():
            seconds(contender, SAME, comm)
        check_same(made, comm)
        times: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(ROUNDS):
            for name, contender in made.items():
                times[name].append(seconds(contender, STEPS, comm))
        waited = waiting(made["ours bf16"], comm)
        made_alone = alternate({"draw": lambda: made["ours fp32"].loader.draw(1000)})["draw"]
    result = {"windows": BATCH * comm.size, "seconds": times, "waited": waited, "draw": median(made_alone)}
    if comm.is_root:
        print(json.dumps(result))
    for contender in made.values():
        if isinstance(contender, Ours):
            contender.close()
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
