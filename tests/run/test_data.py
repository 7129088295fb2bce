"""The training store: what is in it, that nothing is lost or doubled, and what it says to bad input."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from case import STATES, TILE, Case, alone, command, here, seasonal_states, write_output

from halocline.io.models import read_grid
from halocline.io.training_store import TrainingStore
from halocline.state.coarsening import Coarsening
from halocline.state.state import Standardisation

HELD_OUT = "data.held_out_years=[2,2]"


@pytest.fixture(scope="module")
def store(fresh: Case, tmp_path_factory) -> Path:
    """A store of the tiny case, one of whose two years is held out."""
    path = tmp_path_factory.mktemp("store") / "data.zarr"
    assert here("data", fresh.config, f"data.store={path}", HELD_OUT).status == 0
    return path


def whole(store: TrainingStore, record: int, scale: int = 1) -> np.ndarray:
    """A state, put together from its chunks."""
    grid = store.grid_at(scale)
    rows, columns = (-(-n // c) for n, c in zip((grid.nj, grid.ni), store.chunk, strict=True))
    return np.block([[store.block(scale, record, J, I) for I in range(columns)] for J in range(rows)])


def truth(case: Case, store: TrainingStore) -> np.ndarray:
    """The states as they were written to the model's file, zero on land."""
    return np.nan_to_num(store.channels.join(seasonal_states(case.grid)).numpy()).astype(np.float32)


