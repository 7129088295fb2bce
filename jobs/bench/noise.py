"""Time per normal value of the keyed noise on one core, beside torch's stateful generator. Prints JSON."""

from __future__ import annotations

import json

import numpy as np
import torch
from timing import alternate, best

from halocline.flow.noise import normal

MEMBERS, CHANNELS, SIDE = 4, 64, 64


def main() -> None:
    torch.set_num_threads(1)
    cells = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE)
    members = tuple(range(MEMBERS))
    shape = (MEMBERS, 1, CHANNELS, SIDE, SIDE)
    times = alternate(
        {"keyed": lambda: normal(1, members, 0, 1, CHANNELS, cells), "torch": lambda: torch.randn(shape)}, rounds=15
    )
    values = float(np.prod(shape))
    print(json.dumps({name: best(t) / values * 1e9 for name, t in times.items()}))


if __name__ == "__main__":
    main()
