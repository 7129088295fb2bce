from typing import Any

def philox(counter: bytes, key: bytes) -> bytes: ...
def normal(
    out: Any,
    cells: Any,
    channels: int,
    seed: int,
    members: Any,
    forecast_step: int,
    solver_step: int,
    tiles: int,
) -> None: ...
def move(
    target: Any,
    source: Any,
    other: Any,
    groups: Any,
    channels: Any,
    runs: Any,
    members: int,
    width: int,
    add: bool,
) -> None: ...
