"""What neXtSIM_DG's netCDF-4 files have in common: groups, names of dimensions, fill values.

Restart, start, diagnostic and forcing files hold their variables in a group `data`, beside a group `structure` whose
attribute `type` says what kind of grid it is. Fill values are the number 1.7e38, in some variables only.

Reference: neXtSIM_DG, ``core/src/ParaGridIO.cpp``, ``core/src/CommonRestartMetadata.cpp``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halocline.io.modelfile import open_dataset

__all__ = ["FILL", "STRUCTURE", "DGFile", "is_dg"]

STRUCTURE = "parametric_rectangular"
"""The kind of grid that has vertices, the only one on which the model has dynamics."""

FILL = 1.0e37
"""Numbers as large as this are fill values (1.7e38) whatever the file calls them."""


class DGFile:
    """Reads the group `data` of a file of neXtSIM_DG.

    Attributes:
        path: The file.
        dimensions: Variable name to the names of its dimensions.
        sizes: Dimension name to its size.

    Raises:
        FileNotFoundError, OSError: It does not exist or cannot be read.
        ValueError: It is not such a file.

    Collective: no.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with open_dataset(self.path) as dataset:
            if not {"structure", "data"} <= set(dataset.groups):
                raise ValueError(
                    f"File {self.path} has groups {', '.join(dataset.groups) or 'none'}, expected structure and data "
                    "of neXtSIM_DG: check the path."
                )
            kind = str(getattr(dataset["structure"], "type", "")).strip("\0")
            if kind != STRUCTURE:
                raise ValueError(
                    f"File {self.path} has a grid of type '{kind}', expected '{STRUCTURE}': take a file of a "
                    "configuration with dynamics."
                )
            data = dataset["data"]
            self.dimensions = {name: tuple(variable.dimensions) for name, variable in data.variables.items()}
            self.sizes = {name: len(dimension) for name, dimension in data.dimensions.items()}

    def __contains__(self, name: str) -> bool:
        return name in self.dimensions

    def read(self, name: str, records: slice = slice(None)) -> np.ndarray:
        """Reads a variable as it is in the file, float64; fill values stay.

        Arguments:
            name: Variable.
            records: Along time, if it has that.

        Raises:
            ValueError: There is no such variable.
            OSError: It cannot be read.

        Collective: no.
        """
        if name not in self.dimensions:
            raise ValueError(
                f"File {self.path} has no variable {name}, expected it in group data: take a start or restart file."
            )
        with open_dataset(self.path) as dataset:
            dataset["data"].set_auto_maskandscale(False)
            where = records if self.dimensions[name][:1] == ("time",) else ...
            return np.asarray(dataset["data"][name][where], np.float64)

    def read_mean(self, name: str, records: slice = slice(None)) -> np.ndarray:
        """Reads cell means, (..., y, x): the first DG component where there are several; fill values are NaN.

        Arguments and raises: as `read`.

        Collective: no.
        """
        x = self.read(name, records)
        if self.dimensions[name][-1] == "dg_comp":
            x = x[..., 0]
        return np.where(np.abs(x) < FILL, x, np.nan)


def is_dg(path: Path | str) -> bool:
    """Whether a file is one of neXtSIM_DG: it has the groups `structure` and `data`.

    Collective: no.
    """
    if not Path(path).is_file():
        return False
    try:
        with open_dataset(Path(path)) as dataset:
            return {"structure", "data"} <= set(dataset.groups)
    except OSError:
        return False  # whoever reads it next says what is wrong with it
