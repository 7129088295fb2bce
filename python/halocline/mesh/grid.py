"""Geometry and masks of an Arakawa C-grid, in NEMO's words."""

import hashlib
from dataclasses import dataclass, fields

import numpy as np

from halocline.constants import EARTH_RADIUS, OMEGA
from halocline.mesh.fold import Edges

_HORIZONTAL = (
    *("glamt", "gphit", "glamu", "gphiu", "glamv", "gphiv", "glamf", "gphif"),
    *("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "e1f", "e2f", "ff_t", "ff_f"),
)
_MASKS = ("tmask", "umask", "vmask", "fmask")
_VERTICAL = ("e3t", "e3u", "e3v", "e3w", "gdept", "gdepw")
_POSITIVE = ("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "e1f", "e2f", "e3t", "e3u", "e3v", "e3w")


@dataclass(frozen=True, eq=False)
class Grid:
    """Holds the geometry of a C-grid: U(j, i) is the east face of T(j, i), V its north face, F its north-east corner.

    Arguments:
        glamt, gphit, glamu, gphiu, glamv, gphiv, glamf, gphif: Longitude, latitude, shape (nj, ni), degrees.
        e1t, e2t, e1u, e2u, e1v, e2v, e1f, e2f: Cell widths along i and j, shape (nj, ni), m.
        ff_t, ff_f: Coriolis parameter, shape (nj, ni), 1/s.
        tmask, umask, vmask, fmask: True in the sea, shape (nk, nj, ni).
        e3t, e3u, e3v, e3w: Cell thicknesses, shape (nk, nj, ni), m.
        gdept, gdepw: Depth of T points and of the upper W points, shape (nk, nj, ni), m, positive downwards.
        gdept_1d: Depth that labels the levels in files, shape (nk), m.
        periodic_i, periodic_j: Whether the last column (row) is followed by the first.
        fold: Pivot of the north fold, in {"", "T", "F"}.

    Raises:
        ValueError: A shape differs, a value is not finite, a width is not positive, or the edges contradict each other.
    """

    glamt: np.ndarray
    gphit: np.ndarray
    glamu: np.ndarray
    gphiu: np.ndarray
    glamv: np.ndarray
    gphiv: np.ndarray
    glamf: np.ndarray
    gphif: np.ndarray
    e1t: np.ndarray
    e2t: np.ndarray
    e1u: np.ndarray
    e2u: np.ndarray
    e1v: np.ndarray
    e2v: np.ndarray
    e1f: np.ndarray
    e2f: np.ndarray
    ff_t: np.ndarray
    ff_f: np.ndarray
    tmask: np.ndarray
    umask: np.ndarray
    vmask: np.ndarray
    fmask: np.ndarray
    e3t: np.ndarray
    e3u: np.ndarray
    e3v: np.ndarray
    e3w: np.ndarray
    gdept: np.ndarray
    gdepw: np.ndarray
    gdept_1d: np.ndarray
    periodic_i: bool = False
    periodic_j: bool = False
    fold: str = ""

    def __post_init__(self) -> None:
        if np.ndim(self.tmask) != 3:
            raise ValueError(
                f"Mask tmask has {np.ndim(self.tmask)} dimensions, expected (nk, nj, ni): select one time."
            )
        for name in _HORIZONTAL:
            self._adopt(name, np.float64, self.tmask.shape[1:])
        for name in _MASKS:
            self._adopt(name, np.bool_, self.tmask.shape)
        for name in _VERTICAL:
            self._adopt(name, np.float64, self.tmask.shape)
        self._adopt("gdept_1d", np.float64, self.tmask.shape[:1])
        for name in _POSITIVE:
            if not (getattr(self, name) > 0).all():
                raise ValueError(
                    f"Width {name} must be positive, got {getattr(self, name).min()} m: fill the land of the grid file."
                )
        _ = self.edges

    def _adopt(self, name: str, dtype: type, shape: tuple[int, ...]) -> None:
        value = np.asarray(getattr(self, name))
        if value.shape != shape:
            raise ValueError(f"Grid field {name} has shape {value.shape}, expected {shape} like tmask: check its file.")
        value = np.ascontiguousarray(value, dtype)
        if not np.isfinite(value).all():
            raise ValueError(f"Grid field {name} has values that are not finite: fill land cells of the grid file.")
        object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(nk, nj, ni)."""
        nk, nj, ni = self.tmask.shape
        return nk, nj, ni

    @property
    def nk(self) -> int:
        """Number of levels."""
        return self.shape[0]

    @property
    def nj(self) -> int:
        """Number of rows."""
        return self.shape[1]

    @property
    def ni(self) -> int:
        """Number of columns."""
        return self.shape[2]

    @property
    def edges(self) -> Edges:
        """How the grid continues beyond its rectangle."""
        return Edges(self.nj, self.ni, self.periodic_i, self.periodic_j, self.fold)

    @property
    def wet(self) -> np.ndarray:
        """True where any level is sea, shape (nj, ni)."""
        return np.asarray(self.tmask.any(axis=0))

    @property
    def bathymetry(self) -> np.ndarray:
        """Depth of the sea floor at rest, shape (nj, ni), m."""
        return (self.e3t * self.tmask).sum(axis=0)

    @property
    def cell_volume(self) -> np.ndarray:
        """Volume of the wet T cells at rest, shape (nk, nj, ni), m3."""
        return self.e1t * self.e2t * self.e3t * self.tmask

    @property
    def unstaggered(self) -> bool:
        """Whether velocities lie where T points lie, as in files of neXtSIM_DG."""
        pairs = ((self.glamu, self.glamt), (self.gphiu, self.gphit), (self.glamv, self.glamt), (self.gphiv, self.gphit))
        return all(np.array_equal(a, b) for a, b in pairs)

    def mask(self, point: str) -> np.ndarray:
        """Returns the mask at a point of the C-grid ("W" shares that of "T"), shape (nk, nj, ni)."""
        return getattr(self, {"T": "tmask", "U": "umask", "V": "vmask", "F": "fmask", "W": "tmask"}[point])

    def fingerprint(self) -> str:
        """Digests geometry, masks and edges to 16 hexadecimal digits, equal for equal grids on every machine."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.astype(value.dtype.newbyteorder("<"))
                digest.update(f"{field.name}{value.shape}".encode() + value.tobytes())
            else:
                digest.update(f"{field.name}={value};".encode())
        return digest.hexdigest()[:16]


def mean_depth(gdept: np.ndarray, tmask: np.ndarray) -> np.ndarray:
    """Averages the depth of each level over its wet cells; over all cells where a level has none.

    Arguments:
        gdept: Depth of T points, shape (nk, nj, ni), m.
        tmask: True in the sea, shape (nk, nj, ni).

    Returns:
        Shape (nk), m.
    """
    weight = np.where(tmask.any(axis=(1, 2), keepdims=True), tmask, True)
    return (gdept * weight).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))


