"""edge_tier.gateway.passthrough: from socket to socket, in the chunked coding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.chunked import LAST, Dechunker, frame
from edge_tier.gateway.journal import Journal
from edge_tier.gateway.passthrough import Passthrough
from edge_tier.gateway.relay import StreamScan
from tests.fakes.chat_streams import cut
from wire.chat import DONE, ChunkEncoder, error_event
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.journal import id_line

ENCODER = ChunkEncoder("chatcmpl-1", "m", 1)
PLAIN = [
    ENCODER.role(),
    ENCODER.delta("Hello"),
    ENCODER.delta(' "usage": x'),
    ENCODER.finish("stop"),
]
STREAM = b"".join([*PLAIN, ENCODER.usage(7, 5), DONE])


class Passed:
    """What a passthrough gave to the client, and what it told."""

    def __init__(self, scan: StreamScan) -> None:
        self.chunks: list[bytes] = []
        self.failures: list[HeadwaterError] = []
        self.ended = 0
        through, told = Passthrough(scan), (self.chunks.append, self._end, self.failures.append)
        if scan.journal is None:
            self.take = through.sink(*told)
        else:
            self.take = through.journaled_sink(scan.journal, *told)

    def _end(self) -> None:
        self.ended += 1


def test_events_are_counted_and_not_what_they_say() -> None:
    event = b'data:{"choices":[{"delta":{"content":"data: data: data:"}}]}\n\n'
    scan = StreamScan(keep_usage=True)
    assert scan.feed(event * 3) == event * 3
    assert scan.events == 3
    send: list[bytes] = []
    through = StreamScan(keep_usage=True)
    take = Passthrough(through).sink(send.append, lambda: None, lambda _: None)
    take(frame(event))
    take(frame(event))
    assert (send, through.events) == ([frame(event)] * 2, 2)


@given(
    st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.integers(0, 5000), max_size=6),
    st.booleans(),
)
def test_a_stream_in_chunks_passes_as_one_without_them(
    cuts: list[int], chunk_cuts: list[int], keep_usage: bool
) -> None:
    """Whatever the backend's chunks and the network's pieces are."""
    plain, through = StreamScan(keep_usage=keep_usage), StreamScan(keep_usage=keep_usage)
    wire = b"".join(map(frame, cut(STREAM, chunk_cuts))) + LAST
    client, passed = Dechunker(), Passed(through)
    for piece in filter(None, cut(wire, cuts)):  # a socket never gives nothing
        passed.take(piece)
    assert client.feed(b"".join(passed.chunks)) == plain.feed(STREAM)
    assert client.at_boundary
    assert passed.ended == 1
    assert passed.failures == []
    assert (through.usage, through.events, through.done) == (plain.usage, plain.events, True)


def test_a_chunk_of_one_plain_event_is_not_even_copied() -> None:
    scan = StreamScan(keep_usage=False)
    passed = Passed(scan)
    events = [frame(ENCODER.delta(text)) for text in ("a", "b", 'a "quote"', "", "[DONE]", "c")]
    for event in events:
        passed.take(event)
    assert all(sent is event for sent, event in zip(passed.chunks[:4], events, strict=False))
    assert passed.chunks == events
    assert scan.events == 6
    assert not scan.done


def test_an_event_that_is_not_whole_waits_for_its_rest() -> None:
    scan = StreamScan(keep_usage=False)
    passed, half = Passed(scan), len(PLAIN[1]) // 2
    passed.take(frame(PLAIN[1][:half]))
    assert passed.chunks == []
    passed.take(frame(PLAIN[1][half:]))
    assert passed.chunks == [frame(PLAIN[1])]
    assert scan.events == 1


def test_chunks_that_are_none_end_the_stream() -> None:
    passed = Passed(StreamScan(keep_usage=False))
    passed.take(b"xyz\r\nab\r\n")
    assert [type(error) for error in passed.failures] == [SourceUnavailableError]
    assert passed.chunks == []


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(0, 5), st.binary())
def test_what_looks_like_the_events_before_it_is_seen_through(
    texts: list[str], at: int, noise: bytes
) -> None:
    """Bytes put anywhere into an event make no difference to what the scan knows."""
    events = [ENCODER.delta(text) for text in texts]
    place = at % len(events)
    where = len(events[place]) // 2
    events[place] = events[place][:where] + noise + events[place][where:]
    chunks = [frame(event) for event in events]
    plain, through = StreamScan(keep_usage=False), StreamScan(keep_usage=False)
    passed, client = Passed(through), Dechunker()
    for chunk in chunks:
        passed.take(chunk)
    if b"\r" in noise or b"data: " in noise:
        return  # written anew, or counted as more events
    assert client.feed(b"".join(passed.chunks)) == b"".join(plain.feed(e) for e in events)
    assert (through.done, through.failed, through.usage) == (plain.done, plain.failed, plain.usage)


def journaled() -> tuple[StreamScan, Journal]:
    journal = Journal("chatcmpl-1", 1, max_bytes=4_000)
    return StreamScan(keep_usage=False, journal=journal), journal


IDS = st.lists(st.integers(-3, 2**31 - 1), min_size=1, max_size=4)
EVENTS = st.lists(st.tuples(IDS, st.text(max_size=12)), min_size=1, max_size=20)


@given(
    EVENTS,
    st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.integers(0, 5000), max_size=6),
    st.booleans(),
    st.sampled_from(["chat", "completion"]),
)
def test_ids_leave_the_stream_however_it_is_cut(
    events: list[tuple[list[int], str]],
    cuts: list[int],
    chunk_cuts: list[int],
    chunk_each: bool,
    kind: str,
) -> None:
    """The client's stream is the one without ids, and the journal has all of them."""
    encoder = ChunkEncoder("cmpl-1", "m", 1, "chat" if kind == "chat" else "completion")
    bare = [encoder.role(), *(encoder.delta(text) for _, text in events), encoder.finish("stop")]
    told = [[], *(ids for ids, _ in events), [2]]
    lined = [id_line(ids) + event for ids, event in zip(told, bare, strict=True) if event]
    chunks = lined if chunk_each else cut(b"".join(lined), chunk_cuts)
    scan, journal = journaled()
    client, passed = Dechunker(), Passed(scan)
    for piece in cut(b"".join(map(frame, [*chunks, DONE])) + LAST, [] if chunk_each else cuts):
        passed.take(piece)
    assert client.feed(b"".join(passed.chunks)) == b"".join([*bare, DONE])
    assert (passed.ended, passed.failures, journal.lost) == (1, [], "")
    assert journal.ids() == (*(id_ for ids in told for id_ in ids),)
    assert (scan.done, journal.finished) == (True, True)
    assert scan.events == sum(map(bool, bare))


