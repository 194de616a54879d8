"""A look at the channel: what the signed metadata say now, as the rules of a roll want it told."""

from __future__ import annotations

from gpu_worker.roll_events import Looked, LookFailed
from wire.errors import HeadwaterError
from wire.trust import TrustView
from wire.trust_client import TrustClient


async def look_at(trust: TrustClient, model: str, channel: str) -> Looked | LookFailed:
    """The newest that can be had, or else what was verified earlier."""
    try:
        view, doubt = await _view(trust)
        pointer = view.pointer(model, channel)
    except HeadwaterError as error:
        return LookFailed(told(error))
    signed = frozenset(revision for name, revision in view.revisions if name == model)
    stale = ""
    try:
        view.require_grace()
    except HeadwaterError as error:
        stale = told(error)
    return Looked(pointer=pointer, signed=signed, stale=stale, doubt=doubt)


def told(error: HeadwaterError) -> str:
    """An error as it is reported."""
    return f"{error.code}: {error.message}"


async def _view(trust: TrustClient) -> tuple[TrustView, str]:
    """Raises ``HeadwaterError`` where nothing was ever verified."""
    try:
        return await trust.refresh(), ""
    except HeadwaterError as error:
        if (view := trust.view) is None:
            raise
        return view, f"serving what was verified earlier: {told(error)}"
