from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ConfigError, NameInvalidError, NotFoundError
from wire.pull_tokens import (
    PullTokens,
    Reader,
    TokenRecord,
    decode_tokens,
    digest_of,
    encode_tokens,
    new_token,
)

records = st.builds(
    TokenRecord,
    token_id=st.from_regex(r"[a-z0-9]{10}", fullmatch=True),
    digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    models=st.lists(st.from_regex(r"[A-Za-z0-9._*-]{1,96}", fullmatch=True), max_size=3).map(tuple),
    created=st.floats(0, 1e11),
    expires=st.none() | st.floats(0, 1e11),
    note=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@given(st.lists(records, max_size=4))
def test_what_is_written_can_be_read(made: list[TokenRecord]) -> None:
    assert decode_tokens(encode_tokens(made)) == tuple(made)


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_an_error(data: bytes) -> None:
    with suppress(ConfigError):
        decode_tokens(data)


def test_a_token_has_the_form_that_stock_clients_send() -> None:
    assert re.fullmatch(r"hf_[A-Za-z0-9]{40}", new_token())


def test_a_minted_token_opens_what_its_patterns_name(path: Path) -> None:
    tokens = PullTokens.open(path)
    record, token = tokens.mint(["chat-*", "code"], note="farm")
    reader = PullTokens.open(path).reader(token)
    assert reader == Reader(record.token_id, ("chat-*", "code"))
    assert [m for m in ("chat-small", "code", "coder", "chat") if reader.opens(m)] == [
        "chat-small",
        "code",
    ]
    assert tokens.holder(record.token_id) == reader


def test_only_the_hash_is_kept_and_only_the_owner_can_read_it(path: Path) -> None:
    record, token = PullTokens.open(path).mint(["*"])
    assert token not in path.read_text()
    assert record.digest == digest_of(token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert record.digest not in repr(record)


def test_a_token_ends_when_it_expires(path: Path) -> None:
    now = [1_000.0]
    tokens = PullTokens.open(path, clock=lambda: now[0])
    record, token = tokens.mint(["*"], expires=1_500.0)
    assert tokens.reader(token) is not None
    now[0] = 1_500.0
    assert tokens.reader(token) is None
    assert tokens.holder(record.token_id) is None


def test_a_revocation_by_another_process_takes_effect(path: Path) -> None:
    serving, other = PullTokens.open(path), PullTokens.open(path)
    record, token = other.mint(["*"])
    assert serving.reader(token) is None
    serving.refresh()
    assert serving.reader(token) is not None
    other.revoke(record.token_id)
    serving.refresh()
    assert serving.reader(token) is None
    with pytest.raises(NotFoundError):
        other.revoke(record.token_id)


def test_what_is_unknown_opens_nothing(path: Path) -> None:
    tokens = PullTokens.open(path)
    _, token = tokens.mint(["*"])
    for wrong in (token[:-1], token + "x", token.lower(), "", "hf_\udcff", new_token()):
        assert tokens.reader(wrong) is None


def test_a_file_that_turns_bad_leaves_what_was_read(path: Path) -> None:
    tokens = PullTokens.open(path)
    _, token = tokens.mint(["*"])
    for spoil in (
        lambda: path.write_text("{"),
        lambda: path.write_text('{"format":"other","tokens":[]}'),
        lambda: path.chmod(0o644),
    ):
        spoil()
        with pytest.raises(ConfigError):
            tokens.refresh()
        assert tokens.reader(token) is not None
    path.unlink()
    tokens.refresh()
    assert tokens.reader(token) is None


def test_many_who_mint_at_once_lose_none(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: PullTokens.open(path).mint(["*"])[1], range(12)))
    tokens = PullTokens.open(path)
    assert len(tokens.records()) == 12
    assert all(tokens.reader(token) for token in made)


@pytest.mark.parametrize("models", [[], ["a b"], ["chat/*"], ["[a-z]"], ["x" * 97], ["a"] * 0])
def test_patterns_that_cannot_be_are_refused(path: Path, models: list[str]) -> None:
    with pytest.raises(NameInvalidError):
        PullTokens.open(path).mint(models)
    assert not path.exists()
