"""NEMO's files: the names that other rooms use."""

from halocline.io.nemo_grid import read_grid
from halocline.io.nemo_output import read_member, standard_names_of, write_states
from halocline.io.nemo_restart import read_restart, write_restart
from halocline.io.nemo_states import States, open_states, read_states

__all__ = [
    "States",
    "open_states",
    "read_grid",
    "read_member",
    "read_restart",
    "read_states",
    "standard_names_of",
    "write_restart",
    "write_states",
]
