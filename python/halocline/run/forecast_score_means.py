"""From means over starts to scores: roots and ratios, one entry for each lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halocline.physics.ensembles import EnsembleScores, RankHistogram, spread_skill
from halocline.physics.ice_edge import Reliability

__all__ = ["IceScores", "Means", "VariableScores", "ice_scores", "variable_scores"]

Row = tuple[float, ...]
Rows = tuple[Row, ...]

RESAMPLED = ("variance", "mse", "forecast_gradient", "truth_gradient", "forecast_fine", "truth_fine")
"""Numbers whose values of all starts are kept."""

LEAST_STARTS = 4
"""Of fewer starts nothing can be said about how much a ratio depends on them."""


class Means:
    """Sums of named numbers and vectors by lead.

    Arguments:
        times: Number of times, the start included.
    """

    def __init__(self, times: int) -> None:
        self.counts = [0] * times
        self.sums: list[dict[str, np.ndarray]] = [{} for _ in range(times)]
        self.starts: list[dict[str, list[float]]] = [{} for _ in range(times)]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds a start, one row for each time from 1 on; there may be fewer, and a name may be missing."""
        for n, found in enumerate(rows, start=1):
            self.counts[n] += 1
            for name, value in found.items():
                self.sums[n][name] = self.sums[n].get(name, 0.0) + np.asarray(value, np.float64)
                if name in RESAMPLED:
                    self.starts[n].setdefault(name, []).append(float(value))

    def ranges(self, over: str, under: str) -> Rows:
        """5th and 95th percentile of a ratio of means over resampled starts (bootstrap, 1000 times, of fixed seed), at
        all leads; empty where there are few starts.

        Starts are drawn as if they were independent: of those that overlap in time the true range is wider.
        """
        result: list[Row] = []
        for starts, n in zip(self.starts[1:], self.counts[1:], strict=True):
            x, y = (np.array(starts.get(name, [])) for name in (over, under))
            if n < LEAST_STARTS or len(x) != n or len(y) != n or not np.isfinite(x + y).all():
                result.append(())
                continue
            drawn = np.random.default_rng(0).integers(0, n, (1000, n))
            total = y[drawn].sum(axis=1)
            ratio = np.divide(x[drawn].sum(axis=1), total, out=np.full(1000, np.nan), where=total > 0)
            result.append(_row(np.percentile(ratio, [5.0, 95.0])))
        return tuple(result)

    def slope(self, of: str, on: str) -> Row:
        """Slope of the regression of the logarithm of a number on that of another over starts, at all leads.

        NaN where there are few starts, or a number is not positive, or the other has one value.
        """
        result = []
        for starts, n in zip(self.starts[1:], self.counts[1:], strict=True):
            y, x = (np.array(starts.get(name, [])) for name in (of, on))
            if n < LEAST_STARTS or len(x) != n or len(y) != n or not (np.minimum(x, y) > 0).all() or np.ptp(x) == 0:
                result.append(float("nan"))
                continue
            result.append(float(np.polyfit(np.log(x), np.log(y), 1)[0]))
        return tuple(result)

    def mean(self, name: str) -> np.ndarray:
        """Means at all leads, shape (lead); NaN where there are none."""
        sums = (sums.get(name, np.nan) for sums in self.sums[1:])
        return np.array([float(x) / max(n, 1) for x, n in zip(sums, self.counts[1:], strict=True)])

    def vectors(self, name: str, by: str = "") -> Rows:
        """Means at all leads of a vector, over starts or over what another name counts; empty where there are none."""
        result = []
        for sums, n in zip(self.sums[1:], self.counts[1:], strict=True):
            count = float(sums.get(by, 0.0)) if by else n
            result.append(tuple((sums[name] / count).tolist()) if name in sums and count else ())
        return tuple(result)


@dataclass(frozen=True)
class VariableScores:
    """Scores of one variable of one forecast, by lead; errors in the unit of the variable.

    Attributes:
        bias: Of the ensemble mean.
        rmse: Of the ensemble mean.
        rmse_members: Of a member.
        crps: Fair; the mean absolute error of a single member.
        spread: Standard deviation of the members.
        spread_skill: 1 where calibrated.
        spread_slope: Slope of the logarithm of the error on that of the spread over starts: 1 where spread says on
            which days a forecast errs, more where it says too little.
        sharpness: Energy of gradients over the truth's.
        fine_scales: Energy of the last third of the wavenumbers over the truth's.
        ranges: Of `spread_skill`, `sharpness` and `fine_scales`, see `Means.ranges`.
        lower, upper: Shares of the sea on bounds.
        true_lower, true_upper: The truth's.
        violations: Share of the sea beyond bounds.
        frequency: Rank histogram.
        departure, outliers: See `RankHistogram`.
        spectrum, true_spectrum: Geometric means, unit squared times m.
    """

    bias: Row
    rmse: Row
    rmse_members: Row
    crps: Row
    spread: Row
    spread_skill: Row
    spread_slope: Row
    sharpness: Row
    fine_scales: Row
    ranges: Mapping[str, Rows]
    lower: Row
    upper: Row
    true_lower: Row
    true_upper: Row
    violations: Row
    frequency: Rows
    departure: Row
    outliers: Row
    spectrum: Rows
    true_spectrum: Rows


