r"""What long forecasts are held to, from the states that are learned: growth of the ice volume, ranges, roughness.

.. math::
    \frac{\langle h \rangle(T + \tau) - \langle h \rangle(T)}{\tau} = a_0 + a_1 \langle F_i \rangle + a_2 \langle F_w
    \rangle, \qquad
    F_i = c\,k_i \frac{T_f - T_a}{(h + s\,k_i / k_s) / c}, \quad F_w = (1 - c) (T_f - T_a)

with concentration c, volumes of ice h and snow s per cell area at T, the air temperature :math:`T_a` the mean of both
ends of the lead :math:`\tau`, and :math:`\langle\cdot\rangle` over the area of the sea. :math:`F_i` is what ice and
snow conduct, :math:`F_w` what open water loses, up to its coefficient. The coefficients a are least squares over the
pairs of states that are not held out, one set for each lead. :math:`a_1` should be near 1 / (density times latent
heat), 1.2e-5 m/h for each W/m2.

Conduction rather than area means of thickness and temperature is the predictor since a long forecast may grow ice
thicker than any that was learned, where a line in thickness is wrong and Stefan's 1 / h holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline.io.training_store import BUDGET, TrainingStore, explained, save_table
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.degree_days import THRESHOLD
from halocline.run.increments import successors
from halocline.run.roughness import VELOCITIES, Roughness, limits
from halocline.run.store_statistics import of_chunks
from halocline.state.state import Channels

__all__ = ["DRIFTING", "NEEDED", "Budget", "fluxes", "learn_budget", "open_edge"]

NEEDED = ("concentration", "thickness", "air_temperature")
DRIFTING = ("concentration", "damage", "snow")
"""Variables of which the range of means is a climate; that of thickness says only which ice was learned."""

ICE_CONDUCTIVITY = 2.034396  # W/(m K), of fresh ice; NEMO's rcnd_i
SNOW_CONDUCTIVITY = 0.31  # W/(m K); NEMO's rn_cnd_s
THINNEST = 0.05  # m, least thickness that conduction is computed for: below, the air above is the resistance
ENTRIES = ("leads", "growth", "residual", "range", "roughness")
RIDGE = 1e-6  # of the variance of a predictor: one that never varies has no coefficient


@dataclass(frozen=True)
class Budget:
    """Growth of the ice volume, and the range of area means. Float64.

    Attributes:
        leads: Hours, ascending, shape (lead).
        growth: :math:`a_0` [m/h], :math:`a_1` [m/h / (W/m2)], :math:`a_2` [m/h / K], shape (lead, 3); no rows where
            the state or the forcing lacks a variable, or ice may leave the basin.
        residual: Standard deviation of what the growth leaves, m/h, shape as `leads` or none.
        range: Least and largest area mean of each of `DRIFTING` that there is, shape (variable, 2).
        roughness: Largest roughness and what discounts ice at rest, of each of `VELOCITIES` that there is, shape
            (variable, 2); see `halocline.run.roughness`.
    """

    leads: Tensor
    growth: Tensor
    residual: Tensor
    range: Tensor
    roughness: Tensor

    def at(self, hours: float) -> Tensor:
        """Returns the coefficients at a lead, shape (3): linear between leads, at the ends constant. Collective: no."""
        leads, growth = self.leads.numpy(), self.growth.numpy()
        return torch.tensor([float(np.interp(hours, leads, column)) for column in growth.T], dtype=torch.float64)

    def to_dict(self) -> dict[str, Tensor]:
        """Returns what is saved."""
        return {name: getattr(self, name) for name in ENTRIES}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> Budget | None:
        """The reverse; None of nothing."""
        return cls(*(tensors[name] for name in ENTRIES)) if tensors else None


def fluxes(concentration: Tensor, thickness: Tensor, snow: Tensor, air: Tensor) -> tuple[Tensor, Tensor]:
    """Returns :math:`F_i` [W/m2] and :math:`F_w` [K] of cells.

    Arguments:
        concentration, thickness, snow, air: 1, m, m (both per cell area), degC; of one shape, float64.

    Collective: no.
    """
    cold = THRESHOLD - air
    insulation = thickness + ICE_CONDUCTIVITY / SNOW_CONDUCTIVITY * snow  # per cell area, as ice
    insulation = torch.maximum(insulation, THINNEST * concentration).clamp(min=1e-9)  # 1e-9: no ice, no quotient
    return ICE_CONDUCTIVITY * cold * concentration**2 / insulation, (1.0 - concentration) * cold


def open_edge(grid: Grid) -> int:
    """Counts the cells through which ice may leave: wet ones on an edge that is neither periodic nor folded.

    Collective: no.
    """
    wet, edges = grid.wet, []
    if not grid.periodic_i:
        edges += [wet[:, 0], wet[:, -1]]
    if not grid.periodic_j:
        edges += [wet[0]] if grid.fold else [wet[0], wet[-1]]
    return int(sum(edge.sum() for edge in edges))


def learn_budget(path: Path, leads: Sequence[float], comm: Communicator | Serial) -> None:
    """Fits the growth of the volume over leads, measures ranges and roughness, and saves them in a training store.

    Raises:
        ValueError: A chunk is damaged.

    Collective: yes.
    """
    with comm.together():
        store = TrainingStore.open(path)
        follows = [successors(store.records, lead) for lead in leads]
        weight = sea_areas(store.grid)
    parts = of_chunks(store, comm, "budget", lambda J, I: ChunkSums.of(store, follows, weight, J, I))
    rough = learn_roughness(store, comm)
    with comm.together(), explained(path):
        if parts is not None:
            means, predicted = (
                np.sum([getattr(part, name) for part in parts.values()], axis=0) / weight.sum()
                for name in ("means", "fluxes")
            )
            table = summary(store, np.array(leads, float), follows, means, predicted)
            table |= {"roughness": rough, "held_out": np.asarray(store.records.held_out, bool)}
            save_table(path / BUDGET, table)


def learn_roughness(store: TrainingStore, comm: Communicator | Serial) -> np.ndarray:
    """Measures the roughness of the velocities of all states that may be learned, which are dealt to ranks.

    Returns:
        On the root see `Budget`; nothing elsewhere.

    Collective: yes.
    """
    names = [name for name in VELOCITIES if name in surface(store)]
    if not names:
        return np.zeros((0, 2))
    with comm.together():
        channels, first = Channels.build(names, store.grid), surface(store)
        lattice = Lattice.from_grid(store.grid, (store.grid.nj, store.grid.ni), 1)
        roughness = Roughness.build(channels, store.grid, layout := Layout.build(lattice, Serial()))
        seen, made = np.flatnonzero(~np.asarray(store.records.held_out, bool)).tolist(), {}
        for record in seen[comm.rank :: comm.size]:
            x = store.whole(record)[[first[name] for name in names]].astype(np.float64)
            made[record] = roughness.moments(torch.as_tensor(layout.cut(x))[None])
    parts = comm.gather(made) or [made]
    whole = {record: pair for part in parts for record, pair in part.items()}
    a1, a2 = (torch.cat([whole[record][n] for record in sorted(whole)]) for n in (0, 1))
    return limits(a1, a2).numpy()


def sea_areas(grid: Grid) -> np.ndarray:
    """Areas of the cells that count, 0 on land and where the last row of a folded grid repeats others, (nj, ni)."""
    cells = np.arange(grid.nj)[:, None], np.arange(grid.ni)
    source, _ = grid.edges.canonical("T", *cells)
    own = source == cells[0] * grid.ni + cells[1]
    return np.asarray(grid.e1t * grid.e2t * (grid.mask("T")[0] & own))


@dataclass(frozen=True)
class ChunkSums:
    """Sums over the area of a chunk.

    Attributes:
        means: Of all surface variables, in the order of the store, shape (record, variable).
        fluxes: :math:`F_i` and :math:`F_w` of the pair that begins with a record, shape (lead, record, 2).
    """

    means: np.ndarray
    fluxes: np.ndarray

    @classmethod
    def of(cls, store: TrainingStore, follows: Sequence[np.ndarray], weight: np.ndarray, J: int, I: int) -> ChunkSums:
        """Reads a chunk of all records; holds the states of the longest lead, no more."""
        cj, ci = store.chunk
        area = weight[J * cj : (J + 1) * cj, I * ci : (I + 1) * ci]
        first = surface(store)
        means = np.zeros((store.count, len(first)))
        sums = np.zeros((len(follows), store.count, 2))
        comes_from = [{int(b): int(a) for a, b in enumerate(found) if b >= 0} for found in follows]
        last = [max(int(found[a]) for found in follows) for a in range(store.count)]
        held: dict[int, dict[str, np.ndarray]] = {}
        for record in range(store.count):
            block = store.block(1, record, J, I).astype(np.float64)
            x = {name: block[channel] for name, channel in first.items()}
            means[record] = [(area * field).sum() for field in x.values()]
            if set(NEEDED) <= set(x):
                for n, pairs in enumerate(comes_from):
                    if record in pairs:
                        sums[n, pairs[record]] = [(area * f).sum() for f in pair_fluxes(held[pairs[record]], x)]
            held[record] = x
            held = {a: fields for a, fields in held.items() if last[a] > record}
        return cls(means, sums)


def pair_fluxes(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Fluxes of the cells of a pair of states."""
    air = (before["air_temperature"] + after["air_temperature"]) / 2
    snow = before.get("snow", np.zeros_like(air))
    cells = (torch.from_numpy(x) for x in (before["concentration"], before["thickness"], snow, air))
    return [flux.numpy() for flux in fluxes(*cells)]


