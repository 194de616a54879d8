"""Imports through the real huggingface_hub, from a hub that is honest and from one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.errors import ImportRefusedError, PublishError
from origin.importers.hub import (
    Hub,
    HubFile,
    HubLimits,
    HubReference,
    hub_token,
    parse_reference,
    select,
)
from tests.fakes.hub import COMMIT, FakeHub, fake_hub, listed
from wire.errors import (
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    SourceUnavailableError,
    TooLargeError,
    UnauthorizedError,
)
from wire.paths import file_path

REFERENCE = HubReference("org/chat")
WEIGHTS = bytes(range(256)) * 4_000
FILES = {
    "chat-Q4_K_M.gguf": WEIGHTS,
    "chat-Q8_0.gguf": WEIGHTS[::-1],
    "config.json": b"{}",
    "sub/notes.txt": b"notes",
    "pytorch_model.bin": b"pickle",
    ".gitattributes": b"x",
}
TAKEN = ["chat-Q4_K_M.gguf", "chat-Q8_0.gguf", "config.json", "sub/notes.txt"]


@pytest.fixture
def server() -> Iterator[FakeHub]:
    with fake_hub(FakeHub("org/chat", dict(FILES))) as running:
        yield running


def hub(server: FakeHub, token: str | None = None, **limits: int) -> Hub:
    return Hub(server.url, token, limits=HubLimits(**limits))


# Names


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf://org/name", HubReference("org/name")),
        ("hf://org/name/", HubReference("org/name")),
        ("hf://org/na.me-x@v1.0", HubReference("org/na.me-x", "v1.0")),
        ("hf://org/name/sub/a.gguf", HubReference("org/name", "main", "sub/a.gguf")),
        ("hf://org/name@abc/a.gguf", HubReference("org/name", "abc", "a.gguf")),
    ],
)
def test_a_reference_is_read(text: str, reference: HubReference) -> None:
    assert parse_reference(text) == reference
    assert reference.name == reference.repository.split("/")[1]


@pytest.mark.parametrize(
    "text",
    [
        "", "org/name", "hf:/org/name", "hf://", "hf://name", "hf:///name", "hf://org/", "hf://a@b/c",
        "hf://org/name@", "hf://org/name@a..b", "hf://org/name@a b", "hf://org/../x", "hf://o..g/name",
        "hf://org/name/../x.gguf", "hf://org/name//x", "hf://org/name/a%2e.gguf", "hf://org/.name",
        "hf://org/na--me", "hf://org/name?x", "hf://org/name#x", "hf://org\\x/name", "https://org/name",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(NameInvalidError):
        parse_reference(text)


def test_the_token_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    assert hub_token() is None
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(UnauthorizedError, match="HF_TOKEN_PATH"):
        hub_token()
    (tmp_path / "token").write_text("hf_file\n")
    assert hub_token() == "hf_file"
    monkeypatch.setenv("HF_TOKEN", "hf_env")
    assert hub_token() == "hf_env"


# Which files


def test_all_that_is_taken_is_selected_and_patterns_narrow_it() -> None:
    known = [HubFile(path, len(content)) for path, content in FILES.items()]
    assert [file.path for file in select(known, REFERENCE)] == TAKEN
    assert [file.path for file in select(known, REFERENCE, ["*Q8*"])] == ["chat-Q8_0.gguf"]
    named = HubReference("org/chat", file="chat-Q8_0.gguf")
    assert [file.path for file in select(known, named)] == ["chat-Q8_0.gguf"]
    for wanted in ("pytorch_model.bin", "absent.gguf", ".gitattributes"):
        with pytest.raises(PublishError):
            select(known, HubReference("org/chat", file=wanted))
    with pytest.raises(PublishError, match="is not taken"):
        select(known, REFERENCE, ["*.bin"])


def test_sizes_are_bounded_before_anything_is_fetched() -> None:
    files = [HubFile("a.gguf", 100), HubFile("b.gguf", 100), HubFile("c.json", 100)]
    for limits in ({"file_bytes": 99}, {"text_bytes": 99}, {"total_bytes": 299}):
        with pytest.raises(TooLargeError):
            select(files, REFERENCE, limits=HubLimits(**limits))
    with pytest.raises(TooLargeError):
        select([HubFile("a.gguf", -1)], REFERENCE)
    assert len(select(files, REFERENCE, limits=HubLimits(total_bytes=300))) == 3


@given(st.lists(st.text(max_size=30).map(lambda text: f"{text}.gguf"), min_size=1))
def test_no_path_is_selected_that_could_climb(paths: list[str]) -> None:
    try:
        found = select([HubFile(path, 1) for path in paths], REFERENCE)
    except HeadwaterError:
        return
    assert all(file_path(file.path) for file in found)


# Fetching


def test_a_model_is_fetched_with_where_it_is_from(server: FakeHub, tmp_path: Path) -> None:
    server.info = {"tags": ["license:apache-2.0", "gguf"]}
    steps: list[tuple[str, int, int]] = []
    found = hub(server).fetch(REFERENCE, tmp_path, progress=lambda *step: steps.append(step))
    assert [local.path for local in found.files] == TAKEN
    for local in found.files:
        assert local.file.read_bytes() == FILES[local.path]
        assert local.role == ("weights" if local.path.endswith(".gguf") else "other")
        assert bool(local.sha256) == local.path.endswith(".gguf")
    assert found.metadata == {
        "source": "hf://org/chat",
        "source.revision": COMMIT,
        "source.license": "apache-2.0",
    }
    total = sum(len(FILES[path]) for path in TAKEN)
    assert steps[-1] == ("fetch", total, total)
    assert steps == sorted(steps)
    assert all("authorization" not in headers for _, _, headers in server.asked)


def test_a_named_file_is_kept_in_the_metadata(server: FakeHub, tmp_path: Path) -> None:
    reference = HubReference("org/chat", COMMIT, "chat-Q8_0.gguf")
    found = hub(server).fetch(reference, tmp_path)
    assert [local.path for local in found.files] == ["chat-Q8_0.gguf"]
    assert found.metadata["source.file"] == "chat-Q8_0.gguf"


def test_files_that_are_there_are_not_fetched_again(server: FakeHub, tmp_path: Path) -> None:
    hub(server).fetch(REFERENCE, tmp_path)
    before = len(server.fetched())
    (tmp_path / "config.json").unlink()
    hub(server).fetch(REFERENCE, tmp_path)
    assert [path.rpartition("/")[2] for path in server.fetched()[before:]] == ["config.json"]


def test_a_broken_connection_is_gone_on_with(server: FakeHub, tmp_path: Path) -> None:
    content = WEIGHTS * 12  # the library takes 10 MiB at a time
    server.files["chat-Q4_K_M.gguf"] = content
    server.breaks_at = {"chat-Q4_K_M.gguf": 11 * 2**20}
    found = hub(server).fetch(HubReference("org/chat", file="chat-Q4_K_M.gguf"), tmp_path)
    assert found.files[0].file.read_bytes() == content
    ranges = [headers.get("range") for method, _, headers in server.asked if method == "GET"]
    assert f"bytes={10 * 2**20}-" in ranges


def test_the_token_opens_the_model_and_is_in_no_message(server: FakeHub, tmp_path: Path) -> None:
    server.token = "hf_" + "s" * 34
    with pytest.raises((UnauthorizedError, NotFoundError)) as error:
        hub(server, "hf_wrong").fetch(REFERENCE, tmp_path)
    assert "hf_wrong" not in error.value.message
    assert hub(server, server.token).fetch(REFERENCE, tmp_path).files
    assert server.token not in repr(hub(server, server.token))


def test_what_is_not_there_is_named(server: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model"):
        hub(server).fetch(HubReference("org/other"), tmp_path)
    with pytest.raises(SourceUnavailableError):
        Hub("http://127.0.0.1:9").fetch(REFERENCE, tmp_path)


# A hostile hub


@pytest.mark.parametrize(
    "info", [{"sha": "main"}, {"sha": None}, {"sha": "../../x"}, {"sha": "A" * 40}, {"sha": 1}]
)
def test_a_commit_that_is_none_is_refused(
    server: FakeHub, tmp_path: Path, info: dict[str, Any]
) -> None:
    server.info = info
    with pytest.raises(ImportRefusedError, match="names no commit"):
        hub(server).fetch(REFERENCE, tmp_path)


def test_a_licence_that_is_no_name_is_left_out(server: FakeHub, tmp_path: Path) -> None:
    server.info = {"tags": ["license:" + "x" * 99, "license:\x1b[31m", 7]}
    assert "source.license" not in hub(server).fetch(REFERENCE, tmp_path).metadata
    server.info = {"tags": 7}
    with pytest.raises(ImportRefusedError, match="like a hub"):
        hub(server).fetch(REFERENCE, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "../x.gguf"}, {"path": "/etc/x.gguf"}, {"path": "a/../../x.gguf"}, {"path": 7},
        {"path": "a\\b.gguf"}, {"path": "a\x00.gguf"}, {"path": "a%2fb.gguf"}, {"size": "9"},
        {"size": -1}, {"size": 10**15}, {"size": True}, {"lfs": {}}, {"lfs": 3},
        {"lfs": {"oid": "x", "size": 1, "pointerSize": 1}},
        {"lfs": {"oid": "f" * 64, "size": 5, "pointerSize": 1}},
    ],
)  # fmt: skip
def test_a_listing_that_lies_is_refused_unfetched(
    server: FakeHub, tmp_path: Path, entry: dict[str, Any]
) -> None:
    server.listing = [listed("a.gguf", b"x") | entry]
    with pytest.raises(HeadwaterError) as error:
        hub(server).fetch(REFERENCE, tmp_path)
    assert not isinstance(error.value, SourceUnavailableError)
    assert server.fetched() == []
    assert not list(tmp_path.rglob("*.gguf"))


@pytest.mark.parametrize("listing", [[{}], [3], ["x"], [{"type": "file"}], [None]])
def test_a_listing_that_is_none_is_refused(
    server: FakeHub, tmp_path: Path, listing: list[Any]
) -> None:
    server.listing = listing
    with pytest.raises(HeadwaterError, match="does not answer like a hub"):
        hub(server).fetch(REFERENCE, tmp_path)


def test_too_many_files_are_refused(server: FakeHub, tmp_path: Path) -> None:
    server.listing = [listed(f"{index}.json", b"") for index in range(20_000)]
    with pytest.raises(ImportRefusedError, match="more than"):
        hub(server).fetch(REFERENCE, tmp_path)


def test_a_file_that_is_longer_than_listed_is_cut_off(server: FakeHub, tmp_path: Path) -> None:
    server.sends = {"chat-Q8_0.gguf": bytes(40 * 2**20)}
    with pytest.raises(HeadwaterError):
        hub(server).fetch(REFERENCE, tmp_path)
    left = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert max(left) <= len(WEIGHTS)


def test_a_file_that_is_shorter_than_listed_is_refused(server: FakeHub, tmp_path: Path) -> None:
    server.sends = {"config.json": b"{"}
    with pytest.raises(HeadwaterError):
        hub(server).fetch(REFERENCE, tmp_path)
