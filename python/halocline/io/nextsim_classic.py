"""Restarts of classic (Lagrangian) neXtSIM: triangles and their variables, every record of them.

A restart is a mesh and its fields, each a pair of files: NAME.bin chains records of an int32 count and as many values
in the byte order of the machine, NAME.dat has one line for each, in the same order: name, type, count, smallest and
largest value. The model stops at a record that is missing, so a changed restart keeps all others as they were.

`M_thick` and `M_snow_thick` are volumes per cell area, `M_damage` is 0 where the ice is intact, both as in Halocline;
what the model calls young ice is not in them. `M_VT` holds x and then y components on nodes.

Reference: neXtSIM, ``core/src/exporter.cpp``, ``readRestart`` in ``model/finiteelement.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from halocline.io.atomic import atomic_paths

__all__ = ["ELEMENT_NAMES", "STRESS", "packed", "pair", "read_records", "replace_ice", "write_records"]

TYPES: dict[str, np.dtype] = {"int": np.dtype(np.int32), "float": np.dtype(np.float32), "double": np.dtype(np.float64)}
COUNT = np.dtype(np.int32)

STRESS = {"stress_xx": "M_sigma_0", "stress_yy": "M_sigma_1", "stress_xy": "M_sigma_2"}
"""Record of each component of the stress."""

ELEMENT_NAMES = {
    "concentration": "M_conc",
    "thickness": "M_thick",
    "snow": "M_snow_thick",
    "damage": "M_damage",
    **STRESS,
}
"""Record of each variable that lies on triangles."""

LIMITS = {"concentration": (0.0, 1.0), "thickness": (0.0, np.inf), "snow": (0.0, np.inf), "damage": (0.0, 1.0)}


def read_records(stem: Path | str) -> dict[str, np.ndarray]:
    """Reads all records of a pair of files.

    Arguments:
        stem: Name without .bin and .dat, such as `restart/field_final`.

    Returns:
        Record name to its values, in the order of the files.

    Raises:
        FileNotFoundError: One of the pair does not exist.
        ValueError: They contradict each other.

    Collective: no.
    """
    binary, index = pair(stem)
    for path in (binary, index):
        if not path.is_file():
            raise FileNotFoundError(f"File {path} does not exist, expected the pair .bin and .dat: restore it.")
    content = binary.read_bytes()
    records: dict[str, np.ndarray] = {}
    place = 0
    for line in index.read_text().splitlines():
        name, kind, count = _entry(line, index)
        start, place = place + COUNT.itemsize, place + COUNT.itemsize + count * kind.itemsize
        if place > len(content):
            raise ValueError(
                f"File {binary} ends after {len(content)} bytes within record {name}, expected {count} values by "
                f"{index.name}: it is cut off; restore it."
            )
        found = int(np.frombuffer(content[start - COUNT.itemsize : start], COUNT)[0])
        if found != count:
            raise ValueError(
                f"Record {name} of {binary} has {found} values, expected {count} by {index.name}: the two files are "
                "not of one restart; restore them."
            )
        records[name] = np.frombuffer(content[start:place], kind).copy()
    if place != len(content):
        raise ValueError(
            f"File {binary} has {len(content)} bytes, expected {place} by {index.name}: the two files are not of one "
            "restart; restore them."
        )
    return records


def write_records(stem: Path | str, records: Mapping[str, np.ndarray]) -> None:
    """Writes a pair of files, both whole or none.

    Arguments:
        stem: Name without .bin and .dat.
        records: See `packed`.

    Raises:
        ValueError: A record is of another type.
        OSError: A file cannot be written; see `atomic_path`.

    Collective: no, one rank writes.
    """
    content, index = packed(records)
    with atomic_paths(pair(stem)) as files:
        files[0].write_bytes(content)
        files[1].write_text(index)


def packed(records: Mapping[str, np.ndarray]) -> tuple[bytes, str]:
    """Makes the content of a pair of files, .bin and .dat.

    Arguments:
        records: Values of type int32, float32 or float64 by name, in the order in which the model reads them.

    Raises:
        ValueError: A record is of another type.

    Collective: no.
    """
    lines, pieces = [], []
    for name, values in records.items():
        values = np.asarray(values)
        kinds = [word for word, kind in TYPES.items() if kind == values.dtype]
        if not kinds or values.ndim != 1:
            raise ValueError(
                f"Record {name} has shape {values.shape} and type {values.dtype}, expected one dimension of int32, "
                "float32 or float64: convert it."
            )
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        lines.append(f"{name} {kinds[0]} {values.size} {low:g} {high:g}\n")
        pieces += [COUNT.type(values.size).tobytes(), values.tobytes()]
    return b"".join(pieces), "".join(lines)


def replace_ice(records: Mapping[str, np.ndarray], fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Puts a state of the ice into the records of a restart, whose other records stay.

    Values are cut to their bounds; where there is no ice, concentration, thickness and snow are all 0.

    Arguments:
        records: Of a `field_` file.
        fields: Any of concentration, thickness, snow, damage (0 intact) and components of the stress [Pa] on
            triangles, shape (element), in the order of the mesh.

    Raises:
        ValueError: A field is unknown, not finite, or of another size than its record, or the restart lacks it.

    Collective: no.
    """
    changed = dict(records)
    for name, x in fields.items():
        record = ELEMENT_NAMES.get(name, name)
        if name not in ELEMENT_NAMES or record not in records:
            raise ValueError(
                f"Variable {name} has no record in the restart, expected some of {', '.join(ELEMENT_NAMES)} and their "
                "records: name a field_ file of the model."
            )
        old = records[record]
        if np.shape(x) != old.shape or not np.isfinite(x).all():
            raise ValueError(
                f"{name} has shape {np.shape(x)} and {int((~np.isfinite(x)).sum())} values that are not finite, "
                f"expected {old.shape} finite ones: give one value for each triangle."
            )
        changed[record] = np.clip(x, *LIMITS.get(name, (-np.inf, np.inf))).astype(old.dtype)
    ice = [ELEMENT_NAMES[name] for name in ("concentration", "thickness", "snow")]
    if {"concentration", "thickness"} & set(fields) and all(record in changed for record in ice):
        bare = (changed[ice[0]] == 0.0) | (changed[ice[1]] == 0.0)
        changed |= {record: np.where(bare, 0, changed[record]).astype(changed[record].dtype) for record in ice}
    return changed


def pair(stem: Path | str) -> tuple[Path, Path]:
    """The two files of a name."""
    return Path(f"{stem}.bin"), Path(f"{stem}.dat")


def _entry(line: str, index: Path) -> tuple[str, np.dtype, int]:
    """Name, type and count of a record.

    Raises:
        ValueError: The line is not one of a .dat file.
    """
    words = line.split()
    if len(words) < 3 or words[1] not in TYPES or not words[2].isdigit():
        raise ValueError(
            f"Line '{line}' of {index} is not 'name type count ...' with a type of {', '.join(TYPES)}: restore the "
            "file."
        )
    return words[0], TYPES[words[1]], int(words[2])
