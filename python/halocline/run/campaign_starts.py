"""The starts of a campaign, and how far its parameters lie from those that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from halocline.run.baselines import interpolated, nearest_state, training_mean
from halocline.run.campaign_config import CampaignConfig, Member
from halocline.run.campaign_desk import Desk
from halocline.run.extrapolation import Extrapolation

__all__ = ["draw_of", "far_parameters", "make_start"]


def draw_of(member: Member, attempt: int, config: CampaignConfig) -> int:
    """Number of the state that a member starts from: members first, then their further attempts."""
    return member.number + attempt * config.members


def make_start(desk: Desk, member: Member, attempt: int, spinup: Sequence[Path] = ()) -> dict[str, np.ndarray]:
    """Makes the state that an attempt starts from.

    Arguments:
        desk: Of the campaign.
        member: Any but one that starts from rest.
        attempt: Number of the attempt; generated starts differ.
        spinup: Restarts at the end of each year from rest, for an extrapolation.

    Returns:
        Variable to shape (k, nj, ni), physical units.

    Raises:
        ValueError, OSError: The generated state has diverged, or states cannot be read.

    Collective: no.
    """
    config = desk.config
    if member.method == "generated":
        return desk.generate(member.parameters, draw_of(member, attempt, config))
    if member.method == "extrapolation":
        return extrapolated(desk, spinup)
    if member.method == "mean":
        return training_mean(desk.store, config.month)
    known = desk.known(member.parameters, tuple(desk.store.records.parameters))
    if member.method == "nearest":
        return nearest_state(desk.store, known, config.month, member.number, config.seed)
    return interpolated(desk.store, known, config.month)


def extrapolated(desk: Desk, spinup: Sequence[Path]) -> dict[str, np.ndarray]:
    """Carries a spin-up ahead by statistics."""
    options = desk.config.extrapolation
    seen = range(options.first, options.years + 1)
    states = [desk.read(spinup[year - 1]) for year in seen]
    names = desk.generator.config.data.variables
    series = {name: np.stack([state[name] for state in states]) for name in names}
    years = np.array(seen, np.float64)
    return Extrapolation.fit(series, years, desk.generator.grid, model=options.model).at(options.years + options.jump)


def far_parameters(desk: Desk) -> list[str]:
    """Says of each parameter value outside of the training range how far it is; a sentence for each.

    Collective: no.
    """
    known = desk.generator.parameters
    sentences: dict[str, None] = {}
    for values in desk.config.parameters if known.names else ():
        wanted = torch.tensor([float(values[name]) for name in known.names], dtype=torch.float64)
        sentences |= dict.fromkeys(known.beyond(wanted))
    return list(sentences)
