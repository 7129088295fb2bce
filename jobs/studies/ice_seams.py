"""Seams of sea-ice forecasts: the same ensemble on the tiles of its generator and on one tile that covers the grid.

With D the mean square difference of neighbouring wet cells across a line of faces, over starts and members,

    r(line) = D(on tiles) / D(on one tile)

knows neither coasts nor weather: both ensembles have the same starts, forcing and noise. A seam is a line on the edge
of tiles whose r lies apart from that of the other lines. The table has r of edges over that of all other lines, the
range that resampling of the starts leaves (95 %), and beside it how far single lines without an edge lie from the rest.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from ice import Entry, Trajectories, add_size, make, starts
from rich.console import Console
from rich.table import Table

from halocline.io.models import open_states
from halocline.mesh.lattice import Lattice
from halocline.run.generator import Generator
from halocline.run.progress import Reporter

RESAMPLES = 1000


def on_one_tile(generator: Generator) -> Generator:
    """The same generator, and its first guess, on one tile of as many whole tiles as cover the grid."""
    tile, grid = generator.config.lattice.tile, (generator.grid.nj, generator.grid.ni)
    whole = tuple(-(-n // size) * size for n, size in zip(grid, tile, strict=True))
    config = replace(generator.config, lattice=replace(generator.config.lattice, tile=whole))
    lattice = Lattice.from_grid(generator.grid, whole, generator.lattice.halo)
    guess = generator.guess and on_one_tile(generator.guess)
    return replace(generator, config=config, lattice=lattice, guess=guess)


def squares(x: np.ndarray, wet: np.ndarray, axis: int) -> np.ndarray:
    """Sums squared differences across the lines of faces along an axis, x of shape (member, nj, ni): (line)."""
    both = np.diff(wet.astype(int), axis=axis) == 0
    both &= np.delete(wet, 0, axis=axis)
    return np.asarray((np.diff(x.astype(np.float64), axis=axis + 1) ** 2 * both).sum(axis=(0, 2 - axis)))


def apart(tiled: np.ndarray, whole: np.ndarray, edges: np.ndarray) -> float:
    """r of some lines over that of the others, of sums of shape (line)."""
    return float(tiled[edges].sum() / whole[edges].sum() / (tiled[~edges].sum() / whole[~edges].sum()))


def measure(tiled: np.ndarray, whole: np.ndarray, edges: np.ndarray) -> list[str]:
    """Cells of the table for sums of shape (start, line)."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(tiled), size=(RESAMPLES, len(tiled)))
    drawn = [apart(tiled[p].sum(axis=0), whole[p].sum(axis=0), edges) for p in picks]
    a, b = tiled.sum(axis=0), whole.sum(axis=0)
    usual = np.median(b[~edges])
    lines = np.flatnonzero(~edges & (b > 0.1 * usual))
    others = [apart(a[~edges], b[~edges], np.flatnonzero(~edges) == line) for line in lines]
    low, high, least, most = (*np.quantile(drawn, [0.025, 0.975]), *np.quantile(others, [0.025, 0.975]))
    return [f"{apart(a, b, edges):.3f}", f"{low:.3f} to {high:.3f}", f"{least:.3f} to {most:.3f}"]


def main() -> None:
    """Makes both ensembles of each start and prints a table for the first and the last step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("states", help="trajectories with forcing, such as those of the training")
    parser.add_argument("run", help="RUN[,key=value...], the keys those of the section sampling")
    add_size(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    entry = Entry.parse(f"tiles={arguments.run}", arguments.members)
    generator, names = entry.generator, entry.generator.config.data.variables
    data = Trajectories.read(open_states(arguments.states, generator.config.data.stored, generator.grid))
    every, places = starts(arguments, data)
    entries = (entry, replace(entry, generator=on_one_tile(generator)))
    wet, moments = generator.grid.mask("T")[0], (1, arguments.steps)
    sums: dict[tuple[str, int, int, int], list[np.ndarray]] = {}
    with Reporter("forecasts", 2 * len(places)) as reporter:
        for number, (run, first) in enumerate(places):
            here = {name: x[run] for name, x in data.fields.items()}
            for kind, made_by in enumerate(entries):
                made = make(made_by, here, first, every, arguments.lead, arguments.steps, number)
                for name in names:
                    for moment in moments:
                        for axis in (0, 1):
                            key = (name, moment, kind, axis)
                            sums.setdefault(key, []).append(squares(made[name][:, moment], wet, axis))
                reporter.advance("on tiles" if kind == 0 else "on one tile")
    lines = [np.arange(1, n) % size == 0 for n, size in zip(wet.shape, generator.config.lattice.tile, strict=True)]
    for moment in moments:
        table = Table(title=f"After {arguments.lead * moment:g} h: edges over other lines", box=None)
        for column in ("variable", "edges / others", "95 %, starts", "95 % of single other lines"):
            table.add_column(column, justify="left" if column == "variable" else "right")
        for name in names:
            tiled, whole = (
                np.concatenate([np.stack(sums[name, moment, kind, axis]) for axis in (0, 1)], axis=1) for kind in (0, 1)
            )
            table.add_row(name, *measure(tiled, whole, np.concatenate(lines)))
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
