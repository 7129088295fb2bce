"""The view of a running model: what it shows, how it ends, and that it never disturbs the run."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from case import alone, command, here
from rich.console import Console
from verdicts import HOUR, judged, run

from halocline.run.watch import sparkline, view

LIMIT = 20  # s; the interpreter starts in less than one on an idle machine


def shown(folder: Path, width: int = 140, height: int = 40, encoding: str = "utf-8", terminal: bool = True) -> str:
    """The view on a terminal of some size, without colours."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, height=height, force_terminal=terminal, color_system=None)
    console.print(view(folder, console))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@contextmanager
def started(*arguments: object, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen]:
    """A `halocline watch` of its own; nothing is left behind."""
    words = [sys.executable, *command("watch", *arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
    job = subprocess.Popen(words, stdout=stdout, stderr=subprocess.PIPE, env=environment)
    try:
        yield job
    finally:
        job.kill()
        job.communicate()


def read_until(handle: int, words: bytes) -> bytes:
    """Output up to some words, which must come within the limit."""
    found, end = b"", time.monotonic() + LIMIT
    while words not in found:
        left = end - time.monotonic()
        assert left > 0 and select.select([handle], [], [], left)[0], found
        found += os.read(handle, 65536)
    return found


def test_once_shows_the_newest_verdict_and_every_check(tmp_path):
    log = run(tmp_path, 3.2, 3.3, 3.45)
    log.write(judged(96, 3.8, unstable=0.15), 96 * HOUR)
    result = here("watch", tmp_path, "--once")
    assert (result.status, result.err) == (0, "")
    text = " ".join(result.out.split())
    for words in (
        f"{tmp_path}, emulator /runs/gyre",
        "0001-01-05 00:00, step 96: REJECT, the model was told to stop; written ",
        "The worst of 4 checks is reject.",
        "..sR 4 verdicts; all: 2 ok, 1 suspect, 1 reject",
        "temperature_deep 3.8 3.1 to 3.4 beyond 2.8 to 3.7 reject ▁▂▄█",
        "unstable_fraction 0.15 up to 0.1 above 0.2 suspect ▁▁▁█",
        "salinity_volume_mean 35.0001 34.99991 to 35.0002 beyond 34.9 to 35.1 ok ▁▁▁▁",
        "temperature_nonfinite 0 0 if not 0 ok",
    ):
        assert words in text, words
    order = [result.out.index(name) for name in ("temperature_deep", "unstable_fraction", "salinity_volume_mean")]
    assert order == sorted(order)  # the worst first


@pytest.mark.parametrize(("width", "titles"), [(80, 4), (95, 5), (120, 6)])
def test_no_line_is_wider_or_longer_than_the_terminal(width, titles, tmp_path):
    run(tmp_path, *np.linspace(2.9, 3.6, 150))
    lines = shown(tmp_path, width=width, height=11).splitlines()  # fewer lines than the view wants
    assert max(map(len, lines)) <= width and len(lines) <= 11
    table = next(n for n, line in enumerate(lines) if line.startswith("check"))
    assert lines[table].split() == ["check", "value", "ok", "reject", "status", "history"][:titles]
    assert "…" not in "".join(lines)
    shown_checks = len(lines) - table - 2
    assert lines[-1].strip() == f"and {4 - shown_checks} more"
    assert "150 verdicts; the newest 120: " in lines[table - 2]


def test_terminal_without_utf8_gets_plain_characters(tmp_path):
    run(tmp_path, 3.2, 3.3, np.nan)
    assert "x" in shown(tmp_path, encoding="ascii")


def test_curve_goes_from_the_lowest_to_the_highest_and_marks_what_is_not_finite():
    assert sparkline(np.array([0.0, 1.0, np.nan, 7.0])) == "▁▂x█"
    assert sparkline(np.array([5.0, 5.0])) == "▁▁"
    assert sparkline(np.array([np.inf, np.nan])) == "xx"


def test_folder_without_a_run_is_told_in_one_sentence(tmp_path):
    result = here("watch", tmp_path / "nowhere")
    assert result.status == 1
    assert "nowhere has no verdicts.log: name the output folder of a coupled run, or wait for it" in result.sentence


def test_damaged_record_is_told_in_one_sentence(tmp_path):
    run(tmp_path, 3.2).close()
    whole = (tmp_path / "trajectory.nc").read_bytes()
    (tmp_path / "trajectory.nc").write_bytes(whole[:-200])
    result = here("watch", tmp_path, "--once")
    assert result.status == 1
    assert "trajectory.nc cannot be read (truncated" in result.sentence


def test_interval_must_be_positive(tmp_path):
    assert "--every is 0, expected a time in seconds above 0" in here("watch", tmp_path, "--every", 0).sentence


def test_run_without_verdict_yet_is_shown_as_such(tmp_path):
    run(tmp_path)
    assert "no verdict yet" in here("watch", tmp_path, "--once").out


def test_pipe_gets_old_lines_and_new_ones_as_they_come_and_ctrl_c_ends_it(tmp_path):
    log = run(tmp_path, 3.2)
    with started(tmp_path) as job:
        assert job.stdout is not None
        old = read_until(job.stdout.fileno(), b"\n0001-01-02 00:00")
        assert old.startswith(b"# Verdicts on a running model")
        log.write(judged(48, 3.9), 48 * HOUR)  # its writer is alive, in this process
        new = read_until(job.stdout.fileno(), b"The worst of 4 checks is reject.\n")
        assert b"0001-01-03 00:00        48  REJECT" in new
        job.send_signal(signal.SIGINT)
        assert (job.wait(LIMIT), job.communicate()) == (0, (b"", b""))


def test_pipe_that_is_closed_ends_it(tmp_path):
    log = run(tmp_path, 3.2)
    with started(tmp_path) as job:
        assert job.stdout is not None and job.stderr is not None
        read_until(job.stdout.fileno(), b"0001-01-02")
        job.stdout.close()
        for day in range(2, 9):
            log.write(judged(24 * day), 24 * day * HOUR)
        assert job.wait(LIMIT) == 0
        assert job.stderr.read() == b""


def test_waits_for_a_run_that_has_not_begun(tmp_path):
    with started(tmp_path / "output", "--wait", "--every", 0.1) as job:
        assert job.stdout is not None and job.stderr is not None
        assert b"waiting for" in read_until(job.stderr.fileno(), b"\n")
        run(tmp_path / "output", 3.2)
        read_until(job.stdout.fileno(), b"0001-01-02 00:00")


def test_terminal_shows_new_verdicts_live_and_ctrl_c_restores_it(tmp_path):
    log = run(tmp_path, 3.2)
    terminal, other = pty.openpty()
    try:
        with started(tmp_path, "--every", 0.1, stdout=other) as job:
            read_until(terminal, b"0001-01-02 00:00")
            log.write(judged(48, 3.9), 48 * HOUR)
            read_until(terminal, b"REJECT")
            job.send_signal(signal.SIGINT)
            read_until(terminal, b"\x1b[?1049l")  # leaves the alternate screen
            assert job.wait(LIMIT) == 0
    finally:
        os.close(terminal)
        os.close(other)


def test_watching_takes_neither_mpi_nor_torch(tmp_path):
    """It starts fast, on a login node and inside a job alike."""
    run(tmp_path, 3.2)
    code = (
        "import sys\nfrom halocline.__main__ import app\n"
        f"try: app(['watch', {str(tmp_path)!r}, '--once'])\n"
        "finally: sys.stderr.write(str([m for m in ('torch', 'mpi4py.MPI', 'matplotlib') if m in sys.modules]))"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_STEP_ID", "0")
        assert alone("-c", code).err == "[]"
