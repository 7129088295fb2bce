"""One tiny case, trained once, for all tests of the commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from case import Case, alone, command


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Commands of this process take one thread, as those of others do: tiny kernels wait for a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The case before training. Tests name an output of their own."""
    return Case.write(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="session")
def trained(fresh: Case) -> Case:
    """The case with its run folder, trained by one process without interruption."""
    result = alone(*command("train", fresh.config))
    assert result.status == 0, result.err
    return fresh


@pytest.fixture(scope="session")
def states(trained: Case) -> Path:
    """Five members sampled by one process."""
    path = trained.folder / "states.nc"
    result = alone(*command("sample", trained.run, "members=5", "seed=4", f"output={path}"))
    assert result.status == 0, result.err
    return path
