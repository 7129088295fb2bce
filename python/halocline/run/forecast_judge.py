"""The verdict on the states of a forecast, while it is made: by the functions that judge a running model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.io.forecast_store import VERDICTS, ForecastStore
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import of_member
from halocline.physics.geometry import Geometry
from halocline.physics.verdict import Thresholds, Verdict, judge
from halocline.run.config import DataConfig
from halocline.run.generator import Generator
from halocline.run.judging import diagnose_tiles

__all__ = ["ForecastJudge", "summary"]


@dataclass(frozen=True, eq=False)
class ForecastJudge:
    """Judges members on the tiles of a layout against the range of the training states.

    Attributes:
        layout: Who owns which tile.
        geometry: Of these tiles.
        data: Names the variables, channel by channel.
        thresholds: Of the generator; without any, nothing is judged.
    """

    layout: Layout
    geometry: Geometry
    data: DataConfig
    thresholds: Thresholds

    @classmethod
    def build(cls, generator: Generator, layout: Layout) -> ForecastJudge:
        """Takes the thresholds of a generator. Collective: no."""
        text = generator.thresholds
        thresholds = Thresholds.from_json(text) if text else Thresholds({})
        return cls(layout, Geometry.build(generator.grid, layout), generator.config.data, thresholds)

    def __call__(self, x: Tensor) -> list[Verdict]:
        """Judges members, shape (member, tile, channel, j, i), physical; the same on every rank. Collective: yes."""
        tiles = {name: x[:, :, channel : channel + 1] for channel, name in enumerate(self.data.variables)}
        found = diagnose_tiles(tiles, self.geometry, self.layout, self.data)
        return [judge(of_member(found, n), self.thresholds) for n in range(len(x))]


def summary(store: ForecastStore, generator: Generator) -> str:
    """Says how many members are what at the end, and which one left the range of the training states first, and how.

    Returns:
        A sentence; empty where nothing was judged.

    Collective: no; one rank reads.
    """
    levels, hours = np.asarray(store.array("verdict")[...]), np.asarray(store.array("time")[...])
    if (levels < 0).all():
        return ""
    last = levels[:, -1]
    counts = ", ".join(f"{(last == level).sum()} {name}" for name, level in VERDICTS.items() if level >= 0)
    text = f"verdict at {hours[-1]:g} h: {counts}"
    worst = levels.max()
    if worst <= 0:
        return f"{text}; all members stay within the range of the training states."
    time = int(np.flatnonzero((levels == worst).any(axis=0))[0])
    member = int(np.flatnonzero(levels[:, time] == worst)[0])
    layout = Layout.build(generator.lattice, Serial())
    x = torch.from_numpy(store.read_states(generator.config.data.variables, time, [member], layout))
    reason = ForecastJudge.build(generator, layout)(x)[0].reason
    name = next(name for name, level in VERDICTS.items() if level == worst)
    return f"{text}; member {member} is {name} from {hours[time]:g} h: {reason}"