def surface(store: TrainingStore) -> dict[str, int]:
    """Channels of the variables without levels."""
    return {c.variable.name: n for n, c in enumerate(store.channels.channels) if not c.variable.is_3d}


def summary(
    store: TrainingStore, leads: np.ndarray, follows: Sequence[np.ndarray], means: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Fits the growth and takes the range, of area means; see `Budget`."""
    names, seen = list(surface(store)), ~np.asarray(store.records.held_out, bool)
    growth, residual = np.zeros((0, 3)), np.zeros(0)
    if set(NEEDED) <= set(names) and not open_edge(store.grid):
        thickness, fits = means[:, names.index("thickness")], []
        for lead, found, x in zip(leads, follows, predicted, strict=True):
            begin = np.flatnonzero(found >= 0)
            fits.append(ridge(x[begin], (thickness[found[begin]] - thickness[begin]) / lead))
        growth, residual = np.stack([a for a, _ in fits]), np.array([left for _, left in fits])
    drifting = means[seen][:, [names.index(name) for name in DRIFTING if name in names]]
    return {
        "leads": leads, "growth": growth, "residual": residual,
        "range": np.stack([drifting.min(axis=0), drifting.max(axis=0)], axis=1),
    }  # fmt: skip


def ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Fits y to a constant and the columns of x.

    Returns:
        Coefficients, the constant first, and the standard deviation of what they leave.
    """
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9 * np.abs(centre), scale, np.inf)  # one that never varies
    z = (x - centre) / scale
    slope = np.linalg.solve(z.T @ z + RIDGE * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean())) / scale
    left = y - y.mean() - (x - centre) @ slope
    return np.concatenate([[y.mean() - centre @ slope], slope]), float(left.std())