def box_grid(
    nk: int,
    nj: int,
    ni: int,
    *,
    wet: np.ndarray | None = None,
    levels: np.ndarray | None = None,
    thickness: np.ndarray | None = None,
    e1: float = 1.0e5,
    e2: float = 1.0e5,
    latitude: float = 30.0,
    periodic_i: bool = False,
    periodic_j: bool = False,
    fold: str = "",
) -> Grid:
    """Builds a box of equal cells on a beta plane, for tests and idealised basins.

    .. math:: f(y) = 2 Omega (sin(phi_0) + cos(phi_0) y / a), y = 0 in the middle of the box

    Arguments:
        nk, nj, ni: Size of the grid.
        wet: Sea over all levels, shape (nj, ni); all cells if neither this nor `levels` is given.
        levels: Number of wet levels of each column, shape (nj, ni), in [0, nk].
        thickness: Of the levels, shape (nk), m; by default from 10 m, each 15 % thicker than the one above.
        e1, e2: Cell widths along i and j, m.
        latitude: phi_0, degrees.
        periodic_i, periodic_j, fold: Edges; see `Edges`. Masks are folded, so that repeated cells agree.

    Raises:
        ValueError: Both `wet` and `levels` are given, a shape is wrong, or the edges contradict each other.
    """
    edges = Edges(nj, ni, periodic_i, periodic_j, fold)
    tmask = _fold_field(edges, "T", _sea(nk, nj, ni, wet, levels))
    e3 = 10.0 * 1.15 ** np.arange(nk) if thickness is None else np.asarray(thickness, np.float64)
    if e3.shape != (nk,):
        raise ValueError(f"Argument thickness has shape {e3.shape}, expected ({nk},): give one thickness per level.")
    gdepw = np.cumsum(e3) - e3
    gdept = gdepw + 0.5 * e3
    e3w = np.diff(gdept, prepend=-gdept[0])
    geometry: dict[str, np.ndarray] = {}
    for point, dj, di in (("t", 0.0, 0.0), ("u", 0.0, 0.5), ("v", 0.5, 0.0), ("f", 0.5, 0.5)):
        geometry |= _plane(edges, point, dj, di, e1, e2, latitude)
    masks = {name: _fold_field(edges, name[0].upper(), mask) for name, mask in _face_masks(edges, tmask).items()}
    columns = {"e3t": e3, "e3u": e3, "e3v": e3, "e3w": e3w, "gdept": gdept, "gdepw": gdepw}
    return Grid(
        **geometry,
        tmask=tmask,
        **masks,
        **{name: np.broadcast_to(column[:, None, None], (nk, nj, ni)) for name, column in columns.items()},
        gdept_1d=gdept,
        periodic_i=periodic_i,
        periodic_j=periodic_j,
        fold=fold,
    )


