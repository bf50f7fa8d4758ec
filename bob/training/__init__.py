"""Training: data, optimiser, loop, environment."""
