"""Which revision a caller meets while a canary is tried on callers (``wire.channel.Canary``). Pure.

The share is one of callers by the id of their key (of a JWT: by its subject), which stays the same
when a key gets a new secret, and is the same at every edge. Callers in the share go to workers with
the canary's revision, and to the stable one where no such worker is left. All others never meet the
canary's revision, even where nobody else could answer them.
"""

from __future__ import annotations

from typing import NamedTuple

from wire.channel import Canary


class Lane(NamedTuple):
    """The revisions that a caller may meet."""

    only: str = ""
    """The one that it should; empty: any."""
    never: str = ""
    """The one that it must not; empty: none."""


ANYWHERE = Lane()


def lane_of(canary: Canary | None, caller: str) -> Lane:
    """The lane of a caller, by the id of its key."""
    if canary is None or canary.by != "callers":
        return ANYWHERE
    if canary.takes(caller):
        return Lane(only=canary.revision)
    return Lane(never=canary.revision)
