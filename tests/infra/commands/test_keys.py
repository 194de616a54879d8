from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.keys import parse_span, parse_when, state_of
from tests.fakes.tier import Canned, stub_tier
from wire.errors import NameInvalidError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY: dict[str, Any] = {
    "key_id": "k1",
    "tenant": "shop",
    "scopes": ["chat", "embeddings"],
    "limits": {"requests_per_minute": 60, "tokens_per_month": 0},
    "policy": {"name": "strict", "models": ["a", "b"]},
    "expires": "2031-01-01T00:00:00Z",
    "note": "nightly",
}


def run(*arguments: str, edge: str, status: int = 0) -> str:
    env = {"HEADWATER_ADMIN_TOKEN": "t", "HEADWATER_EDGE_URL": edge, "COLUMNS": "80"}
    result = CliRunner().invoke(app, list(arguments), env=env)
    assert result.exit_code == status, result.output
    return result.output


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("30s", NOW + timedelta(seconds=30)),
        ("2030-01-31T12:00Z", datetime(2030, 1, 31, 12, tzinfo=UTC)),
        ("2030-01-31", datetime(2030, 1, 31, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_span_or_a_time(text: str, when: datetime) -> None:
    assert parse_when(text, NOW) == when


@pytest.mark.parametrize("text", ["", "soon", "-1d", "1w", "9999999d"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(NameInvalidError):
        parse_when(text, NOW)
    with pytest.raises(NameInvalidError):
        parse_span(text)


def test_the_state_of_a_key() -> None:
    assert state_of({}, NOW) == "valid"
    assert state_of(KEY, NOW) == "valid"
    assert state_of(KEY, NOW + timedelta(days=366)) == "expired"
    assert state_of({**KEY, "revoked": "2030-01-01T00:00:00Z"}, NOW) == "revoked"


def test_every_limit_can_be_given() -> None:
    with stub_tier({"POST /admin/keys": Canned({"key_id": "k1", "key": "hw-k1-s"})}) as edge:
        limits = ("--tokens-per-day=5", "--tokens-per-month=6", "--concurrent-streams=2")
        more = ("--scope=embeddings", "--scope=chat", "--policy=strict", "--expires=1d")
        run("keys", "create", "--tenant=shop", *limits, *more, edge=edge.url)
    sent = json.loads(edge.received[0].body)
    assert sent["limits"] == {"tokens_per_day": 5, "tokens_per_month": 6, "concurrent_streams": 2}
    assert sent["scopes"] == ["chat", "embeddings"]
    assert sent["policy"]["name"] == "strict"
    assert datetime.fromisoformat(sent["expires"]) > datetime.now(UTC)


def test_a_key_is_shown_whole_and_rotated() -> None:
    answers = {
        "GET /admin/keys/k1": Canned(KEY),
        "POST /admin/keys/k1/rotate": Canned({**KEY, "key": "hw-k1-new"}),
    }
    with stub_tier(answers) as edge:
        shown = run("keys", "show", "k1", edge=edge.url)
        rotated = run("keys", "rotate", "k1", "--grace=15m", edge=edge.url)
    for text in ("strict", "a, b", "chat, embeddings", "60", "∞", "2031-01-01", "nightly"):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "hw-k1-new" in rotated
    assert json.loads(edge.received[-1].body) == {"grace_s": 900.0}
