from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from origin.admin_client import OriginAdmin
from origin.app import PUBLISHER
from origin.errors import DigestMismatchError, PublishError
from origin.keys import PUBLISHER_KEY
from origin.offer import LocalFile, role_of
from origin.publish import Published, publish
from tests.fakes import raw_gguf
from tests.fakes.origin_home import REPOSITORY_ROOT, Home, StartOrigin
from tests.fakes.publishing import flip_bit
from tests.fakes.raw_safetensors import write_file
from tests.fakes.split_gguf import split_gguf
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.bundle import CARD_PATH, TOKENIZER_PATH, decode_card
from wire.chunk import MAX_CHUNK_BYTES
from wire.errors import (
    ChunkMismatchError,
    ConflictError,
    ForbiddenError,
    GGUFInvalidError,
    NameInvalidError,
    SourceUnavailableError,
    UnauthorizedError,
)
from wire.golden import GOLDEN_PATH, GoldenInvalidError, GoldenPrompt, GoldenToken
from wire.golden import build as build_golden
from wire.golden import encode as encode_golden
from wire.manifest import Manifest, decode, revision_of

MIB = 2**20
GIB = 2**30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", n_layer=16)


@pytest.fixture
async def server(start_origin: StartOrigin) -> TestServer:
    return await start_origin()


def content(file: Path) -> bytes:
    return file.read_bytes()


class Desk:
    """A publisher at work, off the event loop."""

    def __init__(self, home: Home, url: str) -> None:
        self.home = home
        self.url = url
        self.steps: list[tuple[str, int, int]] = []

    async def publish(
        self, files: Path | Sequence[LocalFile], channel: str = "stable", **more: Any
    ) -> Published:
        if isinstance(files, Path):
            files = [LocalFile(file=files, path=files.name)]
        return await asyncio.to_thread(self._publish, files, channel, **more)

    def _publish(
        self,
        files: Sequence[LocalFile],
        channel: str,
        *,
        key: CryptoSigner | None = None,
        token: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        **more: Any,
    ) -> Published:
        origin = OriginAdmin(self.url, token or self.home.token)
        try:
            return publish(
                files,
                "chat",
                channel,
                origin,
                key or self.home.publisher_key,
                **more,
                progress=progress or (lambda *step: self.steps.append(step)),
            )
        finally:
            origin.close()


@pytest.fixture
async def desk(home: Home, server: TestServer) -> Desk:
    return Desk(home, str(server.make_url("")).rstrip("/"))


def golden_of(answer: str) -> bytes:
    prompt = GoldenPrompt(ids=(1,), text="a")
    return encode_golden(build_golden((prompt,), {"": ((GoldenToken(2, answer.encode(), -0.1),),)}))