def test_events_that_come_one_by_one_are_known_after_the_first() -> None:
    scan, journal = journaled()
    passed = Passed(scan)
    texts = ["a", "b", 'a "quote"', "", "c\\", "\n"]
    for number, text in enumerate(texts):
        passed.take(frame(id_line([number]) + ENCODER.delta(text)))
    assert passed.chunks == [frame(ENCODER.delta(text)) for text in texts]
    assert journal.ids() == (0, 1, 2, 3, 4, 5)
    assert (scan.events, scan.pieces) == (6, 1), "only the first one was looked into"


def test_the_texts_of_gaps_are_kept_wherever_in_a_line_a_gap_is() -> None:
    scan, journal = journaled()
    passed = Passed(scan)
    for ids, text in (([1], "a"), ([2], "b"), ([3, -1, 9], "ö"), ([4], "c"), ([-1, 8], "ü")):
        passed.take(frame(id_line(ids) + ENCODER.delta(text)))
    again = {"ö": [3, 5, 9], "ü": [6, 8]}
    assert journal.filled(lambda text: again[text]) == ((1, 2, 3, 5, 9, 4, 6, 8), True)


def test_what_a_text_only_seems_to_say_is_no_end_and_what_an_event_says_is_one() -> None:
    scan, journal = journaled()
    passed = Passed(scan)
    sly = '","finish_reason":"stop'
    for event in (ENCODER.delta("a"), ENCODER.delta(sly), ENCODER.delta("b")):
        passed.take(frame(id_line([1]) + event))
    assert not journal.finished
    whole = ENCODER.delta("c").replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    passed.take(frame(id_line([1]) + whole))
    assert journal.finished


def test_a_journal_over_its_bound_is_lost_and_the_stream_goes_on() -> None:
    journal = Journal("chatcmpl-1", 1, max_bytes=30)
    scan = StreamScan(keep_usage=False, journal=journal)
    passed = Passed(scan)
    for _ in range(100):
        passed.take(frame(id_line([12_345]) + ENCODER.delta("x")))
    assert journal.lost
    assert len(journal.lines) <= 40
    assert passed.chunks == [frame(ENCODER.delta("x"))] * 100


def test_the_workers_error_is_held_back_and_its_end_is_told() -> None:
    scan, journal = journaled()
    passed = Passed(scan)
    passed.take(frame(id_line([1]) + ENCODER.delta("x")))
    error = error_event("gone", "server_error", "engine_broken")
    passed.take(frame(error) + LAST)
    assert passed.chunks == [frame(ENCODER.delta("x"))]
    assert (passed.ended, scan.withheld, journal.ids()) == (1, error, (1,))