def files(store: Path) -> dict[str, bytes]:
    """Content of a store, without what says who made it when."""
    found = {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    return found | {"manifest": json.dumps({k: v for k, v in manifest.items() if k not in ("config", "made")}).encode()}


def test_store_holds_the_states_of_the_model(fresh: Case, store: Path):
    opened = TrainingStore.open(store)
    assert opened.chunk == TILE
    assert np.array_equal(np.stack([whole(opened, n) for n in range(STATES)]), truth(fresh, opened))
    assert opened.records.year.tolist() == [1] * 6 + [2] * 6
    assert opened.records.held_out.tolist() == [False] * 6 + [True] * 6
    assert opened.grid.fingerprint() == read_grid(fresh.folder / "data" / "mesh_mask.nc").fingerprint()


def test_statistics_are_those_of_the_states_that_are_not_held_out(fresh: Case, store: Path):
    opened = TrainingStore.open(store)
    x, learned = truth(fresh, opened)[:6].astype(float), opened.statistics()
    np.testing.assert_allclose(learned.mean, x.mean(axis=0), rtol=1e-12)
    # The sum of squares is taken about the first state, whose distance from the mean is of the order of the deviation.
    np.testing.assert_allclose(learned.variance, x.var(axis=0), rtol=1e-9, atol=1e-15)
    sea = opened.channels.mask(opened.grid)
    change = [np.diff(x, axis=0)[:, n, mask] for n, mask in enumerate(sea)]
    np.testing.assert_allclose(learned.increment_deviation, [c.std() for c in change], rtol=1e-9)
    assert learned.minimum.tolist() == [x[:, n, mask].min() for n, mask in enumerate(sea)]
    assert learned.lead == 60
    expected = Standardisation.fit(opened.channels, x, opened.grid)
    found = Standardisation.from_moments(opened.channels, opened.grid, learned.mean, learned.variance)
    assert torch.allclose(found.scale, expected.scale, rtol=1e-9)


@pytest.mark.parametrize("ranks", [2, 3])
def test_store_does_not_depend_on_the_number_of_ranks(ranks: int, fresh: Case, store: Path, mpirun, tmp_path):
    path = tmp_path / "data.zarr"
    words = command("data", fresh.config, f"data.store={path}", HELD_OUT)
    status, output = mpirun(ranks, *words, cwd=tmp_path, limit=60)
    assert status == 0, output
    assert files(path) == files(store)


def test_second_run_adds_only_what_is_new(store: Path, tmp_path):
    case, path = Case.write(tmp_path), tmp_path / "data.zarr"
    states = seasonal_states(case.grid)
    for year in (0, 1):
        part = tmp_path / "data" / f"year{year}.nc"
        write_output(part, {name: x[6 * year : 6 * year + 6] for name, x in states.items()}, first=6 * year + 1)
    shutil.move(tmp_path / "data" / "year1.nc", tmp_path / "later.nc")
    words = ("data", case.config, f"data.store={path}", f"data.states={tmp_path}/data/year*.nc", HELD_OUT)
    assert here(*words, "data.held_out_years=null").status == 0
    before = {p: p.stat().st_mtime_ns for p in path.rglob("c/*/*/*/*")}
    shutil.move(tmp_path / "later.nc", tmp_path / "data" / "year1.nc")
    assert here(*words).status == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    one, other = files(path), files(store)
    assert {k: v for k, v in one.items() if k != "manifest"} == {k: v for k, v in other.items() if k != "manifest"}
    assert TrainingStore.open(path).count == STATES
    third = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    assert here(*words).status == 0
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == third


def test_killed_run_goes_on_without_losing_or_doubling_a_state(fresh: Case, store: Path, tmp_path):
    path = tmp_path / "data.zarr"
    program = (
        "import sys, os, signal, itertools\n"
        "from halocline.run import store_filling\n"
        "from halocline.io.training_store import Writer\n"
        "from halocline.__main__ import app\n"
        "store_filling.BLOCK, store_filling.COMMIT, calls, write = 1, -1.0, itertools.count(1), Writer.write\n"
        "def deadly(*a):\n"
        "    if next(calls) == int(sys.argv[1]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(*a)\n"
        "Writer.write = deadly\n"
        "app(sys.argv[2:], prog_name='halocline')\n"
    )
    words = ("data", fresh.config, f"data.store={path}", HELD_OUT)
    counts = []
    for call in (4, 5):
        assert alone("-c", program, call, *words).status == -9
        counts.append(TrainingStore.open(path).count)
    assert counts == [3, 7]
    assert here(*words).status == 0
    assert files(path) == files(store)


def test_store_is_used_as_it_is_where_the_files_of_the_model_are_absent(fresh: Case, store: Path, tmp_path):
    moved = tmp_path / "elsewhere.zarr"
    shutil.copytree(store, moved)
    words = ("data", fresh.config, f"data.store={moved}", "data.states=gone/*.nc", HELD_OUT)
    result = here(*words)
    assert result.status == 0, result.err
    assert f"the files of data.states are not here; {moved} is taken as it is" in result.out
    assert files(moved) == files(store)


def test_held_out_years_can_change_without_the_files_of_the_model(fresh: Case, store: Path, tmp_path):
    moved = tmp_path / "data.zarr"
    shutil.copytree(store, moved)
    words = ("data", fresh.config, f"data.store={moved}", "data.states=gone/*.nc")
    assert here(*words, "data.held_out_years=[1,1]").status == 0
    opened = TrainingStore.open(moved)
    assert opened.records.held_out.tolist() == [True] * 6 + [False] * 6
    np.testing.assert_allclose(opened.statistics().mean, truth(fresh, opened)[6:].mean(axis=0, dtype=float), rtol=1e-12)
    assert here(*words, HELD_OUT).status == 0
    assert files(moved) == files(store)


def test_files_that_were_moved_are_not_taken_in_twice(store: Path, fresh: Case, tmp_path):
    copy, elsewhere = tmp_path / "data.zarr", tmp_path / "elsewhere.nc"
    shutil.copytree(store, copy)
    shutil.copyfile(fresh.folder / "data" / "states.nc", elsewhere)
    assert here("data", fresh.config, f"data.store={copy}", f"data.states={elsewhere}", HELD_OUT).status == 0
    assert files(copy) == files(store)


def test_earlier_file_that_comes_later_makes_no_increment_back_in_time(tmp_path):
    case, path = Case.write(tmp_path), tmp_path / "data.zarr"
    states = seasonal_states(case.grid)
    for year in (1, 0):
        part = tmp_path / "data" / f"year{year}.nc"
        write_output(part, {name: x[6 * year : 6 * year + 6] for name, x in states.items()}, first=6 * year + 1)
        assert here("data", case.config, f"data.store={path}", f"data.states={tmp_path}/data/year*.nc").status == 0
    opened = TrainingStore.open(path)
    assert opened.records.year.tolist() == [2] * 6 + [1] * 6
    assert opened.records.trajectory.tolist() == [0] * 6 + [1] * 6
    x = truth(case, opened).astype(float)
    change = np.concatenate([np.diff(x[6:], axis=0), np.diff(x[:6], axis=0)])
    expected = [change[:, n, mask].std() for n, mask in enumerate(opened.channels.mask(opened.grid))]
    np.testing.assert_allclose(opened.statistics().increment_deviation, expected, rtol=1e-9)


def test_coarse_states_are_those_of_the_fine_ones(fresh: Case, store: Path, tmp_path):
    path = tmp_path / "data.zarr"
    assert here("data", fresh.config, f"data.store={path}", HELD_OUT, "training.scales=[2]").status == 0
    opened = TrainingStore.open(path)
    assert opened.scales == (1, 2)
    coarsening = Coarsening.build(opened.grid, 2, opened.channels)
    for record in (0, 11):
        fine = whole(opened, record)
        assert np.array_equal(fine, whole(TrainingStore.open(store), record))
        expected = coarsening.apply(torch.as_tensor(fine).double()).float().numpy()
        assert np.array_equal(whole(opened, record, 2), expected)


@pytest.mark.parametrize("name", ["statistics.npz", "diagnostics.npz"])
def test_damaged_table_is_made_again_or_named(name: str, fresh: Case, store: Path, tmp_path):
    copy = tmp_path / "data.zarr"
    shutil.copytree(store, copy)
    flip(copy / name)
    opened = TrainingStore.open(copy)
    with pytest.raises(ValueError, match=r"has no statistics of its 12|diagnostics.npz cannot be read \(.*\): restore"):
        opened.statistics() if "stat" in name else opened.diagnostics()
    assert here("data", fresh.config, f"data.store={copy}", HELD_OUT).status == 0
    assert (files(copy) == files(store)) == ("stat" in name)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("harm", "words"), [(flip, "cannot be decoded"), (cut, "cannot be decoded"), (Path.unlink, "is missing")]
)
def test_damaged_chunk_is_named(harm, words: str, store: Path, tmp_path):
    broken = tmp_path / "data.zarr"
    shutil.copytree(store, broken)
    harm(broken / "states/scale_1/c/5/0/1/2")
    opened = TrainingStore.open(broken)
    opened.block(1, 5, 1, 1)
    with pytest.raises(ValueError, match=rf"Chunk .*c/5/0/1/2 of the training store {words}"):
        opened.block(1, 5, 1, 2)


