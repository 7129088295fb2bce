"""What a start is worth: its distance from equilibrium against that of the spin-up from rest."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import cmocean
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from halocline.io.nemo import States, read_grid, read_states
from halocline.mesh.grid import Grid
from halocline.physics.verdict import Thresholds, Verdict, judge
from halocline.run.judging import JUDGED, diagnose_fields
from halocline.run.run_folder import load_generator

DECEMBER, SHOCK_DAYS = 12, 30.0
SECONDS_PER_YEAR = 360 * 86400.0


@dataclass(frozen=True)
class Spinup:
    """The spin-up from rest and the equilibrium it approaches.

    The equilibrium is what a run under a seed that nobody learnt from shows: the spin-up's end defines it.

    Attributes:
        grid: Geometry.
        years, distances: Of the start and the snapshots; rms temperature difference from the equilibrium, degC.
        equilibrium: Mean temperature of December in the held-out run, shape (k, j, i).
        natural: Mean distance of the single states of the other equilibrium runs.
        diagnostics: Time series of the spin-up.
        energy: Mean kinetic energy of the equilibrium, m2/s2.
    """

    grid: Grid
    years: np.ndarray
    distances: np.ndarray
    equilibrium: np.ndarray
    natural: float
    diagnostics: dict[str, np.ndarray]
    energy: float

    @classmethod
    def read(cls, folder: Path, rest: np.ndarray) -> Spinup:
        """Reads the spin-up and the runs that continue it; `rest` is the temperature it began with."""
        grid = read_grid(folder / "spinup" / "mesh_mask.nc")
        held = december(folder / "held" / "states.nc", grid).fields["temperature"]
        learnt = [december(path, grid).fields["temperature"] for path in sorted(folder.glob("seed*/states.nc"))]
        mean = held.mean(axis=0, dtype=np.float64)
        path = december(folder / "spinup" / "states.nc", grid)
        distances = [distance(x, mean, grid) for x in (rest, *path.fields["temperature"])]
        return cls(
            grid=grid,
            years=np.append(0.0, path.year),
            distances=np.array(distances),
            equilibrium=mean,
            natural=float(np.mean([distance(x, mean, grid) for x in np.concatenate(learnt)])),
            diagnostics=read_diagnostics(folder / "spinup"),
            energy=float(read_diagnostics(folder / "held")["kinetic_energy"].mean()),
        )

    def equivalent_years(self, distance: float) -> float:
        """First year in which the spin-up was as near to equilibrium; infinite if it never was."""
        near = np.flatnonzero(self.distances <= distance)
        if not near.size:
            return float("inf")
        if near[0] == 0:
            return 0.0
        here = slice(near[0] - 1, near[0] + 1)
        return float(np.interp(-distance, -self.distances[here], self.years[here]))


class Judge:
    """Asks Halocline whether a state is physical, by the thresholds that the generator carries."""

    def __init__(self, run: Path) -> None:
        self.generator = load_generator(run)
        self.thresholds = Thresholds.from_json(self.generator.thresholds)

    def __call__(self, path: Path) -> Verdict:
        """Judges the last snapshot of a file."""
        data, grid = self.generator.config.data, self.generator.grid
        states = read_states((str(path),), data.variables, grid)
        last = {name: x[-1:] for name, x in states.fields.items()}
        values = diagnose_fields(last, grid, self.generator.lattice, data)
        return judge({name: values[name][0].numpy() for name in JUDGED if name in values}, self.thresholds)


@dataclass(frozen=True)
class Outcome:
    """What came of one start; drifts over the whole test run.

    Attributes:
        name: Of the start.
        initial, final: Distance from equilibrium before and after the test run, degC.
        initial_years, final_years: Model years after which the spin-up from rest was as near.
        heat_drift: W/m2.
        deep_temperature_drift: degC per century, below 1500 m.
        deep_salinity_drift: 1e-3 per century, below 1500 m.
        unstable: Statically unstable fraction of the volume at the start, %.
        shock: Largest kinetic energy of the first 30 days, relative to the equilibrium's mean.
        verdict, reason: On the state after the test run.
    """

    name: str
    initial: float
    final: float
    initial_years: float
    final_years: float
    heat_drift: float
    deep_temperature_drift: float
    deep_salinity_drift: float
    unstable: float
    shock: float
    verdict: str
    reason: str


def december(path: Path, grid: Grid) -> States:
    """Reads the snapshots of the end of December."""
    states = read_states((str(path),), ("temperature",), grid)
    return states.select(states.month == DECEMBER)


def read_diagnostics(folder: Path) -> dict[str, np.ndarray]:
    """Reads a run's table of diagnostics."""
    path = next(iter(folder.glob("*_diagnostics.csv")))
    with path.open() as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def distance(temperature: np.ndarray, equilibrium: np.ndarray, grid: Grid) -> float:
    """Volume-weighted rms difference of temperature, degC."""
    difference = np.where(grid.tmask, temperature - equilibrium, 0.0)
    return float(np.sqrt((difference**2 * grid.cell_volume).sum() / grid.cell_volume.sum()))


