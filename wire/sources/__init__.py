"""Behaviours as wrappers around a ``Source``, one small file each."""