def test_chunk_that_is_damaged_ends_the_training_with_what_it_has(fresh: Case, mpirun, tmp_path):
    run = tmp_path / "run"
    assert here("data", fresh.config, f"output={run}").status == 0
    for record in range(STATES):
        if record != 3:
            continue
        for path in (run / f"data.zarr/states/scale_1/c/{record}/0").rglob("*"):
            if path.is_file():
                flip(path)
    status, output = mpirun(2, *command("train", fresh.config, f"output={run}"), cwd=tmp_path, limit=60)
    assert status == 1
    assert output.count("halocline: error: Chunk") == output.count("halocline: error") == 1, output
    made = list((run / "checkpoints").glob("step-*"))
    assert made or "training: " not in output  # one for what was learned before, if anything was


MISTAKES = {
    "no file fits": (("data.states=none*.nc",), "No file matches .*none\\*.nc: check the path of the states"),
    "other variables": (
        ("data.variables=[temperature,salinity]",),
        r"was made with data.variables = \['temperature', .*\], but now it is \['temperature', 'salinity'\]: name",
    ),
    "other tiles": (("lattice.tile=[7,8]",), r"was made with lattice.tile = \[8, 8\], but now it is \[7, 8\]"),
    "other scales": (("training.scales=[1,2]",), r"was made with training.scales = \[1\], but now it is \[1, 2\]"),
    "other sea water": (
        ("data.equation_of_state=teos10",),
        "was made with data.equation_of_state = eos80, but now it is teos10: name another data.store",
    ),
    "fewer years": (("data.last_year=1",), "has 6 states of years 2 to 2, which data.first_year, .* leave out: name"),
    "all held out": (("data.held_out_years=[1,2]",), "hold out all 12 states, expected some to train on"),
    "years backwards": (("data.held_out_years=[2,1]",), r"held_out_years is \[2, 1\], expected the first year and"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told_and_leaves_the_store(mistake: str, fresh: Case, store: Path, tmp_path):
    words, expected = MISTAKES[mistake]
    copy = tmp_path / "data.zarr"
    if mistake != "no file fits":
        shutil.copytree(store, copy)
    result = here("data", fresh.config, f"data.store={copy}", *words)
    assert result.status == 1
    assert re.search(expected, result.sentence), result.sentence
    if mistake != "no file fits":
        assert TrainingStore.open(copy).count == STATES


def test_first_run_that_fails_leaves_nothing_and_touches_nothing_else(fresh: Case, tmp_path):
    new, used = tmp_path / "new" / "data.zarr", tmp_path / "used"
    (used / "states").mkdir(parents=True)
    (used / "states" / "mine.nc").touch()
    (used / "notes.txt").touch()
    result = here("data", fresh.config, f"data.store={new}", "data.first_year=7")
    assert "have 12 states of years 1 to 2, none of which lies in the years wanted" in result.sentence
    assert not new.parent.exists()
    result = here("data", fresh.config, f"data.store={used}")
    assert re.search("Folder .*used holds notes.txt and is no training store", result.sentence)
    assert (used / "states" / "mine.nc").exists()


def test_store_of_another_version_or_mixed_from_two_is_refused(fresh: Case, store: Path, tmp_path):
    copy = tmp_path / "data.zarr"
    shutil.copytree(store, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 9, "version": "9.9"}))
    with pytest.raises(ValueError, match="has format 9, expected 1: it was written by Halocline 9"):
        TrainingStore.open(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest | {"grid": "0" * 16}))
    with pytest.raises(ValueError, match="was made on grid 0000000000000000, but its grid"):
        TrainingStore.open(copy)


