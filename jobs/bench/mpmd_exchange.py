"""Exchange between a model and an emulator rank beside it, against a plain MPI send of the same bytes.

Prints one line of JSON: bytes, best seconds of handing over a 256 x 256 x 36 double field, and of the send. The host is
compiled here, as a model would be, against the installed library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import best

PROGRAMS = Path(__file__).parent / "bridge_mpmd"
LIBRARY = Path(os.environ.get("HALOCLINE_LIBRARY") or Path(sys.prefix) / "lib" / "libhalocline.so")
NI, NJ, NK = 256, 256, 36
ROUNDS = 100


def compile_host(folder: Path) -> Path:
    """Builds the host."""
    host = folder / "host"
    place = [f"-I{Path(sys.prefix) / 'include'}", f"-L{LIBRARY.parent}", f"-Wl,-rpath,{LIBRARY.parent}"]
    subprocess.run(["mpicc", "-O2", str(PROGRAMS / "host.c"), *place, "-lhalocline", "-o", str(host)], check=True)
    return host


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "bridge.yaml"
        config.write_text("{run: nowhere, mode: mpmd, deadline: 60}\n")
        size = [str(NI), str(NJ), str(NK)]
        host = ["-n", "1", str(compile_host(folder)), str(config), str(ROUNDS), *size]
        emulator = ["-n", "1", sys.executable, str(PROGRAMS / "emulator.py"), str(config), *size]
        command = ["mpirun", *host, ":", *emulator]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"The exchange failed:\n{done.stdout}{done.stderr}")
    times = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    print(json.dumps({"bytes": 8 * NI * NJ * NK} | {name: best(seconds) for name, seconds in times.items()}))


if __name__ == "__main__":
    main()
