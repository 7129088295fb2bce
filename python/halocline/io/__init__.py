"""The border: the only room that reads and writes model files and netCDF."""
