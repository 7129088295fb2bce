"""What goes wrong inside Python reaches the model as a status, and never ends in exit code 0."""

import re
import time
from pathlib import Path

import pytest

USAGE, START, EXCEPTION, CONTRACT, DEADLINE = 81, 82, 83, 84, 86
RAISE_AT_3 = {"verb": "observe", "step": 3, "do": "raise"}


def test_an_exception_becomes_a_status_and_a_traceback_file(run_host, tmp_path: Path) -> None:
    status, output = run_host("host", RAISE_AT_3, 5)
    assert status == EXCEPTION, output
    assert "observe: exception: ValueError: temperature below freezing at (3, 4)" in output
    file = Path(re.search(r"traceback in (\S+)\)", output)[1])
    assert file.parent == tmp_path
    text = file.read_text()
    assert text.startswith("rank 0, halocline_observe, step 3\n")
    assert "raise error" in text and text.rstrip().endswith("ValueError: temperature below freezing at (3, 4)")


def test_an_agreed_exception_is_told_once(run_host) -> None:
    status, output = run_host("host", RAISE_AT_3, 5, ranks=3)
    assert status == EXCEPTION, output
    assert len(re.findall("^halocline: rank", output, re.M)) == 1, output


def test_an_exception_on_one_rank_ends_the_job(run_host) -> None:
    """The others wait in a collective: only the end of the job helps them."""
    status, output = run_host("host", {**RAISE_AT_3, "rank": 1, "agreed": False}, 5, ranks=2)
    assert status == EXCEPTION, output
    assert "halocline: rank 1: ValueError: temperature below freezing" in output


def test_an_exception_carries_its_own_status(run_host) -> None:
    status, output = run_host("host", {"verb": "ready", "do": "raise", "status": 4}, 1)
    assert status == CONTRACT, output
    assert "ready: contract: ValueError" in output


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_an_exit_inside_python_is_not_the_exit_of_the_model(run_host, error: str) -> None:
    status, output = run_host("host", {**RAISE_AT_3, "error": error}, 5)
    assert status == EXCEPTION, output
    assert f"observe: exception: {error}: 5" in output or f"observe: exception: {error}: temp" in output


@pytest.mark.parametrize("verb", ["start", "grid", "field", "ready", "generate", "finalize"])
def test_every_verb_reports_its_exception(run_host, verb: str) -> None:
    status, output = run_host("host", {"verb": verb, "do": "raise"}, 1, "generate")
    assert status == (START if verb == "start" else EXCEPTION), output
    assert "ValueError: temperature below freezing" in output


def test_an_ignored_status_ends_the_job_at_the_next_call(run_host) -> None:
    status, output = run_host("host", RAISE_AT_3, 5, "deaf")
    assert status == EXCEPTION, output
    assert "The model called observe after a failure (exception): ValueError" in output


@pytest.mark.parametrize("words", [("polite",), ("polite", "unfinished-mpi")])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_model_that_leaves_with_zero_after_a_failure_does_not_succeed(run_host, words, ranks: int) -> None:
    status, output = run_host("host", RAISE_AT_3, 5, *words, ranks=ranks)
    assert status == EXCEPTION, output


def test_a_refusal_before_mpi_begins_is_not_forgotten(run_host) -> None:
    status, output = run_host("host", {}, 1, "before-mpi", "polite", "unfinished-mpi")
    assert status == USAGE, output
    assert "The model ended after a failure (usage): halocline_init was called before MPI_Init" in output


def test_a_code_of_the_model_is_kept(run_host) -> None:
    status, output = run_host("host", RAISE_AT_3, 5, "own-code")
    assert status == 7, output
    status, output = run_host("host", {}, 5, "own-fault")
    assert status == 3, output
    assert "without halocline_finalize" in output


@pytest.mark.parametrize("words", [("early",), ("unfinished",), ("unfinished", "unfinished-mpi")])
def test_a_model_that_leaves_without_finalize_does_not_succeed(run_host, words) -> None:
    status, output = run_host("host", {}, 1, *words)
    assert status == USAGE, output
    assert "without halocline_finalize" in output


def test_a_model_that_goes_on_after_stop_is_ended(run_host) -> None:
    status, output = run_host("host", {"verdict": [2, 1]}, 3)
    assert status == 0 and "observe: level 2 action 1 step 1" in output, output
    status, output = run_host("host", {"verdict": [2, 1]}, 3, "stubborn")
    assert status == USAGE, output
    assert "asked to stop by the verdict of step 1, and went on to step 2" in output


