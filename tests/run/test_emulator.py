"""The emulator without a model: states of the restart file, verdicts of the offline diagnosis."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from case import OCEAN, Case, here, mask_of, seasonal_states
from host import write_config

from halocline.io.nemo import read_restart
from halocline.mesh.communicator import Serial
from halocline.mesh.lattice import Lattice
from halocline.mesh.rearrange import Rect
from halocline.run.bridge_config import read_bridge_config
from halocline.run.config import DataConfig
from halocline.run.contract import CONTRACT, GO_ON, OK, REJECT, STOP, UNJUDGED, ContractError, Declaration
from halocline.run.contract import FieldDeclaration as Field
from halocline.run.emulator import Emulator
from halocline.run.emulator_contract import nearest_month_end
from halocline.run.judging import ONLINE, diagnose_fields, learn_thresholds
from halocline.state.variables import VARIABLES


def declared(case: Case, names=OCEAN, date: int = 10101) -> Declaration:
    nk, nj, ni = case.grid.shape
    rows = (VARIABLES[name] for name in names)
    fields = tuple(Field(row.name, row.point, row.unit, nk if row.is_3d else 1, 8) for row in rows)
    return Declaration(ni, nj, nk, fields, "360_day", 3600.0, 0, date, (Rect(0, nj, 0, ni),))


def emulator(case: Case, folder: Path, date: int = 10101, **keys) -> Emulator:
    made = Emulator.build(read_bridge_config(write_config(folder, case, **keys)), Serial())
    made.check(declared(case, date=date))
    return made


def whole(emulator: Emulator, tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: emulator.layout.collect(x) for name, x in tiles.items()}


def month(case: Case, number: int = 3) -> dict[str, np.ndarray]:
    """A training state, NaN on land."""
    return {name: x[number] for name, x in seasonal_states(case.grid).items()}


def on_tiles(emulator: Emulator, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: emulator.layout.cut(x) for name, x in fields.items()}


@pytest.mark.parametrize(
    ("velocity", "sea_level"),
    [("generated", "generated"), ("rest", "rest"), ("geostrophic", "mean-free"), ("balanced", "generated")],
)
def test_generated_state_is_that_of_the_restart_file(velocity, sea_level, trained: Case, tmp_path):
    states, path = tmp_path / "states.nc", tmp_path / "restart.nc"
    assert not here("sample", trained.run, "members=3", "seed=5", "months=[3]", f"output={states}").status
    words = ("restart", trained.run, f"states={states}", "member=2", f"velocity={velocity}", f"output={path}")
    assert not here(*words, f"sea_level={sea_level}").status
    wanted = {"seed": 5, "member": 2, "month": 3, "velocity": velocity, "sea_level": sea_level}
    made = emulator(trained, tmp_path, generate=wanted)
    tiles, judgement = made.generate(10101)
    expected = read_restart(path)
    for name, x in whole(made, tiles).items():
        assert np.array_equal(x.astype(np.float64), expected[name]), name
        assert not np.signbit(x[~mask_of(name, trained.grid)]).any()
    assert tiles["temperature"].dtype == np.float32 and judgement.step == 0


def test_sampling_and_season_of_the_configuration_change_the_state(trained: Case, tmp_path):
    def state(**keys) -> np.ndarray:
        return emulator(trained, tmp_path, date=10201, generate=keys).generate(10201)[0]["temperature"]

    january = state(month=1)
    assert np.array_equal(state(), january)  # 1 February begins at the end of January
    assert not np.array_equal(state(month=7), january)
    assert not np.array_equal(state(month=1, sampling={"steps": 2}), january)
    assert not np.array_equal(state(month=1, convection=False), january)


@pytest.mark.parametrize(
    ("date", "calendar", "expected"),
    [
        (10101, "360_day", 12), (10115, "360_day", 12), (10116, "360_day", 1), (10130, "360_day", 1),
        (20000301, "standard", 2), (20000215, "standard", 1), (20000216, "standard", 2), (10716, "noleap", 6),
        (10717, "noleap", 7), (11231, "noleap", 12),
    ],
)  # fmt: skip
def test_month_is_that_whose_end_is_nearest(date, calendar, expected):
    assert nearest_month_end(date, calendar) == expected


def test_generation_leaves_the_threads_as_they_were(trained: Case, tmp_path):
    made = emulator(trained, tmp_path)
    torch.set_num_threads(2)
    try:
        made.generate(10101)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("wanted", ["judged", "all"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_online_diagnostics_are_those_of_the_file_to_the_last_bit(dtype, wanted, trained: Case, tmp_path):
    made = emulator(trained, tmp_path, observe={"diagnostics": wanted})
    fields = {name: x.astype(dtype) for name, x in month(trained).items()}
    offline = diagnose_fields(
        {name: x[None] for name, x in fields.items()}, trained.grid, made.lattice, made.generator.config.data
    )
    judgement = made.observe(7, 0.0, on_tiles(made, fields))
    assert list(judgement.diagnostics) == [name for name in offline if wanted == "all" or name in ONLINE]
    for name, x in judgement.diagnostics.items():
        assert x.tobytes() == offline[name][0].numpy().tobytes(), name
    assert (judgement.level, judgement.action, judgement.step) == (OK, GO_ON, 7)
    assert {check.name for check in judgement.checks} >= set(made.judge.thresholds.limits)


def test_state_beyond_the_training_states_is_rejected_with_value_and_limit(trained: Case, tmp_path, capsys):
    made = emulator(trained, tmp_path)
    fields = month(trained)
    fields["temperature"] = fields["temperature"] + 30.0
    judgement = made.observe(1, 0.0, on_tiles(made, fields))
    check = next(check for check in judgement.checks if check.name == "temperature_volume_mean")
    assert (judgement.level, judgement.action) == (REJECT, STOP)
    assert f"temperature_volume_mean = {check.value:.6g} is above {check.high:.6g}" in judgement.reason


def test_nan_in_the_sea_is_found_offline_and_on_land_it_is_not(trained: Case, tmp_path):
    made = emulator(trained, tmp_path)
    fields = month(trained)
    arguments = (trained.grid, made.lattice, made.generator.config.data)
    batch = {name: x[None].copy() for name, x in fields.items()}
    assert diagnose_fields(batch, *arguments)["nonfinite_cells"].item() == 0
    batch["salinity"][0, 1, 9, 12] = np.nan
    assert trained.grid.tmask[1, 9, 12]
    assert diagnose_fields(batch, *arguments)["nonfinite_cells"].item() == 1


def test_ice_and_ocean_of_one_state_are_diagnosed_together(trained: Case):
    surface = trained.grid.tmask[:1].astype("f8")[None]
    fields = {"temperature": month(trained)["temperature"][None], "concentration": surface, "thickness": 2 * surface}
    data = DataConfig(grid="", states=())
    lattice = Lattice.from_grid(trained.grid, (8, 8), 2)
    found = diagnose_fields(fields, trained.grid, lattice, data)
    assert found["ice_volume"].item() == 2 * found["ice_area"].item() > 0
    assert "temperature_mean" in found and "sea_level_mean" not in found
    limits = learn_thresholds({name: x.numpy() for name, x in found.items()}).limits
    assert {"ice_volume", "temperature_volume_mean"} <= set(limits)


def test_thresholds_without_a_field_are_told_once_and_left_out(trained: Case, tmp_path, capsys):
    made = emulator(trained, tmp_path)
    fields = {name: month(trained)[name] for name in ("temperature", "sea_level")}
    judgements = [made.observe(step, 0.0, on_tiles(made, fields)) for step in (1, 2)]
    assert all(judgement.level == OK for judgement in judgements)
    told = [line for line in capsys.readouterr().out.splitlines() if "do not allow to check" in line]
    assert len(told) == 1 and "kinetic_energy" in told[0] and "temperature_deep" not in told[0]


def test_verdict_without_any_threshold_is_no_praise(trained: Case, tmp_path):
    made = emulator(trained, tmp_path)
    made.judge = replace(made.judge, thresholds=type(made.judge.thresholds)({}))
    judgement = made.observe(1, 0.0, on_tiles(made, month(trained)))
    assert (judgement.level, judgement.action) == (UNJUDGED, GO_ON)


DIFFERENCES = {
    "sizes": ({"ni": 13, "nj": 19}, ["Grid along i: the model has 13 cells, the generator 19: i and j are swapped."]),
    "levels of the grid": (
        {"nk": 3, "fields": (Field("sea_level", "T", "m", 1, 8),)},
        ["Grid along k: the model has 3 cells, the generator 4."],
    ),
    "calendar": ({"calendar": "noleap"}, ["Calendar: the model has 'noleap', the configuration '360_day'."]),
    "time step": ({"time_step": 60.0}, ["Time step: the model has 60 s, the configuration 3600 s."]),
    "no time step": ({"time_step": 0.0}, ["Time step: the model has 0 s, expected more than 0."]),
    "date": ({"date": 10231}, ["Date: the model starts at 10231, expected a date"]),
    "no field": ({"fields": ()}, ["Fields: the model registers none"]),
    "sea left out": ({"rectangles": (Rect(0, 13, 3, 19), None)}, ["Decomposition: no rank holds", "first j=0, i=1."]),
    "overlap": ({"rectangles": (Rect(0, 13, 0, 9), Rect(0, 13, 8, 19))}, ["Rectangle of rank 1: 13 of its cells"]),
    "outside": ({"rectangles": (Rect(0, 13, 0, 19), Rect(0, 13, 19, 20))}, ["Rectangle of rank 1", "outside the grid"]),
    "unknown": (("temperature", {"name": "heat"}), ["Field heat: unknown to the generator"]),
    "point": (("velocity_u", {"point": "T"}), ["Field velocity_u: the model has it at point 'T', the"]),
    "unit": (("temperature", {"unit": "K"}), ["Field temperature: the model has it in 'K', the generator in 'degC'."]),
    "levels": (("sea_level", {"levels": 4}), ["Field sea_level: the model gives it 4 levels, expected 1."]),
}


@pytest.fixture(scope="module")
def strict(trained: Case, tmp_path_factory) -> Emulator:
    return emulator(trained, tmp_path_factory.mktemp("strict"), calendar="360_day", time_step=3600)


@pytest.mark.parametrize("case", DIFFERENCES)
def test_difference_is_told_alone(case, strict: Emulator, trained: Case):
    change, told = DIFFERENCES[case]
    declaration = declared(trained)
    if isinstance(change, tuple):
        name, values = change
        fields = [replace(f, **values) if f.name == name else f for f in declaration.fields]
        declaration = replace(declaration, fields=tuple(fields))
    else:
        declaration = replace(declaration, **change)
    lines = strict.differences(declaration)
    assert len(lines) == (2 if case == "sizes" else 1), lines
    assert all(part in lines[0] for part in told), lines


def test_all_differences_stand_in_one_text(strict: Emulator, trained: Case):
    with pytest.raises(ContractError, match="3 differences") as caught:
        strict.check(replace(declared(trained), calendar="noleap", time_step=1.0, ni=20))
    assert caught.value.halocline_status == CONTRACT and len(str(caught.value).splitlines()) == 4


def test_units_may_be_written_in_other_ways(strict: Emulator, trained: Case):
    declaration = declared(trained)
    units = {"velocity_u": "m s-1", "salinity": "PSU"}
    fields = tuple(replace(f, unit=units.get(f.name, f.unit)) for f in declaration.fields)
    assert strict.differences(replace(declaration, fields=fields)) == []


def test_mask_difference_is_counted_and_placed(strict: Emulator, trained: Case):
    rect = Rect(2, 9, 4, 11)
    mask = trained.grid.tmask[:, 2:9, 4:11].copy()
    assert strict.check_mask(rect, mask) == []
    mask[1, 6, 0] ^= True
    mask[2, 6, 1] ^= True
    (line,) = strict.check_mask(rect, mask, "rank 3")
    assert line.startswith("Mask of rank 3: 2 cells differ") and "level 1, j=8, i=4: land in the model" in line


def test_stretching_layers_need_the_sea_level(trained: Case, strict: Emulator):
    contract = replace(strict.contract, data=replace(strict.contract.data, free_surface="nonlinear"))
    assert contract.differences(declared(trained)) == []
    (line,) = contract.differences(declared(trained, names=("temperature",)))
    assert "Field sea_level" in line and "free_surface: nonlinear" in line
