"""Where things are: the grid, its lattice of tiles, who owns them, and what moves between their owners."""
