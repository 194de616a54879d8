"""What holds for all tests."""

from __future__ import annotations

import gc

from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code. Where ``CI``
# is set Hypothesis takes the same examples each time; elsewhere each run tries others.
settings.register_profile("headwater", settings.default, deadline=None, print_blob=True)
settings.load_profile("headwater")


def pytest_collection_finish() -> None:
    """Ten thousand collected tests live until the end: the garbage collector need not look at them
    again and again."""
    gc.collect()
    gc.freeze()