def variable_scores(means: Means, members: int) -> VariableScores:
    """Takes roots and ratios of means over starts. Collective: no."""
    mse, variance = means.mean("mse"), means.mean("variance")
    nan = float("nan")
    pooled = [EnsembleScores(members, nan, e, nan, v, nan) for e, v in zip(mse, variance, strict=True)]
    frequency = means.vectors("frequency")
    ranks = [RankHistogram(row) for row in frequency]
    return VariableScores(
        bias=_row(means.mean("bias")),
        rmse=_row(np.sqrt(mse)),
        rmse_members=_row(np.sqrt(means.mean("mse_members"))),
        crps=_row(means.mean("crps")),
        spread=_row(np.sqrt(variance)),
        spread_skill=tuple(spread_skill(one) for one in pooled),
        spread_slope=means.slope("mse", "variance"),
        sharpness=_ratio(means, "gradient"),
        fine_scales=_ratio(means, "fine"),
        ranges=_ranges(means, members),
        lower=_row(means.mean("forecast_lower")),
        upper=_row(means.mean("forecast_upper")),
        true_lower=_row(means.mean("truth_lower")),
        true_upper=_row(means.mean("truth_upper")),
        violations=_row(means.mean("forecast_beyond")),
        frequency=frequency,
        departure=tuple(rank.departure if rank.frequency else nan for rank in ranks),
        outliers=tuple(rank.outliers if rank.frequency else nan for rank in ranks),
        spectrum=_spectra(means, "forecast"),
        true_spectrum=_spectra(means, "truth"),
    )


def _row(values: np.ndarray) -> Row:
    return tuple(values.tolist())


def _ratio(means: Means, name: str) -> Row:
    """Forecast over truth; NaN where the truth has none."""
    forecast, truth = means.mean(f"forecast_{name}"), means.mean(f"truth_{name}")
    return _row(np.divide(forecast, truth, out=np.full_like(truth, np.nan), where=truth > 0))


def _ranges(means: Means, members: int) -> dict[str, Rows]:
    factor = (members + 1) / members  # see `spread_skill`
    ratios = means.ranges("variance", "mse")
    return {
        "spread_skill": tuple(tuple((factor * x) ** 0.5 for x in row) if members > 1 else () for row in ratios),
        "sharpness": means.ranges("forecast_gradient", "truth_gradient"),
        "fine_scales": means.ranges("forecast_fine", "truth_fine"),
    }


def _spectra(means: Means, side: str) -> Rows:
    return tuple(tuple(np.exp(row).tolist()) for row in means.vectors(f"{side}_log_power", f"{side}_log_count"))


@dataclass(frozen=True)
class IceScores:
    """Amounts and places of the ice of one forecast, by lead; of the ensemble where not said otherwise.

    Attributes:
        iiee: Mean integrated ice-edge error of the members, m2.
        median_iiee: That of the median forecast, m2.
        sps: Spatial probability score, m2.
        extent_bias, area_bias: m2; the extent is that of `physics.ice`, whatever the threshold of the edge.
        volume_bias, snow_bias: m3.
        brier, reliability: Of presence; reliability is the first term of the split, 0 at best.
        share, observed: Shares of the sea and observed frequencies by forecast probability k / M.
    """

    iiee: Row
    median_iiee: Row
    sps: Row
    extent_bias: Row
    area_bias: Row
    volume_bias: Row
    snow_bias: Row
    brier: Row
    reliability: Row
    share: Rows
    observed: Rows


def ice_scores(means: Means) -> IceScores:
    """Takes differences, and splits the Brier score of all starts together. Collective: no."""
    share, covered = means.vectors("share"), means.vectors("covered")
    tables = [Reliability(w, c) for w, c in zip(share, covered, strict=True)]
    biases = {
        key: _row(means.mean(f"forecast_{name}") - means.mean(f"truth_{name}"))
        for key, name in (
            ("extent_bias", "ice_extent"), ("area_bias", "ice_area"), ("volume_bias", "ice_volume"),
            ("snow_bias", "snow_volume"),
        )
    }  # fmt: skip
    return IceScores(
        iiee=_row(means.mean("iiee")),
        median_iiee=_row(means.mean("median_iiee")),
        sps=_row(means.mean("sps")),
        **biases,
        brier=tuple(table.brier if table.share else float("nan") for table in tables),
        reliability=tuple(table.reliability if table.share else float("nan") for table in tables),
        share=share,
        observed=tuple(table.observed for table in tables),
    )
