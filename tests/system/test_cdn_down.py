"""A CDN whose upstream fails, then goes away."""

from __future__ import annotations

import pytest

from tests.fakes.cdn import program
from tests.fakes.cdn_rig import CDNS
from tests.fakes.fleet import eventually
from tests.fakes.ports import free_port
from tests.fakes.quick_disk import quick_folder
from tests.fakes.replays import Answer, ask
from tests.fakes.tier import Canned, StubTier, stub_tier
from wire.paths import channel_path

PATH = channel_path("chat", "stable")
FRESH = {"Cache-Control": "public, max-age=1, stale-if-error=86400", "Surrogate-Key": "a"}
PROGRAMS = {"nginx": "nginx", "varnish": "varnishd"}


@pytest.mark.parametrize("style", sorted(PROGRAMS))
def test_pointers_outlive_an_upstream_that_fails(style: str) -> None:
    program(PROGRAMS[style])
    with quick_folder() as folder, stub_tier({}) as stub:
        stub.answers["GET /readyz"] = Canned(b"{}")
        stub.answers[f"GET {PATH}"] = Canned(b"one", headers=FRESH)
        with CDNS[style](folder / "cdn", stub.url, free_port()) as cdn:
            url = cdn.url
            first = ask("GET", url + PATH)
            assert first.body == b"one"
            stub.answers[f"GET {PATH}"] = Canned(b"broken", status=503)
            asked = count(stub)
            answers: list[Answer] = []
            while count(stub) < asked + 2:
                answers.append(ask("GET", url + PATH))
            assert {(answer.status, answer.body) for answer in answers} == {(200, b"one")}

            stub.answers[f"GET {PATH}"] = Canned(b"two", headers=FRESH)
            eventually(lambda: ask("GET", url + PATH).body == b"two")


def count(stub: StubTier) -> int:
    """How often the pointer was asked for."""
    return sum(received.path == PATH for received in stub.received)
