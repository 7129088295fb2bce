"""Checkpoints of a training: folders that are whole or not there, and that any layout can read.

::

    RUN/checkpoints/step-0001200/
        manifest.json                        written last: step, files with sizes and checksums, what lies where
        weights-0001-of-0004.safetensors     one file per kind and rank, 1-D ranges of parameters
        averages-0001-of-0004.safetensors    …

All ranks write into a folder of another name, which is renamed when everything is on disk. What a kill, a full disk
or a lost file leaves behind is never taken for a checkpoint. A reader asks for ranges of parameters, so that ranks
and ZeRO stage may have changed since.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from halocline import __version__
from halocline.io.atomic import atomic_path
from halocline.io.tensors import save_tensors
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.shards import KINDS, Shards

__all__ = ["Checkpoint", "find_checkpoint", "mark_best", "newest_checkpoint", "remove_old", "write_checkpoint"]

FORMAT = 1
FOLDER = "checkpoints"
PART = ".part"  # at the end of the name of a folder that is being written


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, whole as far as names and sizes tell.

    Attributes:
        folder: Where it is.
        manifest: What it says of itself.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Reads the manifest and looks for the files.

        Raises:
            ValueError: It is not whole, or of another format; the sentence says why.

        Collective: no.
        """
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest.pop("crc32") != checksum_of_text(manifest):
                raise ValueError("it does not match its checksum")
            found = manifest["format"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"Checkpoint {folder} has no manifest that can be read ({error}).") from error
        if found != FORMAT:
            raise ValueError(
                f"Checkpoint {folder} has format {found}, expected {FORMAT}: it was written by Halocline "
                f"{manifest.get('version', 'unknown')}, this is {__version__}; use that version, or train again."
            )
        for name, file in manifest["files"].items():
            size = (folder / name).stat().st_size if (folder / name).is_file() else None
            if size != file["bytes"]:
                raise ValueError(f"Checkpoint {folder}: {name} has {size} bytes, expected {file['bytes']}.")
        return cls(folder, manifest)

    @property
    def step(self) -> int:
        """Optimiser steps behind it."""
        return int(self.manifest["step"])

    def verify(self, comm: Communicator | Serial) -> None:
        """Compares the files with their checksums; the ranks share them.

        Raises:
            ValueError: One differs.

        Collective: yes.
        """
        with comm.together():
            for name, file in list(self.manifest["files"].items())[comm.rank :: comm.size]:
                if checksum(self.folder / name) != file["crc32"]:
                    raise ValueError(f"Checkpoint {self.folder}: {name} does not match its checksum.")

    @cached_property
    def _places(self) -> dict[tuple[str, str], list[tuple[int, int, str]]]:
        places: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
        for file, entry in self.manifest["files"].items():
            for name, start, count in entry["pieces"]:
                places.setdefault((entry["kind"], name), []).append((start, count, file))
        return {key: sorted(found) for key, found in places.items()}

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Reads a range of a parameter.

        Arguments:
            kind: One of `KINDS`.
            name: Of the parameter.
            start, count: Values, in one dimension.

        Raises:
            ValueError: The checkpoint has not all of them: it is of another network.

        Collective: no.
        """
        values, filled = np.empty(count, np.float32), 0
        for first, length, file in self._places.get((kind, name), []):
            a, b = max(first, start), min(first + length, start + count)
            if a < b:
                with safetensors.safe_open(self.folder / file, "np") as opened:
                    piece = opened.get_slice(key(name, first))[a - first : b - first]
                values[a - start : b - start] = piece
                filled += b - a
        if filled != count:
            raise ValueError(
                f"Checkpoint {self.folder} has {filled} values of {kind} of {name} from {start} on, expected {count}: "
                "it is of another network; restore the configuration of its run."
            )
        return torch.from_numpy(values)

    def whole(self, kind: str) -> dict[str, Tensor]:
        """Reads all parameters, in their shapes.

        Collective: no.
        """
        shapes = self.manifest["parameters"]
        return {
            name: self.read(kind, name, 0, int(np.prod(shape, dtype=np.int64))).reshape(shape)
            for name, shape in shapes.items()
        }


def key(name: str, start: int) -> str:
    """Name of a range in a file."""
    return f"{name}@{start}"


def write_checkpoint(
    run: Path,
    step: int,
    shards: Shards,
    shapes: dict[str, Sequence[int]],
    about: dict[str, Any],
    comm: Communicator | Serial,
) -> Checkpoint:
    """Writes a checkpoint, whole or not at all.

    Arguments:
        run: Run folder.
        step: Optimiser steps made.
        shards: Of this rank.
        shapes: Of all parameters.
        about: What else the manifest holds.

    Raises:
        OSError: The disk is full or may not be written to; older checkpoints stand.

    Collective: yes.
    """
    final = run / FOLDER / f"step-{step:07d}"
    part = final.with_name(f".{final.name}{PART}")
    with comm.together():
        if comm.is_root:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
    try:
        with comm.together():
            mine = write_files(part, shards, comm.rank, comm.size)
        files = comm.gather(mine)
        with comm.together():
            if files is not None:
                known = {
                    "format": FORMAT, "version": __version__, "step": step, "ranks": comm.size,
                    "parameters": shapes, "files": {k: v for each in files for k, v in each.items()}, **about,
                }  # fmt: skip
                move_into_place(part, final, known)
    finally:
        if comm.is_root:
            shutil.rmtree(part, ignore_errors=True)
    with comm.together():
        return Checkpoint.open(final)


def write_files(part: Path, shards: Shards, rank: int, ranks: int) -> dict[str, dict[str, Any]]:
    """Writes this rank's values, one file per kind, and returns what the manifest says of them."""
    made = {}
    for kind in KINDS:
        pieces = [(piece, values) for piece, values in shards.tensors(kind) if piece.count]
        if not pieces:  # more ranks than values
            continue
        name = f"{kind}-{rank + 1:04d}-of-{ranks:04d}.safetensors"
        with atomic_path(part / name) as temporary:
            values = {key(p.name, p.start): v.cpu().reshape(-1).numpy() for p, v in pieces}
            save_tensors(temporary, values)
            check = checksum(temporary)
            size = temporary.stat().st_size
        places = [[piece.name, piece.start, piece.count] for piece, _ in pieces]
        made[name] = {"kind": kind, "bytes": size, "crc32": check, "pieces": places}
    return made


