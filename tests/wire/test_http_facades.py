from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.fakes.facades import ADMIN_TOKEN, make_model, open_tier, publish_in
from wire.errors import ConfigError, NotFoundError
from wire.http_facades import ERROR_BODIES, open_access

SECRET = make_model("secret")


async def test_our_own_paths_are_guarded_and_chunks_are_not(tmp_path: Path) -> None:
    async with open_tier(tmp_path) as tier, aiohttp.ClientSession() as http:
        publish_in(tier.source, SECRET, private=True)
        _, token = tier.tokens.mint(["secret"])
        manifest = f"{tier.url}/artifacts/manifests/{SECRET.id}"
        file = f"{tier.url}/artifacts/files/{SECRET.id}/secret.gguf"
        absent = f"{tier.url}/artifacts/manifests/{'a' * 64}"
        for shown, status in (("", 404), ("wrong", 404), (token, 200), (ADMIN_TOKEN, 200)):
            headers = {"Authorization": f"Bearer {shown}"} if shown else {}
            for url in (manifest, file):
                async with http.get(url, headers=headers) as answer:
                    assert answer.status == status, (url, shown)
                    if status == 200:
                        assert answer.headers["Cache-Control"] == "private, no-store"
        async with http.get(manifest) as refused, http.get(absent) as missing:
            body = (await refused.text()).replace(SECRET.id, "a" * 64)
            assert body == await missing.text()
        etag = {"If-None-Match": f'"{SECRET.id}"'}
        async with http.get(manifest, headers=etag) as answer:
            assert answer.status == 404
        chunk = next(iter(SECRET.chunks))
        async with http.get(f"{tier.url}/artifacts/chunks/{chunk}") as answer:
            assert answer.status == 200
            assert "public" in answer.headers["Cache-Control"]


async def test_a_file_of_tokens_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text("{}")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="pull tokens are malformed"):
        await open_access(lambda: None, file, "secret", ())


def test_errors_below_the_registrys_root_have_its_shape() -> None:
    body, _ = ERROR_BODIES["/v2"](NotFoundError("x"))
    assert body.startswith(b'{"errors":[')
