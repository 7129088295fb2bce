"""Which variables a choice of velocity and sea level needs, and which it makes."""

import re

import numpy as np
import pytest
from case import Case

from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.balance import Choice, start_names, start_on_grid, start_on_tiles
from halocline.run.config import DataConfig
from halocline.run.run_folder import load_generator

WATER = ("temperature", "salinity")
FLOW = ("velocity_u", "velocity_v")
ICE = ("concentration", "thickness", "ice_u", "ice_v")


def data(free_surface: str = "linear") -> DataConfig:
    return DataConfig("", (), free_surface=free_surface)


@pytest.mark.parametrize(
    ("variables", "choice", "expected"),
    [
        (WATER, Choice("generated"), WATER),
        (WATER, Choice("balanced"), WATER),
        (WATER, Choice("rest", "rest"), (*WATER, *FLOW, "sea_level")),
        (WATER, Choice("geostrophic", "rest"), (*WATER, *FLOW, "sea_level")),
        (ICE, Choice("balanced"), ICE),
        (ICE[:2], Choice("rest"), ICE),
    ],
)
def test_a_choice_adds_what_it_makes(variables, choice, expected):
    assert start_names(variables, choice, data()) == expected


@pytest.mark.parametrize(
    ("variables", "choice", "free_surface", "message"),
    [
        (WATER, Choice("geostrophic"), "linear", "The generator lacks sea_level, needed for velocity: geostrophic"),
        (WATER, Choice("rest", "mean-free"), "linear", "with sea_level: mean-free: train with"),
        ((*WATER, *FLOW), Choice("balanced"), "nonlinear", "The generator lacks sea_level, needed for velocity: bal"),
        (ICE, Choice("geostrophic"), "linear", "expected 'generated' or 'rest' for sea ice"),
        (ICE, Choice("generated", "rest"), "linear", "sea_level is 'rest', expected 'generated' for sea ice"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(variables, choice, free_surface, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        start_names(variables, choice, data(free_surface))


def test_a_state_at_rest_needs_water_alone(trained: Case):
    generator = load_generator(trained.run)
    water = {name: np.full(trained.grid.shape, 10.0, np.float32) for name in WATER}
    arguments = (trained.grid, generator.lattice, generator.config.data)
    start = start_on_grid(water, *arguments, Choice("rest", "rest"))
    assert not any(start[name].any() for name in (*FLOW, "sea_level"))
    with pytest.raises(ValueError, match=r"The state lacks velocity_u, velocity_v, expected .* for velocity=balanced"):
        start_on_grid(water, *arguments, Choice("balanced", "rest"))


def test_a_state_without_velocity_is_balanced_as_it_is(trained: Case):
    generator = load_generator(trained.run)
    layout = Layout.build(generator.lattice, Serial())
    tiles = {name: layout.cut(np.where(trained.grid.tmask, 10.0, 0.0)) for name in WATER}
    found = start_on_tiles(tiles, trained.grid, layout, generator.config.data, Choice("balanced"))
    assert all(found[name] is tiles[name] for name in WATER) and list(found) == list(WATER)
