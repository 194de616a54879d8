"""Engines a worker can drive, a file each."""
