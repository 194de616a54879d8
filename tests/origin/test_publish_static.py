from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from origin.admin_client import OriginAdmin
from origin.app import PUBLISHER
from origin.errors import PublishError
from origin.offer import LocalFile
from origin.publish import publish
from origin.publish_static import PublishedSite, publish_static
from tests.fakes.origin_home import Home, StartOrigin
from tests.fakes.sites import text, write_site
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.channel import Canary
from wire.errors import ConflictError, NameInvalidError, RequestInvalidError
from wire.manifest import Manifest, decode

HASHED = "app-3f9a02bc.js"
FILES = {"index.html": text("page"), HASHED: text("script"), "dot.png": b"png", "e.css": b""}


class Desk:
    """A publisher at work, off the event loop."""

    def __init__(self, home: Home, server: TestServer) -> None:
        self.publisher = server.app[PUBLISHER]
        self._key = home.publisher_key
        self._admin = OriginAdmin(str(server.make_url("")).rstrip("/"), home.token)

    async def publish(
        self, folder: Path, channel: str = "stable", model: str = "site", **more: Any
    ) -> PublishedSite:
        return await asyncio.to_thread(
            publish_static, folder, model, channel, self._admin, self._key, **more
        )

    async def publish_model(self, file: Path, model: str) -> None:
        offer = [LocalFile(file=file, path=file.name)]
        await asyncio.to_thread(publish, offer, model, "stable", self._admin, self._key)

    async def manifest(self, revision: str) -> Manifest:
        return decode(await self.publisher.store.manifest(revision), revision)

    @property
    def stable(self) -> tuple[str, tuple[str, ...]]:
        pointer = self.publisher.repository.view.pointer("site", "stable")
        return pointer.revision, pointer.previous

    def close(self) -> None:
        self._admin.close()


@pytest.fixture
async def desk(home: Home, start_origin: StartOrigin) -> Any:
    made = Desk(home, await start_origin())
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_site(tmp_path / "site", FILES)


async def test_a_folder_becomes_a_signed_revision(desk: Desk, folder: Path) -> None:
    (folder / ".env").write_bytes(b"SECRET")
    done = await desk.publish(folder)
    view = desk.publisher.repository.view
    assert ("site", done.revision) in view.static
    assert view.pointer("site", "stable").revision == done.revision
    assert (done.files, done.immutable, done.hidden) == (4, 1, (".env",))
    manifest = await desk.manifest(done.revision)
    assert manifest.kind == "static"
    assert {e.path for e in manifest.files} == {
        *FILES,
        *(f"{name}.{end}" for name in ("index.html", HASHED) for end in ("gz", "br", "zst")),
    }
    store = desk.publisher.store
    for entry in manifest.files:
        data = b"".join([bytes((await store.chunk(ref.id)).data) for ref in entry.chunks])
        assert len(data) == entry.size
        assert FILES.get(entry.path, data) == data


async def test_the_same_folder_gives_the_same_revision(desk: Desk, folder: Path) -> None:
    first = await desk.publish(folder)
    for name in FILES:
        os.utime(folder / name, (1, 1))
    again = await desk.publish(folder)
    assert again.revision == first.revision
    assert again.sent_chunks == 0


async def test_only_what_changed_is_sent_and_the_way_back_is_known(
    desk: Desk, folder: Path
) -> None:
    revisions = [(await desk.publish(folder)).revision]
    assert desk.stable == (revisions[0], ())
    for number in range(6):
        write_site(folder, {"index.html": text(f"page {number}")})
        done = await desk.publish(folder)
        assert 0 < done.sent_chunks <= 4
        revisions.insert(0, done.revision)
    assert desk.stable == (revisions[0], tuple(revisions[1:5]))
    await desk.publisher.roll("site", "stable", revisions[2])
    assert desk.stable == (revisions[2], (revisions[0], *revisions[1:2], *revisions[3:5]))


async def test_new_content_under_a_name_that_never_changes_is_refused(
    desk: Desk, folder: Path
) -> None:
    first = await desk.publish(folder)
    write_site(folder, {HASHED: text("other")})
    with pytest.raises(ConflictError, match=f"{HASHED} was published as a file that never"):
        await desk.publish(folder)
    assert desk.stable[0] == first.revision
    await desk.publish(folder, channel="preview")  # nobody keeps anything of that yet


async def test_after_a_takedown_of_what_is_current_the_next_is_published(
    desk: Desk, folder: Path
) -> None:
    first = await desk.publish(folder)
    await desk.publisher.purge(f"revision:{first.revision}", hard=True)
    write_site(folder, {"index.html": text("clean"), HASHED: text("clean")})
    assert (await desk.publish(folder)).revision != first.revision


async def test_a_file_that_is_there_already_is_no_form(desk: Desk, folder: Path) -> None:
    write_site(folder, {"index.html.gz": b"something else"})
    done = await desk.publish(folder)
    assert done.uncompressed == ("index.html.gz",)
    entry = (await desk.manifest(done.revision)).file("index.html.gz")
    assert entry.static is not None
    assert (entry.static.coding, entry.static.type) == ("", "application/gzip")


async def test_a_name_is_of_one_kind_for_good(desk: Desk, folder: Path, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    await desk.publish_model(file, "chat")
    with pytest.raises(ConflictError, match="chat belongs to a model"):
        await desk.publish(folder, model="chat")
    await desk.publish(folder)
    with pytest.raises(ConflictError, match="site belongs to a static"):
        await desk.publish_model(file, "site")
    await desk.publish(folder, model="cha")  # a beginning of another name is another name


async def test_a_site_is_private_or_it_is_not(desk: Desk, folder: Path) -> None:
    done = await desk.publish(folder, private=True)
    view = desk.publisher.repository.view
    assert ("site", done.revision) in view.private & view.static
    with pytest.raises(ConflictError, match="as private"):
        await desk.publish(folder)


async def test_no_worker_can_try_a_site(desk: Desk, folder: Path) -> None:
    first = await desk.publish(folder)
    write_site(folder, {"index.html": b"new"})
    second = await desk.publish(folder, channel="preview")
    with pytest.raises(RequestInvalidError, match="static site"):
        await desk.publisher.roll(
            "site", "stable", first.revision, canary=Canary(revision=second.revision, percent=10)
        )


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda folder: (folder / "ü.html").write_bytes(b""), NameInvalidError),
        (lambda folder: (folder / "out").symlink_to("/etc/passwd"), PublishError),
    ],
)
async def test_what_must_not_be_published_leaves_everything(
    desk: Desk, folder: Path, spoil: Callable[[Path], Any], error: type[Exception]
) -> None:
    spoil(folder)
    with pytest.raises(error):
        await desk.publish(folder)
    assert desk.publisher.repository.view.revisions == {}


async def test_steps_are_told(desk: Desk, folder: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    await desk.publish(folder, progress=lambda *step: steps.append(step))
    size = sum(map(len, FILES.values()))
    assert ("scan", size, size) in steps
    assert steps[-1][0] == "send"
    assert steps[-1][1] == steps[-1][2]
