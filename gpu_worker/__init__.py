"""Pulls, loads, serves and swaps models on a GPU machine."""