def test_file_that_changed_after_it_was_taken_in_is_refused(tmp_path):
    case = Case.write(tmp_path)
    assert here("data", case.config).status == 0
    states = seasonal_states(case.grid)
    states["salinity"][3, 1, 9, 9] += 1e-3
    write_output(case.folder / "data" / "states.nc", states)
    result = here("data", case.config)
    assert result.status == 1
    assert re.search("states.nc, .* has changed since it was taken into training store", result.sentence)


def test_full_disk_ends_with_a_sentence_and_what_is_counted_stays(fresh: Case, tmp_path):
    """A limit on the size of files: 2 kB are less than a chunk, more than the manifest's temporary."""
    path = tmp_path / "data.zarr"
    program = (
        "import resource, sys\nfrom halocline.run import store_filling\n"
        "from halocline.io.training_store import Writer\n"
        "from halocline.__main__ import app\nstore_filling.BLOCK, store_filling.COMMIT, write = 4, -1.0, Writer.write\n"
        "def full(self, scale, first, x):\n"
        "    if first == 8:\n        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "    write(self, scale, first, x)\n"
        "Writer.write = full\nimport signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "app(sys.argv[1:], prog_name='halocline')\n"
    )
    result = alone("-c", program, "data", fresh.config, f"data.store={path}")
    assert result.status == 1, result.err
    assert f"Cannot write to training store {path} (File too large)" in result.sentence
    assert TrainingStore.open(path).count == 8
    assert here("data", fresh.config, f"data.store={path}").status == 0
    assert TrainingStore.open(path).count == STATES


def test_training_needs_less_memory_than_its_data(tmp_path):
    """A store of 600 MB, and 350 MB more than what is in use when the loader is made."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "programs/limited.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the whole store does not fit: MemoryError" in done.stdout
    assert "trained to step 6" in done.stdout
