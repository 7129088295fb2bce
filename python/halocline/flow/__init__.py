"""How to generate: paths, noise, networks, denoisers and samplers."""
