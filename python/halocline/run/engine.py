"""The engine of training: DeepSpeed around a network, started by mpirun or srun, never by its own launcher.

DeepSpeed *averages* gradients over ranks and micro-batches. Our losses are parts of a sum that is already divided by
the wet count of the global batch, so each part is multiplied by the number of ranks and micro-batches first. The
process group is made from our communicator: DeepSpeed's own discovery would take all ranks of MPI's world, a model's,
too. What it would compile at the first start (minutes) is not used.

References: Rajbhandari et al., 2020, ZeRO: Memory Optimizations Toward Training Trillion Parameter Models.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from halocline.mesh.communicator import Communicator, Serial
from halocline.run.config import TrainingConfig
from halocline.run.shards import Shards, quiet

__all__ = ["Engine", "leave"]

BETAS = (0.9, 0.99)
WAIT = timedelta(minutes=30)  # of a collective; a rank that dies is noticed at once, by its closed connections
BUCKET = 5_000_000  # values that are reduced at once, at most: 20 MB, beside which a message's latency is small
ALIGN = 1024  # values; a bucket is a multiple of this

_store: Any = None  # the meeting point of the process group; it ends where nobody holds it


class Engine:
    """A network, its optimiser, and the averages of its weights, shared out over ranks as the ZeRO stage says.

    Made by `start`. The order of a step: for each micro-batch `network(...)` and `backward`, then `step`.

    Attributes:
        network: To be called in place of the one that was given.
        shards: This rank's part of weights, moments and averages.
    """

    def __init__(self, engine: Any, optimiser: Any, network: nn.Module, config: TrainingConfig, ranks: int) -> None:
        self.network: nn.Module = engine
        self.config, self.ranks = config, ranks
        self._engine, self._optimiser = engine, optimiser
        self._parameters = list(network.parameters())
        self._made = 0
        self.shards = Shards.of(network, engine, optimiser, config.zero)

    @classmethod
    def start(
        cls, network: nn.Module, config: TrainingConfig, comm: Communicator | Serial, device: torch.device
    ) -> Engine:
        """Wraps a network; its weights are then the engine's.

        Arguments:
            network: The same weights on every rank; on any device.
            config: ZeRO stage, precision, accumulation, clipping, optimiser.
            comm: Ranks that train together.
            device: Of this rank.

        Collective: yes.
        """
        deepspeed = join(comm, device)
        network.to(device).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module = Precision(network, config.precision, config.recompute)
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            betas=BETAS,
            weight_decay=config.weight_decay,
            fused=True,  # a third of the time: it touches memory once
        )
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, about functions of torch that it uses
            engine, wrapped, _, _ = deepspeed.initialize(
                model=module, optimizer=optimiser, config=settings(network, config), dist_init_required=False
            )
        for name, buffer in network.named_buffers():  # 16 bits are for weights
            buffer.data = buffers[name].to(buffer.device)
        if config.zero == 0:  # the others have laid the weights into flat tensors; convolutions like this format
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(engine, wrapped if config.zero else optimiser, network, config, comm.size)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of one micro-batch.

        Arguments:
            loss: This rank's and micro-batch's part; all parts add up to the loss of the global batch.

        Collective: yes, at the last micro-batch of a step (at each one from stage 2 on).
        """
        with quiet():
            self._engine.backward(loss * (self.ranks * self.config.accumulate))
            self._made += 1
            if self._made < self.config.accumulate:
                self._engine.step()

    def step(self, learning_rate: float) -> float:
        """Clips the gradient, moves the weights, and returns the norm that the gradient had.

        Where the norm is not finite the weights may be spoiled, and it is returned as it is.

        Collective: yes.
        """
        self._made = 0
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        norm = self._norm_of_whole_gradient() if self.config.zero == 0 else None
        if norm is not None:
            if not torch.isfinite(norm):
                return float(norm)
            nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip, norm)
        with quiet():
            self._engine.step()
        if norm is None:
            norm = self._engine.get_global_grad_norm()
            norm = torch.tensor(float("nan")) if norm is None else norm
        return float(norm)

    def _norm_of_whole_gradient(self) -> Tensor:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def tensors(self) -> dict[str, int]:
        """Returns the bytes of this rank's tensors, by kind; see `Shards.bytes`.

        Collective: no.
        """
        return self.shards.bytes(self._parameters)

    def close(self) -> None:
        """Lets go of the memory.

        Collective: no.
        """
        self._engine.destroy()
        self.shards.forget()
        del self._engine, self._optimiser, self.network


