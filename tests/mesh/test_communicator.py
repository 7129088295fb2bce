import subprocess
import sys

import numpy as np
import pytest

from halocline.mesh.communicator import Serial


def test_serial_twin_has_the_verbs_of_the_communicator():
    from halocline.mesh.communicator import Communicator

    def verbs(kind):
        return {name for name in vars(kind) if not name.startswith("_")} - {"from_fortran"}

    assert verbs(Communicator) <= verbs(Serial)


def test_serial_verbs_act_on_one_rank():
    comm = Serial()
    assert comm.gather(3) == comm.allgather(3) == comm.alltoall([3]) == [3]
    assert comm.broadcast("x") == "x" and comm.split(0) is comm and comm.split(None) is None
    assert comm.sum_arrays(np.array([1, 2])).tolist() == [1.0, 2.0]
    with pytest.raises(KeyError), comm.together():
        raise KeyError("lost")
    with pytest.raises(RuntimeError, match="start it with mpirun"):
        comm.send(np.zeros(1), 1, 0)


def test_serial_rank_is_alone_on_its_node():
    comm = Serial()
    assert comm.split_by_node() is comm


@pytest.mark.parametrize(
    "slurm",
    [{}, {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}],
    ids=["plain", "batch script"],
)
def test_world_without_a_launcher_is_serial_and_needs_no_mpi(slurm):
    code = (
        "import sys\n"
        "from halocline.mesh.communicator import world\n"
        "assert world().size == 1 and 'mpi4py' not in sys.modules\n"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), **slurm}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
