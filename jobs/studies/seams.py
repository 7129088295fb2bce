"""Measures how well the tiles of generated states belong together, against states of the model.

Seams: mean square differences of neighbours across edges of tiles, generated over reference, in ratio to those inside;
the step, in ratio to lines up to 3 cells beside the edge. Modes: variance along the leading EOFs of the reference,
found from one half of its states and measured with the other.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from rich.console import Console

from halocline.io.models import read_states
from halocline.run.coherence import measure_coherence, print_coherence, write_coherence
from halocline.run.data import read_model
from halocline.run.generator import Generator
from halocline.run.run_folder import load_generator


def sampled(arguments: argparse.Namespace) -> Path:
    """Samples the members, unless they are there."""
    path: Path = arguments.folder / "states.nc"
    launcher = ["mpirun", "-n", str(arguments.ranks)] if arguments.ranks > 1 else []
    command = [
        *launcher, "halocline", "sample", arguments.run, f"members={arguments.members}", f"seed={arguments.seed}",
        f"months={arguments.months}".replace(" ", ""), f"output={path}", *arguments.options,
    ]  # fmt: skip
    if not path.exists():
        print("$", *command, flush=True)
        subprocess.run([str(word) for word in command], check=True)
    return path


def study(generator: Generator, arguments: argparse.Namespace) -> None:
    """Compares the members with the model, prints the tables and writes them."""
    data, grid = generator.config.data, generator.grid
    generated = read_states((str(sampled(arguments)),), data.variables, grid)
    years = (None, None) if arguments.reference else (data.first_year, data.last_year)
    reference = read_model(data, grid, arguments.reference or (), *years)
    coherence = measure_coherence(generated, reference, grid, generator.lattice)
    lattice = generator.lattice
    print(f"{len(generated)} members on {lattice.count} tiles of {lattice.tile_i} x {lattice.tile_j} cells")
    print(f"against {len(reference)} states of the model")
    print_coherence(coherence, Console(width=100))
    write_coherence(arguments.folder / "table.csv", coherence)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="seams", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder of a trained generator")
    parser.add_argument("--members", type=int, default=48, help="states; two a month at least show their own spread")
    parser.add_argument("--months", type=int, nargs="+", default=list(range(1, 13)), help="of the members, in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the members")
    parser.add_argument("--ranks", type=int, default=2, help="processes")
    parser.add_argument("--reference", nargs="+", help="states of the model; without it, those of training")
    parser.add_argument("--options", nargs="*", default=[], help="further options of halocline sample")
    text = "for states and table; made if needed, and states in it are not made again"
    parser.add_argument("--folder", type=Path, required=True, help=text)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    study(load_generator(arguments.run), arguments)


if __name__ == "__main__":
    main()
