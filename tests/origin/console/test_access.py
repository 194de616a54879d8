from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.console.access import Logins, TooManyTriesError, Tries

TOKEN = "hwadm-secret"


def logins(token: str = TOKEN, *, at: float = 1_000.0) -> Logins:
    return Logins(token, clock=lambda: at, lasts_s=60)


def test_a_login_holds_until_it_ends_at_every_origin_with_the_token() -> None:
    cookie, made = logins().make()
    assert made.until == 1_060
    assert logins(at=1_059).read(cookie) == made
    assert logins(at=1_060).read(cookie) is None
    assert logins("another token").read(cookie) is None


def test_two_logins_are_not_the_same_and_none_holds_the_token() -> None:
    (one, first), (other, second) = logins().make(), logins().make()
    assert one != other
    assert first.id != second.id
    assert TOKEN not in one


def test_only_the_token_opens() -> None:
    assert logins().opens(TOKEN)
    assert not any(logins().opens(text) for text in ("", TOKEN[:-1], TOKEN + "x", "\udcff"))


@given(st.data())
def test_a_cookie_that_was_changed_is_none(data: st.DataObject) -> None:
    cookie, _ = logins().make()
    place = data.draw(st.integers(0, len(cookie) - 1))
    changed = cookie[:place] + data.draw(st.characters()) + cookie[place + 1 :]
    assert changed == cookie or logins().read(changed) is None


@given(st.text(max_size=300))
def test_any_other_text_is_none(text: str) -> None:
    assert logins().read(text) is None


def test_a_login_made_while_a_clock_was_wrong_does_not_hold_for_years() -> None:
    cookie, made = logins(at=1e9).make()
    assert logins(at=1e9 - 299).read(cookie) == made  # clocks of two origins
    assert logins(at=1e9 - 301).read(cookie) is None


def test_origins_with_tokens_of_their_own_have_cookies_of_their_own() -> None:
    assert logins().cookie == logins().cookie != logins("another token").cookie
    assert logins().cookie == f"headwater_console_{logins().name}"


def test_wrong_tries_run_out_and_come_back() -> None:
    now = 0.0
    tries = Tries(clock=lambda: now, at_once=2, per_minute=6)
    for _ in range(2):
        tries.failed()
    with pytest.raises(TooManyTriesError, match="try again in") as refused:
        tries.failed()
    assert refused.value.headers["Retry-After"] == "11"
    now = 10.0
    tries.failed()
    with pytest.raises(TooManyTriesError):
        tries.failed()


def test_tries_do_not_pile_up() -> None:
    now = 0.0
    tries = Tries(clock=lambda: now, at_once=3, per_minute=60)
    now = 1e6
    for _ in range(3):
        tries.failed()
    with pytest.raises(TooManyTriesError):
        tries.failed()