async def test_what_the_model_answers_is_a_file_of_the_signed_revision(
    desk: Desk, server: TestServer, model: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def golden(models: Mapping[str, Sequence[Path]]) -> bytes:
        asked.append(dict(models))
        return golden_of("x")

    done = await desk.publish(model, golden=golden)
    assert asked == [{"": (model,)}]
    assert done.golden
    store = server.app[PUBLISHER].store
    manifest = decode(await store.manifest(done.revision), done.revision)
    entry = manifest.file(GOLDEN_PATH)
    assert entry.role == "other"
    assert b"".join([(await store.chunk(r.id)).data for r in entry.chunks]) == golden_of("x")
    again = await desk.publish(model, golden=golden)
    other = await desk.publish(model, golden=lambda _models: golden_of("y"))
    none = await desk.publish(model, golden=lambda _models: None)
    assert again.revision == done.revision
    assert len({done.revision, other.revision, none.revision}) == 3
    assert not none.golden


async def test_a_golden_file_that_is_offered_is_taken_if_it_is_one(
    desk: Desk, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / GOLDEN_PATH
    offered = [
        LocalFile(file=model, path=model.name),
        LocalFile(file=file, path=GOLDEN_PATH, role=role_of(GOLDEN_PATH)),
    ]

    def golden(_models: Mapping[str, Sequence[Path]]) -> bytes:
        raise AssertionError

    file.write_bytes(b"{}")
    with pytest.raises(GoldenInvalidError, match="publish without the file"):
        await desk.publish(offered, golden=golden)
    file.write_bytes(golden_of("x"))
    assert (await desk.publish(offered, golden=golden)).golden


async def test_a_published_file_is_whole_signed_and_on_its_channel(
    desk: Desk, server: TestServer, model: Path
) -> None:
    done = await desk.publish(model)
    publisher = server.app[PUBLISHER]
    assert publisher.repository.view.pointer("chat", "stable").revision == done.revision
    data = await publisher.store.manifest(done.revision)
    assert revision_of(data) == done.revision
    manifest = decode(data, done.revision)
    roles = {entry.path: entry.role for entry in manifest.files}
    assert roles == {"tiny.gguf": "weights", TOKENIZER_PATH: "tokenizer", CARD_PATH: "model"}
    weights, card = manifest.file("tiny.gguf"), manifest.file(CARD_PATH)
    parts = [(await publisher.store.chunk(ref.id)).data for ref in weights.chunks]
    assert b"".join(parts) == content(model)
    told = decode_card(b"".join([(await publisher.store.chunk(r.id)).data for r in card.chunks]))
    assert told.architecture == "llama"
    assert manifest.metadata == {"general.architecture": "llama", "general.name": "tiny"}
    assert (done.size, done.chunks) == (manifest.size, len(manifest.chunk_refs()))
    assert done.sent_chunks == done.chunks


async def test_progress_runs_to_the_end_of_each_step(desk: Desk, model: Path) -> None:
    done = await desk.publish(model)
    by_step: dict[str, list[tuple[int, int]]] = {}
    for step, at, total in desk.steps:
        by_step.setdefault(step, []).append((at, total))
    assert list(by_step) == ["scan", "send"]
    size = len(content(model))
    assert by_step["scan"][-1] == (size, size)
    assert by_step["send"][-1] == (done.sent_bytes, done.sent_bytes)
    assert all(points == sorted(points) for points in by_step.values())


async def test_the_same_file_again_is_the_same_revision_and_sends_nothing(
    desk: Desk, server: TestServer, model: Path
) -> None:
    first = await desk.publish(model)
    versions = dict(server.app[PUBLISHER].repository.view.versions)
    again = await desk.publish(model)
    assert (again.revision, again.sent_chunks, again.sent_bytes) == (first.revision, 0, 0)
    assert dict(server.app[PUBLISHER].repository.view.versions) == versions


async def test_publishing_on_another_channel_rolls_only_that(
    desk: Desk, server: TestServer, model: Path
) -> None:
    first = await desk.publish(model)
    assert (await desk.publish(model, "beta")).sent_chunks == 0
    pointers = {p.channel: p.revision for p in server.app[PUBLISHER].repository.view.pointers()}
    assert pointers == {"stable": first.revision, "beta": first.revision}


async def test_a_changed_layer_sends_only_that_layer(
    desk: Desk, model: Path, tmp_path: Path
) -> None:
    first = await desk.publish(model)
    changed = tmp_path / "tiny.gguf"
    changed.write_bytes(content(model)[:-64] + bytes(64))
    second = await desk.publish(changed)
    assert second.revision != first.revision
    assert second.sent_chunks == 1
    assert second.sent_bytes < first.size / 3


async def test_a_publish_that_was_cut_off_goes_on_where_it_was(
    desk: Desk, server: TestServer, model: Path
) -> None:
    class CutError(Exception):
        pass

    def cut(step: str, _done: int, _total: int) -> None:
        if step == "send":
            raise CutError

    with pytest.raises(CutError):
        await desk.publish(model, progress=cut)
    assert not server.app[PUBLISHER].repository.view.revisions
    done = await desk.publish(model)
    assert 0 < done.sent_chunks < done.chunks


async def test_publishing_again_heals_a_chunk_that_rotted_in_the_store(
    desk: Desk, server: TestServer, model: Path
) -> None:
    done = await desk.publish(model)
    store = server.app[PUBLISHER].store
    manifest = decode(await store.manifest(done.revision), done.revision)
    chunk = manifest.file("tiny.gguf").chunks[-1]
    flip_bit(desk.home.chunk_file(chunk.id))
    with pytest.raises(ChunkMismatchError):
        await store.chunk(chunk.id)
    again = await desk.publish(model)
    assert (again.revision, again.sent_chunks, again.sent_bytes) == (done.revision, 1, chunk.size)
    assert await store.chunk(chunk.id)


async def test_publishers_at_the_same_time_all_get_through(
    desk: Desk, server: TestServer, model: Path, tmp_path: Path
) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"model-{number}.gguf")
        files[-1].write_bytes(content(model))
    done = await asyncio.gather(*(desk.publish(file, file.stem) for file in files))
    view = server.app[PUBLISHER].repository.view
    assert {p.channel: p.revision for p in view.pointers()} == {
        file.stem: published.revision for file, published in zip(files, done, strict=True)
    }


# Several files


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights in its last layer."""
    folder = tmp_path_factory.mktemp("other")
    file = write_tiny_gguf(folder / "tiny.gguf", n_layer=16)
    file.write_bytes(content(file)[:-64] + bytes(64))
    return file


def offer(file: Path, path: str, **more: Any) -> LocalFile:
    return LocalFile(file=file, path=path, role=role_of(path), **more)


async def published(desk: Desk, server: TestServer, done: Published) -> Manifest:
    return decode(await server.app[PUBLISHER].store.manifest(done.revision), done.revision)


async def test_variants_share_a_revision_and_what_is_alike_goes_once(
    desk: Desk, server: TestServer, model: Path, other: Path, tmp_path: Path
) -> None:
    (tmp_path / "LICENSE").write_text("free")
    done = await desk.publish(
        [
            offer(model, "chat-Q8_0.gguf"),
            offer(other, "chat-Q4_0.gguf"),
            offer(tmp_path / "LICENSE", "LICENSE"),
        ]
    )
    manifest = await published(desk, server, done)
    assert done.variants == manifest.variants == ("Q4_0", "Q8_0")
    assert done.files == len(manifest.files) == 5
    assert manifest.file("LICENSE").role == "other"
    assert done.sent_bytes < 1.2 * len(content(model))
    assert done.sent_bytes == sum(ref.size for ref in manifest.chunk_refs().values())
    paths = {entry.path for entry in manifest.of_variant("Q4_0")}
    assert paths == {"chat-Q4_0.gguf", "LICENSE", TOKENIZER_PATH, CARD_PATH}
    scans = [step for step in desk.steps if step[0] == "scan"]
    total = 2 * len(content(model)) + 4
    assert scans[-1] == ("scan", total, total)
    assert scans == sorted(scans)


async def test_parts_are_one_model_whose_card_counts_all_of_them(
    desk: Desk, server: TestServer, model: Path, tmp_path: Path
) -> None:
    parts = split_gguf(model, tmp_path, 3)
    done = await desk.publish([offer(path, path.name) for path in parts])
    manifest = await published(desk, server, done)
    store = server.app[PUBLISHER].store
    card = manifest.file(CARD_PATH)
    data = b"".join([(await store.chunk(ref.id)).data for ref in card.chunks])
    whole = await desk.publish(model, "beta")
    other = (await published(desk, server, whole)).file(CARD_PATH)
    assert data == b"".join([(await store.chunk(ref.id)).data for ref in other.chunks])
    assert [entry.path for entry in manifest.by_role("weights")] == [p.name for p in parts]
    assert whole.sent_bytes < len(content(model)) / 4, "the parts hold the same tensors"


async def test_safetensors_are_published_without_a_bundle(
    desk: Desk, server: TestServer, tmp_path: Path
) -> None:
    table = {f"model.layers.{layer}.w": ("F32", (300, 300)) for layer in range(3)}
    file = write_file(tmp_path / "model.safetensors", table)
    (tmp_path / "tokenizer.json").write_text("{}")
    done = await desk.publish(
        [offer(file, file.name), offer(tmp_path / "tokenizer.json", "tokenizer.json")]
    )
    manifest = await published(desk, server, done)
    assert done.tokenizer == "none"
    assert {entry.path: entry.role for entry in manifest.files} == {
        "model.safetensors": "weights",
        "tokenizer.json": "other",
    }
    assert len(manifest.file("model.safetensors").chunks) == 4


async def test_where_a_model_is_from_stands_in_the_manifest(
    desk: Desk, server: TestServer, model: Path
) -> None:
    told = {"source": "hf://org/name", "source.revision": "a" * 40}
    done = await desk.publish(model, metadata=told)
    manifest = await published(desk, server, done)
    assert told.items() <= manifest.metadata.items()
    assert (await desk.publish(model, metadata=told)).revision == done.revision
    assert (await desk.publish(model)).revision != done.revision


async def test_a_private_revision_is_signed_as_one(
    desk: Desk, server: TestServer, model: Path
) -> None:
    done = await desk.publish(model, private=True)
    assert ("chat", done.revision) in server.app[PUBLISHER].repository.view.private
    assert (await desk.publish(model, private=True)).revision == done.revision
    with pytest.raises(ConflictError, match="as private"):
        await desk.publish(model)


async def test_a_file_that_is_not_what_was_announced_is_not_sent(desk: Desk, model: Path) -> None:
    with pytest.raises(DigestMismatchError):
        await desk.publish([offer(model, "tiny.gguf", sha256="0" * 64)])
    assert not (desk.home.store_folder / "chunks").exists()
    true = hashlib.sha256(content(model)).hexdigest()
    assert (await desk.publish([offer(model, "tiny.gguf", sha256=true)])).sent_chunks


# What is refused


async def test_a_wrong_token_is_told_before_the_file_is_read(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UnauthorizedError, match="bearer token"):
        await desk.publish(tmp_path / "missing.gguf", token="wrong")


async def test_a_key_that_is_not_the_publishers_signs_nothing(
    desk: Desk, server: TestServer, model: Path
) -> None:
    thief = CryptoSigner(Ed25519PrivateKey.generate())
    with pytest.raises(ForbiddenError):
        await desk.publish(model, key=thief)
    assert not server.app[PUBLISHER].repository.view.revisions


async def test_a_file_that_changes_meanwhile_is_not_published(
    desk: Desk, server: TestServer, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(content(model))

    def write_over(step: str, done: int, total: int) -> None:
        if step == "scan" and done == total:
            file.write_bytes(bytes(total))

    with pytest.raises(ConflictError, match="publish it again"):
        await desk.publish(file, progress=write_over)
    assert not server.app[PUBLISHER].repository.view.revisions


async def test_what_is_no_gguf_is_refused_unsent(
    desk: Desk, server: TestServer, tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(GGUFInvalidError):
        await desk.publish(file)
    assert not (desk.home.store_folder / "chunks").exists()


@pytest.mark.parametrize("name", ["mödel.gguf", ".hidden.gguf", "a%2e.gguf"])
async def test_a_file_name_that_cannot_be_published_is_refused(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    with pytest.raises(NameInvalidError):
        await desk.publish(tmp_path / name)


async def test_a_missing_file_is_named(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"gone\.gguf: No such file"):
        await desk.publish(tmp_path / "gone.gguf")


async def test_nobody_there_is_told(home: Home, model: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="cannot connect"):
        await Desk(home, "http://127.0.0.1:9").publish(model)


# Size


def write_large_gguf(path: Path, size_bytes: int, unique_bytes: int) -> Path:
    """A GGUF that may be published, with holes for weights; the first of them are all different."""
    keys = [
        raw_gguf.text_key("general.architecture", "llama"),
        raw_gguf.u32_key("llama.context_length", 128),
        raw_gguf.text_key("tokenizer.ggml.model", "gpt2"),
        raw_gguf.texts_key("tokenizer.ggml.tokens", ["a", "b"]),
        raw_gguf.texts_key("tokenizer.ggml.merges", []),
    ]
    header = raw_gguf.header(keys, [raw_gguf.tensor("blk.0.ffn_up.weight", (size_bytes,), 24)])
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + size_bytes)
        for offset in range(len(header), unique_bytes, MAX_CHUNK_BYTES // 2):
            os.pwrite(stream.fileno(), offset.to_bytes(8, "little"), offset)
    return path


_PUBLISH = """
import os, sys
from pathlib import Path
from origin.keys import load_key
from origin.offer import from_disk
from origin.publish import OriginAdmin, publish
from tests.fakes.processes import peak_rss_bytes
file, url, token, key = sys.argv[1:]
publish(from_disk(Path(file)), "chat", "stable", OriginAdmin(url, token), load_key(Path(key)))
print(peak_rss_bytes(os.getpid()))
"""


async def test_a_file_of_two_gib_is_published_in_bounded_memory(
    desk: Desk, server: TestServer, tmp_path: Path
) -> None:
    file = await asyncio.to_thread(write_large_gguf, tmp_path / "large.gguf", 2 * GIB, GIB // 16)
    key = desk.home.config.keys_dir / PUBLISHER_KEY
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PUBLISH, str(file), desk.url, desk.home.token, str(key)),
        cwd=REPOSITORY_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    pointer = server.app[PUBLISHER].repository.view.pointer("chat", "stable")
    manifest = decode(
        await server.app[PUBLISHER].store.manifest(pointer.revision), pointer.revision
    )
    assert manifest.file("large.gguf").size > 2 * GIB
    print(f"peak RSS {int(output) / MIB:.0f} MiB")
    assert int(output) < 150 * MIB
