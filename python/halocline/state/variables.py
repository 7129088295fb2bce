"""THE table of variables: everything that other rooms need to know about a name.

Ice quantities are means over the cell area, water included, except damage; damage is 0 where the ice is
intact and 1 where it is broken. Vector components follow the grid's axes, not east and north.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Variable:
    """Describes one variable of the ocean or the ice.

    Attributes:
        name: Name inside Halocline.
        point: Point of the C-grid, in {"T", "U", "V", "F", "W"}.
        sign: Factor on crossing the north fold: -1 for vector components, else 1.
        levels: "3d" (one value per level) or "2d".
        unit: As in the files that Halocline writes.
        bounds: Lowest and highest value that can occur, in `unit`; infinite where there is none.
        nemo_output: Name in NEMO's output; "" if none.
        nemo_restart: Name in NEMO's restart, fields of the present time level; "" if none.
        nemo_before: Name of the previous time level, which the leapfrog restart has; "" if none.
        nextsim: Name in neXtSIM's Moorings and trajectories; "" if none.
        long_name, standard_name: For files; the standard name is that of the CF conventions.
    """

    name: str
    point: str
    sign: int
    levels: Literal["3d", "2d"]
    unit: str
    bounds: tuple[float, float]
    nemo_output: str
    nemo_restart: str
    nemo_before: str
    nextsim: str
    long_name: str
    standard_name: str

    @property
    def is_3d(self) -> bool:
        """Whether it has one value per level."""
        return self.levels == "3d"


# Water freezes above -5 degC at any depth and salinity of the sea, and a model of it that reaches 50 degC is
# not one; the other bounds of the ocean are those at which NEMO itself stops (stp_ctl).
_TABLE = (
    Variable(
        "temperature", "T", 1, "3d", "degC", (-5.0, 50.0), "votemper", "tn", "tb", "",
        "sea water temperature, as the equation of state takes it", "sea_water_potential_temperature",
    ),
    Variable(
        "salinity", "T", 1, "3d", "1e-3", (0.0, 100.0), "vosaline", "sn", "sb", "",
        "sea water salinity, as the equation of state takes it", "sea_water_practical_salinity",
    ),
    Variable(
        "velocity_u", "U", -1, "3d", "m/s", (-10.0, 10.0), "vozocrtx", "un", "ub", "",
        "ocean velocity along i, at U points", "sea_water_x_velocity",
    ),
    Variable(
        "velocity_v", "V", -1, "3d", "m/s", (-10.0, 10.0), "vomecrty", "vn", "vb", "",
        "ocean velocity along j, at V points", "sea_water_y_velocity",
    ),
    Variable(
        "sea_level", "T", 1, "2d", "m", (-20.0, 20.0), "sossheig", "sshn", "sshb", "",
        "sea surface height", "sea_surface_height_above_geoid",
    ),
    Variable(
        "concentration", "T", 1, "2d", "1", (0.0, 1.0), "siconc", "", "", "sic",
        "sea ice concentration", "sea_ice_area_fraction",
    ),
    Variable(
        "thickness", "T", 1, "2d", "m", (0.0, math.inf), "sivolu", "", "", "sit",
        "sea ice volume per cell area", "sea_ice_thickness",
    ),
    Variable(
        "snow", "T", 1, "2d", "m", (0.0, math.inf), "snvolu", "", "", "snt",
        "volume of snow on sea ice per cell area", "surface_snow_thickness",
    ),
    Variable(
        "damage", "T", 1, "2d", "1", (0.0, 1.0), "", "", "", "sid",
        "damage of sea ice, 0 intact, 1 broken", "",
    ),
    Variable(
        "ice_u", "U", -1, "2d", "m/s", (-10.0, 10.0), "uice", "u_ice", "", "siu",
        "sea ice velocity along i, at U points", "sea_ice_x_velocity",
    ),
    Variable(
        "ice_v", "V", -1, "2d", "m/s", (-10.0, 10.0), "vice", "v_ice", "", "siv",
        "sea ice velocity along j, at V points", "sea_ice_y_velocity",
    ),
    # Internal stress, averaged over the thickness; components of a tensor along the grid's axes. A half turn, as across
    # the fold, leaves them as they are.
    Variable(
        "stress_xx", "T", 1, "2d", "Pa", (-math.inf, math.inf), "", "", "", "sigma_11",
        "internal stress of sea ice along i on a face across i", "",
    ),
    Variable(
        "stress_yy", "T", 1, "2d", "Pa", (-math.inf, math.inf), "", "", "", "sigma_22",
        "internal stress of sea ice along j on a face across j", "",
    ),
    Variable(
        "stress_xy", "T", 1, "2d", "Pa", (-math.inf, math.inf), "", "", "", "sigma_12",
        "internal stress of sea ice along i on a face across j", "",
    ),
    # Forcing: told to a forecast, never generated.
    Variable(
        "wind_u", "T", -1, "2d", "m/s", (-100.0, 100.0), "", "", "", "uas",
        "wind at 10 m along i", "x_wind",
    ),
    Variable(
        "wind_v", "T", -1, "2d", "m/s", (-100.0, 100.0), "", "", "", "vas",
        "wind at 10 m along j", "y_wind",
    ),
    Variable(
        "air_temperature", "T", 1, "2d", "degC", (-100.0, 60.0), "", "", "", "tas",
        "air temperature at 2 m", "air_temperature",
    ),
    Variable(
        "specific_humidity", "T", 1, "2d", "kg/kg", (0.0, 0.1), "", "", "", "huss",
        "specific humidity at 2 m", "specific_humidity",
    ),
    # Degree-days, per day: means of the kelvins above and below the freezing point of the sea (physics/degree_days).
    Variable(
        "positive_month", "T", 1, "2d", "K", (0.0, 200.0), "", "", "", "pdd_month",
        "positive degree-days per day over 30 days, from 271.35 K", "",
    ),
    Variable(
        "freezing_month", "T", 1, "2d", "K", (0.0, 200.0), "", "", "", "fdd_month",
        "freezing degree-days per day over 30 days, from 271.35 K", "",
    ),
    Variable(
        "positive_year", "T", 1, "2d", "K", (0.0, 200.0), "", "", "", "pdd_year",
        "positive degree-days per day over 366 days, from 271.35 K", "",
    ),
    Variable(
        "freezing_year", "T", 1, "2d", "K", (0.0, 200.0), "", "", "", "fdd_year",
        "freezing degree-days per day over 366 days, from 271.35 K", "",
    ),
)  # fmt: skip

VARIABLES: Mapping[str, Variable] = MappingProxyType({row.name: row for row in _TABLE})
"""Variable by name."""


def variable(name: str) -> Variable:
    """Returns the row of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in VARIABLES:
        raise ValueError(f"Variable '{name}' is unknown, expected one of {', '.join(VARIABLES)}.")
    return VARIABLES[name]
