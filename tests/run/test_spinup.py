"""`halocline spinup`: what becomes of the members of a campaign, and what it leaves."""

import csv
import dataclasses
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
import torch
from campaigns import MODEL, write_campaign_case
from case import Case

from halocline.io.nemo import read_restart
from halocline.run import campaign_member
from halocline.run.campaign_config import CampaignConfig, Member, ModelConfig, read_campaign, write_campaign
from halocline.run.campaign_desk import drift
from halocline.run.campaign_model import Segment, last_line, run_model
from halocline.run.campaign_starts import far_parameters, make_start
from halocline.run.campaign_state import Attempt, Block, State
from halocline.run.campaign_status import Progress, status
from halocline.run.campaign_summary import summarise
from halocline.run.campaign_tables import values_text
from halocline.run.generator import Parameters

LIMIT, WARM, RELAXATION, YEARS = 1.0, 0.5, 5.0, 5  # of tests/run/campaigns.py


def years_from_rest() -> int:
    """Years until a block changes the temperature by less than the limit; the first block's change is unknown."""
    block = 2
    while 100 / YEARS * WARM * np.exp(-block * YEARS / RELAXATION) * (np.exp(YEARS / RELAXATION) - 1) > LIMIT:
        block += 1
    return block * YEARS


def test_members_settle_when_relaxation_says_so_and_are_not_run_again(trained: Case, tmp_path: Path):
    campaign = write_campaign_case(tmp_path, trained)
    campaign.run()
    rest = [state for state in campaign.states().values() if state["method"] == "rest"]
    assert [state["outcome"] for state in rest] == ["accepted"] * 2
    assert [len(state["attempts"][0]["blocks"]) * YEARS for state in rest] == [years_from_rest()] * 2
    with (campaign.output / "report/summary.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["method"], float(row["years"]), float(row["gain"])) == ("rest", years_from_rest(), 1.0)
    assert (campaign.output / "report/report.png").stat().st_size > 1000
    before = campaign.log
    assert "2" in campaign.run() and campaign.log == before


@pytest.mark.parametrize(
    ("mode", "outcome", "reason"),
    [
        ("dies", "rejected", "the ocean has blown up"),
        ("breaks", "rejected", "cannot be read"),
        ("drifts", "exhausted", "drift of temperature_volume_mean is 5 degC/century, above its limit 1"),
        ("waits", "rejected", "took longer than"),
    ],
)
def test_member_that_goes_wrong_is_told_and_the_others_go_on(
    trained: Case, tmp_path: Path, mode: str, outcome: str, reason: str
):
    campaign = write_campaign_case(
        tmp_path, trained, namelist__mode=mode, parameters=[{"wind": 0.0}, {"wind": 1.0}], members=1, methods=["rest"],
        max_years=20, model__limit_minutes=0.05,
    )  # fmt: skip
    campaign.run()
    good, bad = (campaign.states()[f"rest-wind={wind}-000"] for wind in (0.0, 1.0))
    assert (good["outcome"], bad["outcome"]) == ("accepted", outcome)
    assert reason in bad["reason"] and bad["reason"] in campaign.table()


def test_generated_start_that_the_model_does_not_survive_is_replaced_by_another(trained: Case, tmp_path: Path):
    wind = [{"wind": 0.0}, {"wind": 1.0}]
    campaign = write_campaign_case(tmp_path, trained, parameters=wind, members=1, methods=["generated"], max_attempts=2)
    campaign.run()
    starts = [campaign.output / f"generated-wind=1.0-000/attempt-{n}/start.nc" for n in range(2)]
    first, second = (read_restart(path)["temperature"] for path in starts)
    assert np.abs(first - second).max() > 1e-3
    bad = campaign.states()["generated-wind=1.0-000"]
    assert (bad["outcome"], [attempt["lost_runs"] for attempt in bad["attempts"]]) == ("rejected", [2, 2])


def test_run_that_fails_once_is_made_again_and_nothing_is_lost(trained: Case, tmp_path: Path):
    flag = tmp_path / "failed"
    script = f'if [ -e {flag} ]; then exec {sys.executable} {MODEL} "$0"; else touch {flag}; exit 3; fi'
    campaign = write_campaign_case(tmp_path, trained, members=1, methods=["rest"], model__command=["sh", "-c", script])
    campaign.run()
    state = campaign.states()["rest-000"]
    assert (state["outcome"], len(state["attempts"]), state["attempts"][0]["lost_runs"]) == ("accepted", 1, 1)
    assert sum(block["years"] for block in state["attempts"][0]["blocks"]) == years_from_rest()


def test_start_that_is_no_ocean_is_rejected_before_any_model_year(
    trained: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def first_is_hot(desk, member, attempt, spinup):  # type: ignore[no-untyped-def]
        fields = make_start(desk, member, attempt, spinup)
        return {**fields, "temperature": fields["temperature"] + 20 * (attempt == 0)}

    monkeypatch.setattr(campaign_member, "make_start", first_is_hot)
    campaign = write_campaign_case(tmp_path, trained, members=1, methods=["generated"])
    campaign.run()
    first, second = campaign.states()["generated-000"]["attempts"]
    assert first["rejected"].startswith("its start: temperature") and not first["blocks"]
    assert second["blocks"]


def test_generated_start_has_the_bits_of_halocline_sample(trained: Case, states: Path, tmp_path: Path):
    campaign = write_campaign_case(
        tmp_path, trained, seed=4, month=1, members=1, methods=["generated"], velocity="generated",
        sea_level="generated",
    )  # fmt: skip
    campaign.run()
    start = read_restart(campaign.output / "generated-000/attempt-0/start.nc")
    with netCDF4.Dataset(states) as file:
        expected = file["votemper"][0].filled(0)
    np.testing.assert_array_equal(start["temperature"].astype(np.float32), expected)


def test_baselines_start_the_model_and_years_before_a_jump_count(trained: Case, tmp_path: Path):
    methods = ["mean", "nearest", "interpolated", "extrapolation"]
    jump = {"years": 4, "first": 1, "jump": 40, "model": "relaxation"}
    campaign = write_campaign_case(tmp_path, trained, members=1, methods=methods, extrapolation=jump)
    campaign.run()
    states = campaign.states()
    assert {state["outcome"] for state in states.values()} == {"accepted"}
    blocks = states["extrapolation-000"]["attempts"][0]["blocks"]
    assert [(block["years"], block["before"]) for block in blocks] == [(1, True)] * 4 + [(5, False)]
    goal, start = (read_restart(p)["temperature"] for p in (
        tmp_path / "goal.nc", campaign.output / "extrapolation-000/attempt-0/start.nc"))  # fmt: skip
    assert np.abs(start - goal).max() < 0.01 * WARM


def test_drift_has_its_units():
    before = {"temperature_deep": 2.0, "heat_content_per_area": 0.0}
    after = {"temperature_deep": 2.5, "heat_content_per_area": 360 * 86400.0 * 10}
    assert drift(before, after, 10, "360_day") == {"temperature_deep": 5.0, "heat_content_per_area": 1.0}
    assert drift({}, after, 10, "360_day") == {}


def test_parameter_outside_of_the_training_range_is_told_once():
    generator = SimpleNamespace(parameters=Parameters.fit(("wind",), torch.tensor([[1.0], [3.0]]).double()))
    values = ({"wind": 3.5, "mixing": 1.0}, {"wind": 3.5, "mixing": 2.0}, {"wind": 2.0, "mixing": 1.0})
    desk = SimpleNamespace(generator=generator, config=SimpleNamespace(parameters=values))
    (sentence,) = far_parameters(desk)
    assert sentence.startswith("parameters.wind is 3.5, but the training states have 1 to 3: 0.5 beyond, 0.25 times")


def progress(years: dict[str, list[float]], outcomes: dict[str, str]) -> Progress:
    """A campaign in which members of a method took these years."""
    config = CampaignConfig(
        "out", "run", ModelConfig(("model",), "namelist", "*.nc"), methods=tuple(years), members=4, max_years=400,
        drift={"temperature_deep": 1.0},
    )  # fmt: skip
    block = Block(0.0, "", 3600.0, "ok", "", {})
    members = []
    for member in config.every_member():
        blocks = (dataclasses.replace(block, years=years[member.method][member.number]),)
        outcome = outcomes.get(member.method, "accepted")
        members.append((member, State(member.method, {}, member.number, outcome, "", (Attempt(blocks=blocks),))))
    return Progress(config, config.drift, members)


def test_gain_is_the_ratio_of_mean_years_within_its_interval():
    years = {"rest": [300.0, 340.0, 380.0, 380.0], "generated": [10.0, 10.0, 20.0, 10.0]}
    nothing = dict.fromkeys(years, (np.nan, np.nan))
    rest, generated = summarise(progress(years, {}), nothing)
    assert (rest.years, generated.years, generated.gain) == (350.0, 12.5, 28.0)
    assert 15 <= generated.gain_low < 28 < generated.gain_high <= 38
    assert (rest.gain, rest.gain_low, rest.gain_high) == (1.0, 1.0, 1.0)
    assert generated.cpu_hours == 1.0 and not generated.gain_at_least


def test_table_by_parameter_value_has_means_and_their_standard_errors():
    told = SimpleNamespace(config=SimpleNamespace(parameters=({"wind": 0.0}, {"wind": 1.5})))
    nan = np.nan
    rows = {"rest": [[300.0, 340.0, nan], [nan, nan, nan]], "generated": [[10.0, 10.0, 10.0], [7.0, nan, nan]]}
    rows = {name: np.array(years) for name, years in rows.items()}
    lines = [[cell.strip() for cell in line.split("│")[1:4]] for line in values_text(told, rows).splitlines()]
    assert ["rest", "320 ± 20", "-"] in lines and ["generated", "10 ± 0", "7"] in lines


def test_drift_over_several_blocks_needs_them_all_and_counts_from_the_first(trained: Case, tmp_path: Path):
    name = "temperature_volume_mean"
    campaign = write_campaign_case(tmp_path, trained, members=1, methods=["rest"], drift_years=15)
    campaign.run()
    state = campaign.states()["rest-000"]
    blocks = state["attempts"][0]["blocks"]
    for n, block in enumerate(blocks):
        if n < 3:  # the model's own start is not known
            assert block["drift"] == {} and not block["settled"]
        else:
            expected = (block["diagnostics"][name] - blocks[n - 3]["diagnostics"][name]) * 100 / 15
            assert block["drift"][name] == pytest.approx(expected)
            assert block["settled"] == (abs(expected) <= LIMIT) == (n == len(blocks) - 1)
    assert state["outcome"] == "accepted" and len(blocks) > 4
    with (campaign.output / "report/summary.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (float(row["integrated"]), float(row["years"])) == (len(blocks) * YEARS, (len(blocks) - 2) * YEARS)


def test_drift_years_between_two_blocks_are_refused():
    model = ModelConfig(("model",), "namelist", "*.nc")
    with pytest.raises(ValueError, match="drift_years is 12, expected a multiple of block_years, 5"):
        CampaignConfig("out", "run", model, block_years=5, drift_years=12, drift={"temperature_deep": 1.0})


def test_members_that_never_settle_count_as_a_lower_bound():
    years = {"rest": [400.0] * 4, "generated": [10.0] * 4}
    nothing = dict.fromkeys(years, (np.nan, np.nan))
    rest, generated = summarise(progress(years, {"rest": "exhausted"}), nothing)
    assert (rest.years, rest.lower_bound, generated.gain, generated.gain_at_least) == (400.0, True, 40.0, True)


def test_status_counts_the_members_of_each_outcome(trained: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wind = [{"wind": 0.0}, {"wind": 1.0}]
    campaign = write_campaign_case(tmp_path, trained, members=1, methods=["rest"], parameters=wind)
    with pytest.raises(FileNotFoundError, match="holds no campaign yet"):
        status(campaign.path)
    campaign.run("task=0", "tasks=2")
    status(campaign.path)
    row = next(line for line in capsys.readouterr().out.splitlines() if "rest" in line and "member" not in line)
    assert [cell.strip() for cell in row.split("│")[2:7]].count("1") == 2  # one waits, one has ended


def test_members_have_the_same_names_in_the_campaign_that_is_read_back(tmp_path: Path):
    model = ModelConfig(("model",), "namelist", "*.nc", parameters={"wind": "a.wind", "age": "a.age"})
    values = ({"wind": 0.1, "age": 2.0}, {"wind": 0.2, "age": 1.0})  # not in the order of the alphabet
    config = CampaignConfig("out", "run", model, members=2, parameters=values, drift={"temperature_deep": 1.0})
    (tmp_path / "campaign.yaml").write_text(write_campaign(config))
    names = [member.name for member in read_campaign(tmp_path / "campaign.yaml").every_member()]
    assert names == [member.name for member in config.every_member()] and "wind=0.1,age=2.0" in names[0]


def test_last_words_of_a_model_are_its_own_and_not_those_of_mpi(tmp_path):
    rule = "-" * 74
    (tmp_path / "log").write_text(f"year 1\n model: layer 3 is empty\n\n{rule}\nMPI_ABORT was invoked\n{rule}\n")
    assert last_line(tmp_path / "log") == "model: layer 3 is empty"
    (tmp_path / "log").write_text(f"{rule}\nMPI_ABORT was invoked\n{rule}\n")
    assert last_line(tmp_path / "log") == "it printed nothing"


def test_model_sees_its_own_environment_besides_that_of_the_campaign(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OUTER", "kept")
    (tmp_path / "namelist").write_text("&run\n/\n")
    command = ("sh", "-c", 'echo "$OUTER $INNER" > a_restart.nc')
    model = ModelConfig(command, str(tmp_path / "namelist"), "*_restart.nc", environment={"INNER": "given"})
    segment = Segment(tmp_path / "run", Member("rest", {}, 0), None, years=1, years_before=0, seed=1)
    assert run_model(model, segment, threading.Event()).restart.read_text() == "kept given\n"
