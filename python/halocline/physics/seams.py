r"""Seams: do neighbours across the edge of a tile differ more than they should?

With :math:`D` the mean square difference of neighbouring wet points over states and places, :math:`e` for pairs across
edges of tiles and :math:`i` for pairs inside of them,

.. math:: r = \frac{D^{generated}_e / D^{reference}_e}{D^{generated}_i / D^{reference}_i}

is 1 without a seam, whatever the gradients at the edges (a boundary current may lie there) and however rough the
generated states are as a whole. With jumps of variance :math:`s^2` across edges it is :math:`1 + s^2 / D_e`.

Generated states may be too rough in one region and too smooth in another for reasons other than edges, and edges are at
few places. A *line* holds all faces at one distance d from an edge, where that edge is wet, too; with
:math:`\varrho_d = D^{generated}_d / D^{reference}_d` on lines, the *step* compares the edge with the lines beside it,

.. math:: \log s = \log \varrho_0 - \overline{\log \varrho_d}, \qquad 0 < |d| \le 3

A jump shows in r and s, a region that is too rough in r alone. How far both stray from 1 without an edge is told by
their values on the other lines.

Serial: fields are whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from halocline.mesh.lattice import Lattice
from halocline.physics.departures import Departures, Sample, interval, resample

__all__ = ["BESIDE", "DIRECTIONS", "Faces", "Measure", "Seam", "seam_of_departures", "seam_of_states"]

DIRECTIONS = ("i", "j")
BESIDE = 3  # cells
CHUNK = 1 << 22  # differences held at once: 32 MiB

Transform = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From generated and reference states, shape (state, ...), to what is compared."""


@dataclass(frozen=True, eq=False)
class Faces:
    """Pairs of neighbouring points, sorted by line.

    Attributes:
        first, second: Flat cells j * ni + i, shape (pair).
        sign: Factor of the second of a vector component: -1 beyond the fold, shape (pair).
        line: Signed distance from the nearest edge of tiles plus `reach`; 2 reach + 1 beyond reach, shape (pair).
        home: First cell of the pair on that edge, shape (pair).
        reach: Half a tile.
    """

    first: np.ndarray
    second: np.ndarray
    sign: np.ndarray
    line: np.ndarray
    home: np.ndarray
    reach: int

    @classmethod
    def build(cls, lattice: Lattice, direction: str, point: str) -> Faces:
        """Pairs each point with the next one along i or j, also across cyclic edges and the north fold.

        These two are edges of tiles even where both points are of one tile, since its network sees the other through
        the halo. Every pair is there once.

        Arguments:
            lattice: Tiles.
            direction: "i" or "j".
            point: Of the variable.

        Collective: no.
        """
        j, i = np.divmod(np.arange(lattice.nj * lattice.ni), lattice.ni)
        along_i = direction == "i"
        first, _ = lattice.edges.canonical(point, j, i)
        second, crossed = lattice.edges.canonical(point, j + (not along_i), i + along_i)
        here = j * lattice.ni + i
        distance, reach = distances(lattice, direction)
        distance = np.where(crossed, 0, distance[i if along_i else j])
        count, place, stride = (lattice.ni, i, 1) if along_i else (lattice.nj, j, lattice.ni)
        home = here + ((place - distance) % count - place) * stride
        line = np.where(np.abs(distance) > reach, 2 * reach + 1, distance + reach)
        kept = (first == here) & (second >= 0) & (second != here) & ~(crossed & (second < here))
        return cls(here, second, np.where(crossed, -1.0, 1.0), line, home, reach).take(kept)

    @property
    def lines(self) -> int:
        """Number of lines, with that of all other faces at the end."""
        return 2 * self.reach + 2

    def take(self, kept: np.ndarray) -> Faces:
        """Some of the pairs; others of a line without its edge are far from any."""
        on_edge = np.zeros(max(self.first.max(initial=0), self.home.max(initial=0)) + 1, bool)
        on_edge[self.first[kept & (self.line == self.reach)]] = True
        line = np.where(on_edge[self.home], self.line, 2 * self.reach + 1)
        order = np.flatnonzero(kept)[np.argsort(line[kept], kind="stable")]
        return Faces(self.first[order], self.second[order], self.sign[order], line[order], self.home[order], self.reach)

    def wet(self, mask: np.ndarray) -> Faces:
        """Those with both points in the sea; mask of shape (nj, ni)."""
        sea = mask.reshape(-1)
        return self.take(sea[self.first] & sea[self.second])

    def counts(self) -> np.ndarray:
        """Pairs of each line, shape (line)."""
        return np.bincount(self.line, minlength=self.lines)

    def differences(self, x: np.ndarray, sign: int, pairs: slice) -> np.ndarray:
        """Second less first, shape (state, pair), of a level, shape (state, nj, ni)."""
        flat = x.reshape(len(x), -1)
        second = flat[:, self.second[pairs]].astype(np.float64)
        return (second * self.sign[pairs] if sign < 0 else second) - flat[:, self.first[pairs]]


