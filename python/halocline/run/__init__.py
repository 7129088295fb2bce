"""The jobs: straight scripts of named calls, one module per job."""
