"""`halocline export`: the generator of a checkpoint as a folder that is small enough to share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halocline.mesh.communicator import Communicator, Serial
from halocline.run.checkpoints import find_checkpoint
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.run_folder import WEIGHTS, load_generator, save_generator, start_run_folder

__all__ = ["export"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `halocline export`; see its help."""

    output: str
    checkpoint: str | int = "last"


def export(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Writes the averaged weights of a checkpoint with all that sampling needs, and nothing else.

    Raises:
        ValueError, OSError: There is no such checkpoint, or the folder is that of another run or may not be written to.

    Collective: yes, one rank writes.
    """
    with comm.together():
        options = build(ExportOptions, apply_overrides({}, parse_overrides(arguments)), "")
        if comm.is_root:
            folder = Path(options.output)
            if (folder / "checkpoints").exists():
                raise ValueError(f"Folder {folder} is one in which a training runs: choose another output.")
            checkpoint = find_checkpoint(run, str(options.checkpoint))
            checkpoint.verify(Serial())
            generator = replace(load_generator(run), step=checkpoint.step)
            start_run_folder(folder, generator)
            save_generator(folder, generator, checkpoint.whole("averages"))
            size = sum(file.stat().st_size for file in folder.iterdir())
            print(f"step {checkpoint.step}: {folder / WEIGHTS}, {size / 2**20:.1f} MiB with its grid and configuration")
