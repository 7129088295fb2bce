"""`halocline evaluate`: generated states, or forecasts, against reference states, by the functions that judge a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from halocline.io.atomic import atomic_path
from halocline.io.models import read_states
from halocline.io.nemo import States
from halocline.mesh.communicator import Communicator, Serial
from halocline.physics.verdict import Thresholds, Verdict, judge
from halocline.run.coherence import Coherence, measure_coherence, print_coherence, to_plain
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.data import read_model
from halocline.run.evaluate_forecast import ForecastEvaluation, evaluate_forecasts
from halocline.run.generator import Generator
from halocline.run.judging import JUDGED, diagnose_fields
from halocline.run.outputs import make_folder, table_console
from halocline.run.report import draw_report
from halocline.run.run_folder import load_generator
from halocline.run.statistics import level_statistics, surface_spectrum
from halocline.state.variables import VARIABLES

__all__ = ["Comparison", "EvaluateOptions", "compare", "evaluate"]


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `halocline evaluate`; see its help."""

    states: str
    output: str = "evaluation"
    reference: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Generated against reference states.

    Attributes:
        generated, reference: The states.
        climatology: Variable to the reference's mean of each month, shape (month, k, nj, ni); NaN where a
            month is not in the reference.
        scores: Variable to its errors, see `score`.
        diagnosed, expected: Diagnostics of generated and reference states, shape (state, …).
        verdicts: One for each generated state.
        levels: Mean and standard deviation of each level, see `level_statistics`.
        spectrum: Of surface temperature, see `surface_spectrum`; empty where there is none.
        coherence: Seams between tiles, and variance along the modes of the basin.
    """

    generated: States
    reference: States
    climatology: dict[str, np.ndarray]
    scores: dict[str, dict[str, float]]
    diagnosed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    verdicts: list[Verdict]
    levels: dict[str, dict[str, list[float | None]]]
    spectrum: dict[str, list[float]]
    coherence: Coherence


def evaluate(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Compares states, or forecasts, with the reference, and leaves report.png and table.json.

    Collective: yes. Forecasts are dealt to the ranks; states are compared by rank 0, which is little work beside
    sampling.
    """
    with comm.together():
        given = apply_overrides({}, parse_overrides(arguments))
        generator = load_generator(run)
        forecasts = build(ForecastEvaluation, given, "") if generator.config.forecast else None
    if forecasts is not None:
        evaluate_forecasts(generator, forecasts, comm)
        return
    with comm.together():
        if comm.is_root:
            evaluate_states(generator, build(EvaluateOptions, given, ""))


def evaluate_states(generator: Generator, options: EvaluateOptions) -> None:
    """Compares states with the reference. Collective: no."""
    folder = Path(options.output)
    make_folder(folder)
    comparison = compare_files(generator, options)
    write_table(folder / "table.json", comparison)
    draw_report(folder / "report.png", comparison, generator)
    print_table(comparison)
    print(f"picture: {folder / 'report.png'}, table: {folder / 'table.json'}", flush=True)


def compare_files(generator: Generator, options: EvaluateOptions) -> Comparison:
    """Reads both sets of states and compares them."""
    data, grid = generator.config.data, generator.grid
    generated = read_states((options.states,), data.variables, grid)
    # The years of the configuration belong to the training data, not to other references.
    first, last = (None, None) if options.reference else (data.first_year, data.last_year)
    reference = read_model(data, grid, options.reference, first, last)
    return compare(generator, generated, reference)


def compare(generator: Generator, generated: States, reference: States) -> Comparison:
    """Compares generated with reference states on the same grid.

    Raises:
        ValueError: No month of the generated states is in the reference.

    Collective: no.
    """
    grid = generator.grid
    climatology = {name: monthly_mean(reference, name) for name in reference.fields}
    known = np.isin(generated.month, reference.month)
    if not known.any():
        raise ValueError(
            f"The generated states stand at months {sorted(set(generated.month.tolist()))}, the reference "
            f"at {sorted(set(reference.month.tolist()))}: sample with months=… that the reference has."
        )
    scores = {
        name: score(generated, climatology[name], name, known, grid.mask(VARIABLES[name].point))
        for name in generated.fields
    }
    args = (grid, generator.lattice, generator.config.data)
    diagnosed = {k: v.numpy() for k, v in diagnose_fields(generated.fields, *args).items()}
    expected = {k: v.numpy() for k, v in diagnose_fields(reference.fields, *args).items()}
    thresholds = Thresholds.from_json(generator.thresholds)
    verdicts = [
        judge({k: v[m] for k, v in diagnosed.items() if k in JUDGED}, thresholds)
        for m in range(len(generated.month))
    ]
    levels = level_statistics(generated, reference, grid)
    spectrum = surface_spectrum(generated, reference, grid)
    coherence = measure_coherence(generated, reference, grid, generator.lattice)
    return Comparison(
        generated, reference, climatology, scores, diagnosed, expected, verdicts, levels, spectrum, coherence
    )


