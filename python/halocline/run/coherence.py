"""Coherence of generated states across tiles: seams, and variance along basin-wide modes, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halocline.io.atomic import atomic_path
from halocline.io.nemo import States
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.physics.departures import Departures
from halocline.physics.modes import MOST, Modes, mode_variances
from halocline.physics.seams import DIRECTIONS, Faces, Measure, Seam, seam_of_departures, seam_of_states
from halocline.run.statistics import listed, volumes
from halocline.state.variables import VARIABLES

__all__ = ["Coherence", "measure_coherence", "print_coherence", "to_plain", "write_coherence"]

MODES_OF = ("temperature", "salinity", "sea_level", "concentration", "thickness")
KINDS = {"departures": seam_of_departures, "states": seam_of_states}
PRINTED = 4  # modes


@dataclass(frozen=True)
class Coherence:
    """Seams and modes.

    Attributes:
        seams: Kind (departures from the mean of the month, full states), variable, direction, to the seam.
        modes: Variable to its modes.
        reasons: Why something is missing: of "seams", of a kind of seams, or of a variable's modes.
    """

    seams: Mapping[str, Mapping[str, Mapping[str, Seam]]]
    modes: Mapping[str, Modes]
    reasons: Mapping[str, str]


def measure_coherence(generated: States, reference: States, grid: Grid, lattice: Lattice) -> Coherence:
    """Measures seams of all variables, and modes of those whose volume or area is that of water at T points.

    Collective: no.
    """
    reasons: dict[str, str] = {}
    modes: dict[str, Modes] = {}
    seams = {kind: seams_of(kind, generated, reference, grid, lattice, reasons) for kind in KINDS}
    if not any(seams.values()):
        one = "one tile" if lattice.count == 1 else "no two wet points are neighbours across an edge of tiles"
        reasons = {"seams": one}
    for name in (name for name in MODES_OF if name in generated.fields):
        weight = volumes(grid, "T") if VARIABLES[name].is_3d else (grid.e1t * grid.e2t * grid.tmask[0])[None]
        try:
            departures = Departures.match(generated.month, reference.month, MOST)
            modes[name] = mode_variances(generated.fields[name], reference.fields[name], weight, departures)
        except ValueError as reason:
            reasons[name] = str(reason)
    return Coherence(seams, modes, reasons)


def seams_of(
    kind: str, generated: States, reference: States, grid: Grid, lattice: Lattice, reasons: dict[str, str]
) -> dict[str, dict[str, Seam]]:
    """Measures the seams of all variables; a reason is added where they cannot be."""
    least = 1 if kind == "states" else 2
    try:
        departures = Departures.match(generated.month, reference.month, least=least)
    except ValueError as reason:
        reasons[kind] = str(reason)
        return {}
    result: dict[str, dict[str, Seam]] = {}
    for name, field in generated.fields.items():
        row = VARIABLES[name]
        mask = grid.mask(row.point)[: field.shape[1]]
        for direction in DIRECTIONS:
            faces = Faces.build(lattice, direction, row.point)
            found = KINDS[kind](field, reference.fields[name], mask, faces, row.sign, departures)
            if found is not None:
                result.setdefault(name, {})[direction] = found
    return result


def to_plain(coherence: Coherence) -> dict[str, Any]:
    """Returns "seams", "modes" and "reasons" as numbers, lists and words; None where there is no number.

    Collective: no.
    """
    seams = {
        kind: {name: {along: plain(asdict(seam)) for along, seam in row.items()} for name, row in rows.items()}
        for kind, rows in coherence.seams.items()
    }
    modes = {name: plain(asdict(found)) for name, found in coherence.modes.items()}
    return {"seams": seams, "modes": modes, "reasons": dict(coherence.reasons)}


def plain(value: Any) -> Any:
    """Numbers for a file that knows no NaN."""
    if isinstance(value, dict):
        return {name: plain(x) for name, x in value.items()}
    if isinstance(value, np.ndarray):
        return listed(value)
    if isinstance(value, tuple):
        return [plain(x) for x in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def print_coherence(coherence: Coherence, console: Console) -> None:
    """Prints seams and modes, or why there are none."""
    titles = {
        "departures": "seams of departures from the mean of the month (1: none)",
        "states": "seams of full states (1: none)",
    }
    for kind, title in titles.items():
        table = Table(title=title, box=SIMPLE_HEAD)
        table.add_column("along", no_wrap=True)
        for head in ("across / inside, 95 %", "step, 95 %", "step elsewhere"):
            table.add_column(head, justify="right", no_wrap=True)
        for name, along, seam in seam_rows(coherence, kind):
            elsewhere = f"{short(seam.step.line_low)} to {short(seam.step.line_high)}"
            table.add_row(f"{name} {along}", told(seam.ratio), told(seam.step), elsewhere)
        if table.row_count:
            console.print(table)
    table = Table(title="variance along the reference's leading modes", box=SIMPLE_HEAD)
    for head in ("variable", "mode", "share, %", "generated / reference", "95 %"):
        table.add_column(head, justify="left" if head in ("variable", "mode") else "right")
    for name, label, share, (ratio, low, high) in mode_rows(coherence, PRINTED):
        table.add_row(name, label, f"{100 * share:.3g}", short(ratio), f"{short(low)} to {short(high)}")
    if coherence.modes:
        console.print(table)
    for what, reason in coherence.reasons.items():
        console.print(f"{what}: {reason}")


def seam_rows(coherence: Coherence, kind: str) -> Iterator[tuple[str, str, Seam]]:
    """Variable, direction and seam."""
    for name, directions in coherence.seams.get(kind, {}).items():
        for along, seam in directions.items():
            yield name, along, seam


def mode_rows(coherence: Coherence, most: int) -> Iterator[tuple[str, str, float, tuple[float, float, float]]]:
    """Variable, modes, their share of the reference's variance, ratio and its bounds."""
    for name, m in coherence.modes.items():
        first = f"1 to {len(m.share)}"
        for n, row in enumerate(zip(m.ratio.tolist(), m.low.tolist(), m.high.tolist(), strict=True)):
            if n < most:
                yield name, str(n + 1), float(m.share[n]), row
        share = float(m.share.sum())
        yield name, first, share, m.leading
        yield name, "others", 1 - share, m.rest
        yield name, "all", 1.0, m.total


def told(measure: Measure) -> str:
    """Value and interval."""
    return f"{short(measure.value)} ({short(measure.low)} to {short(measure.high)})"


def short(x: float) -> str:
    """A ratio for people: two decimals near 1, two digits below, none behind the point above."""
    return f"{x:.2g}" if abs(x) < 0.1 else f"{x:.2f}" if abs(x) < 100 else f"{x:.0f}"


def write_coherence(path: Path, coherence: Coherence) -> None:
    """Writes the rows of both tables as CSV, "kind" telling seams from modes.

    Collective: no.
    """
    lines = ["kind,variable,which,share,value,low,high,line_low,line_high"]
    for kind in coherence.seams:
        for name, along, seam in seam_rows(coherence, kind):
            for what, x in (("ratio", seam.ratio), ("step", seam.step)):
                values = (x.value, x.low, x.high, x.line_low, x.line_high)
                lines.append(f"{kind} {what},{name},{along},," + ",".join(f"{v:.6g}" for v in values))
    for name, label, share, bounds in mode_rows(coherence, 99):
        lines.append(f"mode,{name},{label},{share:.6g}," + ",".join(f"{v:.6g}" for v in bounds) + ",,")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
