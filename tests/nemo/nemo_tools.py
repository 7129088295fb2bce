"""Tools of these tests: commands under a time limit, the stand-in's build, its run folders."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from patience import WORKERS

HOOKS = Path(__file__).parents[2] / "coupling" / "nemo"
STANDIN = Path(__file__).parent / "standin"
# In the order of their use of each other
SOURCES = (
    "par_oce", "in_out_manager", "dom_oce", "sbc_oce", "oce", "lib_mpp", "lbclnk", "restart", "usrdef_istate", "stpctl",
    "nemogcm", "nemo",
)  # fmt: skip
COMPILE = "mpifort -c -cpp -fdefault-real-8 -O1"
LAUNCHER = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # containers run as root
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # more ranks than cores: a waiting rank must not spin
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMP_NUM_THREADS": "1",
    "HALOCLINE_PREFIX": sys.prefix,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # `halocline serve`
}


def run(*command: object, cwd: Path, limit: float = 30, **environment: str) -> tuple[int, str]:
    """Exit code and output of a command that is ended, children included, after `limit` seconds."""
    words = ["timeout", "-k", "10", str(limit * WORKERS), *map(str, command)]
    job = subprocess.run(
        words, cwd=cwd, env={**os.environ, **LAUNCHER, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert job.returncode != 124, f"{' '.join(words)} was not finished after {limit * WORKERS} s:\n{job.stdout[-3000:]}"
    return job.returncode, job.stdout


@dataclass(frozen=True)
class Configuration:
    """A folder as makenemo leaves it: WORK with links to sources, MY_SRC, BLD with objects, modules, Makefile."""

    folder: Path

    @property
    def build(self) -> Path:
        return self.folder / "BLD"

    def compile(self, source: Path, name: str, *options: str) -> None:
        """As FCM does: preprocessed in traditional mode, then compiled; modules in inc, objects in obj."""
        clean = self.build / "ppsrc" / f"{name}.f90"
        status, output = run("cpp", "-P", "-traditional", "-I", self.folder / "WORK", source, clean, cwd=self.folder)
        assert status == 0, output
        inc = self.build / "inc"
        command = [*shlex.split(COMPILE), *options, "-J", inc, "-I", inc, clean, "-o", self.build / "obj" / f"{name}.o"]
        status, output = run(*command, cwd=self.folder)
        assert status == 0, output


def make_standin(folder: Path) -> Configuration:
    """Builds the stand-in."""
    made = Configuration(folder)
    for name in ("WORK", "MY_SRC", "BLD/obj", "BLD/inc", "BLD/bin", "BLD/ppsrc"):
        (folder / name).mkdir(parents=True)
    for name in SOURCES:
        (folder / "WORK" / f"{name}.F90").symlink_to(STANDIN / f"{name}.F90")
        made.compile(folder / "WORK" / f"{name}.F90", name)
    exports = {"FC": COMPILE, "FFLAGS": "-ffree-line-length-none", "LD": "mpifort", "LDFLAGS": "-lm"}
    (made.build / "Makefile").write_text("".join(f"export {name} = {value}\n" for name, value in exports.items()))
    return made


@dataclass(frozen=True)
class Experiment:
    """A run folder of the stand-in, with nemo_bridge.py in the place of Halocline's Python side."""

    folder: Path

    def start(
        self, executable: Path, hooks: str | None, ranks: int = 1, run_control: str = "", beside: tuple[str, ...] = (),
        **settings: object,
    ) -> tuple[int, str]:
        """Runs it.

        Arguments:
            executable: The stand-in with the hooks.
            hooks: Contents of namelist_halocline; None: no such file.
            ranks: Of NEMO.
            run_control: Contents of namelist_standin.
            beside: A program on one more rank.
            settings: What nemo_bridge.py does.

        Returns:
            Exit code and output.
        """
        (self.folder / "namelist_standin").write_text(f"&standin {run_control} /\n")
        (self.folder / "halocline.json").write_text(json.dumps(settings))
        if hooks is not None:
            words = f"&namhalocline cn_config = 'halocline.json' {hooks} /\n"
            (self.folder / "namelist_halocline").write_text(words)
        environment = {"HALOCLINE_PYTHON_MODULE": "nemo_bridge", "PYTHONPATH": str(STANDIN)}
        more = (":", "-n", "1", *beside) if beside else ()
        return run("mpirun", "-n", ranks, executable, *more, cwd=self.folder, **environment)

    def heard(self, rank: int = 0) -> dict:
        """What a rank told the bridge."""
        return json.loads((self.folder / f"heard_{rank:04d}.json").read_text())

    def seen(self, name: str, step: int) -> np.ndarray:
        """An observed field, whole, shape (k, j, i)."""
        files = sorted(self.folder.glob(f"seen_*_{step:04d}.npz"))
        return np.concatenate([np.load(file)[name] for file in files], axis=2)

    @property
    def observed(self) -> list[int]:
        """Steps that rank 0 sent."""
        return sorted(int(file.stem.split("_")[2]) for file in self.folder.glob("seen_0000_*.npz"))


def with_steps(namelist: str, steps: int) -> str:
    """NEMO's namelist with another number of steps."""
    first = int(re.search(r"nn_it000\s*=\s*(\d+)", namelist).group(1))
    return re.sub(r"nn_itend\s*=\s*\d+", f"nn_itend = {first + steps - 1}", namelist)