def outcome(name: str, folder: Path, start: np.ndarray, spinup: Spinup, judge: Judge) -> Outcome:
    """Measures one test run that began with the temperature `start`, shape (k, j, i)."""
    series = read_diagnostics(folder)
    years = series["year"] - series["year"][0]
    length = years[-1]
    final = december(folder / "states.nc", spinup.grid).fields["temperature"][-1]
    shock = series["kinetic_energy"][years * 360 <= SHOCK_DAYS].max() / spinup.energy

    def drift(column: str) -> float:
        return float((series[column][-1] - series[column][0]) / length)

    before, after = (distance(x, spinup.equilibrium, spinup.grid) for x in (start, final))
    verdict = judge(folder / "states.nc")
    return Outcome(
        name=name,
        initial=before,
        final=after,
        initial_years=spinup.equivalent_years(before),
        final_years=spinup.equivalent_years(after),
        heat_drift=drift("heat_content") / SECONDS_PER_YEAR / surface_area(spinup.grid),
        deep_temperature_drift=100 * drift("deep_temperature"),
        deep_salinity_drift=100 * drift("deep_salinity"),
        unstable=100 * float(series["unstable_fraction"][0]),
        shock=float(shock),
        verdict=verdict.status,
        reason=verdict.reason,
    )


def surface_area(grid: Grid) -> float:
    """Wet area, m2."""
    return float((grid.e1t * grid.e2t * grid.wet).sum())


def print_table(outcomes: list[Outcome], spinup: Spinup, years: int) -> None:
    """Prints one row for each start."""
    natural = f"single states of the equilibrium lie {spinup.natural:.3f} °C from its mean"
    table = Table(title=f"{years} model years from each start; {natural}")
    columns = ("start", "distance °C\nat start", "years from rest\nto be as near", "distance °C\nafter the run",
               "years from rest\nto be as near", "heat drift\nW/m²", "deep T\n°C/century", "deep S\n1e-3/century",
               "unstable %\nat start", "KE, 30 days\n/ equilibrium", "verdict\nafter")  # fmt: skip
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left")
    for o in outcomes:
        before, after = (f"{y:.0f}" if np.isfinite(y) else f"> {spinup.years[-1]:.0f}"
                         for y in (o.initial_years, o.final_years))  # fmt: skip
        table.add_row(o.name, f"{o.initial:.3f}", before, f"{o.final:.3f}", after, f"{o.heat_drift:+.3f}",
                      f"{o.deep_temperature_drift:+.3f}", f"{o.deep_salinity_drift:+.5f}", f"{o.unstable:.2f}",
                      f"{o.shock:.2f}", o.verdict)  # fmt: skip
    Console(width=170).print(table)
    for o in outcomes:
        if o.verdict != "ok":
            print(f"{o.name}: {o.verdict}, {o.reason}")


