from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.errors import StoreError
from origin.store import ObjectStore
from origin.stores.bucket import BucketObjects, S3Config
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.s3 import CREDENTIALS, S3, impatient, s3_server, set_credentials
from wire.chunk import Chunk, hash_chunk
from wire.errors import ChunkMismatchError, ConfigError, ConflictError, NotFoundError, TooLargeError

REVISION = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
LARGE = chunk_of(3, 8 * 1024 * 1024)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)


@pytest.fixture
def bucket(s3: S3, request: pytest.FixtureRequest) -> BucketObjects:
    """A folder of the bucket that no other test has."""
    return BucketObjects(s3.location(request.node.name), s3.config)


def test_an_object_is_written_whole_and_read_back(bucket: BucketObjects) -> None:
    bucket.put("chunks/ab/x", LARGE)
    assert bytes(bucket.get("chunks/ab/x", len(LARGE))) == LARGE
    found = bucket.stat("chunks/ab/x")
    assert found is not None
    assert (found.key, found.size) == ("chunks/ab/x", len(LARGE))
    with pytest.raises(TooLargeError):
        bucket.get("chunks/ab/x", len(LARGE) - 1)
    with pytest.raises(NotFoundError):
        bucket.get("chunks/ab/y", 10)
    assert bucket.stat("chunks/ab/y") is None


def test_a_swap_needs_the_object_that_was_read(bucket: BucketObjects) -> None:
    first = bucket.swap("d", b"one", None)
    with pytest.raises(ConflictError):
        bucket.swap("d", b"other", None)
    second = bucket.swap("d", b"two", first)
    with pytest.raises(ConflictError):
        bucket.swap("d", b"late", first)
    assert bucket.get_tagged("d", 10) == (b"two", second)
    assert bucket.get_tagged("d", 10, second) is None
    assert bucket.get_tagged("d", 10, first) == (b"two", second)


def test_a_listing_has_all_pages_and_only_what_is_below(s3: S3) -> None:
    names = {f"chunks/ab/{number:04}" for number in range(1_100)}
    s3.fill(*(f"listing/{name}" for name in names), "listing/chunks/abc")
    bucket = BucketObjects(s3.location("listing"), s3.config)
    pages = list(bucket.pages("chunks/ab/"))
    assert {stat.key for page in pages for stat in page} == names
    assert max(map(len, pages)) <= 1_000
    bucket.remove([*sorted(names), "chunks/ab/none"])
    assert [stat.key for page in bucket.pages("chunks/") for stat in page] == ["chunks/abc"]


def test_a_move_leaves_nothing_behind(bucket: BucketObjects) -> None:
    bucket.put("a", b"x")
    bucket.move("a", "corrupt/a")
    assert bucket.stat("a") is None
    assert bytes(bucket.get("corrupt/a", 1)) == b"x"


async def test_many_chunks_are_looked_up_by_listing(s3: S3) -> None:
    store = ObjectStore(s3.location("lookup"), config=s3.config)
    numbered = (number.to_bytes(4, "big") for number in range(100_000))
    near = [Chunk.of(data) for data in numbered if hash_chunk(data).startswith("ab")][:40]
    await asyncio.gather(*(store.put_chunk(chunk) for chunk in near[:5]))
    asked = [chunk.id for chunk in near]
    before = s3.requests("HEAD")
    assert await store.missing_chunks(asked) == asked[5:]
    assert s3.requests("HEAD") == before
    assert await store.missing_chunks(asked[3:7]) == asked[5:7]
    assert s3.requests("HEAD") == before + 4


async def test_rot_in_the_bucket_is_found_set_aside_and_healed(s3: S3) -> None:
    rotten: list[str] = []
    store = ObjectStore(s3.location("rot"), config=s3.config, on_corrupt=rotten.append)
    chunk = Chunk.of(chunk_of(1))
    await store.put_chunk(chunk)
    s3.flip_bit(f"rot/chunks/{chunk.id[:2]}/{chunk.id}")
    with pytest.raises(ChunkMismatchError):
        await store.chunk(chunk.id)
    assert rotten == [chunk.id]
    assert s3.keys("rot/corrupt/") == [f"rot/corrupt/{chunk.id}"]
    await store.put_chunk(chunk)
    assert (await store.chunk(chunk.id)).id == chunk.id


# Faults of the place


def test_a_bucket_that_is_not_there_is_a_fault_and_no_absence(s3: S3) -> None:
    objects = BucketObjects("s3://none/x", s3.config)
    with pytest.raises(StoreError, match="no such bucket"):
        objects.put("a", b"x")
    with pytest.raises(StoreError):
        objects.swap("a", b"x", None)


def test_a_server_that_is_not_there_is_given_up_soon_and_no_secret_is_told(
    s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    config = impatient(s3.config, endpoint_url="http://127.0.0.1:9", retry_timeout_s=1.0)
    objects = BucketObjects("s3://models/x", config)
    for call in (
        lambda: objects.get("a", 1),
        lambda: objects.put("a", b""),
        lambda: next(objects.pages("a")),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        told = f"{caught.value} {caplog.text}"
        assert not any(secret in told for secret in list(CREDENTIALS.values())[:2])


def test_without_tls_only_where_it_is_allowed(s3: S3) -> None:
    objects = BucketObjects("s3://models/x", impatient(s3.config, allow_http=False))
    with pytest.raises(StoreError):
        objects.get("a", 1)


def test_credentials_may_come_from_a_file(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[mine]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    file.chmod(0o600)
    config = impatient(s3.config, credentials_file=file, profile="mine", region="us-east-1")
    objects = BucketObjects("s3://models/file", config)
    objects.put("a", b"x")
    assert bytes(objects.get("a", 1)) == b"x"


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("[other]\naws_access_key_id = hush\n", 0o600, "no section"),
        ("hush = nonsense", 0o600, "no section"),
        ("[default]\naws_access_key_id = hush\n", 0o600, "no section"),
        ("[default]\naws_access_key_id = hush\n", 0o644, "readable by others"),
    ],
)
def test_a_credentials_file_that_cannot_be_used_is_told_without_what_stands_in_it(
    tmp_path: Path, text: str, mode: int, told: str
) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=told) as caught:
        ObjectStore("s3://models/x", config=S3Config(credentials_file=file))
    assert "hush" not in str(caught.value)
