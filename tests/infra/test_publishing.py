from __future__ import annotations

from pathlib import Path

import pytest

from infra.publishing import find_revision, open_origin, open_publisher
from origin.keys import new_key
from tests.fakes.tier import Canned, stub_tier
from wire.errors import ConfigError, NameInvalidError, NotFoundError, SourceUnavailableError

ONE, TWO, OTHER = "aaaaaaaa1" + "0" * 55, "aaaaaaaa2" + "0" * 55, "b" * 64
STATUS = {
    "revisions": [
        {"model": "chat", "revision": ONE},
        {"model": "chat", "revision": TWO},
        {"model": "other", "revision": OTHER},
    ]
}


@pytest.mark.parametrize("prefix", ["aaaaaaaa1", "AAAAAAAA1", ONE])
def test_a_beginning_that_is_unique_names_a_revision(prefix: str) -> None:
    assert find_revision(STATUS, "chat", prefix) == ONE


def test_a_beginning_of_two_revisions_names_none() -> None:
    with pytest.raises(NameInvalidError, match="2 revisions of chat"):
        find_revision(STATUS, "chat", "aaaaaaaa")


@pytest.mark.parametrize("prefix", ["", "aaaaaaa", "aaaaaaag", "latest!!"])
def test_what_is_too_short_or_no_digit_is_refused(prefix: str) -> None:
    with pytest.raises(NameInvalidError, match="at least 8"):
        find_revision(STATUS, "chat", prefix)


def test_another_models_revision_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="headwater status"):
        find_revision(STATUS, "chat", "bbbbbbbb")


def test_a_key_that_is_not_there_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    with (
        stub_tier({}) as origin,
        pytest.raises(ConfigError, match=r"publisher\.key"),
        open_publisher(origin.url, "t", tmp_path / "publisher.key"),
    ):
        pass
    assert origin.received == []


def test_the_token_goes_to_the_administrative_paths_only(tmp_path: Path) -> None:
    new_key(tmp_path / "publisher.key")
    answers = {"GET /healthz": Canned({}), "GET /admin/status": Canned(STATUS)}
    with stub_tier(answers) as origin:
        with open_publisher(origin.url, "hwadm-x", tmp_path / "publisher.key") as desk:
            assert desk.origin.status() == STATUS
        health, status = origin.received
    assert "authorization" not in health.headers
    assert status.headers["authorization"] == "Bearer hwadm-x"


def test_nobody_there_is_an_unavailable_source() -> None:
    with (
        pytest.raises(SourceUnavailableError, match="cannot connect"),
        open_origin("http://127.0.0.1:9", "t"),
    ):
        pass
