"""The climatology of a training store: least squares of each cell, the same bits on any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.training_store import CLIMATOLOGY, TrainingStore, explained, save_table
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.store_statistics import of_chunks
from halocline.state.climatology import seasonal_basis, seasons_told_apart, values_of

__all__ = ["learn_climatology"]

MOST_VALUES = 64


def learn_climatology(path: Path, comm: Communicator | Serial) -> None:
    """Fits the seasonal cycles of all parameter values to the records that are not held out; tiles are dealt to ranks.

    Raises:
        ValueError: There are too many values, or a chunk is damaged.

    Collective: yes.
    """
    with comm.together():
        store = TrainingStore.open(path)
        design = Design.build(store)
    whole = of_chunks(store, comm, "climatology", lambda J, I: design.fit(store, J, I))
    with comm.together(), explained(path):
        if whole is not None:
            save_table(path / CLIMATOLOGY, design.join(store, whole))


@dataclass(frozen=True, eq=False)
class Design:
    """Which record has which parameter value, and its seasonal functions.

    Attributes:
        values: Shape (value, parameter).
        seen: Numbers of the records that are not held out, shape (record).
        number: Of the value of each, likewise.
        basis: Shape (record, function).
    """

    values: np.ndarray
    seen: np.ndarray
    number: np.ndarray
    basis: np.ndarray

    @classmethod
    def build(cls, store: TrainingStore) -> Design:
        """Looks at the records.

        Raises:
            ValueError: They have too many values.
        """
        records = store.records
        seen = np.flatnonzero(~np.asarray(records.held_out, bool))
        values, number = values_of([x[seen] for x in records.parameters.values()], len(seen))
        if len(values) > MOST_VALUES:
            raise ValueError(
                f"Training store {store.path} has states of {len(values)} different values of "
                f"{', '.join(records.parameters)}, training.centre=conditions takes at most {MOST_VALUES}: use "
                "training.centre=cell."
            )
        season = np.asarray(records.season)[seen]
        return cls(values, seen, number, seasonal_basis(season, seasons_told_apart(season, number)))

    @property
    def freedom(self) -> int:
        """Records beyond those that the cycles take up."""
        groups = [self.basis[self.number == v] for v in range(len(self.values))]
        return len(self.seen) - sum(int(np.linalg.matrix_rank(group)) for group in groups)

    def fit(self, store: TrainingStore, J: int, I: int) -> tuple[np.ndarray, np.ndarray]:
        """Fits one chunk.

        Returns:
            Coefficients, shape (value, function, channel, rows, columns), and the sum of squares that they leave,
            shape (channel, rows, columns).
        """
        shift = store.block(1, int(self.seen[0]), J, I).astype(np.float64)  # keeps sums of squares small
        products = np.zeros((len(self.values), self.basis.shape[1], *shift.shape))
        squares = np.zeros_like(shift)
        for record, value, functions in zip(self.seen.tolist(), self.number.tolist(), self.basis, strict=True):
            x = store.block(1, record, J, I).astype(np.float64) - shift
            products[value] += functions[:, None, None, None] * x
            squares += x**2
        coefficients = np.zeros_like(products)
        for value, product in enumerate(products):
            basis = self.basis[self.number == value]
            inverse = np.linalg.pinv(basis.T @ basis, rcond=1e-10, hermitian=True).round(12)
            for row, result in zip(inverse, coefficients[value], strict=True):
                for factor, term in zip(row.tolist(), product, strict=True):
                    result += factor * term
        left = np.maximum(squares - (coefficients * products).sum(axis=(0, 1)), 0.0)
        coefficients[:, 0] += shift
        return coefficients, left

    def join(
        self, store: TrainingStore, fits: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Puts the chunks together; see `TrainingStore.climatology`."""
        shape, (cj, ci) = (store.channels.count, store.grid.nj, store.grid.ni), store.chunk
        coefficients = np.zeros((len(self.values), self.basis.shape[1], *shape), np.float32)
        left = np.zeros(shape)
        for (J, I), (part, squares) in fits.items():
            here = (..., slice(J * cj, (J + 1) * cj), slice(I * ci, (I + 1) * ci))
            coefficients[here], left[here] = part, squares
        variance = left / self.freedom if self.freedom > 0 else np.zeros_like(left)
        return {
            "values": self.values, "coefficients": coefficients, "variance": variance,
            "held_out": np.asarray(store.records.held_out),
        }  # fmt: skip
