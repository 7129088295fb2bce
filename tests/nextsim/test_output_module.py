"""What the output module asks of Halocline, when, and what it does with the answers."""

import numpy as np
import pytest

from halocline.io.nextsim_start import ice_for_model
from halocline.mesh.grid import box_grid

NAMES = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
FALL_BACK, STOP = "2", "1"


def verbs(text: str) -> list[str]:
    known = ("split", "init", "grid", "field", "ready", "generate", "observe", "finalize", "abort")
    return [word for line in text.splitlines() if (word := line.split()[0].rstrip(":")) in known]


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def arrays(text: str) -> dict[str, np.ndarray]:
    """The model's arrays after the start, (j, i)."""
    names = {
        "C_ICE0": "cice",
        "H_ICE_cell": "hice",
        "H_SNOW_cell": "hsnow",
        "DAMAGE0": "damage",
        "ICE_U": "u",
        "ICE_V": "v",
    }
    words = [line.split() for name in names for line in lines(text, name)]
    return {names[first]: np.array(rest[:6], float).reshape(2, 3) for first, *rest in words}


def test_verbs_come_in_order_and_every_step_is_observed(run):
    result = run()
    assert result.returncode == 0, result.stderr
    order = ["split", "init", "grid", *["field"] * 6, "ready", "observe", "observe", "finalize"]
    assert verbs(result.stdout) == order
    assert result.stdout.endswith("end of main\n")  # MPI was finalised without complaint


def test_grid_fields_and_time_are_declared(run):
    text = run().stdout
    assert lines(text, "grid") == ["grid 3 2 1 from 0 0 of 3 2: 0 1 1 1 1 1"]
    assert lines(text, "field") == [
        "field concentration T 1 8 1 strides 3 9",  # the mean among three components
        "field thickness T m 8 1 strides 3 9",
        "field snow T m 8 1 strides 1 3",
        "field damage T 1 8 1 strides 1 3",
        "field ice_u U m/s 8 1 strides 1 3",
        "field ice_v V m/s 8 1 strides 1 3",
    ]
    assert lines(text, "ready") == ["ready standard 1800 701712 20100110"]  # half hours since 1970


def test_a_model_without_mpi_gets_it_initialised(run):
    assert lines(run().stdout, "split") == ["split nextsim, MPI initialised"]


def test_damage_is_observed_as_zero_where_intact(run):
    observed = lines(run().stdout, "observe")
    assert [line.split()[9] for line in observed] == ["0.125", "0.25"]  # the model has 0.875, then 0.75


def test_without_a_configuration_nothing_is_done_but_passing_on(run):
    text = run(HALOCLINE_CONFIG="").stdout
    assert verbs(text) == []
    assert len(lines(text, "output 1 state")) == 2


@pytest.mark.parametrize(("name", "number"), [("ConfigOutput", 1), ("SimpleOutput", 2), ("NoOutput", 3)])
def test_the_chosen_output_is_passed_everything_before_it_is_judged(run, name, number):
    text = run(HALOCLINE_OUTPUT=f"Nextsim::{name}").stdout
    told = [line for line in text.splitlines() if line.startswith(("output", "observe"))]
    expected = ["prefix diagnostic", "configured", "start", "state", "observe", "state", "observe"]
    assert [line.split(" ", 2)[2] if line.startswith("output") else "observe" for line in told] == expected
    assert len(lines(text, f"output {number}")) == 5


def test_only_the_chosen_fields_are_exchanged(run):
    text = run(HALOCLINE_FIELDS="concentration,ice_u").stdout
    assert [line.split()[1] for line in lines(text, "field")] == ["concentration", "ice_u"]


def test_an_array_that_has_moved_is_registered_again(run):
    assert len(lines(run("move").stdout, "field ice_u")) > 1
    assert len(lines(run().stdout, "field ice_u")) == 1


