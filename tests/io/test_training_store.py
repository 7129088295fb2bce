"""A training store as its readers see it: chunks, their damage, what is counted, and which states lie in which file."""

import os

import numpy as np
import pytest

from halocline.io.models import open_states, read_states, trajectories
from halocline.io.store import save_grid
from halocline.io.training_store import (
    TrainingStore,
    Writer,
    check_vacant,
    create_arrays,
    resize_arrays,
    write_manifest,
)
from halocline.mesh.coarsen import coarsen_grid
from halocline.state.state import Channels

OCEAN = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
CHUNK, COUNT = (3, 2), 3  # of 7 x 5 cells: the last chunks are cut off in both directions


@pytest.fixture
def x(grid) -> np.ndarray:
    """States, one more than are counted."""
    shape = (COUNT + 1, *Channels.build(OCEAN, grid).mask(grid).shape)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.fixture
def store(grid, x, tmp_path) -> TrainingStore:
    path = tmp_path / "data.zarr"
    path.mkdir()
    save_grid(grid, path / "grid.nc")
    create_arrays(path, {1: (grid.nj, grid.ni), 2: (4, 3)}, x.shape[1], CHUNK)
    resize_arrays(path, len(x))
    writer = Writer(path)
    writer.write(1, 0, x[:2])
    writer.write(1, 2, x[2:])
    writer.write(2, 0, x[..., :4, :3])
    names = ("season", "year", "month", "time", "trajectory", "held_out")
    write_manifest(path, {
        "variables": OCEAN, "scales": [1, 2], "chunk": CHUNK, "grid": grid.fingerprint(), "count": COUNT,
        "records": {name: list(range(COUNT)) for name in names}, "parameters": {"viscosity": [1.0, 2.0, 3.0]},
    })  # fmt: skip
    return TrainingStore.open(path)


def test_blocks_make_up_the_states_also_where_the_grid_cuts_them(store, x, grid):
    for record in range(COUNT):
        rows = [[store.block(1, record, J, I) for I in range(3)] for J in range(3)]
        assert rows[2][2].shape == (x.shape[1], 1, 1)
        assert np.array_equal(np.block(rows), x[record])
    assert np.array_equal(store.block(2, 1, 1, 1), x[1, :, 3:4, 2:3])
    assert store.grid_at(2).fingerprint() == coarsen_grid(grid, 2).fingerprint()
    assert store.records.parameters["viscosity"].tolist() == [1, 2, 3]


def test_record_that_is_not_counted_is_not_there(store):
    for record in (COUNT, -1):
        with pytest.raises(ValueError, match=rf"has 3 records, asked for number {record}"):
            store.block(1, record, 0, 0)


def test_every_changed_bit_of_a_chunk_is_noticed(store):
    path = store.path / "states/scale_1/c/1/0/0/1"
    raw = path.read_bytes()
    for place in (0, 4, len(raw) // 2, len(raw) - 5, len(raw) - 1):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :])
        with pytest.raises(ValueError, match=r"Chunk .*scale_1/c/1/0/0/1 of the training store cannot be decoded"):
            store.block(1, 1, 0, 1)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"Chunk .*c/1/0/0/1 of the training store cannot be decoded"):
        store.block(1, 1, 0, 1)


def test_manifest_that_is_cut_off_or_missing_is_told(store):
    manifest = store.path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"manifest.json cannot be read \(.*\); make it again"):
        TrainingStore.open(store.path)
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match="is no training store: make one with `halocline data`"):
        TrainingStore.open(store.path)


def test_folder_of_something_else_is_not_vacant(store, tmp_path):
    check_vacant(tmp_path / "none")
    (store.path / "manifest.json").unlink()
    check_vacant(store.path)  # begun, and nothing counted
    (store.path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"holds thesis.tex and is no training store"):
        check_vacant(store.path)


def test_states_are_read_in_parts_from_several_files(grid, make_fields, write_output, tmp_path):
    whole = make_fields(grid, states=5)
    for point, names in {"T": ("temperature", "salinity", "sea_level"), "UV": ("velocity_u", "velocity_v")}.items():
        for part, times in enumerate((slice(0, 3), slice(3, 5))):
            write_output(f"part{part}_grid_{point}.nc", {name: whole[name][times] for name in names})
    source = open_states(tmp_path / "part*.nc", OCEAN, grid)
    assert [(file.path.name, file.first, file.count) for file in source.files] == [
        ("part0_grid_T.nc", 0, 3), ("part1_grid_T.nc", 3, 2),
    ]  # fmt: skip
    assert [path.name for path in source.files[1].paths] == ["part1_grid_T.nc", "part1_grid_UV.nc"]
    expected = read_states(tmp_path / "part*.nc", OCEAN, grid)
    for numbers in ([0], [2, 3], [1, 4]):
        found = source.read(np.array(numbers))
        assert found.time.tolist() == expected.time[numbers].tolist()
        for name in OCEAN:
            assert np.array_equal(found.fields[name], expected.fields[name][numbers], equal_nan=True)


def test_copied_file_is_the_same_and_any_file_of_the_same_states_can_change_it(
    grid, make_fields, write_output, tmp_path
):
    whole = make_fields(grid)
    write_output("grid_T.nc", {name: whole[name] for name in ("temperature", "salinity", "sea_level")})
    velocity = write_output("grid_UV.nc", {name: whole[name] for name in ("velocity_u", "velocity_v")})

    def file():
        return open_states(tmp_path / "grid_*.nc", OCEAN, grid).files[0]

    remembered = file().to_dict()
    os.utime(velocity, ns=(0, remembered["changed"] + 1))  # as a copy, with the same bytes
    assert file().changed != remembered["changed"]
    assert file().is_as(remembered)
    raw = bytearray(velocity.read_bytes())
    raw[-1] ^= 1
    velocity.write_bytes(raw)
    assert not file().is_as(remembered)


def test_trajectory_ends_where_time_goes_back_or_is_unknown():
    assert trajectories(np.array([1.0, 2.0, 3.0, 1.0, 2.0, np.nan, 3.0])).tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert trajectories(np.array([5.0, 5.0])).tolist() == [0, 1]
    assert trajectories(np.zeros(0)).tolist() == []
