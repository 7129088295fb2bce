"""Physical constants, with unit and source of each.

The values are those of NEMO 5 (``phycst.F90``, ``eos_init`` in ``eosbn2.F90``), so that budgets
computed here close with the model's own.
"""

import math

GRAVITY: float = 9.80665
"""Acceleration of gravity, m/s2. Standard gravity; NEMO's ``grav``."""

EARTH_RADIUS: float = 6371229.0
"""Radius of the sphere, m. NEMO's ``ra``."""

DAY: float = 86400.0
"""Length of a solar day, s. NEMO's ``rday``."""

SIDEREAL_YEAR: float = 365.25 * DAY * 2.0 * math.pi / 6.283076
"""Time of one revolution about the sun, s. NEMO's ``rsiyea``."""

SIDEREAL_DAY: float = DAY / (1.0 + DAY / SIDEREAL_YEAR)
"""Time of one rotation against the stars, s. NEMO's ``rsiday``."""

OMEGA: float = 2.0 * math.pi / SIDEREAL_DAY
"""Angular velocity of the earth, 1/s. NEMO's ``omega``."""

KELVIN: float = 273.15
"""0 degC on the Kelvin scale, K. NEMO's ``rt0``."""

RHO0: float = 1026.0
"""Reference density of the Boussinesq approximation, kg/m3. NEMO's ``rho0``."""

RCP: float = 3991.86795711963
"""Heat capacity of sea water per mass, J/(kg K). TEOS-10's constant; NEMO's ``rcp`` under every
equation of state."""

ICE_DENSITY: float = 917.0
"""Density of sea ice, kg/m3. Pounder, 1965; NEMO's ``rhoi``."""

SNOW_DENSITY: float = 330.0
"""Density of snow on sea ice, kg/m3. NEMO's ``rhos``."""

SVERDRUP: float = 1.0e6
"""Unit of volume transport, m3/s."""
