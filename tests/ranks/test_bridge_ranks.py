"""The bridge on the model's ranks: same bits and same verdicts for every decomposition, one error on all ranks."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "run"))  # the tiny case, and a stand-in for a rank of a model

from case import NI, NJ, OCEAN, Case, copy_with_header, here, mask_of, seasonal_states
from host import UNTOUCHED, Model, write_config

from halocline.io.nemo import read_restart
from halocline.mesh.communicator import Serial
from halocline.mesh.lattice import Lattice
from halocline.mesh.rearrange import Rect
from halocline.run.bridge import Bridge, mpi_library_version, start
from halocline.run.bridge_config import read_bridge_config
from halocline.run.contract import CONTRACT, EXCEPTION, GO_ON, OK, REJECT, START, STOP, ContractError
from halocline.run.emulator import Emulator
from halocline.run.judging import diagnose_fields
from halocline.run.run_folder import load_content, load_generator

WANTED = {"seed": 5, "member": 2, "month": 3}


@pytest.fixture(scope="module")
def case(comm, tmp_path_factory) -> Case:
    """The tiny case, trained by rank 0, with the restart that NEMO would start from."""
    made = None
    with comm.together():
        if comm.is_root:
            made = Case.write(tmp_path_factory.mktemp("ranks") / "case")
            assert here("train", made.config).status == 0
            states, path = made.folder / "states.nc", made.folder / "restart.nc"
            words = ("members=3", "seed=5", "months=[3]", f"output={states}")
            assert here("sample", made.run, *words).status == 0
            assert here("restart", made.run, f"states={states}", "member=2", f"output={path}").status == 0
            torch.set_num_threads(1)
            config = yaml.safe_load(load_content(made.run)["config"])
            config["lattice"]["tile"] = [16, 16]  # 2 tiles: fewer than the ranks of some launches
            copy_with_header(made.run, made.folder / "large", config=yaml.safe_dump(config))
    return comm.broadcast(made)


@pytest.fixture
def folder(comm, tmp_path_factory) -> Path:
    return comm.broadcast(tmp_path_factory.mktemp("bridge") if comm.is_root else None)


def build(comm, case: Case, folder: Path, **keys) -> Bridge:
    path = write_config(folder, case, **{"generate": WANTED, **keys}) if comm.is_root else None
    return start(comm.mpi.py2f(), str(comm.broadcast(path)))


def strips(cuts: list[int], along_j: bool) -> list[Rect]:
    return [Rect(a, b, 0, NI) if along_j else Rect(0, NJ, a, b) for a, b in pairwise(cuts)]


def decompositions(size: int) -> dict[str, list[Rect | None]]:
    """Rectangles of each rank: strips both ways, even and uneven, boxes, and land left out with ranks without cells."""

    def even(n: int) -> list[int]:
        return [n * part // size for part in range(size + 1)]

    uneven = [0, *(3, 4, 9)[: size - 1], NJ]
    result: dict[str, list[Rect | None]] = {
        "rows": [*strips(even(NJ), True)],
        "columns": [*strips(even(NI), False)],
        "uneven": [*strips(uneven, True)],
    }
    if size == 4:
        result["boxes"] = [Rect(j, k, i, m) for j, k in ((0, 6), (6, NJ)) for i, m in ((0, 11), (11, NI))]
        result["crooked"] = [Rect(0, 3, 0, NI), Rect(3, NJ, 12, NI), Rect(3, 10, 0, 12), Rect(10, NJ, 0, 12)]
    sea = NJ - 1  # the last row and the first column are land, and so is the corner of a tile
    without_land = {
        1: [Rect(0, sea, 1, NI)],
        2: [Rect(0, sea, 1, 8), Rect(0, sea, 8, NI)],
        3: [Rect(0, 8, 1, 8), Rect(0, 8, 16, NI), Rect(8, sea, 1, NI)],
        4: [Rect(0, 8, 1, 8), Rect(0, 8, 16, NI), None, Rect(8, sea, 1, NI)],
    }
    return {**result, "without land": [*without_land[size]]}


@pytest.mark.parametrize(("run", "dtype"), [("run", "f4"), ("run", "f8"), ("large", "f8")])
def test_model_starts_from_the_bits_of_the_restart_on_every_decomposition(comm, case, folder, run, dtype):
    expected = read_restart(case.folder / "restart.nc")
    for name, rects in decompositions(comm.size).items():
        bridge = build(comm, case, folder, run=str(case.folder / run))
        model = Model(case.grid, rects[comm.rank], dtype=dtype).start(bridge)
        assert bridge.generate()[1:3] == (GO_ON, 0)
        if run == "large":  # other tiles: the halo of the network reaches other cells, so the state is another one
            expected = comm.broadcast(alone(case, folder, run) if comm.is_root else None)
        if model.rect is not None:
            for field in OCEAN:
                cells = model.cut(expected[field]).astype(dtype)
                assert np.array_equal(model.inner(field), cells), (name, field)
                model.inner(field)[...] = UNTOUCHED
                assert (model.arrays[field] == np.asarray(UNTOUCHED, dtype)).all()
        bridge.finalize()


def alone(case: Case, folder: Path, run: str) -> dict[str, np.ndarray]:
    """The state that one process generates."""
    path = write_config(folder, case, run=str(case.folder / run), generate=WANTED, output=str(folder / "alone"))
    bridge = Bridge.build(Serial(), path)
    model = Model(case.grid, Rect(0, NJ, 0, NI)).start(bridge)
    bridge.generate()
    bridge.finalize()
    return {name: model.inner(name) for name in OCEAN}


def month(case: Case) -> dict[str, np.ndarray]:
    return {name: x[3] for name, x in seasonal_states(case.grid).items()}


@pytest.mark.parametrize("run", ["run", "large"])
def test_online_verdict_is_that_of_the_offline_diagnosis(comm, case, folder, run):
    fields = month(case)
    for rects in decompositions(comm.size).values():
        bridge = build(comm, case, folder, run=str(case.folder / run))
        model = Model(case.grid, rects[comm.rank]).start(bridge)
        model.put(fields)
        seen = []
        if bridge.emulator is not None:
            observe = bridge.emulator.observe
            bridge.emulator.observe = lambda *told, observe=observe, seen=seen: seen.append(observe(*told)) or seen[0]
        told = bridge.observe(4)
        assert told[:3] == (OK, GO_ON, 4) and len(set(comm.allgather(told))) == 1
        lattice = Lattice.from_grid(case.grid, (16, 16) if run == "large" else (8, 8), 2)
        batch = {name: x[None] for name, x in fields.items()}
        offline = diagnose_fields(batch, case.grid, lattice, load_generator(case.run).config.data)
        for judgement in seen:
            assert all(x.tobytes() == offline[n][0].numpy().tobytes() for n, x in judgement.diagnostics.items())
        bridge.finalize()


def test_nan_of_any_rank_is_named_with_its_place_on_all(comm, case, folder):
    rects = decompositions(comm.size)["rows"]
    bridge = build(comm, case, folder)
    model = Model(case.grid, rects[comm.rank]).start(bridge)
    fields = month(case)
    model.put(fields)
    for k, j, i in ((1, 11, 3), (1, 2, 17), (2, 0, 1)):
        assert mask_of("salinity", case.grid)[k, j, i]
        fields["salinity"][k, j, i] = np.nan
    model.put(fields)
    expected = "salinity = nan at level 1, j=2, i=17, the first of 3 wet cells that are not finite."
    assert bridge.observe(9) == (REJECT, STOP, 9, expected)


def test_differences_of_any_rank_are_told_on_all(comm, case, folder):
    rects = decompositions(comm.size)["rows"]
    bridge = build(comm, case, folder)
    model = Model(case.grid, rects[comm.rank])
    mask = np.array(model.cut(case.grid.tmask), "f8")
    mask[0] = 0
    last = comm.rank == comm.size - 1
    model.declare(bridge, **({"mask": mask.data.cast("B")} if last else {}))
    with pytest.raises(ContractError, match=f"Mask of rank {comm.size - 1}:") as caught:
        model.ready(bridge, calendar="julian")
    assert "Calendar" in str(caught.value) and caught.value.agreed and caught.value.halocline_status == CONTRACT
    assert len(set(comm.allgather(str(caught.value)))) == 1


def test_ranks_that_declare_different_things_all_hear_of_it(comm, case, folder):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    bridge = build(comm, case, folder)
    model = Model(case.grid, decompositions(comm.size)["rows"][comm.rank])
    model.declare(bridge, temperature={"unit": "K"} if comm.rank == 1 else {})
    with pytest.raises(ContractError, match=r"Rank 1 of the model registers temperature at T in K, .* not rank 0"):
        model.ready(bridge, step=comm.rank == 1)


@pytest.mark.parametrize("run", ["run", "large"])
def test_diverged_state_is_one_error_on_all_ranks_and_fills_nothing(comm, case, folder, run):
    bridge = build(comm, case, folder, run=str(case.folder / run))
    model = Model(case.grid, decompositions(comm.size)["columns"][comm.rank]).start(bridge)
    if bridge.emulator is not None:
        for weights in bridge.emulator.generator.denoiser.network.parameters():
            weights.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="Member 2 diverged: temperature level 0 is nan") as caught:
        bridge.generate()
    assert caught.value.agreed and caught.value.halocline_status == EXCEPTION
    assert all((x == UNTOUCHED).all() for x in model.arrays.values())
    comm.barrier()
    assert (folder / "halocline" / "traceback_rank_0000.txt").read_text().startswith("Rank 0, generate, step 0")


def test_status_of_one_rank_reaches_all(comm, case, folder):
    """An error that the emulator's ranks agree on is one of Python's own types there; its status must survive."""
    bridge = build(comm, case, folder)
    model = Model(case.grid, decompositions(comm.size)["rows"][comm.rank]).start(bridge)
    model.put(month(case))

    def observe(*_):
        with comm.together():
            if comm.rank == comm.size - 1:
                raise ContractError("The record holds something else.")

    bridge.emulator.observe = observe
    with pytest.raises((ContractError, RuntimeError), match="something else") as caught:
        bridge.observe(1)
    assert caught.value.halocline_status == CONTRACT and caught.value.agreed


def test_emulator_refuses_more_ranks_than_tiles(comm, case, folder):
    config = read_bridge_config(write_config(folder, case, run=str(case.folder / "large"))) if comm.is_root else None
    config = comm.broadcast(config)
    if comm.size > 2:
        with pytest.raises(ValueError, match="ranks for 2 tiles"):
            Emulator.build(config, comm)
    else:
        assert Emulator.build(config, comm).layout.comm.size == comm.size


def test_record_answers_the_model_on_another_decomposition(comm, case, folder):
    record = str(folder / "traffic")
    rects = decompositions(comm.size)
    lived, told = live(build(comm, case, folder, record=record), Model(case.grid, rects["rows"][comm.rank]), case)
    again = build(comm, case, folder, mode="replay", replay=record, output=str(folder / "again"))
    model = Model(case.grid, rects["columns"][comm.rank])
    replayed, retold = live(again, model, case)
    assert told == retold
    whole, same = ({rect: x for part in comm.allgather(found) for rect, x in part} for found in (lived, replayed))
    assert np.array_equal(joined(whole), joined(same))
    again = build(comm, case, folder, mode="replay", replay=record, output=str(folder / "third"))
    model = Model(case.grid, rects["columns"][comm.rank]).start(again)
    again.generate()
    model.put(month(case))
    if comm.rank == comm.size - 1:
        model.inner("salinity")[2, 2, -1] += 1e-9
    with pytest.raises(Exception, match="salinity") as caught:
        again.observe(3)
    assert caught.value.halocline_status == CONTRACT and caught.value.agreed
    assert "step 3" in str(caught.value) and "j=2, i=18" in str(caught.value)


def test_missing_record_is_told_on_all_ranks_also_on_those_without_tiles(comm, case, folder):
    for run in ("run", "large"):
        with pytest.raises((FileNotFoundError, RuntimeError), match="record") as caught:
            build(comm, case, folder, run=str(case.folder / run), mode="replay", replay=str(folder))
        assert caught.value.agreed and caught.value.halocline_status == START


def live(bridge: Bridge, model: Model, case: Case) -> tuple[list, list]:
    """A short run: the temperature that it started from, and all that it was told."""
    model.start(bridge)
    told = [bridge.generate()]
    started = [] if model.rect is None else [(model.rect, model.inner("temperature").copy())]
    model.put(month(case))
    told += [bridge.observe(3), bridge.observe(4)]
    bridge.finalize()
    return started, told


def joined(pieces: dict[Rect, np.ndarray]) -> np.ndarray:
    whole = np.zeros((4, NJ, NI))
    for rect, x in pieces.items():
        whole[:, rect.j0 : rect.j1, rect.i0 : rect.i1] = x
    return whole


def test_output_that_cannot_be_written_is_told_on_all_ranks_before_the_work(comm, case, folder):
    (folder / "file").touch()
    bridge = build(comm, case, folder, output=str(folder / "file" / "halocline"))
    Model(case.grid, decompositions(comm.size)["rows"][comm.rank]).start(bridge)
    with pytest.raises(OSError, match="choose another output") as caught:
        bridge.generate()
    assert caught.value.agreed


def test_model_ends_together_with_the_bridge_and_keeps_its_mpi(comm, case, folder):
    bridge = build(comm, case, folder)
    Model(case.grid, decompositions(comm.size)["rows"][comm.rank]).start(bridge)
    assert bridge.finalize()[1:3] == (GO_ON, -1)
    comm.barrier()  # the model's own communicator lives on
    assert "MPI" in mpi_library_version()
