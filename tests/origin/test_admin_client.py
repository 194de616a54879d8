from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from aiohttp.test_utils import TestServer

from infra.ports import HeldPort
from origin.admin_client import OriginAdmin
from origin.app import build_app
from origin.errors import PublishError
from tests.fakes.origin_home import Home
from tests.fakes.tier import Canned, stub_tier
from wire.chunk import hash_chunk
from wire.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    SourceUnavailableError,
    UnauthorizedError,
)


async def test_a_connection_that_idled_away_while_the_file_was_read_is_no_failure(
    home: Home,
) -> None:
    wanted = hash_chunk(b"x")
    with closing(HeldPort()) as held:
        async with TestServer(await build_app(home.config), port=held.number) as first:
            origin = OriginAdmin(str(first.make_url("")), home.token)
            await asyncio.to_thread(origin.status)
        async with TestServer(await build_app(home.config), port=held.number):
            assert await asyncio.to_thread(origin.missing, [wanted]) == {wanted}
    origin.close()


def test_who_does_not_answer_like_an_origin_is_no_origin() -> None:
    for body in (b"<html>", b"[]"):
        with stub_tier({"GET /admin/status": Canned(body)}) as stub:
            origin = OriginAdmin(stub.url, "token")
            with pytest.raises(SourceUnavailableError, match="like an origin"):
                origin.status()
            origin.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UnauthorizedError), (403, ForbiddenError), (409, ConflictError), (410, GoneError),
        (422, PublishError), (500, PublishError),
    ],
)  # fmt: skip
def test_a_refusal_is_told_as_what_it_is(status: int, error: type[Exception]) -> None:
    with stub_tier({"GET /admin/status": Canned({"detail": "why"}, status)}) as stub:
        origin = OriginAdmin(stub.url, "token")
        with pytest.raises(error, match=rf"origin refused \({status}\): why"):
            origin.status()
        origin.close()