def test_a_generated_state_is_what_a_start_file_would_hold(run):
    result = run(HALOCLINE_GENERATE="true")
    assert result.returncode == 0, result.stderr
    assert verbs(result.stdout).index("generate") == verbs(result.stdout).index("observe") - 1
    wet = np.array([[False, True, True], [True, True, True]])
    generated = 0.125 * np.arange(6.0).reshape(1, 2, 3)
    generated[0, 1, 2] = 1.5
    fields = {name: np.minimum(generated, 1.0) if name in ("concentration", "damage") else generated for name in NAMES}
    expected = ice_for_model(fields, box_grid(1, 2, 3, wet=wet, periodic_i=True))
    found = arrays(result.stdout)
    assert found["cice"][1, 2] == 1.0 and found["damage"][1, 2] == 1e-12  # cut to their bounds
    for name in ("cice", "hice", "hsnow", "damage"):
        np.testing.assert_array_equal(found[name], expected[name])
    for name in ("C_ICE0", "H_ICE_cell"):
        assert lines(result.stdout, name)[0].endswith("higher 0")


def test_the_dynamics_hear_of_a_generated_velocity_and_damage(run):
    text = run(HALOCLINE_GENERATE="true", HALOCLINE_FIELDS="concentration,thickness,snow,damage,ice_u").stdout
    assert "read init.nc" in text.splitlines()
    expected = ["dynamics u 0.125", "dynamics v 0", "dynamics damage 0.875", "dynamics coords 1"]
    assert lines(text, "dynamics") == expected  # v is not exchanged: at rest


def test_falling_back_keeps_the_models_own_start(run):
    text = run(HALOCLINE_GENERATE="true", ACTION_GENERATE=FALL_BACK).stdout
    assert all((x == 0.25).all() for x in arrays(text).values())
    assert not lines(text, "dynamics") and len(lines(text, "observe")) == 2
    assert lines(text, "warning") == ["warning Halocline: step 0 rejected: too thick"]


def test_a_rejected_start_ends_the_run(run):
    result = run(HALOCLINE_GENERATE="true", ACTION_GENERATE=STOP)
    assert result.returncode == 3 and "neXtSIM does not start: too thick" in result.stderr
    assert verbs(result.stdout)[-2:] == ["generate", "finalize"]


def test_a_rejected_step_ends_the_run_with_a_restart(run):
    result = run(ACTION_OBSERVE=STOP, MODEL_RESTART_FILE="end.%Y%m%dT%H%M.nc")
    assert result.returncode == 3
    assert "neXtSIM stops after 2010-01-10T00:30:00Z: too thick" in result.stderr
    assert lines(result.stdout, "restart") == [
        "restart end.20100110T0030.nc: cice coords damage hice hsnow mask sss sst tsurf u v"
    ]
    told = result.stdout.splitlines()
    assert told[-2:] == ["model finalised", "finalize"] and len(lines(result.stdout, "observe")) == 1


@pytest.mark.parametrize("verb", ["split", "init", "grid", "field", "ready", "generate", "observe", "finalize"])
def test_a_verb_that_fails_ends_the_job_with_its_status(run, verb):
    result = run(HALOCLINE_GENERATE="true", FAIL=verb)
    assert result.returncode == 84
    assert verbs(result.stdout)[-2:] == [verb, "abort"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"HALOCLINE_FIELDS": "concentration,drift"}, "Halocline.fields names 'drift', expected some of concentration"),
        ({"HALOCLINE_OUTPUT": "ConfigOutput"}, "Halocline.output is 'ConfigOutput', expected Nextsim::ConfigOutput"),
        ({"HALOCLINE_GENERATE": "true", "HALOCLINE_FIELDS": "concentration,snow"}, "Halocline.fields lacks thickness"),
    ],
)
def test_wrong_settings_are_named(run, settings, sentence):
    result = run(**settings)
    assert result.returncode != 0 and sentence in result.stderr
