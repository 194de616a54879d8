from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.console.logins import (
    FORMAT,
    Changes,
    Login,
    Table,
    address_words,
    browser_words,
    changed,
    decode_table,
    encode_table,
    oldest_first,
)

NOW = 1_000.0


def login(id: str, *, until: float = 2_000.0, seen: float = NOW) -> Login:  # noqa: A002
    return Login(id=id, made=900.0, until=until, seen=seen, browser="Firefox", address="")


def table(*logins: Login) -> dict[str, Login]:
    return {one.id: one for one in logins}


# The table


def test_what_is_written_is_read() -> None:
    logins = table(login("a"), login("b"))
    assert decode_table(encode_table(logins)) == logins
    assert encode_table(dict(reversed(logins.items()))) == encode_table(logins)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"format": "headwater.logins/2", "logins": []}',
        b"[" * 100_000,
        encode_table(table(login("x" * 33))),
        encode_table(table(*(login(str(n)) for n in range(1_025)))),
        encode_table(table(login("a", seen=-1.0))),
    ],
)
def test_what_is_damaged_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode_table(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_damaged(data: bytes) -> None:
    try:
        decode_table(data)
    except ValueError:
        return
    assert msgspec.json.decode(data, type=Table).format == FORMAT


# Changes


def test_added_seen_and_ended_logins_are_laid_over_what_stands_there() -> None:
    changes = Changes({"c": login("c")}, {"b", "gone"}, {"a": 1_500.0, "nobody": 1.0})
    found = changed(table(login("a"), login("b")), changes, now=NOW, most=9)
    assert found == table(login("a", seen=1_500.0), login("c"))


def test_a_login_that_was_ended_is_not_brought_back() -> None:
    """Not by its own origin, which may write late that it was made, and that it was used."""
    changes = Changes({"a": login("a")}, {"a"}, {"a": 5.0})
    assert changed({}, changes, now=NOW, most=9) == {}
    assert changed({}, Changes(seen={"a": 5.0}), now=NOW, most=9) == {}


def test_what_is_over_goes_and_of_too_many_what_was_used_longest_ago() -> None:
    rows = table(login("old", until=NOW), login("idle", seen=1.0), login("a"), login("b"))
    assert set(changed(rows, Changes(), now=NOW, most=2)) == {"a", "b"}


def test_an_older_moment_does_not_replace_a_newer_one() -> None:
    rows = table(login("a", seen=50.0))
    assert changed(rows, Changes(seen={"a": 40.0}), now=NOW, most=1) == rows


def test_what_happens_while_the_rest_is_written_is_left() -> None:
    written = Changes({"a": login("a")}, {"b"}, {"a": 1.0, "c": 2.0})
    now = written.copy()
    now.added["d"] = login("d")
    now.ended.add("e")
    now.seen["a"] = 3.0
    left = now.less(written)
    assert left == Changes({"d": login("d")}, {"e"}, {"a": 3.0})
    assert left
    assert not Changes(seen={"a": 1.0})


IDS = st.sampled_from("abcdef")
ROWS = st.dictionaries(IDS, st.floats(0, 3_000)).map(
    lambda found: table(*(login(id, until=until) for id, until in found.items()))  # noqa: A001
)


@given(ROWS, ROWS, st.sets(IDS), st.dictionaries(IDS, st.floats(0, 3_000)), st.integers(1, 4))
def test_however_it_is_changed_it_is_bounded_and_nothing_ended_holds(
    stored: dict[str, Login],
    added: dict[str, Login],
    ended: set[str],
    seen: dict[str, float],
    most: int,
) -> None:
    changes = Changes(added, ended, seen)
    found = changed(stored, changes, now=NOW, most=most)
    assert len(found) <= most
    assert set(found) <= (set(stored) | set(added)) - ended
    assert all(row.until > NOW for row in found.values())
    assert changed(found, changes, now=NOW, most=most).keys() >= found.keys()
    assert [one.id for one in oldest_first(found.values())] == sorted(found)


# Words


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            "Firefox on Linux",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.70",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
            "like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/131.0.0.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like "
            "Gecko) Chrome/131.0.0.0 Safari/537.36",
            "Chrome on macOS",
        ),
        ("curl/8.5.0", "curl"),
        ("<script>alert(1)</script>", "Another browser"),
        ("x" * 600 + "Firefox/1.0", "Another browser"),
        ("", "Another browser"),
    ],
)
def test_a_browser_is_told_in_a_few_words_of_ours(agent: str, words: str) -> None:
    assert browser_words(agent) == words


@pytest.mark.parametrize(
    ("peer", "forwarded", "words"),
    [
        ("192.0.2.77", "", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "", "192.0.2.0/24"),
        ("127.0.0.1", "", "this machine"),
        ("::1", "", "this machine"),
        ("10.0.0.9", "198.51.100.7", "198.51.100.0/24 by way of 10.0.0.0/24"),
        ("10.0.0.9", "1.2.3.4, 198.51.100.7", "198.51.100.0/24 by way of 10.0.0.0/24"),
        ("", "198.51.100.7", "198.51.100.0/24 by way of a proxy"),
        ("10.0.0.9", "<b>", "10.0.0.0/24"),
        (None, "", ""),
    ],
)
def test_an_address_is_told_by_its_network(peer: str | None, forwarded: str, words: str) -> None:
    assert address_words(peer, forwarded) == words


@given(st.text(max_size=800), st.text(max_size=800))
def test_words_fit_in_the_table(agent: str, address: str) -> None:
    words = Login(
        id="a",
        made=0,
        until=1,
        seen=0,
        browser=browser_words(agent),
        address=address_words(address, address),
    )
    assert decode_table(encode_table({"a": words})) == {"a": words}