@pytest.mark.parametrize("action, code", [(0, 0), (1, USAGE), (2, USAGE)])
def test_a_verdict_that_asks_for_something_cannot_be_left_out(run_host, action: int, code: int) -> None:
    status, output = run_host("host", {"verdict": [2, action]}, 1, "no-verdict")
    assert status == code, output
    assert ("called without a verdict" in output) == bool(code)


def test_a_start_without_that_python_is_a_status_of_its_own(run_host) -> None:
    status, output = run_host("host", {}, 1, HALOCLINE_PYTHON="/no/such/bin/python")
    assert status == START, output
    assert "init: start: HALOCLINE_PYTHON is '/no/such/bin/python'" in output


def test_a_python_of_another_environment_is_refused(run_host, tmp_path: Path) -> None:
    """CPython would fall back silently to the base interpreter."""
    other = tmp_path / "other" / "bin" / "python"
    other.parent.mkdir(parents=True)
    other.symlink_to("/bin/true")
    status, output = run_host("host", {}, 1, HALOCLINE_PYTHON=str(other))
    assert status == START, output
    assert "init: start: " in output


def test_a_module_that_is_missing_is_a_failed_start(run_host) -> None:
    status, output = run_host("host", {}, 1, HALOCLINE_PYTHON_MODULE="no_such_module", ranks=2)
    assert status == START, output
    assert "ModuleNotFoundError: No module named 'no_such_module'" in output


def test_a_configuration_that_is_missing_or_wrong_is_a_failed_start(run_host) -> None:
    status, output = run_host("host_fortran", {}, "nothing", HALOCLINE_PYTHON_MODULE="halocline.run.bridge")
    assert status == START, output
    assert "halocline.json cannot be used" in output


def test_an_mpi4py_of_another_mpi_is_refused(run_host, tmp_path: Path) -> None:
    package = tmp_path / "mpi4py"
    package.mkdir()
    (package / "__init__.py").write_text("class rc: pass\n")
    (package / "MPI.py").write_text("def Get_library_version(): return 'Some MPI 5.0\\0'\n")
    status, output = run_host("host", {}, 1, PYTHONPATH=str(tmp_path))
    assert status == START, output
    assert re.search(r"calls another MPI library \(Some MPI 5.0", output), output


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_call_that_does_not_return_ends_at_its_deadline(run_host, ranks: int) -> None:
    began = time.monotonic()
    settings = {"verb": "observe", "step": 2, "do": "sleep", "rank": ranks - 1, "deadline": 2}
    status, output = run_host("host", settings, 3, ranks=ranks)
    assert status == DEADLINE, output
    assert "halocline_observe (step 2) did not end within 2 s" in output
    assert time.monotonic() - began < 20


def test_a_start_that_does_not_return_ends_at_its_deadline(run_host) -> None:
    status, output = run_host("host", {"verb": "start", "do": "sleep"}, 1, HALOCLINE_START_DEADLINE="1")
    assert status == DEADLINE, output
    status, output = run_host("host", {}, 1, HALOCLINE_START_DEADLINE="soon")
    assert status == START, output


def test_a_killed_rank_ends_the_job(run_host) -> None:
    status, output = run_host("host", {"verb": "observe", "step": 2, "do": "kill", "rank": 1}, 3, ranks=2)
    assert status not in (0, 124), output


def test_a_model_may_go_on_alone_if_the_user_wants_that(run_host) -> None:
    status, output = run_host("host", {**RAISE_AT_3, "on_fault": 1}, 5, ranks=2)
    assert status == 0, output
    assert "goes on alone (on_fault: continue) after a failure (exception): ValueError" in output
    assert len(re.findall("^halocline: rank", output, re.M)) == 1, output
    assert output.count("observe: level 0 action 0") == 4
    assert output.count("observe: level 3 action 0 step -1") == 6


def test_a_model_without_a_generated_state_uses_its_own(run_host) -> None:
    settings = {"verb": "generate", "do": "raise", "on_fault": 1}
    status, output = run_host("host", settings, 2, "generate")
    assert status == 0, output
    assert "generate: level 3 action 2 step -1: ValueError" in output


def test_a_wrong_contract_is_a_failure_under_every_policy(run_host) -> None:
    status, output = run_host("host", {"verb": "generate", "do": "raise", "on_fault": 1, "status": 4}, 1, "generate")
    assert status == CONTRACT, output
