"""How to condition: denoisers around a denoiser, which make a sample meet what is known of it."""
