"""A rollout from outside: who asks for it, and following it to its end."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from infra.roll_view import of_id
from origin.admin_client import OriginAdmin
from wire.errors import NameInvalidError, NotFoundError, SourceUnavailableError

POLL_S = 0.25
_OVER = frozenset({"done", "aborted", "superseded"})
Told = Callable[[Mapping[str, Any]], None]
"""Given what the origin says, each time it was asked; ``{}`` while it does not answer."""


def operator() -> str:
    """Who gives the command, for the record: ``user@machine``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:128]


def percent_of(text: str) -> int:
    """A share as people write it: ``10%`` or ``10``; empty: 0.

    Raises:
        NameInvalidError: not 1 to 99.
    """
    if not text:
        return 0
    digits = text.strip().removesuffix("%").strip()
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits[:4]) <= 99):
        raise NameInvalidError(f"a canary takes 1% to 99%, not {text[:20]!r}")
    return int(digits)


def follow(
    admin: OriginAdmin,
    begun: Mapping[str, Any],
    told: Told = lambda _: None,
    *,
    poll_s: float = POLL_S,
) -> dict[str, Any]:
    """Wait until a rollout is over; how it ended. An origin that is away, or starts again, is
    waited for: the rollout goes on with it.

    Raises:
        NotFoundError: the origin has forgotten it.
    """
    id, model, channel = begun["id"], begun["model"], begun["channel"]  # noqa: A001
    while True:
        try:
            found = admin.rollout(model, channel)
        except SourceUnavailableError:
            told({})
            time.sleep(poll_s)
            continue
        told(found)
        one = of_id(found, id)
        if one is None:
            raise NotFoundError(f"the origin has forgotten the roll {id} of {model}@{channel}")
        if one["stage"] in _OVER:
            return one
        time.sleep(poll_s)
