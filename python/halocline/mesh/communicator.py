"""The communicator of the domain, and its serial twin.

A rank that fails while the others wait in a collective hangs the job. So work that may fail on one rank alone is done
inside ``with comm.together():``, or its error is handed to `agree`: the same sentence is then raised on every rank.
An exception that escapes in the middle of a collective cannot be agreed upon; the program must abort.
"""

import builtins
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Union

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

# Set by launchers (Open MPI; MPICH, Intel MPI and Slurm's pmi2; PMIx; srun) in the processes that they start. Not
# SLURM_PROCID: sbatch sets it in the batch script, too, which is no rank.
_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "SLURM_STEP_ID")


class Communicator:
    """A duplicate of an MPI communicator: its messages never meet those of the host.

    Arguments:
        mpi: Communicator of mpi4py to duplicate.

    Collective: yes, as is every method here but `send`, `receive` and `wait`.
    """

    def __init__(self, mpi: "MPI.Comm") -> None:
        from mpi4py import MPI

        self.mpi = mpi.Dup()
        self.mpi.Set_errhandler(MPI.ERRORS_RETURN)  # mpi4py then raises
        self.rank: int = self.mpi.Get_rank()
        self.size: int = self.mpi.Get_size()

    @classmethod
    def from_fortran(cls, handle: int) -> "Communicator":
        """Duplicates the communicator behind a Fortran handle (`comm%MPI_VAL`)."""
        from mpi4py import MPI

        return cls(MPI.Comm.f2py(handle))

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, the one that speaks."""
        return self.rank == 0

    def agree(self, error: Exception | None) -> None:
        """Raises one error on every rank if any rank has one: that of the lowest failing rank.

        Arguments:
            error: This rank's error, or None.

        Raises:
            Exception: The same built-in type and text everywhere; RuntimeError if the type is not built in. It carries
                `agreed` (true) and `origin`, the rank on which it happened and whose traceback shows where.
        """
        failing = self.mpi.allreduce(self.size if error is None else self.rank, op=_minimum())
        if failing == self.size:
            return
        told = self.mpi.bcast((type(error).__name__, str(error)) if self.rank == failing else None, root=failing)
        shared = error if self.rank == failing and error is not None else _rebuild(*told)
        shared.agreed = True  # type: ignore[attr-defined]  # every rank has it: nobody is left waiting
        shared.origin = failing  # type: ignore[attr-defined]
        raise shared from (None if shared is error else error)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Agrees on what local work inside the block raised. Call nothing collective inside."""
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        self.agree(error)

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """Hands the value of `root` to every rank."""
        return self.mpi.bcast(value, root=root)

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """Collects the values of all ranks on `root`, in rank order; None elsewhere."""
        return self.mpi.gather(value, root=root)

    def allgather(self, value: Any) -> list[Any]:
        """Collects the values of all ranks everywhere, in rank order."""
        return self.mpi.allgather(value)

    def alltoall(self, values: Sequence[Any]) -> list[Any]:
        """Sends one value to each rank and returns the one that each rank sent here."""
        return self.mpi.alltoall(list(values))

    def allgather_arrays(self, array: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """Strings the float64 vectors of all ranks together, in rank order; `counts` are their lengths."""
        array = np.ascontiguousarray(array, np.float64)
        result = np.empty(int(sum(counts)))
        self.mpi.Allgatherv(array, [result, [int(count) for count in counts]])
        return result

    def sum_arrays(self, array: np.ndarray) -> np.ndarray:
        """Adds float64 arrays over ranks in no particular order: for integers and timings, whose sums are exact or
        need no bits. Sums over the globe go through `Layout.sum`."""
        result = np.empty(np.shape(array))
        self.mpi.Allreduce(np.ascontiguousarray(array, np.float64), result)
        return result

    def barrier(self) -> None:
        """Waits for all ranks."""
        self.mpi.Barrier()

    def split(self, color: int | None, key: int = 0) -> Union["Communicator", None]:
        """Divides the ranks by colour, ordered by key; None for ranks without a colour."""
        from mpi4py import MPI

        part = self.mpi.Split(MPI.UNDEFINED if color is None else color, key)
        if part == MPI.COMM_NULL:
            return None
        result = Communicator(part)
        part.Free()
        return result

    def split_by_node(self) -> "Communicator":
        """Divides the ranks by the memory that they share: those of one node, in the order of their ranks here."""
        from mpi4py import MPI

        part = self.mpi.Split_type(MPI.COMM_TYPE_SHARED, self.rank)
        result = Communicator(part)
        part.Free()
        return result

    def send(self, buffer: np.ndarray, rank: int, tag: int) -> "MPI.Request":
        """Starts to send a contiguous array. Not collective."""
        return self.mpi.Isend(buffer, rank, tag)

    def receive(self, buffer: np.ndarray, rank: int, tag: int) -> "MPI.Request":
        """Starts to receive into a contiguous array. Not collective."""
        return self.mpi.Irecv(buffer, rank, tag)

    def wait(self, requests: "list[MPI.Request]") -> None:
        """Waits until all of these messages are through. Not collective."""
        if requests:
            type(requests[0]).Waitall(requests)

    def abort(self, status: int) -> None:
        """Ends all ranks at once: for an error that the others do not know of. Not collective."""
        self.mpi.Abort(status)

    def free(self) -> None:
        """Gives the duplicate back to MPI."""
        self.mpi.Free()


class Serial:
    """The twin of `Communicator` for one process: the same verbs, without MPI."""

    rank = 0
    size = 1
    is_root = True

    def agree(self, error: Exception | None) -> None:
        """Raises the error, if any."""
        if error is not None:
            raise error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Lets errors pass."""
        yield

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """Returns the value."""
        return value

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """Returns the value in a list."""
        return [value]

    def allgather(self, value: Any) -> list[Any]:
        """Returns the value in a list."""
        return [value]

    def alltoall(self, values: Sequence[Any]) -> list[Any]:
        """Returns the values: the only one is for this rank."""
        return list(values)

    def allgather_arrays(self, array: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """Returns a copy as float64."""
        return np.array(array, np.float64)

    def sum_arrays(self, array: np.ndarray) -> np.ndarray:
        """Returns a copy as float64."""
        return np.array(array, np.float64)

    def barrier(self) -> None:
        """Waits for nobody."""

    def split(self, color: int | None, key: int = 0) -> Union["Serial", None]:
        """Returns this rank, unless it has no colour."""
        return None if color is None else self

    def split_by_node(self) -> "Serial":
        """Returns this rank."""
        return self

    def send(self, buffer: np.ndarray, rank: int, tag: int) -> Any:
        """Refuses: there is nobody to send to."""
        raise RuntimeError(f"A serial run cannot send to rank {rank}: start it with mpirun or srun.")

    def receive(self, buffer: np.ndarray, rank: int, tag: int) -> Any:
        """Refuses: there is nobody to receive from."""
        raise RuntimeError(f"A serial run cannot receive from rank {rank}: start it with mpirun or srun.")

    def wait(self, requests: list[Any]) -> None:
        """Waits for nothing."""

    def abort(self, status: int) -> None:
        """Ends the process."""
        sys.exit(status)

    def free(self) -> None:
        """Gives nothing back."""


AnyCommunicator = Communicator | Serial


def world() -> AnyCommunicator:
    """Returns all processes of the launch, or the serial twin if no launcher started this one.

    MPI is imported and initialised only under a launcher, or used where a host has initialised it already.

    Collective: yes.
    """
    if "mpi4py.MPI" in sys.modules or any(name in os.environ for name in _LAUNCHERS):
        from mpi4py import MPI

        return Communicator(MPI.COMM_WORLD)
    return Serial()


def _minimum() -> Any:
    from mpi4py import MPI

    return MPI.MIN


def _rebuild(name: str, text: str) -> Exception:
    """Makes an exception of a built-in type from its name and text."""
    kind = getattr(builtins, name, RuntimeError)
    try:
        error = kind(text)
    except TypeError:  # a type that takes more than a text, such as UnicodeDecodeError
        error = RuntimeError(text)
    return error if isinstance(error, Exception) else RuntimeError(text)
