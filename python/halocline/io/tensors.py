"""Files of named tensors: plain safetensors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

__all__ = ["save_tensors"]


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, str] | None = None) -> None:
    """Writes named arrays and a header of text.

    Raises:
        OSError, RuntimeError: It cannot be written; `atomic_path` tells where.

    Collective: no.
    """
    try:
        safetensors.numpy.save_file(dict(tensors), path, None if header is None else dict(header))
    except safetensors.SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise RuntimeError(str(error)) from error
