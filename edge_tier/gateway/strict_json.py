"""JSON of a signed token, read so that no two readers can differ on it."""

from __future__ import annotations

import json
from typing import Any


def strict_object(data: bytes) -> dict[str, Any]:
    """A JSON object without a name that stands twice, at any depth, and without NaN or infinities.

    RFC 8259 leaves open what a repeated name means; RFC 7519 section 4 lets us refuse it. Callers
    bound the size, and with it the depth.

    Raises:
        ValueError: not such an object.
    """
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_twins, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")
