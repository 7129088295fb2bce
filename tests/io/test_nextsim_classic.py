"""Restarts of classic neXtSIM: every record survives, broken pairs are refused."""

from pathlib import Path

import numpy as np
import pytest

from halocline.io.nextsim_classic import read_records, replace_ice, write_records


@pytest.fixture
def records() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "Misc_int": np.array([0, 192, 1, 7], np.int32),
        "Time": np.array([42292.0]),
        "M_conc": rng.uniform(0.2, 1.0, 10),
        "M_thick": rng.uniform(0.1, 2.0, 10),
        "M_damage": rng.uniform(0.0, 1.0, 10),
        "M_snow_thick": rng.uniform(0.0, 0.2, 10).astype(np.float32),
        "M_VT": rng.normal(0.0, 0.1, 14),
        "drifters": np.zeros(0, np.int32),
    }


def test_records_survive_in_order_and_type(records, tmp_path):
    write_records(tmp_path / "field_a", records)
    back = read_records(tmp_path / "field_a")
    assert list(back) == list(records)
    for name, values in records.items():
        assert back[name].dtype == values.dtype
        np.testing.assert_array_equal(back[name], values)
    lines = (tmp_path / "field_a.dat").read_text().splitlines()
    assert lines[:2] == ["Misc_int int 4 0 192", "Time double 1 42292 42292"] and lines[-1] == "drifters int 0 0 0"


@pytest.mark.parametrize("name", ["field_final", "mesh_final"])
def test_the_models_own_files_survive_byte_for_byte(require, tmp_path, name):
    original = require(f"nextsim/classic/{name}.bin").with_suffix("")
    write_records(tmp_path / name, read_records(original))
    for suffix in (".bin", ".dat"):
        assert (tmp_path / name).with_suffix(suffix).read_bytes() == original.with_suffix(suffix).read_bytes()


def test_generated_ice_replaces_its_records_and_no_other(records):
    concentration = np.linspace(0.0, 1.1, 10)
    changed = replace_ice(records, {"concentration": concentration, "damage": np.full(10, 0.5)})
    np.testing.assert_array_equal(changed["M_conc"], np.minimum(concentration, 1.0))
    assert changed["M_thick"][0] == changed["M_snow_thick"][0] == 0.0  # no ice without area
    np.testing.assert_array_equal(changed["M_thick"][1:], records["M_thick"][1:])
    assert (changed["M_damage"] == 0.5).all() and changed["M_snow_thick"].dtype == np.float32
    assert list(changed) == list(records)
    for name in ("Misc_int", "Time", "M_VT", "drifters"):
        assert changed[name] is records[name]
    assert records["M_conc"][0] > 0  # the argument is left alone


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ice_u": np.zeros(10)}, "ice_u has no record"),
        ({"damage": np.zeros(9)}, r"shape \(9,\)"),
        ({"damage": np.full(10, np.nan)}, "10 values that are not finite"),
    ],
)
def test_fields_that_do_not_fit_are_refused(records, fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace_ice(records, fields)


def damage(stem: Path, how: str) -> None:
    binary, index = stem.with_suffix(".bin"), stem.with_suffix(".dat")
    if how == "cut":
        binary.write_bytes(binary.read_bytes()[:-9])
    elif how == "longer":
        binary.write_bytes(binary.read_bytes() + b"\0")
    elif how == "count":
        index.write_text(index.read_text().replace("M_conc double 10", "M_conc double 11"))
    elif how == "text":
        index.write_text("M_conc real 10\n")
    else:
        index.unlink()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("cut", "ends after .* within record M_VT, expected 14 values"),
        ("longer", "bytes, expected"),
        ("count", "M_conc .* has 10 values, expected 11"),
        ("text", "is not 'name type count"),
        ("missing", "does not exist, expected the pair"),
    ],
)
def test_a_broken_pair_is_refused(records, tmp_path, how, sentence):
    del records["drifters"]
    write_records(tmp_path / "field_a", records)
    damage(tmp_path / "field_a", how)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        read_records(tmp_path / "field_a")


def test_a_record_of_another_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"M_conc has shape .* int64"):
        write_records(tmp_path / "field_a", {"M_conc": np.zeros(3, np.int64)})
    assert not list(tmp_path.iterdir())
