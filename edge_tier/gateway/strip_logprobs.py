"""Takes log-probabilities out of streamed events: asked for by us, not by the client.

Only the value is cut; every other byte of the event stays as the engine wrote it.
"""

from __future__ import annotations

import re

import msgspec

from edge_tier.gateway.event_blocks import data_of
from wire.sse import encode

_SET = re.compile(rb'"logprobs"\s*:\s*\{')
# Inside a JSON string a quote is escaped, so this finds keys only.
_KEY = re.compile(rb'"logprobs"\s*:\s*')


class _Choice(msgspec.Struct, frozen=True):
    logprobs: msgspec.Raw = msgspec.Raw(b"null")


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Chunk).decode


def carries_logprobs(data: bytes) -> bool:
    """Whether events may carry any; costs next to nothing."""
    return _SET.search(data) is not None


def without_logprobs(block: bytes) -> bytes:
    """One event with ``null`` for its choices' logprobs; what is no chunk stays as it is."""
    found = _SET.search(block)
    if found is None:
        return block
    data = data_of(block)
    if data is None:
        return block
    try:
        choices = _decode(data).choices
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return block
    values = [bytes(choice.logprobs) for choice in choices]
    at = found.end() - 1
    if len(values) == 1 and values[0][:1] == b"{" and block.startswith(values[0], at):
        return b"%bnull%b" % (block[:at], block[at + len(values[0]) :])
    cut = _cut(data, values)
    return block.replace(data, cut, 1) if data in block else encode(cut)


def _cut(data: bytes, values: list[bytes]) -> bytes:
    """``data`` with ``null`` for each of ``values``, which follow their keys in this order."""
    pieces, at = [], 0
    for value in values:
        if value[:1] != b"{":
            continue
        for key in _KEY.finditer(data, at):
            if data.startswith(value, key.end()):
                pieces += [data[at : key.end()], b"null"]
                at = key.end() + len(value)
                break
    return b"".join((*pieces, data[at:]))
