"""The bridge's configuration: strict, with paths relative to its own file."""

from pathlib import Path

import pytest
import yaml

from halocline.run.bridge_config import ObserveConfig, check_mode, read_bridge_config


def written(folder: Path, **keys) -> Path:
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump({"run": "../runs/one", **keys}))
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    config = read_bridge_config(written(tmp_path, record="traffic"))
    assert config.run == str(tmp_path.parent / "runs" / "one")
    assert config.output == str(tmp_path / "halocline") and config.record == str(tmp_path / "traffic")
    assert config.replay == ""


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"deadlines": 3}, "Unknown key 'deadlines'"),
        ({"mode": "beside"}, "mode is 'beside'"),
        ({"on_fault": "ignore"}, "on_fault is 'ignore'"),
        ({"deadline": 0}, "deadline is 0.0"),
        ({"calendar": "julian"}, "calendar is 'julian'"),
        ({"generate": {"month": 13}}, "generate.month is 13"),
        ({"generate": {"velocity": "fast"}}, "generate.velocity is 'fast'"),
        ({"generate": {"sea_level": "flat"}}, "generate.sea_level is 'flat'"),
        ({"observe": {"on_reject": "panic"}}, "observe.on_reject is 'panic'"),
        ({"observe": {"every": -1}}, "observe.every is -1"),
        ({"observe": {"diagnostics": "few"}}, "observe.diagnostics is 'few', expected one of judged, all"),
        ({"mode": "replay"}, "expected a folder with mode replay"),
        ({"replay": "there"}, "expected a folder with mode replay"),
    ],
)
def test_wrong_values_are_named_with_their_file(keys, told, tmp_path):
    with pytest.raises(ValueError, match=told) as caught:
        read_bridge_config(written(tmp_path, **keys))
    assert "bridge.yaml" in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        read_bridge_config(tmp_path / "nowhere.yaml")


def test_steps_are_due_by_number_so_a_restarted_model_is_judged_at_the_same_ones():
    assert [step for step in range(13) if ObserveConfig(every=6).due(step)] == [0, 6, 12]
    assert not ObserveConfig(every=0).due(0)


def test_mode_must_be_how_the_job_was_started(tmp_path):
    path = written(tmp_path, mode="mpmd")
    check_mode(read_bridge_config(path), path, beside=True)
    with pytest.raises(ValueError, match="no rank of this job runs `halocline serve`"):
        check_mode(read_bridge_config(path), path, beside=False)
    path = written(tmp_path)
    check_mode(read_bridge_config(path), path, beside=False)
    with pytest.raises(ValueError, match="ranks of this job run `halocline serve`"):
        check_mode(read_bridge_config(path), path, beside=True)
