"""neXtSIM's files: the names that other rooms use."""

from halocline.io.nextsim_files import is_dg
from halocline.io.nextsim_grid import read_grid
from halocline.io.nextsim_start import write_start
from halocline.io.nextsim_states import holds_nextsim, open_states, read_states

__all__ = ["holds_nextsim", "is_dg", "open_states", "read_grid", "read_states", "write_start"]
