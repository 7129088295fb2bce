"""A campaign that is killed, started twice, shared out, or given the wrong folder or program."""

import random
import re
import sys
import time
from pathlib import Path

import pytest
from campaigns import MODEL, Campaign, write_campaign_case
from case import Case

from halocline.io.nemo import read_restart
from halocline.run.spinup import Share

KILLS = 10


def essence(campaign: Campaign) -> str:
    """All that is on disk of the members, but for times and the place of the campaign."""
    text = repr(sorted(campaign.states().items()))
    return re.sub(r"'(lost_|start_)?cpu_seconds': [0-9.e-]+", "", text.replace(str(campaign.output), ""))


def test_campaign_killed_ten_times_goes_on_without_losing_or_repeating_a_year(trained: Case, tmp_path: Path):
    changes = {"members": 2, "namelist__seconds": 0.05}
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, parts = (write_campaign_case(tmp_path / name, trained, **changes) for name in ("whole", "parts"))
    whole.run()
    moments, done = random.Random(5), {}
    for _ in range(KILLS):
        process = parts.beside()
        process.join(moments.uniform(0.1, 1.0))
        process.kill()
        process.join()
        now = parts.blocks()
        assert all(now[name][: len(blocks)] == blocks for name, blocks in done.items())
        done = now
    parts.run()
    assert essence(parts) == essence(whole)
    for name, blocks in whole.blocks().items():
        one, other = (read_restart(c.output / name / blocks[-1])["temperature"] for c in (whole, parts))
        assert one.tobytes() == other.tobytes()
        assert not (whole.output / name / blocks[0]).exists()  # only the last is kept
    kept = {str(parts.output / name / Path(block).parent) for name, b in parts.blocks().items() for block in b}
    runs = [line.split()[1] for line in parts.log if line.startswith("ends")]
    assert set(runs) == kept and len(runs) - len(kept) <= 2 * KILLS  # of which the state had not been written


def models(folder: Path) -> list[int]:
    """Processes of the model that work on a campaign."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(MODEL).encode() in words and any(word.startswith(str(folder).encode()) for word in words):
            found.append(int(path.parent.name))
    return found


def wait_for(condition) -> bool:  # type: ignore[no-untyped-def]
    """Waits at most ten seconds for a condition to come true."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def waiting(trained: Case, folder: Path) -> Campaign:
    """A campaign whose model never ends."""
    wind = [{"wind": 1.0}]
    return write_campaign_case(
        folder, trained, parameters=wind, namelist__mode="waits", methods=["rest"], members=1, workers=1
    )


def test_model_ends_with_the_campaign_and_a_second_campaign_is_refused(trained: Case, tmp_path: Path):
    campaign = waiting(trained, tmp_path)
    process = campaign.beside()
    try:
        assert wait_for(lambda: models(tmp_path))
        with pytest.raises(OSError, match="Another process works on campaign"):
            campaign.run()
        campaign.run("report=true")
    finally:
        process.kill()
        process.join()
    assert wait_for(lambda: not models(tmp_path))


def test_folder_of_another_campaign_is_refused_and_says_in_what(trained: Case, tmp_path: Path):
    campaign = write_campaign_case(tmp_path, trained, methods=["rest"], members=1)
    campaign.run()
    with pytest.raises(ValueError, match=r"another campaign: block_years is 5 there and 6 here"):
        campaign.run("block_years=6")
    campaign.run("workers=1")
    case_folder = trained.folder / "data"
    with pytest.raises(ValueError, match=r"holds files and no campaign\.yaml"):
        campaign.run(f"output={case_folder}")


def test_program_that_cannot_be_started_ends_the_campaign_and_it_goes_on_once_it_can(trained: Case, tmp_path: Path):
    program = tmp_path / "model"
    campaign = write_campaign_case(tmp_path, trained, methods=["rest"], model__command=[str(program)])
    with pytest.raises(RuntimeError, match=r"No run of 2 members has ended well.*model is no program"):
        campaign.run()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {MODEL} "$@"\n')
    program.chmod(0o755)
    campaign.run()
    assert {state["outcome"] for state in campaign.states().values()} == {"accepted"}


def test_shares_hold_every_member_once():
    shares = [Share(task, 3).of(20) for task in range(3)]
    assert sorted(n for share in shares for n in share) == list(range(20))
    assert {len(share) for share in shares} == {6, 7}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"methods": ["guess"]}, "methods is 'guess', expected one of generated"),
        ({"drift": {}}, "drift is empty, expected limits"),
        ({"parameters": [{"ice": 1.0}]}, "model.parameters lacks ice"),
        ({"member": 3}, "Unknown key 'member', expected one of .* Did you mean 'members'"),
        ({"model__set": {"start": "{start}"}}, "model.set names 'start', expected group.variable"),
        ({"model__set": {"run.start": "{begin}"}}, r"'\{begin\}' of run.start has a name in braces"),
    ],
)
def test_wrong_campaign_is_refused_with_the_name_of_what_is_wrong(
    trained: Case, tmp_path: Path, change: dict[str, object], sentence: str
):
    campaign = write_campaign_case(tmp_path, trained, **{"members": 1, "methods": ["rest"], **change})
    with pytest.raises(ValueError, match=sentence):
        campaign.run()
