from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_tier.gateway.policy_book import PolicyBook
from edge_tier.gateway.request import Caller, PersonalAction, Policy
from wire.errors import ConfigError

FILE = """
[tenants]
hospital = "strict"
[policies.default]
injection = "block"
[policies.strict]
privacy = "local"
personal_data = "mask"
personal_kinds = { iban = "block", email = "flag" }
[[policies.strict.routes]]
name = "all here"
target = "local"
"""


def caller(tenant: str = "shop", **policy: Any) -> Caller:
    return Caller(key_id="k1", tenant=tenant, scopes=frozenset(), policy=Policy(**policy))


class Watched:
    """A policy file and the book that reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "policies.toml"
        self._stamp = 0
        self.write(FILE)
        self.book = PolicyBook(self.path, look_every_s=0.001)

    def write(self, text: str) -> None:
        """Every write has a time of its own, however coarse the file system's clock."""
        self.path.write_text(text)
        self._stamp += 1
        os.utime(self.path, (self._stamp, self._stamp))

    def look(self, times: int = 2) -> int:
        """How many of so many looks brought other policies."""
        return sum([self.book.look() for _ in range(times)])


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_without_a_file_everybody_has_the_default() -> None:
    found = PolicyBook().of(caller("hospital"))
    assert (found.rules.name, found.rules.privacy, bool(found.table)) == ("default", "any", False)


def test_the_key_says_the_policy_else_the_tenant_else_default(watched: Watched) -> None:
    of = watched.book.of
    assert of(caller()).rules.name == "default"
    assert of(caller("hospital")).rules.name == "strict"
    assert of(caller("hospital", name="default")).rules.name == "default"
    assert of(caller(name="strict")).table.rows[0].name == "all here"


def test_it_is_the_same_object_until_the_file_changes(watched: Watched) -> None:
    first = caller("hospital")
    policy = watched.book.of(first)
    assert watched.look(5) == 0
    assert watched.book.of(first) is policy
    # Another key of the same policy shares it, so that what is compiled of it is shared as well.
    assert watched.book.of(caller("hospital")) is policy
    watched.write(FILE + "\n")
    assert watched.look(3) == 1
    assert watched.book.of(first) is not policy


def test_a_key_may_be_stricter_than_its_policy_but_not_leave_its_privacy(watched: Watched) -> None:
    of = watched.book.of
    assert of(caller(privacy="local")).rules.privacy == "local"
    assert of(caller(name="strict", privacy="any")).rules.privacy == "local"
    # One file, and the same key twice: nothing of one caller is another's.
    assert of(caller()).rules.privacy == "any"


@pytest.mark.parametrize(
    ("own", "email"), [("off", "flag"), ("restore", "restore"), ("block", "block")]
)
def test_a_keys_own_action_stands_over_the_policys(
    watched: Watched, own: PersonalAction, email: str
) -> None:
    rules = watched.book.of(caller(name="strict", personal_data=own)).rules
    assert rules.personal_data == own
    assert rules.personal_kinds == {"iban": "block", "email": email}


def test_a_key_whose_policy_is_not_there_stays_local(watched: Watched) -> None:
    lost = caller("hospital", name="gone")
    with capture_logs() as logs:
        found = watched.book.of(lost)
        assert watched.book.of(lost) is found
    assert (found.rules.privacy, found.rules.injection) == ("local", "block")
    assert [(line["key"], line["policy"]) for line in logs] == [("k1", "gone")]
    assert watched.book.of(caller()).rules.privacy == "any"


def test_many_callers_are_told_apart_and_forgotten(watched: Watched) -> None:
    callers = [caller("hospital" if n % 2 else "shop") for n in range(20_001)]
    names = {(one.tenant, watched.book.of(one).rules.name) for one in callers}
    assert names == {("hospital", "strict"), ("shop", "default")}


def test_a_change_is_in_force_once_it_looks_the_same_twice(watched: Watched) -> None:
    kept = caller("hospital")
    watched.write("")  # an editor has emptied it and has not written yet
    watched.look(1)
    assert watched.book.of(kept).rules.privacy == "local"
    watched.write(FILE.replace('"mask"', '"block"'))
    watched.look(1)
    assert watched.book.of(kept).rules.personal_data == "mask"
    watched.look(1)
    assert watched.book.of(kept).rules.personal_data == "block"


def _spoil(watched: Watched) -> None:
    watched.write(FILE + "nonsense")


def _remove(watched: Watched) -> None:
    watched.path.unlink()


def _folder(watched: Watched) -> None:
    watched.path.unlink()
    watched.path.mkdir()


@pytest.mark.parametrize("damage", [_spoil, _remove, _folder])
def test_a_bad_file_leaves_the_old_one_in_force_and_is_reported_once(
    watched: Watched, damage: Callable[[Watched], None]
) -> None:
    first = caller("hospital")
    policy = watched.book.of(first)
    damage(watched)
    with capture_logs() as logs:
        watched.look(6)
    assert [line["log_level"] for line in logs] == ["error"]
    assert watched.book.of(first) is policy
    if watched.path.is_dir():
        watched.path.rmdir()
    watched.write(FILE.replace("[tenants]", "[tenants]\nshop = 'strict'"))
    watched.look()
    assert watched.book.of(caller()).rules.name == "strict"


def test_a_bad_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read policy file"):
        PolicyBook(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("nonsense")
    with pytest.raises(ConfigError, match="not TOML"):
        PolicyBook(tmp_path / "bad.toml")


async def test_the_file_is_followed_until_cancelled(watched: Watched) -> None:
    following = asyncio.create_task(watched.book.run())
    watched.write(FILE.replace('"block"', '"off"'))
    async with asyncio.timeout(30):
        while watched.book.of(caller()).rules.injection != "off":  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.001)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


def test_without_a_file_there_is_nothing_to_look_at() -> None:
    assert not PolicyBook().look()


def test_what_is_compiled_of_content_is_shared_by_keys(watched: Watched) -> None:
    one, other = caller(), caller(privacy="local")
    assert watched.book.of(one).screens is watched.book.of(other).screens
