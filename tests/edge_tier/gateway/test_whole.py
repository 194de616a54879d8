"""edge_tier.gateway.whole: a whole answer is one backend's, however often it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.hybrid import Begun
from edge_tier.gateway.whole import WholeAnswer
from tests.edge_tier.gateway.test_backends import wanted
from tests.fakes.gateway import Gateway, gateway_in


def reader(gateway: Gateway, *, max_bytes: int = 10_000, again: int = 2) -> WholeAnswer:
    return WholeAnswer(
        gateway.backends,
        wanted(gateway, "worker"),
        "chatcmpl-1",
        max_bytes=max_bytes,
        max_event_bytes=10_000,
        max_again=again,
    )


async def test_it_is_read_as_it_is(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        opened = await gateway.backends.open(wanted(gateway, "worker"))
        assert b'"worker"' in await reader(gateway).read(Begun(opened, stream=False))
        opened.close()


async def test_one_over_the_bound_is_not_asked_for_again_without_bound(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        begun = Begun(await gateway.backends.open(wanted(gateway, "worker")), stream=False)
        with pytest.raises(UpstreamError, match="over 5 B"):
            await reader(gateway, max_bytes=5, again=0).read(begun)
        assert begun.opened.broke
        begun.opened.close()
