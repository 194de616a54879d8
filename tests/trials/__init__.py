"""Trials on real systems, which CI does not run: each needs root and a network."""
