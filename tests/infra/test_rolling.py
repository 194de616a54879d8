"""Following a rollout from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from infra.rolling import follow, operator, percent_of
from origin.admin_client import OriginAdmin
from tests.fakes.tier import Canned, stub_tier
from wire.errors import NameInvalidError, NotFoundError

BEGUN = {"id": "1", "model": "chat", "channel": "stable"}
PATH = "GET /admin/rollouts/chat/stable"


def answer(stage: str, id: str = "1") -> Canned:  # noqa: A002
    one = {**BEGUN, "id": id, "stage": stage, "revision": "a" * 64, "started": 1.0}
    over = stage in {"done", "aborted"}
    record = {"past": [one]} if over else {"current": one, "past": []}
    return Canned({"record": record, "now": None})


@pytest.mark.parametrize(("text", "share"), [("", 0), ("10%", 10), (" 1 % ", 1), ("99", 99)])
def test_a_share_as_people_write_it(text: str, share: int) -> None:
    assert percent_of(text) == share


@pytest.mark.parametrize("text", ["0%", "100", "%", "1.5%", "ten", "9" * 5_000, "٣"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(NameInvalidError, match="1% to 99%"):
        percent_of(text)


def test_an_operator_has_a_name_and_a_machine() -> None:
    assert "@" in operator()
    assert len(operator()) <= 128


def test_a_rollout_is_followed_to_its_end_also_when_the_origin_is_away() -> None:
    seen: list[str] = []
    with stub_tier({PATH: answer("canary")}) as stub:
        admin = OriginAdmin(stub.url, "t")

        def told(found: Mapping[str, Any]) -> None:
            seen.append("away" if not found else "told")
            if len(seen) == 1:
                stub.answers[PATH] = Canned(b"not JSON at all")
            elif len(seen) == 2:
                stub.answers[PATH] = answer("done")

        ended = follow(admin, BEGUN, told, poll_s=0.0)
        admin.close()
    assert ended["stage"] == "done"
    assert seen == ["told", "away", "told"]


def test_one_that_the_origin_has_forgotten_is_not_waited_for() -> None:
    with stub_tier({PATH: answer("done", id="2")}) as stub:
        admin = OriginAdmin(stub.url, "t")
        with pytest.raises(NotFoundError, match="forgotten"):
            follow(admin, BEGUN, poll_s=0.0)
        admin.close()
