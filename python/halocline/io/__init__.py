"""The border: the only room that reads and writes model files and netCDF."""

from halocline.io.libraries import load_netcdf

load_netcdf()
