"""What the scripted model must answer."""

from __future__ import annotations

from tests.fakes.scripted_gguf import SCRIPT
from wire.golden import MAX_NATS, MEAN_NATS, Expectations, GoldenPrompt, GoldenToken


def expecting(text: str = SCRIPT[:4], *, logprob: float = -0.1) -> Expectations:
    """One prompt, and one token a byte of the text."""
    answer = tuple(GoldenToken(byte, bytes([byte]), logprob) for byte in text.encode())
    return Expectations((GoldenPrompt(ids=(0,), text="a"),), (answer,), MAX_NATS, MEAN_NATS)
