"""The benchmark of forecasts is built from the code as it is: it had stood still unnoticed when a table was added."""

import sys
from pathlib import Path

import numpy as np
import torch

from halocline.mesh.communicator import Serial

sys.path.append(str(Path(__file__).parents[2] / "jobs/bench"))

import forecasting


def test_benchmark_of_forecasts_makes_a_step_of_its_own_generator() -> None:
    stepper = forecasting.build(Serial(), "multistep, 4")
    x = forecasting.start_members(forecasting.start(stepper), (0,), stepper)
    weather = 2 * [np.ones((len(forecasting.NAMES), forecasting.SIDE, forecasting.SIDE), np.float32)]
    after = stepper(x, weather, forecasting.HOURS, 0, 0, (0,))
    assert after.shape == x.shape and bool(torch.isfinite(after).all()) and not torch.equal(after, x)
