r"""Sea water as NEMO knows it: density, expansion, buoyancy frequency, freezing point.

NEMO selects one equation of state in the namelist block ``nameos``: TEOS-10, EOS-80 or the
simplified S-EOS. All three give density as a function of temperature T [degC], salinity S and depth
z [m, positive], because a Boussinesq model knows pressure as :math:`\rho_0 g z`. T and S are
Conservative Temperature and Absolute Salinity [g/kg] under TEOS-10 and S-EOS, potential temperature
and practical salinity under EOS-80. The polynomials of TEOS-10 and EOS-80 read the depth in metres
as pressure in decibar.

TEOS-10 and EOS-80 leave out the reference profile of density with depth. Compare densities at one
depth only; alpha, beta and N2 are complete.

Every function is pure, float64, differentiable and elementwise over (..., k, j, i).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from halocline.constants import GRAVITY, RHO0
from halocline.physics.polynomial import (
    EOS80_TABLE,
    TEOS10_TABLE,
    Table,
    add_planes,
    differentiate_salinity,
    differentiate_temperature,
    evaluate,
    planes,
)

# Slope of the freezing point with depth in all of NEMO's formulae, K/m.
_FREEZING_PER_METRE = 7.53e-4


Water = tuple[Tensor, ...]
"""Terms of the density that do not depend on depth, each of the shape of T and S broadcast."""


class EquationOfState(Protocol):
    """Density of sea water and its derivatives."""

    @property
    def name(self) -> str:
        """The name NEMO's documentation uses: "TEOS-10", "EOS-80" or "S-EOS"."""
        ...

    def density(self, T: Tensor, S: Tensor, depth: Tensor | float) -> Tensor:
        """Returns density, kg/m3, comparable between waters at the same depth [m]."""
        ...

    def water(self, T: Tensor, S: Tensor) -> "Water":
        """Returns what density needs to know of waters, whatever their depth, for `density_of`."""
        ...

    def density_of(self, water: "Water", depth: Tensor | float) -> Tensor:
        """Returns the density of waters at a depth [m]: the bits of `density`, and cheaper at a second depth."""
        ...

    def expansion(self, T: Tensor, S: Tensor, depth: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns (alpha, beta) = (-d rho/dT, d rho/dS) / rho0, in 1/K and 1/(unit of S)."""
        ...

    def freezing_point(self, S: Tensor, depth: Tensor | float = 0.0) -> Tensor:
        """Returns the temperature at which sea water freezes, degC."""
        ...


def _float64(*values: Any) -> tuple[Tensor, ...]:
    return tuple(torch.as_tensor(value, dtype=torch.float64) for value in values)


def _freezing_teos10(S: Tensor, depth: Tensor | float) -> Tensor:
    """In-situ freezing point of water saturated with air; S Absolute Salinity.

    NEMO's ``eos_fzp`` compares it with Conservative Temperature, less than 0.02 K apart.
    """
    S, depth = _float64(S, depth)
    s = torch.sqrt(torch.abs(S) / 35.16504)
    slope = 2.28348e-02 + s * (-9.64972e-03 + s * 1.46873e-03)
    slope = -5.87701e-02 + s * (2.07679e-02 + s * (-3.12775e-02 + s * slope))
    return S * slope - _FREEZING_PER_METRE * depth


def _freezing_eos80(S: Tensor, depth: Tensor | float) -> Tensor:
    """Freezing point, S practical salinity. UNESCO technical papers in marine science 28, 1978."""
    S, depth = _float64(S, depth)
    slope = -0.0575 + 1.710523e-3 * torch.sqrt(torch.abs(S)) - 2.154996e-4 * S
    return S * slope - _FREEZING_PER_METRE * depth


@dataclass(frozen=True)
class SimplifiedEOS:
    r"""NEMO's S-EOS; the names of the coefficients are those of namelist ``nameos``.

    .. math::
        \rho - \rho_0 = -a_0 (1 + \tfrac12 \lambda_1 dT + \mu_1 z) dT
                        + b_0 (1 - \tfrac12 \lambda_2 dS - \mu_2 z) dS - \nu\, dT\, dS

    with dT = T - T0 and dS = S - S0. The defaults are those of the reference namelist.

    References: Roquet, Madec, Brodeau and Nycander, 2015, Defining a simplified yet realistic
        equation of state for seawater, J. Phys. Oceanogr. 45; NEMO's ``eosbn2.F90``.
    """

    rn_T0: float = 10.0  # degC
    rn_S0: float = 35.0  # g/kg
    rn_a0: float = 1.6550e-1  # kg/m3/K, thermal expansion
    rn_b0: float = 7.6554e-1  # kg/m3/(g/kg), haline contraction
    rn_lambda1: float = 5.9520e-2  # 1/K, cabbeling in T
    rn_lambda2: float = 7.4914e-4  # kg/g, cabbeling in S
    rn_mu1: float = 1.4970e-4  # 1/m, thermobaric in T
    rn_mu2: float = 1.1090e-5  # 1/m, thermobaric in S
    rn_nu: float = 2.4341e-3  # kg/m3/K/(g/kg), cabbeling in T S

    @property
    def name(self) -> str:
        return "S-EOS"

    def density(self, T: Tensor, S: Tensor, depth: Tensor | float) -> Tensor:
        """Returns density, kg/m3."""
        return self.density_of(self.water(T, S), depth)

    def water(self, T: Tensor, S: Tensor) -> Water:
        """Returns dT, dS, and the terms that depend on them alone."""
        T, S = _float64(T, S)
        dT, dS = T - self.rn_T0, S - self.rn_S0
        cabbeling = 1.0 + 0.5 * self.rn_lambda1 * dT, 1.0 - 0.5 * self.rn_lambda2 * dS
        return torch.broadcast_tensors(dT, dS, *cabbeling, self.rn_nu * dT * dS)

    def density_of(self, water: Water, depth: Tensor | float) -> Tensor:
        """Returns the density of waters, kg/m3."""
        (z,) = _float64(depth)
        dT, dS, cabbeling_T, cabbeling_S, both = water
        thermal = self.rn_a0 * (cabbeling_T + self.rn_mu1 * z) * dT
        haline = self.rn_b0 * (cabbeling_S - self.rn_mu2 * z) * dS
        return RHO0 - thermal + haline - both

    def expansion(self, T: Tensor, S: Tensor, depth: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns (alpha, beta), 1/K and kg/g."""
        T, S, z = _float64(T, S, depth)
        dT, dS = T - self.rn_T0, S - self.rn_S0
        alpha = self.rn_a0 * (1.0 + self.rn_lambda1 * dT + self.rn_mu1 * z) + self.rn_nu * dS
        beta = self.rn_b0 * (1.0 - self.rn_lambda2 * dS - self.rn_mu2 * z) - self.rn_nu * dT
        return alpha / RHO0, beta / RHO0

    def freezing_point(self, S: Tensor, depth: Tensor | float = 0.0) -> Tensor:
        """Returns the freezing point, degC; S Absolute Salinity, g/kg."""
        return _freezing_teos10(S, depth)


@dataclass(frozen=True)
class PolynomialEOS:
    """Density by a 52-coefficient polynomial; see :mod:`halocline.physics.polynomial`.

    Arguments:
        name: "TEOS-10" or "EOS-80".
        table: Coefficients, kg/m3.
        salinity_shift: Added to S below the root, unit of S.
        salinity_scale: Divides the shifted salinity, unit of S.
    """

    name: str
    table: Table = field(repr=False)
    salinity_shift: float
    salinity_scale: float

    temperature_scale = 40.0  # degC
    depth_scale = 1.0e4  # m

    def _scaled(self, T: Tensor, S: Tensor, depth: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        T, S, z = _float64(T, S, depth)
        s = torch.sqrt(torch.abs(S + self.salinity_shift) / self.salinity_scale)
        return s, T / self.temperature_scale, z / self.depth_scale

    def density(self, T: Tensor, S: Tensor, depth: Tensor | float) -> Tensor:
        """Returns density without its reference profile of depth, kg/m3."""
        return self.density_of(self.water(T, S), depth)

    def water(self, T: Tensor, S: Tensor) -> Water:
        """Returns the factors of the powers of depth."""
        s, t, _ = self._scaled(T, S, 0.0)
        return planes(self.table, s, t)

    def density_of(self, water: Water, depth: Tensor | float) -> Tensor:
        """Returns the density of waters, kg/m3, without its reference profile of depth."""
        (z,) = _float64(depth)
        return add_planes(water, z / self.depth_scale)

    def expansion(self, T: Tensor, S: Tensor, depth: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns (alpha, beta), 1/K and 1/(unit of S), by exact derivatives; S > -shift."""
        s, t, zeta = self._scaled(T, S, depth)
        d_dT = evaluate(differentiate_temperature(self.table), s, t, zeta) / self.temperature_scale
        d_ds = evaluate(differentiate_salinity(self.table), s, t, zeta)
        return -d_dT / RHO0, d_ds / (2.0 * s * self.salinity_scale) / RHO0

    def freezing_point(self, S: Tensor, depth: Tensor | float = 0.0) -> Tensor:
        """Returns the freezing point, degC, by the formula that NEMO pairs with this equation."""
        return (_freezing_eos80 if self.name == "EOS-80" else _freezing_teos10)(S, depth)


TEOS10 = PolynomialEOS("TEOS-10", TEOS10_TABLE, 32.0, 35.16504 / 0.875)
EOS80 = PolynomialEOS("EOS-80", EOS80_TABLE, 20.0, 40.0)
REFERENCE_SEOS = SimplifiedEOS()
DINO_SEOS = SimplifiedEOS(rn_a0=0.165, rn_lambda1=0.06, rn_lambda2=0.0, rn_mu1=1.4970e-4, rn_mu2=0.0, rn_nu=0.0)


def equation_of_state(name: str, **coefficients: float) -> EquationOfState:
    """Chooses an equation of state by name.

    Arguments:
        name: "TEOS-10", "EOS-80", "S-EOS" (coefficients of the reference namelist) or "DINO" (S-EOS
            with those of DINO); case, hyphens and underscores do not matter.
        coefficients: Of S-EOS only, by their namelist names (``rn_a0``, ...), instead of the preset
            ones.

    Returns:
        The equation of state.

    Raises:
        ValueError: The name or a coefficient is unknown, or coefficients are given to a polynomial.
    """
    choices: dict[str, EquationOfState] = {
        "teos10": TEOS10,
        "eos80": EOS80,
        "seos": REFERENCE_SEOS,
        "dino": DINO_SEOS,
    }
    eos = choices.get(name.lower().replace("-", "").replace("_", ""))
    if eos is None:
        raise ValueError(
            f"Equation of state must be one of TEOS-10, EOS-80, S-EOS, DINO, got {name!r}: "
            "name the one that the model's namelist block nameos selects."
        )
    if not isinstance(eos, SimplifiedEOS):
        if coefficients:
            raise ValueError(
                f"{eos.name} has fixed coefficients, got {', '.join(sorted(coefficients))}: "
                "leave them out or choose S-EOS."
            )
        return eos
    known = {item.name: getattr(eos, item.name) for item in fields(eos)}
    unknown = sorted(set(coefficients) - set(known))
    if unknown:
        raise ValueError(
            f"S-EOS coefficients must be among {', '.join(known)}, got {', '.join(unknown)}: "
            "use the names of namelist block nameos."
        )
    return SimplifiedEOS(**{**known, **coefficients})


def equation_of_state_from_namelist(nameos: Mapping[str, Any]) -> EquationOfState:
    """Chooses the equation of state that a NEMO namelist block ``nameos`` selects.

    Arguments:
        nameos: The block as a mapping, keys in any case; coefficients left out keep the reference
            namelist's value.

    Raises:
        ValueError: Not exactly one of ``ln_teos10``, ``ln_eos80``, ``ln_seos`` is true.
    """
    block = {key.lower(): value for key, value in nameos.items()}
    switches = {"ln_teos10": "TEOS-10", "ln_eos80": "EOS-80", "ln_seos": "S-EOS"}
    chosen = [switch for switch in switches if block.get(switch)]
    if len(chosen) != 1:
        raise ValueError(
            f"Namelist block nameos must set exactly one of {', '.join(switches)} to true, "
            f"got {', '.join(chosen) or 'none'}: correct the namelist."
        )
    name = switches[chosen[0]]
    if name != "S-EOS":
        return equation_of_state(name)
    names = {item.name.lower(): item.name for item in fields(SimplifiedEOS)}
    return equation_of_state(name, **{names[key]: float(block[key]) for key in names if key in block})


def potential_density(T: Tensor, S: Tensor, eos: EquationOfState, reference_depth: float = 0.0) -> Tensor:
    """Returns the density that water would have at one depth, kg/m3.

    T is conserved when water moves up or down without mixing, so the equation is evaluated at the
    reference depth.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i).
        S: Salinity, same shape.
        eos: Equation of state.
        reference_depth: Depth, m.
    """
    return eos.density(T, S, reference_depth)


def buoyancy_frequency(T: Tensor, S: Tensor, gdept: Tensor, gdepw: Tensor, e3w: Tensor, eos: EquationOfState) -> Tensor:
    r"""Returns the squared buoyancy frequency at W points as NEMO's ``bn2`` computes it, 1/s2.

    .. math:: N^2_k = \frac{g}{e_{3w,k}} \left[ \alpha_w (T_{k-1} - T_k) - \beta_w (S_{k-1} - S_k)
    \right]

    alpha and beta are computed at T points and interpolated linearly in depth to the W point
    between them.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i).
        S: Salinity, same shape.
        gdept: Depth of T points, m, broadcasting.
        gdepw: Depth of W points, m; W point k is the top of T cell k.
        e3w: Distance of T points k-1 and k, m.
        eos: Equation of state.

    Returns:
        N2 in the shape of T; zero at the surface (k = 0). Unmasked: an interface to land has no
        meaning.
    """
    T, S, gdept, gdepw, e3w = _float64(T, S, gdept, gdepw, e3w)
    alpha, beta = eos.expansion(T, S, gdept)
    upper, lower = slice(None, -1), slice(1, None)

    def at(x: Tensor, levels: slice) -> Tensor:
        return x[..., levels, :, :]

    weight = (at(gdepw, lower) - at(gdept, lower)) / (at(gdept, upper) - at(gdept, lower))
    alpha_w = at(alpha, lower) * (1.0 - weight) + at(alpha, upper) * weight
    beta_w = at(beta, lower) * (1.0 - weight) + at(beta, upper) * weight
    buoyancy = alpha_w * (at(T, upper) - at(T, lower)) - beta_w * (at(S, upper) - at(S, lower))
    N2 = GRAVITY * buoyancy / at(e3w, lower)
    return torch.cat([torch.zeros_like(N2[..., :1, :, :]), N2], dim=-3)
