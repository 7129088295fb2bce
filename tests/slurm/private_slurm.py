"""A Slurm for the tests alone: own ports, own key, every file in one folder, gone when the tests end.

Its nodes all lie on this machine, each with a slurmd of its own. For MPI they are different ones.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from patience import WORKERS

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")
NODES = ("n1", "n2")
CPUS = 4  # of a node, declared, whatever the machine has: jobs of four tasks start on two cores
PROCESSORS = os.cpu_count() or 1  # those that it has
LIBC = ctypes.CDLL(None)
START, STOP = 60.0, 20.0  # s
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
TmpFS={folder}/%n
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin={task_plugin}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=0
KillWait=10
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_ports} CPUs={cpus} CoresPerSocket={cpus} \
RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def obstacle() -> str:
    """Says why no Slurm can be started here; "" if one can."""
    missing = [name for name in (*DAEMONS, *COMMANDS) if program(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: jobs/setup --slurm, as root, installs slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "slurmd must be started by root"


def program(name: str) -> str | None:
    """Finds a program, also where only root looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Job:
    """A job that has ended: its number, its exit code as the shell would tell it, and what it printed."""

    number: int
    status: int
    output: str


class PrivateSlurm:
    """The daemons, as children of this process: they end with it however it ends.

    Arguments:
        folder: Of every file of theirs; its path is short, since sockets lie in it.
        binds: Whether tasks are bound to processors. There is one node then, with only as many as there are.
    """

    def __init__(self, folder: Path, binds: bool = False) -> None:
        self.folder, self.binds = folder, binds
        self.nodes = NODES[:1] if binds else NODES
        self.processes: list[subprocess.Popen[bytes]] = []
        own = {"SLURM_CONF": str(folder / "slurm.conf"), "OMPI_MCA_mpi_yield_when_idle": "1"}
        self.environment = {**os.environ, **own}

    def start(self) -> None:
        """Starts the daemons and waits until the nodes take jobs.

        Raises:
            RuntimeError: It does not within a minute; the text holds the ends of the logs.
        """
        for name in ("state", *(f"{node}/spool" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(1024))
        (self.folder / "slurm.conf").write_text(configuration(self.folder, self.nodes, self.binds))
        (self.folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null\n")  # in name only
        files = {"key": key, "socket": "munge.socket", "pid": "munged.pid", "log": "munged.log", "seed": "munge.seed"}
        options = [f"--{name}-file={self.folder / file}" for name, file in files.items() if name != "socket"]
        self._daemon("munged", "--foreground", "--force", f"--socket={self.folder / files['socket']}", *options)
        self._await(lambda: (self.folder / files["socket"]).exists())
        self._daemon("slurmctld", "-D")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node)
        ready = ["idle"] * len(self.nodes)
        self._await(lambda: self.call("sinfo", "-h", "-N", "-o", "%T", check=False).split() == ready)

    def stop(self) -> None:
        """Cancels what still runs and stops the daemons, the last first."""
        started = len(self.processes) == len(DAEMONS) - 1 + len(self.nodes)
        if started and all(process.poll() is None for process in self.processes):
            self.call("scancel", "--full", "--signal=KILL", "--user=root", check=False)
            self.call("scancel", "--user=root", check=False)
            until(lambda: not self.call("squeue", "-h", check=False).strip(), STOP)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def call(self, name: str, *arguments: object, check: bool = True, limit: float = 30) -> str:
        """Runs one of Slurm's commands and returns what it printed on stdout."""
        command = [str(program(name)), *map(str, arguments)]
        patience = limit * WORKERS
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=patience, check=False
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def submit(self, *arguments: object, cwd: Path, **environment: str) -> int:
        """Submits a script with sbatch and returns the number of the job."""
        command = [str(program("sbatch")), "--parsable", "--output=job-%j.out", *map(str, arguments)]
        everything = {**self.environment, **environment}
        done = subprocess.run(command, env=everything, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def wait(self, number: int, cwd: Path, limit: float) -> Job:
        """Waits for the end of a job; one that outlives the limit, in seconds, is cancelled and fails the test."""
        ended = until(lambda: self.state(number) not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED"), limit)
        file = cwd / f"job-{number}.out"
        output = file.read_text(errors="replace") if file.exists() else ""
        if not ended:
            state = self.describe(number)
            self.call("scancel", "--full", "--signal=KILL", number, check=False)
            raise AssertionError(f"Job {number} not finished after {limit * WORKERS} s:\n{state}\n{output[-4000:]}")
        code, _, number_of_signal = self.value(number, "ExitCode").partition(":")
        return Job(number, int(code) or (128 + int(number_of_signal)) * (int(number_of_signal) > 0), output)

    def run(self, *arguments: object, cwd: Path, limit: float = 60, **environment: str) -> Job:
        """Submits a script and waits for its end."""
        return self.wait(self.submit(*arguments, cwd=cwd, **environment), cwd, limit)

    def state(self, number: int) -> str:
        """State of a job, such as RUNNING."""
        return self.value(number, "JobState")

    def value(self, number: int, key: str) -> str:
        """One of the values that `scontrol show job` prints."""
        found = re.search(rf"\b{key}=(\S*)", self.describe(number))
        return found.group(1) if found else ""

    def describe(self, number: int) -> str:
        """All of them."""
        return self.call("scontrol", "show", "job", number)

    def tasks(self, number: int) -> dict[int, int]:
        """Process of each task of a job's first step, by its rank; empty before they run."""
        lists = [self.call("scontrol", "listpids", f"{number}.0", node, check=False) for node in self.nodes]
        rows = [line.split() for lines in lists for line in lines.splitlines()[1:]]
        return {int(rank): int(pid) for pid, _, _, _, rank in rows if rank.isdigit()}

    def _daemon(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        command = [str(program(name)), *arguments]
        process = subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        log.close()
        self.processes.append(process)

    def _await(self, condition: Callable[[], bool]) -> None:
        until(lambda: condition() or any(process.poll() is not None for process in self.processes), START)
        if not condition():
            logs = [f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log"))]
            raise RuntimeError("The private Slurm did not start.\n" + "\n".join(logs))


def configuration(folder: Path, nodes: Sequence[str], binds: bool) -> str:
    """Text of slurm.conf."""
    controller_port, *node_ports = free_ports(1 + len(nodes))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 * 4 // 5
    return CONFIGURATION.format(
        folder=folder, host=socket.gethostname().split(".")[0], controller_port=controller_port, nodes=",".join(nodes),
        node_ports=",".join(map(str, node_ports)), cpus=PROCESSORS if binds else CPUS, memory=memory,
        task_plugin="task/affinity" if binds else "task/none",
    )  # fmt: skip


def free_ports(count: int) -> Sequence[int]:
    """Finds ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(condition: Callable[[], object], limit: float, pause: float = 0.2) -> bool:
    """Waits for a condition, at most `limit` seconds, and returns whether it came true."""
    deadline = time.monotonic() + limit * WORKERS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def die_with_parent() -> None:
    """Asks the kernel to end this process when its parent ends, however that happens."""
    LIBC.prctl(DEATH_SIGNAL, signal.SIGTERM)
