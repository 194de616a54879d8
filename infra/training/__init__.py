"""Fits the small models that the project ships. Nothing here runs when serving."""
