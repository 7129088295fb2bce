"""What the ocean does when Halocline finds its state, or the generated one, not physical."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from basin_jobs import STEPS, Done, Job, assert_same_bits

from halocline.run.run_folder import load_generator, save_generator, start_run_folder

LAG = {"lag": 2}


def restarts(done: Done) -> list[int]:
    """Steps of the restarts that a run has written."""
    return sorted(int(path.name.split("_")[1]) for path in done.folder.glob("t_*_restart.nc"))


@pytest.mark.parametrize("policy", ["continue", "fallback"])
def test_rejected_ocean_goes_on_if_the_policy_says_so(policy, run, salty):
    plain = run(Job("plain", run=salty))
    done = run(Job("judged", "in_process", generate=False, run=salty, bridge={"observe": {"on_reject": policy}}))
    assert plain.status == done.status == 0, done.output
    assert_same_bits(done.restart(), plain.restart())
    assert done.verdicts() == dict.fromkeys(range(1, STEPS + 1), "reject")
    told = done.output.count("basin has no other scheme to fall back on and goes on after step 1: salinity_volume_mean")
    assert told == (policy == "fallback"), done.output


@pytest.mark.parametrize(
    ("job", "judged", "last"),
    [
        (Job("one", "in_process"), [1], 1),
        (Job("beside", "mpmd", (2, 2), emulators=2), [1], 1),
        (Job("later", "mpmd", emulators=1, bridge={"observe": LAG}), [1, 2, 3], 3),  # two calls later
        (Job("end", "mpmd", emulators=1, bridge={"observe": {"every": STEPS, **LAG}}), [STEPS], STEPS),  # by finalize
    ],
    ids=["one", "beside", "later", "end"],
)
def test_rejected_ocean_stops_with_its_restart_and_exit_code_3(job, judged, last, run, salty):
    done = run(replace(job, generate=False, run=salty))
    assert done.status == 3, done.output
    reason = f"Halocline asks to stop, for the state of step {judged[0]}: salinity_volume_mean"
    assert done.output.count(reason) == 1, done.output
    assert restarts(done) == [last]
    assert done.verdicts() == dict.fromkeys(judged, "reject")


@pytest.fixture(scope="module")
def strict(case, tmp_path_factory) -> Path:
    """The generator with a threshold that no state of this ocean keeps."""
    folder = tmp_path_factory.mktemp("strict") / "generator"
    generator = load_generator(case.generator)
    thresholds = json.loads(generator.thresholds)
    thresholds["limits"]["salinity_volume_mean"] = dict(low=0, high=1, reject_low=0, reject_high=1)
    start_run_folder(folder, generator)
    changed = replace(generator, thresholds=json.dumps(thresholds))
    save_generator(folder, changed, generator.denoiser.network.state_dict())
    return folder


@pytest.mark.parametrize(
    ("policy", "status", "last", "sentence"),
    [
        ("continue", 0, STEPS, "basin starts from a generated state: salinity_volume_mean"),
        ("fallback", 0, STEPS, "basin keeps the start of cn_start: salinity_volume_mean"),
        ("stop", 3, 0, "Halocline asks to stop, for the state of step 0: salinity_volume_mean"),
    ],
)
def test_rejected_start_is_taken_replaced_or_ends_the_run(policy, status, last, sentence, run, strict, case, alone):
    observe = {"every": 0, "on_reject": policy}
    done = run(Job("judged", "in_process", (2, 1), bridge={"run": str(strict), "observe": observe}))
    assert done.status == status, done.output
    assert sentence in done.output
    assert restarts(done) == [last]
    if policy == "continue":
        assert_same_bits(done.restart(), alone.restart())
    if policy == "fallback":
        assert_same_bits(done.restart(), run(Job("rest")).restart())
