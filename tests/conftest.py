"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code. Where ``CI``
# is set Hypothesis takes the same examples each time; elsewhere each run tries others.
settings.register_profile("headwater", settings.default, deadline=None, print_blob=True)
settings.load_profile("headwater")
