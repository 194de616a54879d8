"""A real origin in a process of its own: how it starts, how it stops, and how it dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from origin.__main__ import main
from origin.admin_client import OriginAdmin
from origin.offer import LocalFile
from origin.publish import Published, publish
from tests.fakes.origin_home import Home, StartProcess
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.chunk import hash_chunk
from wire.errors import SourceUnavailableError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that share nothing but their tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    return (
        write_tiny_gguf(folder / "one.gguf", seed=1),
        write_tiny_gguf(folder / "two.gguf", seed=2, n_layer=12),
    )


async def publish_to(
    home: Home, url: str, file: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Published:
    """Publish on ``stable``, off the event loop."""

    def run() -> Published:
        origin = OriginAdmin(url, home.token)
        try:
            offered = [LocalFile(file=file, path=file.name)]
            return publish(offered, "chat", "stable", origin, home.publisher_key, progress=progress)
        finally:
            origin.close()

    return await asyncio.to_thread(run)


async def stable(home: Home) -> str:
    return (await home.load()).view.pointer("chat", "stable").revision


async def test_an_origin_killed_in_the_middle_of_uploads_keeps_the_old_revision_whole(
    home: Home, start_process: StartProcess, models: tuple[Path, Path]
) -> None:
    origin = await start_process()
    first = await publish_to(home, origin.url, models[0])
    loop, half = asyncio.get_running_loop(), threading.Event()

    def kill_halfway(step: str, done: int, total: int) -> None:
        if step == "send" and done > total / 2 and not half.is_set():
            half.set()
            asyncio.run_coroutine_threadsafe(origin.kill(), loop).result(30)

    with pytest.raises(SourceUnavailableError):
        await publish_to(home, origin.url, models[1], kill_halfway)
    assert half.is_set()
    assert await stable(home) == first.revision
    chunks = [path for path in (home.store_folder / "chunks").rglob("*") if path.is_file()]
    assert all(hash_chunk(path.read_bytes()) == path.name for path in chunks)

    restarted = await start_process()
    second = await publish_to(home, restarted.url, models[1])
    assert await stable(home) == second.revision
    # What had arrived is not sent again. On a busy machine that may be all of it: the publisher
    # hears of a chunk only after the origin has it.
    assert second.sent_bytes < second.size * 0.6


async def test_an_origin_stops_cleanly_on_sigterm(home: Home, start_process: StartProcess) -> None:
    origin = await start_process()
    admin = OriginAdmin(origin.url, home.token)
    await asyncio.to_thread(admin.status)
    origin.process.terminate()
    assert await asyncio.wait_for(origin.process.wait(), 30) == 0
    admin.close()


@pytest.fixture
def default_logging() -> Iterator[None]:
    """What a program sets for its whole process is undone."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("default_logging")
def test_a_configuration_that_cannot_be_used_is_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(f'[origin]\nadmin_token_file = "{tmp_path}/none"\n')
    assert main(["--config", str(file)]) == 2
    assert "cannot read the token file" in capsys.readouterr().err
