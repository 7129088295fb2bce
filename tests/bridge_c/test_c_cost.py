"""Calls cost no memory. What they cost in time is measured by jobs/bench."""

import re
import sys
from pathlib import Path

from bridge_tools import LAUNCHER, build, run


def test_ten_thousand_calls_cost_no_memory(run_host) -> None:
    status, output = run_host("overhead", {}, 10000)
    assert status == 0, output
    assert int(re.search(r"grown by (-?\d+) KiB", output)[1]) <= 64, output


def test_the_c_part_is_clean_under_the_address_sanitizer(bridge: Path, tmp_path: Path) -> None:
    """10,000 calls. CPython is never ended and Open MPI leaks a little: only stacks with a line of our source count."""
    folder = build(
        bridge, tmp_path / "build", "-DCMAKE_BUILD_TYPE=Debug", "-DBUILD_TESTING=ON",
        "-DCMAKE_C_FLAGS=-fsanitize=address,undefined -fno-omit-frame-pointer",
        targets=("halocline", "halocline_python", "overhead"),
    )  # fmt: skip
    (tmp_path / "config.json").write_text("{}")
    options = {"ASAN_OPTIONS": "exitcode=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    command = [folder / "tests" / "overhead", tmp_path / "config.json", 10000]
    _, output = run(*command, limit=120, cwd=tmp_path, **LAUNCHER, **options, HALOCLINE_PYTHON=sys.executable)
    assert re.search(r"\d+ ns per call", output), output[-3000:]
    assert "ERROR: AddressSanitizer" not in output and "runtime error" not in output, output[-3000:]
    leaks = [block for block in output.split("\n\n") if "leak of" in block and str(bridge / "src") in block]
    assert not leaks, leaks
