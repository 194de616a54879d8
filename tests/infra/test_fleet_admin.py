from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.errors import RefusedError
from infra.fleet_admin import FleetAdmin
from tests.fakes.tier import Canned, StubTier, stub_tier
from wire.errors import NameInvalidError, NotFoundError

FIRST = {"command": {"id": "c1", "node": "w1", "action": "drain"}, "state": "waiting"}


@pytest.fixture
def origin() -> Iterator[StubTier]:
    with stub_tier({"POST /admin/fleet/commands": Canned(FIRST)}) as stub:
        yield stub


@pytest.fixture
def admin(origin: StubTier) -> Iterator[FleetAdmin]:
    with FleetAdmin(origin.url, "t0ken") as made:
        yield made


def test_a_command_has_an_id_of_its_own(origin: StubTier, admin: FleetAdmin) -> None:
    assert admin.command("w1", "drain") == FIRST
    assert admin.command("w1", "drain") == FIRST
    bodies = [json.loads(received.body) for received in origin.received]
    assert [(body["node"], body["action"]) for body in bodies] == [("w1", "drain")] * 2
    assert bodies[0]["id"] != bodies[1]["id"]
    assert origin.received[0].headers["authorization"] == "Bearer t0ken"


def test_an_order_is_followed_to_its_end(origin: StubTier, admin: FleetAdmin) -> None:
    told: list[Any] = []

    def hear(order: dict[str, Any]) -> None:
        told.append(order["state"])
        origin.answers["GET /admin/fleet/commands/c1"] = Canned({**FIRST, "state": "done"})

    origin.answers["GET /admin/fleet/commands/c1"] = Canned({**FIRST, "state": "given"})
    ended = admin.wait(FIRST, timeout_s=30, told=hear, poll_s=0.001)
    assert (ended["state"], told) == ("done", ["given", "done"])


def test_one_that_does_not_end_in_time_is_said(origin: StubTier, admin: FleetAdmin) -> None:
    origin.answers["GET /admin/fleet/commands/c1"] = Canned(FIRST)
    with pytest.raises(RefusedError, match=r"w1 did not drain within 0\.01 s"):
        admin.wait(FIRST, timeout_s=0.01, poll_s=0.001)


def test_an_origin_that_is_away_is_waited_for() -> None:
    with FleetAdmin("http://127.0.0.1:9", "t") as admin, pytest.raises(RefusedError):
        admin.wait(FIRST, timeout_s=0.02, poll_s=0.001)


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (400, NameInvalidError)])
def test_refusals_come_through(
    origin: StubTier, admin: FleetAdmin, status: int, error: type[Exception]
) -> None:
    origin.answers["POST /admin/fleet/commands"] = Canned({"detail": "no such node"}, status)
    with pytest.raises(error, match="no such node"):
        admin.command("w1", "drain")


def test_names_stay_one_part_of_a_path(origin: StubTier, admin: FleetAdmin) -> None:
    origin.answers["DELETE /admin/fleet/nodes/a%2Fb"] = Canned({"forgotten": "a/b"})
    assert admin.forget("a/b") == {"forgotten": "a/b"}
    origin.answers["GET /admin/fleet/consistency"] = Canned({"consistent": True})
    assert admin.consistency("chat", "a&b")["consistent"]
