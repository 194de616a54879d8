"""edge_tier.gateway.journal: what is remembered of an answer."""

from __future__ import annotations

import pytest

from edge_tier.gateway.journal import Journal, fits, split
from edge_tier.gateway.relay import StreamScan
from tests.fakes.chat_streams import read
from tests.fakes.gateway import Backend
from tests.fakes.going_on import TEXT, Worker
from wire.chat import ChunkEncoder
from wire.journal import JournalWanted, id_line

CHAT, PLAIN = ChunkEncoder("c", "m", 1), ChunkEncoder("c", "m", 1, "completion")


def journal(max_bytes: int = 1_000) -> Journal:
    return Journal("chatcmpl-1", 7, max_bytes=max_bytes)


def tell(into: Journal, *ids: int, text: str = "x", encoder: ChunkEncoder = CHAT) -> None:
    into.take(id_line(ids)[3:-1].strip(), encoder.delta(text)[6:-2])


def test_ids_are_kept_in_order_and_empty_lines_are_none() -> None:
    one = journal()
    for ids in ((), (5,), (6, 7), ()):
        tell(one, *ids, text="x" * len(ids))
    assert (one.ids(), one.gaps, one.lost) == ((5, 6, 7), False, "")
    assert one.filled(lambda _: []) == ((5, 6, 7), True)


@pytest.mark.parametrize("encoder", [CHAT, PLAIN])
def test_a_gap_is_filled_by_its_text_tokenized_again(encoder: ChunkEncoder) -> None:
    one = journal()
    tell(one, 5)
    tell(one, -3, 138, text="🌊", encoder=encoder)
    tell(one, 6)
    assert (one.ids(), one.gaps) == ((5, -3, 138, 6), True)
    assert one.filled(lambda text: list(text.encode())) == ((5, 240, 159, 140, 138, 6), True)
    ids, sure = one.filled(lambda _: [1, 2]) or ((), True)
    assert (ids, sure) == ((5, 1, 2, 6), False)


def test_what_fits_a_gap() -> None:
    assert fits((-2, 9), [7, 8, 9])
    assert not fits((-2, 9), [8, 9])
    assert not fits((-2, 9), [7, 8, 10])
    assert fits((1, -1, 3, -1), [1, 2, 3, 4])


def test_over_its_bound_it_is_lost_and_holds_nothing() -> None:
    one = journal(max_bytes=20)
    for _ in range(10):
        tell(one, 12_345)
    assert "longer" in one.lost
    assert len(one.lines) == 0
    wide = journal(max_bytes=40)
    tell(wide, -1, 5, text="y" * 20)
    assert wide.lost


def test_a_text_without_ids_is_no_journal() -> None:
    """Else who goes on would give it again."""
    one = journal()
    tell(one, 5)
    tell(one, text="untold")
    assert "does not tell" in one.lost
    fast = journal()
    fast.lines += b"5\n\n6\n"  # as the fast path does
    assert fast.ids() is None


def test_a_line_over_the_bound_is_not_even_read() -> None:
    one = journal(max_bytes=1_000)
    one.take(b"1," * 500_000 + b"1", None)
    assert "longer" in one.lost


def test_an_id_that_no_vocabulary_has_is_none() -> None:
    one = journal()
    one.lines += b"%d\n" % 2**31
    assert (one.filled(lambda _: []), one.ids()) == (None, None)


def test_only_the_first_reason_counts() -> None:
    one = journal()
    one.lose("first")
    one.lose("second")
    tell(one, 5)
    assert (one.lost, one.ids()) == ("first", ())


def test_what_is_no_id_is_noticed_at_once_or_when_it_is_read() -> None:
    one = journal()
    one.take(b"<b>", None)
    assert one.lost
    other = journal()
    other.lines += b"5\nsix\n"  # as the fast path does, which does not look
    assert other.filled(lambda _: []) is None
    assert other.ids() is None
    assert other.lost


@pytest.mark.parametrize("data", [b"", b"{", b'{"choices":3}', b"[" * 100_000, b"\xff"])
def test_a_gap_in_what_is_no_chunk_is_only_not_filled(data: bytes) -> None:
    one = journal()
    one.take(b"-1,5", data)
    assert one.filled(lambda text: list(text.encode())) == ((), False)


def test_an_event_and_its_ids() -> None:
    assert split(b"id: 5,6\ndata: x") == (b"5,6", b"data: x")
    assert split(b"id:-1,6\ndata: x") == (b"-1,6", b"data: x")
    assert split(b"data: x") == (None, b"data: x")


def test_what_is_asked_of_a_worker() -> None:
    assert journal().wanted() == JournalWanted(id="chatcmpl-1", created=7)


def test_the_text_goes_on_wherever_a_stream_is_cut() -> None:
    """At every byte of it: what the client has, and what follows after the journal, is the text."""
    other = Worker("w", Backend("w"), "r")
    name = {"id": "chatcmpl-1", "created": 7}
    whole = other.whole({"prompt_token_ids": (1,), "journal": name})
    assert whole is not None
    for cut in range(len(whole)):
        one = journal()
        scan = StreamScan(keep_usage=False, journal=one)
        begun = scan.feed(whole[:cut])
        scan.restart()
        if one.finished:
            assert read(begun)[0] == TEXT
            continue
        ids = one.ids()
        assert ids is not None
        goes_on = name | {"ids": ids, "begun": scan.events > 0, "replay": True}
        rest = other.whole({"prompt_token_ids": (1,), "journal": goes_on})
        assert rest is not None
        text, reason, done = read(begun + scan.feed(rest))
        assert (text, reason, done) == (TEXT, "stop", True)
        assert (one.finished, one.lost) == (True, "")
