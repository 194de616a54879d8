"""A running origin takes rotations and renewals; a cut-off one heals at the next start."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from origin.app import PUBLISHER
from origin.keys import ONLINE_KEY, ROOT_KEY, load_key, next_key, next_path
from origin.rotate import Changes, add_signatures, prepare_renewal, prepare_rotation
from origin.rotation import Rotation
from tests.fakes.origin_home import Home, StartOrigin
from tests.fakes.revisions import chunk_of, make_revision
from wire.errors import ConfigError
from wire.paths import ADMIN, EVENTS
from wire.trust import TrustView
from wire.trust_store import TrustStore

PASSPHRASE = "correct horse"


def view_of(home: Home, server: TestServer) -> TrustView:
    return TrustStore(home.folder / "client", home.root).update(bundle_of(server))


def bundle_of(server: TestServer) -> bytes:
    return server.app[PUBLISHER].repository.bundle(0)


def texts(rotation: Rotation) -> dict[str, str]:
    return {role: data.decode() for role, data in rotation.documents.items()}


def online_rotation(home: Home, bundle: bytes) -> Rotation:
    """Signed; its key lies beside the one in force."""
    new = next_key(home.config.keys_dir / ONLINE_KEY)
    changes = Changes(online=new.public_key)
    rotation = prepare_rotation(bundle, home.root, changes, now=time.time())
    root = load_key(home.config.keys_dir / ROOT_KEY, PASSPHRASE)
    return add_signatures(rotation, home.root, [root, home.publisher_key])


async def post(server: TestServer, body: object, *, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    url = server.make_url(f"{ADMIN}/trust")
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_new_online_key_takes_effect_at_once(home: Home, start_origin: StartOrigin) -> None:
    server = await start_origin()
    old = load_key(home.config.keys_dir / ONLINE_KEY).public_key
    rotation = online_rotation(home, bundle_of(server))
    status, body = await post(server, texts(rotation), token=home.token)
    assert (status, body["trust"]["versions"]["root"]) == (200, 2)
    assert view_of(home, server).versions["root"] == 2
    new = load_key(home.config.keys_dir / ONLINE_KEY).public_key
    assert new != old
    assert not next_path(home.config.keys_dir / ONLINE_KEY).exists()
    await server.app[PUBLISHER].renew()
    again = await start_origin()
    assert again.app[PUBLISHER].repository.online_key.public_key == new
    assert view_of(home, again).state == "fresh"


async def test_rotation_is_announced(home: Home, start_origin: StartOrigin) -> None:
    server = await start_origin()
    rotation = online_rotation(home, bundle_of(server))
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.make_url(EVENTS)) as events,
    ):
        assert (await post(server, texts(rotation), token=home.token))[0] == 200
        heard = b""
        while b'"trust"' not in heard:
            heard += await events.content.readany()


async def test_renewal_is_taken(home: Home, start_origin: StartOrigin) -> None:
    server = await start_origin()
    before = view_of(home, server)
    rotation = prepare_renewal(bundle_of(server), home.root, now=time.time() + 5)
    signed = add_signatures(rotation, home.root, [home.publisher_key])
    assert (await post(server, texts(signed), token=home.token))[0] == 200
    after = view_of(home, server)
    assert after.expires["revisions"] > before.expires["revisions"]
    assert after.versions["root"] == before.versions["root"]


async def test_rotation_that_died_before_its_key_was_moved_heals_at_the_next_start(
    home: Home, start_origin: StartOrigin
) -> None:
    store = home.open_store()
    repository = await home.load(store)
    rotation = online_rotation(home, repository.bundle(0))
    new = load_key(next_path(home.config.keys_dir / ONLINE_KEY))
    commit = repository.accept(
        root=rotation.root, targets=rotation.targets, online_key=new, now=time.time()
    )
    await store.put_trust_documents(commit.files)
    server = await start_origin()
    assert view_of(home, server).versions["root"] == 2
    assert load_key(home.config.keys_dir / ONLINE_KEY).public_key == new.public_key
    assert not next_path(home.config.keys_dir / ONLINE_KEY).exists()


async def test_refusals_say_what_to_do(home: Home, start_origin: StartOrigin) -> None:
    server = await start_origin()
    rotation = online_rotation(home, bundle_of(server))
    unsigned = prepare_renewal(bundle_of(server), home.root, now=time.time())
    spare = next_path(home.config.keys_dir / ONLINE_KEY)
    hidden = spare.rename(spare.with_suffix(".away"))
    for body, status, told in (
        ({}, 400, "no document"),
        ({"root": "{}"}, 400, "not a signed role file"),
        ({"snapshot": "x"}, 400, "request body"),
        (texts(rotation), 409, "online.next.key"),
        (texts(unsigned), 403, "not signed by the key"),
        ({**texts(rotation), "targets": None}, 409, "online.next.key"),
    ):
        found, answer = await post(server, body, token=home.token)
        assert (found, told in answer["detail"]) == (status, True), answer
    assert (await post(server, texts(rotation), token="wrong"))[0] == 401
    hidden.rename(spare)
    assert view_of(home, server).versions["root"] == 1
    assert (await post(server, texts(rotation), token=home.token))[0] == 200
    assert (await post(server, texts(rotation), token=home.token))[0] == 409


async def test_body_over_the_limit_is_refused(home: Home, start_origin: StartOrigin) -> None:
    server = await start_origin(replace(home.config, max_admin_body_bytes=1_000))
    status, _ = await post(server, {"root": "x" * 2_000}, token=home.token)
    assert status == 413


async def test_revisions_may_not_change_this_way(home: Home, start_origin: StartOrigin) -> None:
    server = await start_origin()
    revision = make_revision({"m.gguf": [chunk_of(1)]})
    signed = home.sign(server.app[PUBLISHER].repository, revision).decode()
    status, answer = await post(server, {"revisions": signed}, token=home.token)
    assert (status, "publish does that" in answer["detail"]) == (409, True)


async def test_online_key_of_another_day_is_no_key(home: Home, start_origin: StartOrigin) -> None:
    """A spare key that no root names is not taken, and the one in force is still asked for."""
    next_key(home.config.keys_dir / ONLINE_KEY)
    server = await start_origin()
    assert next_path(home.config.keys_dir / ONLINE_KEY).exists()
    await server.close()
    (home.config.keys_dir / ONLINE_KEY).unlink()
    with pytest.raises(ConfigError, match=ONLINE_KEY):
        await start_origin()