def monthly_mean(states: States, name: str) -> np.ndarray:
    """Averages each month over all years, shape (12, k, nj, ni)."""
    field = states.fields[name]
    result = np.full((12, *field.shape[1:]), np.nan)
    for month in np.unique(states.month):
        result[month - 1] = field[states.month == month].mean(axis=0, dtype=np.float64)
    return result


def score(
    generated: States, climatology: np.ndarray, name: str, known: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
    """Errors of generated states against the reference's mean of their month, wet cells alike.

    - rmse: of a member, cell by cell.
    - profile_rmse: of the horizontal mean of each level, the members of a month averaged.
    - seasonal_rms: of the reference's months about their mean, for scale.

    All in the variable's unit.
    """
    field = np.asarray(generated.fields[name], dtype=np.float64)[known]
    months = generated.month[known]
    wet = mask[: field.shape[1]] if field.shape[1] > 1 else mask[:1]
    error = np.where(wet, field - climatology[months - 1], 0.0)
    present = np.unique(months)
    levels = wet.sum(axis=(1, 2)).astype(float)
    by_month = np.stack([error[months == m].mean(axis=0).sum(axis=(1, 2)) for m in present])
    profile = by_month[:, levels > 0] / levels[levels > 0]
    cycle = climatology[present - 1] - climatology[present - 1].mean(axis=0)
    return {
        "rmse": rms(error[:, wet]),
        "profile_rmse": rms(profile),
        "seasonal_rms": rms(cycle[:, wet]),
    }


def rms(x: np.ndarray) -> float:
    """Root of the mean of squares."""
    return float(np.sqrt(np.mean(np.square(x))))


def summary(comparison: Comparison) -> dict[str, Any]:
    """Collects the comparison as plain numbers."""
    diagnostics = {}
    for name, values in comparison.diagnosed.items():
        if values.ndim == 1 and name in comparison.expected:
            expected = comparison.expected[name]
            diagnostics[name] = {
                "generated_mean": float(values.mean()),
                "generated_std": float(values.std()),
                "reference_mean": float(expected.mean()),
                "reference_std": float(expected.std()),
            }
    verdicts = [v.status for v in comparison.verdicts]
    return {
        "members": len(verdicts),
        "reference_states": len(comparison.reference.month),
        "errors": comparison.scores,
        "diagnostics": diagnostics,
        "levels": comparison.levels,
        "spectrum": comparison.spectrum,
        "coherence": to_plain(comparison.coherence),
        "verdicts": {s: verdicts.count(s) for s in ("ok", "suspect", "reject")},
        "reasons": [v.reason for v in comparison.verdicts],
    }


def write_table(path: Path, comparison: Comparison) -> None:
    """Writes the summary as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(summary(comparison), indent=1) + "\n")


def print_table(comparison: Comparison) -> None:
    """Prints errors, diagnostics, coherence and verdicts on the terminal."""
    console = table_console()
    errors = Table(title="error against the month's mean of the reference")
    for column in ("variable", "unit", "rmse of a member", "rmse of the mean profile", "seasonal rms"):
        errors.add_column(column, justify="left" if column in ("variable", "unit") else "right")
    for name, s in comparison.scores.items():
        numbers = (f"{s[key]:.4g}" for key in ("rmse", "profile_rmse", "seasonal_rms"))
        errors.add_row(name, VARIABLES[name].unit, *numbers)
    console.print(errors)
    table = Table(title="diagnostics, mean ± standard deviation over states")
    for column in ("diagnostic", "generated", "reference"):
        table.add_column(column, justify="left" if column == "diagnostic" else "right")
    for name, d in summary(comparison)["diagnostics"].items():
        sides = (f"{d[f'{s}_mean']:.6g} ± {d[f'{s}_std']:.2g}" for s in ("generated", "reference"))
        table.add_row(name, *sides)
    console.print(table)
    print_coherence(comparison.coherence, console)
    counts = summary(comparison)["verdicts"]
    console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    for m, verdict in enumerate(comparison.verdicts):
        if verdict.status != "ok":
            console.print(f"member {m}: {verdict.status}, {verdict.reason}")