def move_into_place(part: Path, final: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest and gives the folder its name."""
    write_manifest(part, manifest)
    if final.exists():  # of an earlier run to this step, on another layout
        old = final.with_name(f".{final.name}.old{PART}")
        os.replace(final, old)
        shutil.rmtree(old)
    os.replace(part, final)
    with contextlib.suppress(OSError):  # some network file systems refuse it; the files are in place
        handle = os.open(final.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes what a checkpoint says of itself, with a checksum."""
    with atomic_path(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest | {"crc32": checksum_of_text(manifest)}))


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def checksum_of_text(values: dict[str, Any]) -> int:
    """CRC-32 of what JSON makes of a dictionary."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def folders(run: Path) -> list[Path]:
    """Checkpoints of a run, the newest first, whether whole or not."""
    return sorted((run / FOLDER).glob("step-*"), reverse=True)


def newest_checkpoint(run: Path, comm: Communicator | Serial) -> tuple[Checkpoint | None, list[str]]:
    """Finds the newest checkpoint that is whole, down to its checksums.

    Returns:
        It, or None where there is no folder of a checkpoint; and why newer ones were passed over.

    Raises:
        ValueError: There are checkpoints, and none is whole.

    Collective: yes.
    """
    reasons: list[str] = []
    for folder in comm.broadcast(folders(run) if comm.is_root else None):
        try:
            with comm.together():
                checkpoint = Checkpoint.open(folder)
            checkpoint.verify(comm)
        except ValueError as error:
            reasons.append(str(error))
            continue
        return checkpoint, reasons
    if reasons:
        raise_everywhere(run, reasons, comm)
    return None, reasons


def raise_everywhere(run: Path, reasons: Sequence[str], comm: Communicator | Serial) -> None:
    """Refuses a run whose checkpoints are all damaged."""
    with comm.together():
        raise ValueError(
            f"Run folder {run} has no checkpoint that is whole. {' '.join(reasons)} Restore one, or choose another "
            "output."
        )


def find_checkpoint(run: Path, which: str) -> Checkpoint:
    """Finds a checkpoint by name.

    Arguments:
        run: Run folder.
        which: "last", "best" (by its score in validation), or the number of its step.

    Raises:
        ValueError: There is no such checkpoint; the sentence names those that there are.

    Collective: no.
    """
    steps = [folder.name.removeprefix("step-") for folder in folders(run)]
    best = read_best(run)
    wanted = {"last": steps[0] if steps else None, "best": None if best is None else f"{best:07d}"}
    name = wanted.get(which, which.zfill(7))
    if name is None or name not in steps:
        raise ValueError(
            f"Run folder {run} has no checkpoint '{which}', expected one of steps {', '.join(steps) or 'none'}, or "
            "last, or best where it was validated: correct `checkpoint`."
        )
    return Checkpoint.open(run / FOLDER / f"step-{name}")


def read_best(run: Path) -> int | None:
    """Step of the best checkpoint, None if it was never told."""
    try:
        return int(json.loads((run / FOLDER / "best.json").read_text())["step"])
    except (OSError, ValueError, KeyError):
        return None


def mark_best(run: Path, step: int, score: float) -> None:
    """Says which checkpoint is the best.

    Collective: no, one rank writes.
    """
    with atomic_path(run / FOLDER / "best.json") as temporary:
        temporary.write_text(json.dumps({"step": step, "score": score}))


def remove_old(run: Path, keep: int) -> None:
    """Removes all but the last `keep` checkpoints and the best, and what killed runs have left.

    Collective: no, one rank removes.
    """
    best = f"step-{read_best(run) or 0:07d}"
    for folder in [folder for folder in folders(run) if folder.name != best][keep:]:
        shutil.rmtree(folder, ignore_errors=True)
    for rest in (run / FOLDER).glob(f".*{PART}"):
        shutil.rmtree(rest, ignore_errors=True)