def write_table(path: Path, outcomes: list[Outcome], spinup: Spinup) -> None:
    """Writes the same numbers as JSON; years that the spin-up never reached are null."""
    rows = [{k: None if v == float("inf") else v for k, v in asdict(o).items()} for o in outcomes]
    content = {"equilibrium_natural_distance": spinup.natural, "spinup_years": float(spinup.years[-1]), "starts": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")


def draw(path: Path, outcomes: list[Outcome], spinup: Spinup, years: int) -> None:
    """Draws the approach to equilibrium and what each start saved."""
    figure, axes = plt.subplots(2, 2, figsize=(14, 9), layout="constrained")
    draw_distance(axes[0, 0], outcomes, spinup, years)
    draw_series(axes[0, 1], "deep_temperature", "temperature below 1500 m (°C)", path.parent, outcomes, spinup)
    draw_section(axes[1, 0], spinup)
    draw_shock(axes[1, 1], path.parent, outcomes, spinup)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    print(f"picture: {path}, table: {path.parent / 'table.json'}")


def colour_of(name: str) -> str:
    """Rest black, the model's own state grey, mean blue, generated orange."""
    return {"rest": "black", "own": "grey", "mean": "#1b5e8a"}.get(name, "#d95f02")


def draw_distance(axis: Axes, outcomes: list[Outcome], spinup: Spinup, years: int) -> None:
    """Distance from equilibrium against model years."""
    axis.semilogy(spinup.years, spinup.distances, color="black", label="spin-up from rest")
    axis.axhline(spinup.natural, color="grey", ls=":", label="natural variability")
    for o in outcomes:
        if o.name != "rest":
            label = {"own": "model's own state", "mean": "training mean", "member0": "generated"}.get(o.name)
            axis.semilogy([0, years], [o.initial, o.final], "o-", ms=4, color=colour_of(o.name), label=label)
    axis.set_ylim(spinup.natural / 3, 2 * spinup.distances.max())
    axis.set(title="distance from equilibrium (rms temperature)", xlabel="model years integrated", ylabel="°C")
    axis.legend()


def draw_series(axis: Axes, column: str, label: str, folder: Path, outcomes: list[Outcome], spinup: Spinup) -> None:
    """A diagnostic in the spin-up and in the test runs, which begin at year 0."""
    axis.plot(spinup.diagnostics["year"], spinup.diagnostics[column], color="black")
    for o in outcomes:
        series = read_diagnostics(folder / "test" / o.name)
        axis.plot(series["year"] - series["year"][0], series[column], color=colour_of(o.name), lw=2)
    axis.set(title=label, xlabel="model years integrated")


def draw_section(axis: Axes, spinup: Spinup) -> None:
    """Zonal mean temperature of the equilibrium."""
    wet = spinup.grid.tmask
    mean = np.where(wet, spinup.equilibrium, 0).sum(axis=2) / np.maximum(wet.sum(axis=2), 1)
    section = np.where(wet.any(axis=2), mean, np.nan)
    latitude, depth = spinup.grid.gphit[:, spinup.grid.ni // 2], spinup.grid.gdept_1d
    mesh = axis.pcolormesh(latitude, depth, section, cmap=cmocean.cm.thermal)
    axis.figure.colorbar(mesh, ax=axis, label="°C")
    axis.set_ylim(depth[-1], 0)
    axis.set(title="equilibrium, zonal mean temperature", xlabel="latitude", ylabel="depth (m)")


def draw_shock(axis: Axes, folder: Path, outcomes: list[Outcome], spinup: Spinup) -> None:
    """Kinetic energy of the first days."""
    for o in outcomes:
        series = read_diagnostics(folder / "test" / o.name)
        days = 360 * (series["year"] - series["year"][0])
        first = days <= 2 * SHOCK_DAYS
        axis.plot(days[first], series["kinetic_energy"][first] / spinup.energy, color=colour_of(o.name))
    axis.set(title="kinetic energy relative to equilibrium", xlabel="days after the start", ylim=(0, None))
