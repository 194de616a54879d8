from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.facades import make_model
from wire import hub
from wire.catalog import ModelUnknownError, RevisionUnknownError
from wire.errors import (
    ForbiddenError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    UnauthorizedError,
)
from wire.manifest import FileEntry

NAMESPACES = ("headwater", "library")
MODEL = make_model("chat", extra={"a/b/c.txt": b"c", "a/d.txt": b"d", "ab.txt": b"e"})
paths = st.lists(st.from_regex(r"[a-c]{1,2}", fullmatch=True), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("rest", "call"),
    [
        ("chat", ("chat", "", "main", "")),
        ("headwater/chat", ("headwater/chat", "", "main", "")),
        ("elsewhere/chat", ("elsewhere/chat", "", "main", "")),
        ("headwater/chat/refs", ("headwater/chat", "refs", "main", "")),
        ("chat/refs", ("chat", "refs", "main", "")),
        ("library/refs", ("library/refs", "", "main", "")),
        ("chat/revision/v1", ("chat", "revision", "v1", "")),
        ("headwater/chat/revision/refs/pr/1", ("headwater/chat", "revision", "refs/pr/1", "")),
        ("headwater/chat/tree/main", ("headwater/chat", "tree", "main", "")),
        ("headwater/chat/tree/main/a/b", ("headwater/chat", "tree", "main", "a/b")),
    ],
)
def test_paths_of_the_api_are_read(rest: str, call: tuple[str, Any, str, str]) -> None:
    assert hub.read_call(rest, NAMESPACES) == hub.ApiCall(*call)


@given(st.lists(st.sampled_from(["headwater", "chat", "tree", "refs", "revision", "", "x"])))
def test_any_path_is_read_or_refused(parts: list[str]) -> None:
    try:
        call = hub.read_call("/".join(parts), NAMESPACES)
    except (NotFoundError, NameInvalidError):
        return
    assert call.repository.count("/") <= 1


def test_the_tree_shows_every_file_as_git_lfs_stores_it() -> None:
    entries = hub.tree(MODEL.manifest, "", recursive=True)
    files = {entry["path"]: entry for entry in entries if entry["type"] == "file"}
    assert set(files) == set(MODEL.files)
    for path, entry in files.items():
        data = MODEL.files[path]
        digest = hashlib.sha256(data).hexdigest()
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"
        ).encode()
        blob = b"blob %d\0%s" % (len(pointer), pointer)
        lfs = {"oid": digest, "size": len(data), "pointerSize": len(pointer)}
        assert entry["lfs"] == lfs
        assert entry["oid"] == hashlib.sha1(blob).hexdigest()
        assert "xetHash" not in entry


def test_the_tree_of_a_folder_is_what_is_in_it() -> None:
    def listed(folder: str, recursive: bool) -> list[str]:
        return [e["path"] for e in hub.tree(MODEL.manifest, folder, recursive=recursive)]

    assert listed("a", False) == ["a/b", "a/d.txt"]
    assert listed("a", True) == ["a/b", "a/b/c.txt", "a/d.txt"]
    assert listed("a/b", False) == ["a/b/c.txt"]
    assert set(listed("", True)) == {*listed("", False), *listed("a", True)}
    for missing in ("b", "a/d.txt", "a/b/c"):
        with pytest.raises(hub.EntryUnknownError):
            listed(missing, True)
    with pytest.raises(NameInvalidError):
        listed("../a", True)


@given(st.lists(paths, min_size=1, max_size=12))
def test_walking_the_folders_finds_what_the_whole_tree_shows(made: list[list[str]]) -> None:
    empty = hashlib.sha256().hexdigest()
    names = dict.fromkeys("/".join(parts) + ".f" for parts in made)
    entries = tuple(
        FileEntry(path=name, size=0, sha256=empty, role="other", chunks=()) for name in names
    )
    manifest = type(MODEL.manifest)(format="", model="m", files=entries, metadata={})
    whole = hub.tree(manifest, "", recursive=True)
    walked, folders = [], [""]
    while folders:
        for entry in hub.tree(manifest, folders.pop(), recursive=False):
            walked.append(entry)
            if entry["type"] == "directory":
                folders.append(entry["path"])
    assert sorted(walked, key=lambda entry: str(entry["path"])) == whole


@given(st.integers(0, 40), st.integers(1, 9))
def test_pages_together_are_everything_once(count: int, limit: int) -> None:
    entries = [{"path": str(n)} for n in range(count)]
    seen: list[dict[str, Any]] = []
    start: int | None = 0
    while start is not None:
        shown, start = hub.page(entries, start, limit)
        assert len(shown) <= limit
        seen += shown
    assert seen == entries


def test_the_model_has_a_commit_and_its_files() -> None:
    info = hub.model_info("headwater/chat", MODEL.id, MODEL.manifest, private=True, blobs=True)
    assert (info["id"], info["sha"], info["private"]) == ("headwater/chat", MODEL.id[:40], True)
    sizes = {sibling["rfilename"]: sibling["size"] for sibling in info["siblings"]}
    assert sizes == {path: len(data) for path, data in MODEL.files.items()}
    bare = hub.model_info("chat", MODEL.id, MODEL.manifest, private=False, blobs=False)
    assert {"rfilename": "chat.gguf"} in bare["siblings"]


def test_main_is_stable_among_the_branches() -> None:
    shown = hub.references({"next": "b" * 64, "stable": "a" * 64})
    commits = {branch["name"]: branch["targetCommit"] for branch in shown["branches"]}
    assert commits == {"main": "a" * 40, "next": "b" * 40, "stable": "a" * 40}
    assert hub.references({})["branches"] == []


@pytest.mark.parametrize(
    ("error", "refused", "code"),
    [
        (UnauthorizedError("x"), False, "RepoNotFound"),
        (UnauthorizedError("x"), True, None),
        (ModelUnknownError("x"), False, "RepoNotFound"),
        (ForbiddenError("x"), False, "GatedRepo"),
        (RevisionUnknownError("x"), False, "RevisionNotFound"),
        (hub.EntryUnknownError("x"), False, "EntryNotFound"),
        (NotFoundError("x"), False, "EntryNotFound"),
        (GoneError("x"), False, None),
    ],
)
def test_errors_carry_the_clients_codes(
    error: HeadwaterError, refused: bool, code: str | None
) -> None:
    assert hub.error_headers(error, refused=refused).get("X-Error-Code") == code


@given(st.text())
def test_no_message_breaks_out_of_its_header(text: str) -> None:
    message = hub.error_headers(NotFoundError(text), refused=False)["X-Error-Message"]
    assert message.isascii()
    assert message == "" or message.isprintable()
