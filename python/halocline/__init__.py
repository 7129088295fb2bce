"""Generates ocean and sea-ice states on the grid of a numerical model, spread over MPI ranks."""

__version__ = "0.1.0"
