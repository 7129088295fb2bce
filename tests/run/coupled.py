"""A model that starts from a generated state and is observed, on any number of ranks."""

from pathlib import Path

import numpy as np
from host import Model

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.rearrange import Rect
from halocline.run.bridge import Bridge
from halocline.run.contract import CONTRACT
from halocline.run.run_folder import load_generator

STEPS = (24, 48, 72)


def coupled(comm: AnyCommunicator, config: Path | str, dtype: str, odd: int = -1) -> list | str:
    """Runs the model, every rank with some rows.

    The state of each step follows from the one before cell by cell, so its bits do not depend on the ranks.

    Arguments:
        comm: Ranks of the model.
        config: Of the bridge.
        dtype: Of the model's numbers.
        odd: Step after which one number is another.

    Returns:
        What the model was told, or why it was refused.
    """
    try:
        own = comm.split(0, comm.rank)  # the bridge frees it
        assert own is not None
        bridge = Bridge.build(own, config)
        grid = load_generator(Path(bridge.config.run)).grid
        first, last = (grid.nj * part // comm.size for part in (comm.rank, comm.rank + 1))
        model = Model(grid, Rect(first, last, 0, grid.ni), dtype=dtype).start(bridge)
        told = [bridge.generate()]
        for step in STEPS:
            for name in model.arrays:
                model.inner(name)[...] *= 1.001
            if step == odd and first <= 5 < last:
                model.inner("salinity")[1, 5 - first, 7] = np.nan
            told.append(bridge.observe(step))
        bridge.finalize()
        return [list(one) for one in told]
    except Exception as error:
        assert comm.size == 1 or error.agreed  # type: ignore[attr-defined]
        assert error.halocline_status == CONTRACT  # type: ignore[attr-defined]
        return str(error)
