"""Time limits of tests end what hangs and time nothing: where workers of pytest-xdist share cores, all wait longer."""

import os

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
"""Factor on a limit."""
