from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.chunked import LAST, Dechunker, frame
from wire.errors import SourceUnavailableError

PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
CUTS = st.lists(st.integers(0, 500), max_size=8)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(PIECES, CUTS)
def test_what_was_framed_comes_out_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    dechunker = Dechunker()
    wire = b"".join(map(frame, pieces)) + LAST
    assert b"".join(map(dechunker.feed, cut(wire, cuts))) == b"".join(pieces)
    assert dechunker.ended


@given(PIECES, CUTS)
def test_boundaries_are_known(pieces: list[bytes], cuts: list[int]) -> None:
    dechunker, sent = Dechunker(), 0
    wire = b"".join(map(frame, pieces))
    ends = {0} | {sum(len(frame(p)) for p in pieces[: n + 1]) for n in range(len(pieces))}
    for piece in cut(wire, cuts):
        dechunker.feed(piece)
        sent += len(piece)
        assert dechunker.at_boundary == (sent in ends)


def test_nothing_is_no_chunk() -> None:
    assert frame(b"") == b""


def test_extensions_and_trailers_are_dropped() -> None:
    dechunker = Dechunker()
    assert dechunker.feed(b"3;name=value\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n") == b"abc"
    assert dechunker.ended


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n",
        b"-3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"1_0\r\n",
        b"\r\n",
        b"3\r\nabcd\r\n",
        b"ffffffffff\r\n",
        b"3" * 300,
        b"0\r\n" + b"x" * 5_000,
        LAST + b"3\r\n",
    ],
)
def test_what_is_no_chunked_coding_is_refused(data: bytes) -> None:
    with pytest.raises(SourceUnavailableError):
        Dechunker().feed(data)
