"""What holds for all tests."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code. Where ``CI``
# is set Hypothesis takes the same examples each time; elsewhere each run tries others. Who has
# touched a parser looks longer: ``make hunt``.
usual = settings(settings.default, deadline=None, print_blob=True, max_examples=50)
settings.register_profile("headwater", usual)
settings.register_profile("hunt", usual, max_examples=2_000, derandomize=False)
settings.load_profile("headwater")

_absent = str(Path(__file__).parent / "fakes" / "absent")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_absent, os.environ.get("PYTHONPATH"))))


def pytest_collection_finish() -> None:
    """Ten thousand collected tests live until the end: the garbage collector need not look at them
    again and again."""
    gc.collect()
    gc.freeze()
