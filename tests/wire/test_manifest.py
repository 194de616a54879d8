from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.chunk import MAX_CHUNK_BYTES, ChunkId, hash_chunk
from wire.errors import ManifestInvalidError, NameInvalidError, NotFoundError
from wire.manifest import (
    FORMAT,
    ChunkRef,
    FileEntry,
    Manifest,
    build,
    decode,
    encode,
    revision_of,
)
from wire.static_file import StaticFile


def entry(path: str = "model.gguf", parts: tuple[bytes, ...] = (b"abc", b"de")) -> FileEntry:
    data = b"".join(parts)
    return FileEntry(
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        role="weights",
        chunks=tuple(ChunkRef(hash_chunk(part), len(part)) for part in parts),
    )


def manifest(*files: FileEntry) -> Manifest:
    return build("chat", files or (entry(),), {"general.name": "Chat"})


@given(st.lists(st.lists(st.binary(min_size=1, max_size=9), max_size=4), min_size=1, max_size=4))
def test_a_manifest_survives_its_bytes(files: list[list[bytes]]) -> None:
    made = manifest(*(entry(f"f{i}", tuple(parts)) for i, parts in enumerate(files)))
    data = encode(made)
    assert decode(data, revision_of(data)) == made
    assert encode(decode(data, revision_of(data))) == data


def test_the_same_content_gives_the_same_revision() -> None:
    one = build("chat", (entry(),), {"a": "1", "b": "2"})
    two = build("chat", (entry(),), {"b": "2", "a": "1"})
    assert revision_of(encode(one)) == revision_of(encode(two))


def test_bytes_of_another_revision_are_refused() -> None:
    data = encode(manifest())
    with pytest.raises(ManifestInvalidError, match="not those of"):
        decode(data, "0" * 64)


@pytest.mark.parametrize("spoil", [b" ", b"\n"])
def test_a_second_byte_form_is_refused(spoil: bytes) -> None:
    data = encode(manifest()) + spoil
    with pytest.raises(ManifestInvalidError, match="canonical"):
        decode(data, revision_of(data))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        decode(data, revision_of(data))


def spoiled(**changes: Any) -> FileEntry:
    return msgspec.structs.replace(entry(), **changes)


@pytest.mark.parametrize(
    "files",
    [
        (),
        (entry(), entry()),
        (spoiled(size=6),),
        (spoiled(sha256="xyz"),),
        (spoiled(chunks=(ChunkRef(ChunkId("0" * 63), 5),)),),
        (spoiled(chunks=(ChunkRef(ChunkId("0" * 64), 0),), size=0),),
        (spoiled(chunks=(ChunkRef(ChunkId("0" * 64), -5),), size=-5),),
        (spoiled(chunks=(ChunkRef(ChunkId("0" * 64), MAX_CHUNK_BYTES + 1),)),),
        (
            spoiled(path="a", chunks=(ChunkRef(ChunkId("0" * 64), 5),)),
            spoiled(path="b", chunks=(ChunkRef(ChunkId("0" * 64), 4),), size=4),
        ),
    ],
)
def test_inconsistent_manifests_are_refused(files: tuple[FileEntry, ...]) -> None:
    with pytest.raises(ManifestInvalidError):
        build("chat", files, {})
    raw = Manifest(format=FORMAT, model="chat", files=files, metadata={})
    with pytest.raises(ManifestInvalidError):
        decode(encode(raw), revision_of(encode(raw)))


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../b", "a\0"])
def test_a_file_cannot_leave_its_revision(path: str) -> None:
    with pytest.raises(NameInvalidError):
        build("chat", (spoiled(path=path),), {})


def test_another_format_is_refused() -> None:
    raw = Manifest(format="other/9", model="chat", files=(entry(),), metadata={})
    with pytest.raises(ManifestInvalidError, match="format"):
        decode(encode(raw), revision_of(encode(raw)))


def test_places_and_lookups() -> None:
    made = manifest(entry("a"), entry("b", (b"abc", b"xyz")))
    assert [offset for offset, _ in made.file("b").placed()] == [0, 3]
    assert len(made.chunk_refs()) == 3
    assert made.size == 11
    assert [e.path for e in made.by_role("weights")] == ["a", "b"]
    with pytest.raises(NotFoundError):
        made.file("c")


def variants(*names: str) -> Manifest:
    entries = [
        msgspec.structs.replace(entry(f"{i}-{name or 'all'}"), variant=name)
        for i, name in enumerate(names)
    ]
    return manifest(*entries)


def test_a_worker_needs_its_variant_and_what_belongs_to_all() -> None:
    made = variants("Q4_K_M", "Q8_0", "Q4_K_M", "")
    assert made.variants == ("Q4_K_M", "Q8_0")
    assert [e.path for e in made.of_variant("Q4_K_M")] == ["0-Q4_K_M", "2-Q4_K_M", "3-all"]
    assert [e.path for e in made.of_variant("")] == ["3-all"]
    with pytest.raises(NotFoundError, match="it has Q4_K_M, Q8_0"):
        made.of_variant("Q5_K_M")


def test_a_manifest_without_variants_has_the_bytes_it_always_had() -> None:
    assert b"variant" not in encode(manifest())
    assert b'"variant":"Q8_0"' in encode(variants("Q8_0"))


def test_a_variant_s_name_cannot_climb() -> None:
    with pytest.raises(NameInvalidError, match="variant"):
        variants("../Q8_0")


PAGE = StaticFile(type="text/html; charset=utf-8")


def test_manifests_from_before_there_were_kinds_keep_their_names() -> None:
    """The bytes as the first version wrote them, and their digest."""
    data = (
        b'{"files":[{"chunks":[["6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",'
        b'3]],"path":"model.gguf","role":"weights","sha256":"ba7816bf8f01cfea414140de5dae2223b0036'
        b'1a396177a9cb410ff61f20015ad","size":3}],"format":"headwater.manifest/1","metadata":{"a":'
        b'"b"},"model":"chat"}'
    )
    read = decode(data, "ede83e64b516a142b1b0a10cf8dc58d8c110aad30ed0920a0b1ebaa849bca1ba")
    assert read.kind == "model"
    assert encode(read) == data


def test_a_site_says_so_and_has_a_name_of_its_own() -> None:
    files = (spoiled(role="other", static=PAGE),)
    site = build("site", files, {}, kind="static")
    data = encode(site)
    assert b'"kind":"static"' in data
    assert decode(data, revision_of(data)) == site


@pytest.mark.parametrize(
    ("kind", "file", "why"),
    [
        ("model", {"static": PAGE}, "no file of a static site"),
        ("static", {"static": PAGE}, "neither weights nor variants"),
        ("static", {"role": "other", "static": PAGE, "variant": "Q8_0"}, "neither weights"),
        ("static", {"role": "other"}, "has a media type"),
    ],
)
def test_kinds_do_not_mix(kind: Literal["model", "static"], file: dict[str, Any], why: str) -> None:
    with pytest.raises(ManifestInvalidError, match=why):
        build("m", (spoiled(**file),), {}, kind=kind)


def test_an_unknown_kind_is_refused() -> None:
    data = encode(manifest()).replace(b'"metadata"', b'"kind":"other","metadata"')
    with pytest.raises(ManifestInvalidError, match="malformed"):
        decode(data, revision_of(data))