def _sea(nk: int, nj: int, ni: int, wet: np.ndarray | None, levels: np.ndarray | None) -> np.ndarray:
    """Wet levels from either description."""
    if wet is not None and levels is not None:
        raise ValueError("Arguments wet and levels were both given, expected one: levels alone says all.")
    if levels is None:
        levels = np.where(np.ones((nj, ni), bool) if wet is None else np.asarray(wet, bool), nk, 0)
    levels = np.asarray(levels)
    if levels.shape != (nj, ni):
        raise ValueError(f"The sea of the box has shape {levels.shape}, expected ({nj}, {ni}): one value per column.")
    return np.arange(nk)[:, None, None] < levels


def _fold_field(edges: Edges, point: str, field: np.ndarray) -> np.ndarray:
    """Makes repeated cells of the last row equal to their canonical ones."""
    source, _ = edges.canonical(point, np.arange(edges.nj)[:, None], np.arange(edges.ni))
    return field.reshape(*field.shape[:-2], -1)[..., source]


def _face_masks(edges: Edges, tmask: np.ndarray) -> dict[str, np.ndarray]:
    """Faces and corners are open where all T cells around them are."""

    def shifted(dj: int, di: int) -> np.ndarray:
        source, _ = edges.canonical("T", np.arange(edges.nj)[:, None] + dj, np.arange(edges.ni) + di)
        return tmask.reshape(len(tmask), -1)[:, source] & (source >= 0)

    umask, vmask = tmask & shifted(0, 1), tmask & shifted(1, 0)
    return {"umask": umask, "vmask": vmask, "fmask": umask & vmask & shifted(1, 1)}


def _plane(
    edges: Edges, point: str, dj: float, di: float, e1: float, e2: float, latitude: float
) -> dict[str, np.ndarray]:
    """Coordinates, widths and Coriolis parameter at one point of the beta plane."""
    y = (np.arange(edges.nj)[:, None] + dj - 0.5 * (edges.nj - 1)) * e2
    x = (np.arange(edges.ni) + di) * e1
    phi = np.deg2rad(latitude)
    plane = {
        f"glam{point}": np.rad2deg(x / (EARTH_RADIUS * np.cos(phi))) + 0 * y,
        f"gphi{point}": latitude + np.rad2deg(y / EARTH_RADIUS) + 0 * x,
        f"e1{point}": e1 + 0 * x + 0 * y,
        f"e2{point}": e2 + 0 * x + 0 * y,
    }
    if point in "tf":
        plane[f"ff_{point}"] = 2.0 * OMEGA * (np.sin(phi) + np.cos(phi) * y / EARTH_RADIUS) + 0 * x
    return {name: _fold_field(edges, point.upper(), value) for name, value in plane.items()}