class Precision(nn.Module):
    """A network under bfloat16 arithmetic, or with activations that are computed twice instead of being kept."""

    def __init__(self, network: nn.Module, precision: str, recompute: bool) -> None:
        super().__init__()
        self.inner = network
        self.bfloat16_arithmetic, self.recompute = precision == "bf16", recompute

    def forward(self, x: Tensor, t: Tensor, **conditions: Tensor) -> Tensor:
        network = partial(self.inner, **conditions)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16_arithmetic):
            if self.recompute and torch.is_grad_enabled():
                return checkpoint(network, x, t, use_reentrant=False)
            return network(x, t)


def settings(network: nn.Module, config: TrainingConfig) -> dict[str, Any]:
    """Returns DeepSpeed's configuration.

    Its defaults for clipping (1.0) and buckets (2 GB) are not left to it. Stage 0 keeps weights of 32 bits, of which
    the arithmetic uses 16: DeepSpeed would average bfloat16 gradients without master weights there.
    """
    bucket = min(BUCKET, -(-sum(p.numel() for p in network.parameters()) // ALIGN) * ALIGN)
    made: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # it is told how losses add up, so this number is not used
        "gradient_accumulation_steps": config.accumulate,
        "gradient_clipping": config.clip if config.zero else 0.0,  # stage 0: `Engine.step` has the norm and clips
        "steps_per_print": None,
        "zero_optimization": {
            "stage": config.zero, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket, "overlap_comm": False,
            "contiguous_gradients": False,  # a copy of each gradient less
        },
    }  # fmt: skip
    if config.precision == "bf16" and config.zero:
        made["bf16"] = {"enabled": True, "check_grad_overflow": False}  # the trainer looks at the norm
        made["communication_data_type"] = "fp32"
        if config.zero > 1:
            made["data_types"] = {"grad_accum_dtype": "fp32"}
    return made


def join(comm: Communicator | Serial, device: torch.device) -> Any:
    """Makes the process group of a communicator's ranks and returns DeepSpeed, imported.

    Raises:
        RuntimeError: The process is in a group of another size.

    Collective: yes.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if device.type == "cuda" else "cpu")
    backend = "nccl" if device.type == "cuda" else "gloo"
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # 76 s of compilation
    # NCCL's and DeepSpeed's only question to the environment.
    os.environ["LOCAL_RANK"] = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", str(device.index or 0))
    if not torch.distributed.is_initialized():
        meet(comm, backend)
    elif torch.distributed.get_world_size() != comm.size:
        raise RuntimeError(
            f"This process trains already in a group of {torch.distributed.get_world_size()} ranks, expected "
            f"{comm.size}: end that training first."
        )
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False, timeout=WAIT)
    return deepspeed


def meet(comm: Communicator | Serial, backend: str) -> None:
    """Forms the process group; the port is chosen by the system, the address told over MPI.

    Collective: yes.
    """
    global _store
    node = comm.split_by_node()
    host = "127.0.0.1" if node.size == comm.size else socket.gethostname()
    node.free()
    if comm.is_root:
        _store = torch.distributed.TCPStore(host, 0, comm.size, is_master=True, wait_for_workers=False, timeout=WAIT)
    host, port = comm.broadcast((host, _store.port) if comm.is_root else None)
    if not comm.is_root:
        _store = torch.distributed.TCPStore(host, port, comm.size, is_master=False, timeout=WAIT)
    torch.distributed.init_process_group(
        backend, store=_store, rank=comm.rank, world_size=comm.size, timeout=WAIT
    )


def leave() -> None:
    """Leaves the process group, so that none of its threads lives when the interpreter ends.

    Collective: yes, where the process is in one.
    """
    global _store
    if not torch.distributed.is_initialized():
        return
    import deepspeed

    torch.distributed.barrier()
    deepspeed.comm.destroy_process_group()
    _store = None
