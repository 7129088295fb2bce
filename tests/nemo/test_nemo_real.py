"""NEMO itself, where one is built. Set, to run these tests:

- HALOCLINE_NEMO: folder of a configuration that makenemo has built, such as cfgs/GYRE_CTRL;
- HALOCLINE_NEMO_EXPERIMENT: folder from which it runs (namelist_cfg, namelist_ref, a restart that namelist_cfg names);
- HALOCLINE_NEMO_RUN: run folder of a generator trained on its grid.
"""

import os
import re
import shutil
from pathlib import Path

import netCDF4
import pytest
from nemo_tools import HOOKS, run, with_steps

VARIABLES = ("HALOCLINE_NEMO", "HALOCLINE_NEMO_EXPERIMENT", "HALOCLINE_NEMO_RUN")
STEPS = 24
MISSING = [name for name in VARIABLES if not Path(os.environ.get(name, "/nowhere")).is_dir()]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no NEMO here: {', '.join(MISSING)} not set to a folder")
SERVE = (":", "-n", "1", "halocline", "serve", "halocline.yaml")


@pytest.fixture(scope="module")
def nemo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NEMO with the hooks; BLD/bin/nemo.exe of the configuration stays as it is."""
    executable = tmp_path_factory.mktemp("nemo") / "nemo_halocline.exe"
    words = (HOOKS / "link_nemo", os.environ["HALOCLINE_NEMO"], "-o", executable)
    status, output = run(*words, cwd=executable.parent, limit=120)
    assert status == 0, output
    return executable


def prepare(folder: Path, steps: int = STEPS, generate: bool = False) -> Path:
    """Makes a run folder: links to all of the experiment but its output, and the namelist for some steps."""
    folder.mkdir(exist_ok=True)
    for file in Path(os.environ["HALOCLINE_NEMO_EXPERIMENT"]).iterdir():
        if file.name.startswith("namelist_") or file.suffix == ".nc":
            (folder / file.name).symlink_to(file.resolve())
    text = (folder / "namelist_cfg").read_text()
    (folder / "namelist_cfg").unlink()
    if generate:
        text = re.sub(r"ln_rstart\s*=\s*\.true\.", "ln_rstart = .false.", text)
    (folder / "namelist_cfg").write_text(with_steps(text, steps))
    return folder


def plain(folder: Path, steps: int = STEPS, ranks: int = 1) -> bytes:
    """Runs NEMO as makenemo left it, and returns run.stat."""
    executable = Path(os.environ["HALOCLINE_NEMO"]) / "BLD" / "bin" / "nemo.exe"
    status, output = run("mpirun", "-n", ranks, executable, cwd=folder, limit=120)
    assert status == 0, output
    return (folder / "run.stat").read_bytes()


def coupled(
    nemo: Path, folder: Path, settings: str = "", ranks: int = 1, beside: bool = False, hooks: str = ""
) -> tuple[int, str]:
    """Runs NEMO with the hooks: further lines of halocline.yaml, contents of the namelist."""
    mode = "mpmd" if beside else "in_process"
    run_folder = os.environ["HALOCLINE_NEMO_RUN"]
    (folder / "halocline.yaml").write_text(f"run: {run_folder}\nmode: {mode}\n{settings}\n")
    (folder / "namelist_halocline").write_text(f"&namhalocline {hooks} /\n")
    return run("mpirun", "-n", ranks, nemo, *(SERVE if beside else ()), cwd=folder, limit=240)


def restart_in(folder: Path) -> Path:
    """The restart that the namelist names."""
    name = re.search(r"""cn_ocerst_in\s*=\s*["'](.*?)["']""", (folder / "namelist_cfg").read_text()).group(1)
    return folder / f"{name}.nc"


@pytest.mark.parametrize(("ranks", "beside", "lag"), [(1, False, 0), (2, False, 0), (1, True, 0), (2, True, 1)])
def test_observing_leaves_run_stat_as_it_is(nemo: Path, tmp_path: Path, ranks: int, beside: bool, lag: int) -> None:
    expected = plain(prepare(tmp_path / "plain"))
    folder = prepare(tmp_path / "observed")
    status, output = coupled(nemo, folder, f"observe: {{on_reject: continue, lag: {lag}}}", ranks, beside)
    assert status == 0, output
    assert (folder / "run.stat").read_bytes() == expected
    assert (folder / "halocline" / "verdicts.log").read_text().count("continue") >= STEPS


def test_without_its_namelist_the_linked_executable_is_nemo(nemo: Path, tmp_path: Path) -> None:
    folder = prepare(tmp_path / "linked")
    status, output = run("mpirun", "-n", 2, nemo, cwd=folder, limit=120)
    assert status == 0, output
    assert (folder / "run.stat").read_bytes() == plain(prepare(tmp_path / "plain"))


@pytest.mark.parametrize(("ranks", "beside"), [(1, False), (2, False), (2, True)])
def test_start_in_memory_is_the_start_from_a_restart(nemo: Path, tmp_path: Path, ranks: int, beside: bool) -> None:
    sampling = "sampling.steps=2"
    model = os.environ["HALOCLINE_NEMO_RUN"]
    file = prepare(tmp_path / "file")
    for words in (
        ("sample", model, "members=1", "seed=3", "months=[12]", "output=states.nc", sampling),
        ("restart", model, "states=states.nc", "output=generated.nc"),
    ):
        status, output = run("halocline", *words, cwd=file, limit=200)
        assert status == 0, output
    restart_in(file).unlink()
    (file / "generated.nc").rename(restart_in(file))
    expected = plain(file)
    memory = prepare(tmp_path / "memory", generate=True)
    settings = "generate: {seed: 3, month: 12, sampling: {steps: 2}}\nobserve: {on_reject: continue}"
    status, output = coupled(nemo, memory, settings, ranks, beside, "ln_generate = .true.")
    assert status == 0, output
    assert (memory / "run.stat").read_bytes() == expected


@pytest.mark.parametrize(("ranks", "beside"), [(1, False), (2, True)])
def test_a_rejected_trajectory_ends_with_a_restart(nemo: Path, tmp_path: Path, ranks: int, beside: bool) -> None:
    folder = prepare(tmp_path / "warm")
    start = restart_in(folder)
    shutil.copyfile(start.resolve(), folder / "warm.nc")
    start.unlink()
    (folder / "warm.nc").rename(start)
    with netCDF4.Dataset(start, "a") as dataset:  # 5 degrees more everywhere: no ocean of this generator
        dataset.set_auto_mask(False)
        t = dataset["tn"][:]
        dataset["tn"][:] = (t + 5) * (t != 0)
    status, output = coupled(nemo, folder, "observe: {on_reject: stop}", ranks, beside)
    assert status == 123, output
    assert "Halocline asks to stop" in (folder / "ocean.output").read_text()
    written = [file.name for file in folder.glob("*_restart*.nc") if file != start]
    assert len(written) == ranks, written
    assert len((folder / "run.stat").read_text().splitlines()) < STEPS
