from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.cache.purge import Purges
from wire.chunk import hash_chunk
from wire.events import RESET_KEY
from wire.paths import TRUST_KEY, channel_key, revision_key

CHUNK = hash_chunk(b"weights")
REVISION = "a" * 64
CHANNEL = channel_key("chat-small", "stable")
OTHER = channel_key("chat-small", "beta")


def test_a_soft_purge_marks_pointers_and_leaves_content_alone() -> None:
    purges = Purges()
    effect = purges.apply(
        [CHANNEL, TRUST_KEY, f"chunk:{CHUNK}", revision_key(REVISION)], hard=False
    )
    assert effect.marked == (CHANNEL, TRUST_KEY)
    assert effect.ignored == (revision_key(REVISION),)
    assert effect.dropped_chunks == (CHUNK,), "its next use asks whether it may still be had"
    assert not effect.takes_down
    assert not purges.is_gone(f"chunk:{CHUNK}")


def test_a_hard_purge_takes_content_down_and_drops_pointers() -> None:
    purges = Purges()
    effect = purges.apply([CHANNEL, f"chunk:{CHUNK}", revision_key(REVISION)], hard=True)
    assert effect.dropped_pointers == (CHANNEL,)
    assert effect.dropped_chunks == (CHUNK,)
    assert effect.dropped_revisions == (REVISION,)
    assert effect.takes_down
    assert purges.is_gone(f"chunk:{CHUNK}")
    assert purges.is_gone(revision_key(REVISION))
    assert not purges.is_gone(CHANNEL)  # a channel may be made anew


def test_hostile_and_unknown_keys_do_nothing() -> None:
    keys = ["", "chunk:", "chunk:../../etc", "revision:ABC", "tenant:x", f"chunk:{CHUNK}x"]
    effect = Purges().apply(keys, hard=True)
    assert effect.ignored == tuple(keys)
    assert not effect.takes_down


def test_a_fill_that_began_before_a_purge_is_stale() -> None:
    purges = Purges()
    before = purges.generation
    purges.apply([CHANNEL], hard=False)
    assert purges.purged_since(CHANNEL, before)
    assert not purges.purged_since(CHANNEL, purges.generation)
    assert not purges.purged_since(OTHER, before)


def test_what_was_taken_down_stays_stale_for_good() -> None:
    purges = Purges()
    purges.apply([f"chunk:{CHUNK}"], hard=True)
    assert purges.purged_since(f"chunk:{CHUNK}", purges.generation)


def test_a_reset_marks_everything_and_takes_nothing_down() -> None:
    purges = Purges()
    before = purges.generation
    effect = purges.apply([RESET_KEY], hard=True)
    assert effect.marked == (RESET_KEY,)
    assert not effect.takes_down
    assert purges.purged_since(CHANNEL, before)
    assert purges.purged_since(TRUST_KEY, before)
    assert not purges.purged_since(CHANNEL, purges.generation)


def test_forgetting_old_purges_errs_on_the_safe_side() -> None:
    purges = Purges(max_recent=2)
    before = purges.generation
    for number in range(5):
        purges.apply([channel_key("m", f"c{number}")], hard=False)
    assert purges.purged_since(channel_key("m", "c0"), before)
    assert purges.purged_since(channel_key("m", "never"), before)
    assert not purges.purged_since(channel_key("m", "never"), purges.generation)


def test_takedowns_are_bounded() -> None:
    purges = Purges(max_gone=2)
    keys = [f"chunk:{hash_chunk(bytes([number]))}" for number in range(3)]
    purges.apply(keys, hard=True)
    assert [purges.is_gone(key) for key in keys] == [False, True, True]


def test_takedowns_survive_being_written_down() -> None:
    purges = Purges()
    purges.apply([f"chunk:{CHUNK}", revision_key(REVISION)], hard=True)
    again = Purges()
    effect = again.load(purges.gone())
    assert effect.dropped_chunks == (CHUNK,)
    assert again.is_gone(f"chunk:{CHUNK}")
    assert again.is_gone(revision_key(REVISION))
    assert again.gone() == purges.gone()


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_loading_garbage_takes_nothing_down(data: bytes) -> None:
    assert not Purges().load(data).takes_down


pointer_keys = st.sampled_from([channel_key("m", f"c{number}") for number in range(5)])


@settings(deadline=None)
@given(st.lists(st.sets(pointer_keys, max_size=3), max_size=30), pointer_keys, st.integers(0, 30))
def test_no_purge_is_ever_missed(events: list[set[str]], key: str, began: int) -> None:
    """However little is remembered, a key purged since a fill began counts as purged."""
    purges = Purges(max_recent=2)
    generations = [0]
    for keys in events:
        purges.apply(keys, hard=False)
        generations.append(purges.generation)
    began = min(began, len(events))
    if any(key in keys for keys in events[began:]):
        assert purges.purged_since(key, generations[began])
