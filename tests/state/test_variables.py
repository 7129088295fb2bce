import numpy as np
import pytest

from halocline.state.variables import VARIABLES, variable


def test_vector_components_change_sign_at_the_fold_and_nothing_else_does():
    vectors = {name for name, row in VARIABLES.items() if row.sign == -1}
    assert vectors == {"velocity_u", "velocity_v", "ice_u", "ice_v", "wind_u", "wind_v"}
    assert {VARIABLES[name].point for name in vectors if not name.startswith("wind")} == {"U", "V"}


def test_no_name_of_a_file_belongs_to_two_variables():
    for column in ("nemo_output", "nemo_restart", "nemo_before", "nextsim"):
        names = [getattr(row, column) for row in VARIABLES.values() if getattr(row, column)]
        assert len(names) == len(set(names)), column


def test_restart_carries_the_five_fields_that_nemo_requires():
    ocean = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
    assert [VARIABLES[name].nemo_restart for name in ocean] == ["tn", "sn", "un", "vn", "sshn"]
    assert [VARIABLES[name].nemo_before for name in ocean] == ["tb", "sb", "ub", "vb", "sshb"]


def test_bounds_are_ordered():
    assert all(np.less(*row.bounds) for row in VARIABLES.values())


def test_unknown_variable_is_named():
    with pytest.raises(ValueError, match="'temprature' is unknown, expected one of temperature"):
        variable("temprature")