def distances(lattice: Lattice, direction: str) -> tuple[np.ndarray, int]:
    """Signed distance of the face behind each row or column from the nearest edge of tiles, and half a tile.

    Beyond that everywhere if there is no edge.
    """
    if direction == "i":
        count, size, cyclic, closed = lattice.ni, lattice.tile_i, lattice.periodic_i, lattice.periodic_i
    else:
        count, size, cyclic = lattice.nj, lattice.tile_j, lattice.periodic_j
        closed = cyclic or bool(lattice.fold)
    edges = np.array([*range(size, count, size), *([count] if closed else [])])
    if not len(edges):
        return np.full(count, size), size // 2
    far = np.arange(1, count + 1)[:, None] - edges
    if cyclic:
        far = (far + count // 2) % count - count // 2
    return far[np.arange(count), np.abs(far).argmin(axis=1)], size // 2


@dataclass(frozen=True)
class Measure:
    """A ratio on edges, of all levels together, each in units of its own differences inside.

    Attributes:
        value, low, high: The interval holds 95 % of a bootstrap over the states of both sets.
        line_low, line_high: Least and largest of the same ratio for the other lines; NaN where there is none.
    """

    value: float
    low: float
    high: float
    line_low: float
    line_high: float


@dataclass(frozen=True)
class Seam:
    """Seams of a variable along one direction: r and s of the module.

    Attributes:
        ratio, step: r and s.
        levels, levels_low, levels_high: r of each level, shape (k); NaN where there is nothing to compare.
        distance: Of each line from the edge, cells, shape (line).
        lines: What r is on each line, shape (line).
        pairs: Wet pairs across edges, of all levels.
    """

    ratio: Measure
    step: Measure
    levels: np.ndarray
    levels_low: np.ndarray
    levels_high: np.ndarray
    distance: np.ndarray
    lines: np.ndarray
    pairs: int


def seam_of_states(
    generated: np.ndarray, reference: np.ndarray, mask: np.ndarray, faces: Faces, sign: int, departures: Departures
) -> Seam | None:
    """Measures seams of full states; months of the reference count as they do in the generated states.

    Arguments:
        generated, reference: Shape (state, k, nj, ni), anything on land.
        mask: Sea at the variable's point, shape (k, nj, ni).
        faces: Pairs along one direction.
        sign: Of the variable on crossing the fold.
        departures: Which states are compared.

    Returns:
        None where no two wet points are neighbours across an edge, none inside, or none of them ever differ.

    Collective: no.
    """

    def chosen(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x[departures.members], y[departures.states]

    x, y, pairs = squared_differences(generated, reference, mask, faces, sign, chosen)
    return seam(x, Sample(y, departures.state_weights), pairs, 0.0)


def seam_of_departures(
    generated: np.ndarray, reference: np.ndarray, mask: np.ndarray, faces: Faces, sign: int, departures: Departures
) -> Seam | None:
    """Measures seams of departures of either set from its mean of the month, see `Departures.spread`.

    A jump that all members share is in their mean, and shows in full states only.

    Arguments and returns: see `seam_of_states`.

    Collective: no.
    """

    def contrasts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return departures.spread(departures.generated_departures(x, y)), departures.reference_contrasts(y)

    x, y, pairs = squared_differences(generated, reference, mask, faces, sign, contrasts)
    return seam(x, Sample(y, departures.contrast_weights), pairs, departures.excess) if len(x) else None


def squared_differences(
    generated: np.ndarray, reference: np.ndarray, mask: np.ndarray, faces: Faces, sign: int, of: Transform
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes mean squares of the differences of two sets of states.

    Arguments:
        of: From differences of all states to those of what is compared.

    Returns:
        Generated and reference, shape (sample, k, line), and the numbers of pairs, shape (k, line).
    """
    counts = np.stack([faces.wet(sea).counts() for sea in mask])
    step = max(1, CHUNK // (len(generated) + len(reference)))
    squares: list[np.ndarray] = []
    for k, sea in enumerate(mask):
        wet = faces.wet(sea)
        for start in range(0, max(1, len(wet.line)), step):
            pairs = slice(start, start + step)
            found = of(*(wet.differences(states[:, k], sign, pairs) for states in (generated, reference)))
            squares = squares or [np.zeros((len(d), *counts.shape)) for d in found]
            lines, begins = np.unique(wet.line[pairs], return_index=True)
            for total, d in zip(squares, found, strict=True):
                if len(lines):
                    total[:, k, lines] += np.add.reduceat(d**2, begins, axis=1)
    x, y = (total / np.maximum(counts, 1) for total in squares)
    return x, y, counts


def seam(generated: np.ndarray, reference: Sample, pairs: np.ndarray, excess: float) -> Seam | None:
    """Sums up mean squares of shape (sample, k, line); see `seam_of_states` and `Departures.excess`."""
    reach = pairs.shape[1] // 2 - 1
    y = reference.means(resample(len(reference.values), seed=1))
    x = Sample.equal(generated).means(resample(len(generated), seed=0)) - excess * y
    x, y = (relative(squares, pairs, reach) for squares in (x, y))
    known = np.isfinite(x[:, :, reach]) & np.isfinite(y[:, :, reach])
    if not known[0].any():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        levels = x[:, :, reach] / y[:, :, reach]
        x, y = (np.where((known & known[0])[:, :, None], np.nan_to_num(squares), 0.0) * pairs for squares in (x, y))
        lines = (x.sum(axis=1) / y.sum(axis=1))[:, :-1]
    distance = np.arange(-reach, reach + 1)
    ratio, step = measure(lines, reach), measure(steps(lines, distance), reach)
    return Seam(ratio, step, levels[0], *interval(levels[1:]), distance, lines[0], int(pairs[:, reach].sum()))


def relative(squares: np.ndarray, pairs: np.ndarray, reach: int) -> np.ndarray:
    """Divides by the mean square inside tiles of the level, shape (draw, k, line); NaN where there is none."""
    inside = np.delete(pairs, reach, axis=1)
    mean = (np.delete(squares, reach, axis=2) * inside).sum(axis=2) / np.maximum(inside.sum(axis=1), 1)
    return np.where(pairs > 0, squares / np.where(mean > 0, mean, np.nan)[:, :, None], np.nan)


def steps(lines: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Compares each line, shape (draw, line), with those beside; edges of tiles are beside none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = np.log(lines)
    result = np.full_like(lines, np.nan)
    for n, d in enumerate(distance):
        near = (np.abs(distance - d) <= BESIDE) & (distance != d) & (distance != 0) & np.isfinite(logarithm[0])
        if near.any():
            result[:, n] = np.exp(logarithm[:, n] - logarithm[:, near].mean(axis=1))
    return result


def measure(draws: np.ndarray, reach: int) -> Measure:
    """Sums up draws of the lines, the first of which is the estimate."""
    others = np.delete(draws[0], reach)
    others = others[np.isfinite(others)]
    bounds = (others.min(), others.max()) if len(others) else (np.nan, np.nan)
    return Measure(*(float(x) for x in (draws[0, reach], *interval(draws[1:, reach]), *bounds)))
